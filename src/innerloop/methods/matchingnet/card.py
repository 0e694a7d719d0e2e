"""Matching networks: their settings, and what they change in the common ones."""

from dataclasses import dataclass
from typing import Annotated

from innerloop.methods.card import Card, Paper
from innerloop.settings.fields import between, setting
from innerloop.settings.method import EpisodicFeaturesSettings


@dataclass(frozen=True)
class Settings(EpisodicFeaturesSettings):
    """MatchingNet's own settings."""

    full_context: bool = False
    """Embed each image in view of the whole support set, by two LSTMs."""
    reading_steps: Annotated[int, between(0, 100)] = setting(5, when=("full_context", True))
    """How often a query image reads the support set, where full_context is on."""
    scale: Annotated[float, between(0.001, 1000.0)] = 10.0
    """Factor on cosines before the softmax; 1 is the paper's."""
    learn_scale: bool = setting(False, seldom=True)
    """Learn that factor, from scale on."""


CARD = Card(
    name="matchingnet",
    title="MatchingNet",
    settings=Settings,
    learner="innerloop.methods.matchingnet.learner:MatchingNet",
    idea=(
        "MatchingNet learns features in which a query image attends to the support images that it "
        "is like: its class probabilities are a mean of their labels, weighted by a softmax over "
        "the cosines of the features."
    ),
    adapts="the memory of support images",
    papers=(
        Paper(
            "O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra",
            "Matching networks for one shot learning",
            "NeurIPS",
            2016,
            "1606.04080",
        ),
    ),
    defaults=dict(downsample="max-pool", features="flatten", feature_norm=False),
    reason="The paper's network, whose features are the last block's 64 numbers.",
    parts=("full_context",),
)
