"""Prototypical networks: their settings, and what they change in the common ones."""

from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.methods.card import Card, Paper
from innerloop.settings.fields import between, setting
from innerloop.settings.method import HalvingSettings
from innerloop.settings.presets import paper_presets

Scale = Annotated[float, between(0.001, 1000.0)]
"""Of cosines."""
SNELL = dict(
    downsample="max-pool",
    training_ways=60,
    queries=5,
    meta_batch_size=1,
    meta_steps=30_000,
    halve_every=2000,
)
"""Snell et al. (2017), section 3.1. They train until the validation loss stops to fall; here it is
15 halvings. Their test episodes have 15 queries a class in the authors' code, here 5."""

ONE_ALPHABET = dict(
    data="omniglot",
    split="assignment",
    within_groups=True,
    warps=1.0,
    ways=20,
    shots=1,
    queries=3,
    network="resnet12",
    filters=16,
    widths="doubling",
    halvings=3,
    features="flatten",
    feature_norm=True,
    conv_init="kaiming",
    distance="cosine",
    meta_batch_size=1,
    meta_steps=25_000,
    halve_every=5000,
    outer_lr=0.002,
    averaging=0.999,
    validation_every=2500,
    validation_episodes=100,
    checkpoint_every=500,
)
"""Omniglot's original task, characters of one alphabet by one drawing of each: what
``pretrained("omniglot")`` was trained by, in 91 minutes of one core. Alphabets of fewer than 20
characters are left out. Chosen on background-heldout."""


@dataclass(frozen=True)
class Settings(HalvingSettings):
    """ProtoNet's own settings."""

    distance: Literal["euclidean", "cosine"] = "euclidean"
    """Of features from prototypes: the squared Euclidean one (the paper's), or the cosine, times a
    learnt scale."""
    initial_scale: Scale = setting(10.0, when=("distance", "cosine"))
    """Where the cosine's learnt scale starts."""


CARD = Card(
    name="protonet",
    title="ProtoNet",
    settings=Settings,
    learner="innerloop.methods.protonet.learner:ProtoNet",
    idea=(
        "ProtoNet learns features in which every class of an episode lies around one point, its "
        "prototype: the mean of its support features. A query image has the class whose prototype "
        "is nearest."
    ),
    adapts="prototypes",
    papers=(
        Paper(
            "J. Snell, K. Swersky, R. Zemel",
            "Prototypical networks for few-shot learning",
            "NeurIPS",
            2017,
            "1703.05175",
        ),
    ),
    defaults=dict(downsample="max-pool", features="flatten", feature_norm=False),
    reason="The paper's network, whose features have lengths that distances can use.",
    presets={"one-alphabet": ONE_ALPHABET, **paper_presets({5: SNELL, 20: SNELL})},
)
