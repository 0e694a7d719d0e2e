"""R2-D2: its settings, and what it changes in the common ones."""

from dataclasses import dataclass
from typing import Annotated

from innerloop.methods.card import Card, Paper
from innerloop.settings.fields import between
from innerloop.settings.method import EpisodicFeaturesSettings


@dataclass(frozen=True)
class Settings(EpisodicFeaturesSettings):
    """R2-D2's own settings."""

    initial_penalty: Annotated[float, between(1e-6, 1e6)] = 50.0
    """Where the regression's learnt penalty starts."""
    initial_scale: Annotated[float, between(1e-6, 1e6)] = 10.0
    """Where the learnt scale of what the regression says starts."""


CARD = Card(
    name="r2d2",
    title="R2-D2",
    settings=Settings,
    learner="innerloop.methods.r2d2.learner:R2D2",
    idea=(
        "R2-D2 learns features on which a ridge regression of the classes, fitted to the support "
        "set in closed form, tells the query set's classes apart. It is trained through the "
        "regression, whose penalty is learnt, too."
    ),
    adapts="a linear head, in closed form",
    papers=(
        Paper(
            "L. Bertinetto, J. F. Henriques, P. H. S. Torr, A. Vedaldi",
            "Meta-learning with differentiable closed-form solvers",
            "ICLR",
            2019,
            "1805.08136",
        ),
    ),
    defaults=dict(downsample="max-pool", features="flatten", feature_norm=False),
    reason="The network of most methods on features, at the scale that it has itself.",
)
