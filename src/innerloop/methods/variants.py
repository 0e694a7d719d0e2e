"""Other ways to adapt a trained network: they tell better features from better adaptation."""

import copy
from dataclasses import dataclass
from typing import Literal, get_args

from innerloop.core.errors import ConfigError
from innerloop.methods.base import Learner
from innerloop.methods.maml.learner import MAML
from innerloop.methods.mamlpp.learner import MAMLpp
from innerloop.methods.transfer.learner import FrozenFeatures, Head
from innerloop.networks.batch_norm import use_running_statistics
from innerloop.networks.conv4 import Conv4
from innerloop.settings.run import RunConfig

Adapts = Literal["own", "head", "head+1", "head+2", "head+3", "all", "body"]
"""What takes inner steps: what the method itself adapts, the head, it and the last blocks,
everything, or the body."""

BLOCKS = [(f"convs.{block}", f"norms.{block}") for block in range(4)]
"""Submodules of each block of `innerloop.Conv4`."""


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

    adapts: Adapts = "own"
    head: Head = "gradient"
    head_init: Literal["zero", "glorot"] | None = None
    inner_lr: float | None = None
    penalty: float = 0.1
    untrained: bool = False

    def __post_init__(self):
        if self.adapts not in get_args(Adapts):
            raise ConfigError(
                f"What is adapted must be one of {', '.join(get_args(Adapts))}: got "
                f"{self.adapts!r}."
            )
        if self.head != "gradient" and self.adapts != "head":
            raise ConfigError(
                f"A {self.head} head is found on frozen features: it needs --adapt head."
            )
        if self.head != "gradient" and (self.head_init or self.inner_lr is not None):
            raise ConfigError(
                f"A {self.head} head takes no inner steps: it has no initial head and no rate."
            )
        if self.adapts == "body" and self.head_init:
            raise ConfigError(
                "Adapting the body alone takes a fixed uniform head: leave --head-init out."
            )
        if self.inner_lr is not None and not 0 <= self.inner_lr <= 1000:
            raise ConfigError(f"The inner rate must be between 0 and 1,000: got {self.inner_lr}.")
        if not 0 < self.penalty <= 1e6:
            raise ConfigError(
                f"The penalty must be above 0 and at most 1,000,000: got {self.penalty}."
            )

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
            learner: a trained learner around an `innerloop.Conv4`, ``learner.model``.
            config: its settings.
        """
        rate = self.rate(config) or 0.0
        if (
            self.adapts == "own"
            and not self.head_init
            and self.rate(config) == config.own.adaptation_rate
        ):
            return learner
        model = getattr(learner, "model", None)
        if not isinstance(model, Conv4):
            raise ConfigError(
                "Only a method around Conv4, as its attribute model, can be adapted in other ways."
            )
        if isinstance(learner, MAMLpp) and self != Variant(untrained=self.untrained):
            raise ConfigError(
                "MAML++ adapts by the rates and batch-norm sets that it learnt: only in its own "
                "way."
            )
        if self.adapts == "own" and not self.head_init:
            return type(learner).from_config(config.replace(inner_lr=rate), model)
        adapts = (
            ("head" if isinstance(learner, FrozenFeatures) else "all")
            if self.adapts == "own"
            else self.adapts
        )
        # A meta-learned head is part of what was learnt: it is kept unless a new one is asked for.
        meta_learned_head = (
            isinstance(learner, MAML) and not config.own.fresh_head and not self.head_init
        )
        if adapts == "head" and not (meta_learned_head and self.head == "gradient"):
            return FrozenFeatures(
                model,
                batch_norm_modes=learner.batch_norm_modes,
                head=self.head,
                head_init=self.head_init or config.network.head_init,
                inner_lr=rate,
                inner_steps=config.own.adaptation_steps,
                penalty=self.penalty,
            )
        if learner.batch_norm_modes == ("running",):
            model = copy.deepcopy(model)
            use_running_statistics(model)
        tuned = MAML(
            model,
            inner_lr=rate,
            inner_steps=config.own.adaptation_steps,
            fresh_head=None if meta_learned_head and adapts != "body" else "head",
            fresh_head_init="glorot" if adapts == "body" else self.head_init or "zero",
            adapts=None if adapts == "all" else _submodules(adapts),
        )
        tuned.batch_norm_modes = learner.batch_norm_modes
        return tuned


def _submodules(adapts: str) -> list[str]:
    """Names of the submodules that take inner steps."""
    if adapts == "body":
        return [name for block in BLOCKS for name in block]
    blocks = int(adapts.partition("+")[2] or 0)
    return ["head", *(name for block in BLOCKS[len(BLOCKS) - blocks :] for name in block)]
