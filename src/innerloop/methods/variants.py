"""Other ways to adapt a trained network: they tell better features from better adaptation."""

from dataclasses import dataclass

from innerloop.methods.base import Learner
from innerloop.methods.parts import Head, HeadInit, Parts, refuse_contradictions
from innerloop.settings.run import RunConfig

PENALTY = 0.1
"""λ of a logistic head, if nothing else is said."""


@dataclass(frozen=True)
class Variant:
    """How a trained network is adapted, where it is not the method's own way.

    Attributes:
        adapts: what takes inner steps. ``own`` changes nothing but the rate.
        head: how the head is found on frozen features; other than ``gradient`` only with ``head``
            adapted.
        head_init: where the new head starts; None: as the method does. With a zero head the body
            has no gradient, so ``body`` always has a fixed ``glorot`` one, the same in every
            episode.
        inner_lr: rate of the inner steps; None: the run's.
        penalty: λ of a ``logistic`` head.
        untrained: initial weights instead of the trained ones.

    Raises:
        ConfigError: if settings contradict each other.
    """

    adapts: Parts = "own"
    head: Head = "gradient"
    head_init: HeadInit | None = None
    inner_lr: float | None = None
    penalty: float = PENALTY
    untrained: bool = False

    def __post_init__(self):
        refuse_contradictions(self.adapts, self.inner_lr, self.head, self.head_init, self.penalty)

    def describe(self) -> str:
        """A short name for tables and files: ``own``, ``head-logistic``, ...; without the rate."""
        parts = [self.adapts] + ([self.head] if self.head != "gradient" else [])
        if self.head == "logistic":
            parts.append(f"l2_{self.penalty:g}")
        if self.head_init:
            parts.append(self.head_init)
        return "-".join(parts + (["untrained"] if self.untrained else []))

    def rate(self, config: RunConfig) -> float | None:
        """Rate of the inner steps; None where none are taken."""
        if self.head != "gradient":
            return None
        return config.own.adaptation_rate if self.inner_lr is None else self.inner_lr

    def of(self, learner: Learner, config: RunConfig) -> Learner:
        """The learner that adapts ``learner``'s network this way; shares weights, changes nothing.

        Args:
            learner: a trained learner.
            config: its settings.
        """
        rate = self.rate(config)
        if self.adapts == "own" and not self.head_init and rate == config.own.adaptation_rate:
            return learner
        return learner.adapting(
            self.adapts,
            rate=rate,
            head=self.head,
            head_init=self.head_init,
            penalty=self.penalty,
        )
