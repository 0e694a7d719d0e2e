"""MetaOptNet: its settings, and what it changes in the common ones."""

from dataclasses import dataclass
from typing import Annotated, Literal

from innerloop.methods.card import Card, Paper
from innerloop.settings.fields import between, setting
from innerloop.settings.method import EpisodicFeaturesSettings


@dataclass(frozen=True)
class Settings(EpisodicFeaturesSettings):
    """MetaOptNet's own settings."""

    solver: Literal["svm", "ridge"] = "svm"
    """What is fitted to the support set: a support vector machine of many classes, or a ridge
    regression."""
    cost: Annotated[float, between(1e-6, 1e6)] = setting(0.1, when=("solver", "svm"))
    """C of the support vector machine."""
    ridge_penalty: Annotated[float, between(1e-6, 1e6)] = setting(50.0, when=("solver", "ridge"))
    """Penalty of the ridge regression."""
    initial_scale: Annotated[float, between(1e-6, 1e6)] = 10.0
    """Where the learnt scale of the logits starts."""

    @property
    def inner_loop_in_words(self) -> str:
        """Which of the two is solved."""
        if self.solver == "ridge":
            return f"no gradient steps: a ridge regression of penalty {self.ridge_penalty:g}"
        return f"no gradient steps: a support vector machine of cost {self.cost:g}"


CARD = Card(
    name="metaoptnet",
    title="MetaOptNet",
    settings=Settings,
    learner="innerloop.methods.metaoptnet.learner:MetaOptNet",
    idea=(
        "MetaOptNet learns features on which a linear classifier that is the solution of a convex "
        "problem, a support vector machine or a ridge regression, tells the query set's classes "
        "apart. It is trained through the conditions that the solution meets."
    ),
    adapts="a linear head, by a convex solver",
    papers=(
        Paper(
            "K. Lee, S. Maji, A. Ravichandran, S. Soatto",
            "Meta-learning with differentiable convex optimization",
            "CVPR",
            2019,
            "1904.03758",
        ),
    ),
    defaults=dict(downsample="max-pool", features="flatten", feature_norm=False),
    reason="The network of most methods on features, at the scale that it has itself.",
)
