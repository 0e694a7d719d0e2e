"""Baseline++: its settings, and what it changes in the common ones."""

from dataclasses import dataclass
from typing import Annotated

from innerloop.methods.card import Card, Paper
from innerloop.settings.fields import Rate, between
from innerloop.settings.method import InnerLoopSettings, PretrainingSettings


@dataclass(frozen=True)
class Settings(PretrainingSettings, InnerLoopSettings):
    """Baseline++'s own settings; the inner steps are the new head's."""

    inner_steps: Annotated[int, between(0, 1000)] = 100
    """Gradient steps of the new head on the support set."""
    inner_lr: Rate = 1.0
    """Learning rate of these steps."""
    scale: Annotated[float, between(0.001, 1000.0)] = 2.0
    """Factor on the cosines of a new head."""
    training_scale: Annotated[float, between(0.001, 1000.0)] = 10.0
    """Factor on the cosines in pretraining; the more training classes, the larger it must be."""


CARD = Card(
    name="baselinepp",
    title="Baseline++",
    settings=Settings,
    learner="innerloop.methods.baselinepp.learner:BaselinePP",
    idea=(
        "Baseline++ trains the network to classify all training classes by the cosines between "
        "features and a weight vector of each class. Then its features are frozen, and every "
        "episode gets a new head of the same kind, which is adapted on the support set."
    ),
    adapts="a new head of cosines",
    papers=(
        Paper(
            "W.-Y. Chen, Y.-C. Liu, Z. Kira, Y.-C. Wang, J.-B. Huang",
            "A closer look at few-shot classification",
            "ICLR",
            2019,
            "1904.04232",
        ),
    ),
    defaults=dict(meta_steps=4800, validation_every=300, checkpoint_every=300, head_init="glorot"),
    reason=(
        "As many mini-batches as transfer learning; a weight vector of length zero has no cosine."
    ),
)
