"""Relation networks: their settings, and what they change in the common ones."""

from dataclasses import dataclass
from typing import Any

from innerloop.methods.card import Card, Paper
from innerloop.settings.method import HalvingSettings
from innerloop.settings.presets import PAPER


@dataclass(frozen=True)
class Settings(HalvingSettings):
    """RelationNet's own settings."""

    @property
    def can_be_explained(self) -> bool:
        """An explanation compares heads on rows of features, and these are maps."""
        return False


SUNG: dict[str, Any] = PAPER | dict(
    downsample="max-pool",
    halvings=2,
    meta_batch_size=1,
    meta_steps=1_000_000,
    halve_every=100_000,
)
"""Sung et al. (2018), sections 4 and 4.1: episodes of one outer step, a rate that is halved.

The number of outer steps is that of the authors' code, the paper gives none.
"""
QUERIES = {(5, 1): 19, (5, 5): 15, (20, 1): 10, (20, 5): 5}
"""Query images per class by ways and shots, section 4.1."""

CARD = Card(
    name="relationnet",
    title="RelationNet",
    settings=Settings,
    learner="innerloop.methods.relationnet.learner:RelationNet",
    idea=(
        "RelationNet learns to compare: a second network is given the maps of a query image and "
        "those of a class, and says how much they belong together, as a number from 0 to 1."
    ),
    adapts="the maps of each class",
    papers=(
        Paper(
            "F. Sung, Y. Yang, L. Zhang, T. Xiang, P. H. S. Torr, T. M. Hospedales",
            "Learning to compare: relation network for few-shot learning",
            "CVPR",
            2018,
            "1711.06025",
        ),
    ),
    defaults=dict(downsample="max-pool", halvings=2, features="flatten", feature_norm=False),
    reason="The paper's network, whose maps keep places that can be compared.",
    presets={
        f"paper-{ways}w{shots}s": SUNG | dict(ways=ways, shots=shots, queries=queries)
        for (ways, shots), queries in QUERIES.items()
    },
)
