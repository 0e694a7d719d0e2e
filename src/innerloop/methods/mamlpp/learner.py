"""MAML++: six independent changes to MAML, each a switch."""

from collections.abc import Hashable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from innerloop.data.episodes import EpisodeBatch
from innerloop.fast_weights.functional import FastWeights
from innerloop.fast_weights.network import Network
from innerloop.methods.base import Learner
from innerloop.methods.maml.unrolled import arguments_of
from innerloop.methods.mamlpp.rates import LearntRates
from innerloop.methods.mamlpp.schedules import EPOCHS, cosine_factor, multi_step_weights
from innerloop.methods.parts import Parts, checked
from innerloop.settings.fields import Fraction
from innerloop.settings.run import RunConfig


class MAMLpp(LearntRates):
    """MAML++ (Antoniou, Edwards and Storkey, 2019, arXiv 1810.09502), with N inner steps.

    With every switch off it is second-order `MAML`, bit for bit. A run counts as 100 epochs of
    equal length.

    Args:
        model: as in `MAML`; its batch norm is `BatchNorm2d` where a switch is about batch norm.
        multi_step_loss: minimise the sum over k of v_k L(φ_{k+1}; query), `multi_step_weights`.
        multi_step_fraction: over this part of the run; afterwards the last loss alone.
        derivative_order_annealing: first order at first, then second.
        first_order_fraction: how much of the run is of first order (the paper's 50 of 150 epochs).
        per_step_statistics: running batch-norm statistics for every step, gathered in training and
            used by predictions under ``running``. Training and inner loop normalise by the batch.
            One update an outer step, by the mean over all passes of a step: the support pass at φ_i
            and the query pass at φ_{i+1} of every episode belong to set i.
        per_step_affine: batch norm's scale and shift for every step, learnt by the outer loop
            alone; set i serves the same two passes. Otherwise they are adapted like the rest.
        learned_rates: a learnt inner rate for every step and ``layer`` (the paper) or ``tensor``
            (the authors' code), from ``inner_lr`` on; None: ``inner_lr``.
        cosine_annealing: the outer rate falls along a cosine, epoch by epoch.
        outer_lr_floor: to this fraction of its start (the paper's 1e-3 to 1e-5).
        settings: those of `MAML`.

    More steps at test than N take the last set and the last rates again.

    Deviations: fractions of the run for numbers of epochs; a mean over the episodes for a sum.

    Raises:
        ConfigError: if a fraction is out of [0, 1], or there is no inner step.
    """

    adaptable: ClassVar[tuple[Parts, ...]] = ("own",)
    adapting = Learner.adapting  # by what it has learnt alone

    def __init__(
        self,
        model: nn.Module,
        *,
        multi_step_loss: bool = True,
        multi_step_fraction: float = 0.1,
        derivative_order_annealing: bool = True,
        first_order_fraction: float = 1 / 3,
        per_step_statistics: bool = True,
        per_step_affine: bool = True,
        learned_rates: str | None = "layer",
        cosine_annealing: bool = True,
        # The paper's; the default of a run is the card's, for short trainings.
        outer_lr_floor: float = 0.01,
        **settings: Any,
    ):
        super().__init__(
            model,
            first_order=False,
            per_step_statistics=per_step_statistics,
            per_step_affine=per_step_affine,
            learned_rates=learned_rates,
            **settings,
        )
        self.multi_step_loss: bool = checked("multi_step_loss", bool, multi_step_loss)
        self.multi_step_fraction = checked("multi_step_fraction", Fraction, multi_step_fraction)
        self.derivative_order_annealing: bool = checked(
            "derivative_order_annealing", bool, derivative_order_annealing
        )
        self.first_order_fraction = checked("first_order_fraction", Fraction, first_order_fraction)
        self.cosine_annealing: bool = checked("cosine_annealing", bool, cosine_annealing)
        self.outer_lr_floor = checked("outer_lr_floor", Fraction, outer_lr_floor)
        self._fraction = 0.0

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """The six switches and their schedules are settings of the same names."""
        settings = arguments_of(config.own)
        rates = settings.pop("learned_rates")
        return cls(model, learned_rates=None if rates == "off" else rates, **settings)

    def begin_outer_step(self, step: int, total: int) -> float:
        """Take the schedules to outer step ``step`` of ``total``; returns the outer-rate factor."""
        super().begin_outer_step(step, total)
        self._fraction = step / total
        # Outer steps before the switch are of first order: exactly step < fraction * total.
        self.first_order = (
            self.derivative_order_annealing and step < self.first_order_fraction * total
        )
        return cosine_factor(self.epoch, self.outer_lr_floor) if self.cosine_annealing else 1.0

    @property
    def epoch(self) -> int:
        """In which of the run's 100 epochs the schedules are."""
        # A fraction of a whole epoch can round to just below it: 0.29 x 100 does.
        return min(int(self._fraction * EPOCHS + 1e-9), EPOCHS - 1)

    @property
    def step_weights(self) -> list[float]:
        """Weights of the query losses after each inner step, now."""
        epochs = round(self.multi_step_fraction * EPOCHS) if self.multi_step_loss else 0
        return multi_step_weights(self.inner_steps, self.epoch, epochs)

    def step_signature(self) -> Hashable | None:
        """The schedules' place: the order, and the weights of the step losses."""
        return (self.first_order, tuple(self.step_weights)) if type(self) is MAMLpp else None

    def _objective(
        self, network: Network, batch: EpisodeBatch
    ) -> tuple[Tensor, FastWeights, dict[str, Tensor]]:
        weights = self.step_weights
        # Where the last loss alone counts, the query passes after the other steps are spared.
        if not any(weights[:-1]):
            return super()._objective(network, batch)
        fast_weights = self._start(network, self.params, batch.support)
        first = batch.support.images.new_full((len(batch),), torch.nan)
        total = first
        after = first
        for index, weight in enumerate(weights):
            fast_weights, _, correct = self._inner_step(
                network, fast_weights, batch.support, index, create_graph=not self.first_order
            )
            first = correct if index == 0 else first
            losses, after = self._query_loss(network, fast_weights, batch, index + 1)
            total = weight * losses if index == 0 else total + weight * losses
        logged = {"support_accuracy_before": first, "query_accuracy_after": after}
        return total, fast_weights, logged

    def diagnostics(self) -> dict[str, Any]:
        """Learnt rates by tensor or layer and step, step-loss weights, mean running statistics."""
        return super().diagnostics() | {
            "step_weights": self.step_weights,
            "first_order": self.first_order,
        }
