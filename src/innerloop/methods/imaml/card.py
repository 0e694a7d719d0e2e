"""iMAML: its settings, and what it changes in the common ones."""

from dataclasses import dataclass
from typing import Annotated, Any

from innerloop.methods.card import Card, Paper
from innerloop.settings.fields import between, setting
from innerloop.settings.method import EpisodicSettings, InnerLoopSettings
from innerloop.settings.presets import paper_presets
from innerloop.settings.run import RunConfig

TrainSteps = Annotated[int, between(1, 1000)]
"""A number of inner steps, of which there has to be one."""
Proximal = Annotated[float, between(1e-4, 1e6)]
"""λ, the weight of the proximal term."""
Solves = Annotated[int, between(1, 1000)]
"""Steps of conjugate gradient."""


@dataclass(frozen=True)
class Settings(EpisodicSettings, InnerLoopSettings):
    """iMAML's own settings."""

    inner_steps: TrainSteps = 5
    """Gradient steps on the support loss with the proximal term."""
    proximal: Proximal = 0.5
    """Weight λ of the proximal term, λ/2 times the squared distance to the learnt weights."""
    cg_steps: Solves = 5
    """Steps of conjugate gradient for the outer gradient."""
    fresh_head: bool = setting(True, seldom=True)
    """Start every episode's head from zero, so that ways are free; else it is meta-learned."""

    @property
    def descent_in_words(self) -> str:
        """With the proximal term."""
        return f"{super().descent_in_words} with a proximal term of weight {self.proximal:g}"

    @property
    def has_fresh_head(self) -> bool:
        """Unless its initial weights are meta-learned."""
        return self.fresh_head

    @property
    def can_be_explained(self) -> bool:
        """Its learner adapts in its own way alone."""
        return False

    def image_passes(self, config: RunConfig, steps: int) -> int:
        """As usual, and the support set once more at the end and once for every Hessian product."""
        support = config.episode.ways * config.episode.shots
        extra = self.meta_batch_size * (1 + self.cg_steps) * support
        return super().image_passes(config, steps) + steps * extra


_PUBLISHED: dict[str, Any] = dict(
    fresh_head=False,
    proximal=2.0,
    cg_steps=5,
    inner_lr=0.1,
    meta_batch_size=32,
    meta_steps=20_000,
)

CARD = Card(
    name="imaml",
    title="iMAML",
    settings=Settings,
    learner="innerloop.methods.imaml.learner:IMAML",
    idea=(
        "iMAML adapts all weights to the support set S of an episode by K gradient steps on "
        "L(φ; S) + λ/2 |φ - θ|², which holds them near the learnt weights θ. Its outer gradient "
        "is the implicit one: that of the query loss at the end, times the inverse of I + H/λ, "
        "H the Hessian of the support loss there, by conjugate gradient. It does not depend on "
        "the way that the steps took, and needs none of their graphs."
    ),
    adapts="all weights, near the learnt ones",
    papers=(
        Paper(
            "A. Rajeswaran, C. Finn, S. Kakade, S. Levine",
            "Meta-learning with implicit gradients",
            "NeurIPS",
            2019,
            "1909.04630",
        ),
    ),
    defaults=dict(conv_init="kaiming", clip_gradient=0.3, outer_lr=0.003),
    reason=(
        "From PyTorch's smaller initial weights curvatures are so large that the system of the "
        "outer gradient is often not positive; seen in short trainings on background-heldout."
    ),
    presets=paper_presets(
        {5: _PUBLISHED | dict(inner_steps=16), 20: _PUBLISHED | dict(inner_steps=25)}
    ),
)
