"""MAML: its settings, and what it changes in the common ones."""

from dataclasses import dataclass
from typing import Annotated, Any

from innerloop.core.errors import ConfigError
from innerloop.methods.card import Card, Paper
from innerloop.settings.fields import between, setting
from innerloop.settings.method import EpisodicSettings, InnerLoopSettings
from innerloop.settings.presets import COURSE, paper_presets
from innerloop.settings.run import RunConfig

COURSE_BATCHES = COURSE | dict(meta_batch_size=20, query_batches=3, fresh_head=False)
"""The course's network, batches and head, for methods that meta-learn an initialisation."""
OF_FINN: dict[int, dict[str, Any]] = {
    5: dict(features="mean", inner_steps=1, inner_lr=0.4, meta_batch_size=32, meta_steps=60_000),
    20: dict(features="mean", inner_steps=5, inner_lr=0.1, meta_batch_size=16, meta_steps=60_000),
}
"""What Finn et al. (2017) say of a number of ways, and no head."""
PUBLISHED = paper_presets(
    {ways: of_ways | dict(fresh_head=False) for ways, of_ways in OF_FINN.items()}
)
"""Finn et al. (2017), appendix A.1, with the network, the rate and the queries of their code.

They evaluate 5 ways after 3 steps: ``innerloop evaluate RUN --part test --inner-steps 3``. Nichol
et al. (2018) give first-order MAML the same settings.
"""
FINN = Paper(
    "C. Finn, P. Abbeel, S. Levine",
    "Model-agnostic meta-learning for fast adaptation of deep networks",
    "ICML",
    2017,
    "1703.03400",
)


@dataclass(frozen=True)
class AdaptationSettings(EpisodicSettings, InnerLoopSettings):
    """Of methods that meta-learn an initialisation for gradient steps."""

    fresh_head: bool = setting(True, seldom=True)
    """Start every episode's head from zero, so that ways are free; else it is meta-learned."""
    query_batches: Annotated[int, between(1, 1000)] = setting(1, seldom=True)
    """Training query loss as the mean over this many class-balanced mini-batches; evaluation always
    uses 1."""

    @property
    def has_fresh_head(self) -> bool:
        """Unless its initial weights are meta-learned."""
        return self.fresh_head

    def refuse_misfits(self, config: RunConfig) -> None:
        """Mini-batches of the query set are equally large."""
        super().refuse_misfits(config)
        if config.episode.queries % self.query_batches:
            raise ConfigError(
                f"query_batches={self.query_batches} must divide queries={config.episode.queries}."
            )


@dataclass(frozen=True)
class Settings(AdaptationSettings):
    """MAML's own settings."""

    first_order: bool = setting(False, seldom=True)
    """Leave out derivatives of second order."""

    def refuse_misfits(self, config: RunConfig) -> None:
        """MAML is of second order: its other form has a name of its own."""
        super().refuse_misfits(config)
        if self.first_order:
            raise ConfigError("MAML of first order is FO-MAML, a method of its own: train that.")


CARD = Card(
    name="maml",
    title="MAML",
    settings=Settings,
    learner="innerloop.methods.maml.learner:MAML",
    idea=(
        "MAML learns an initialisation: weights θ from which K gradient steps on the support set "
        "S of an episode, φ_0 = θ, φ_k = φ_(k-1) - α ∇L(φ_(k-1); S), lead to weights that "
        "classify its query set. The outer gradient goes through the inner steps, with "
        "derivatives of second order."
    ),
    adapts="all weights",
    papers=(FINN,),
    defaults=dict(conv_init="kaiming", clip_gradient=0.3),
    reason=(
        "Second order spikes early, and needs other initial weights and clipping; chosen on "
        "background-heldout."
    ),
    presets={"course": COURSE_BATCHES} | PUBLISHED,
)
