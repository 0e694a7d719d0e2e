"""Prototypical networks: their settings, and what they change in the common ones."""

from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.methods.card import Card, Paper
from innerloop.settings.fields import between
from innerloop.settings.method import EpisodicFeaturesSettings


@dataclass(frozen=True)
class Settings(EpisodicFeaturesSettings):
    """ProtoNet's own settings."""

    distance: Literal["euclidean", "cosine"] = "euclidean"
    """Of features from prototypes: the squared Euclidean one (the paper's), or the cosine, times a
    learnt scale."""
    initial_scale: Annotated[float, between(0.001, 1000.0)] = 10.0
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
)
