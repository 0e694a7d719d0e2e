"""MAML++: six independent changes to MAML, each a switch."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.copies import private_copy
from innerloop.fast_weights.functional import FastWeights
from innerloop.fast_weights.network import Network
from innerloop.fast_weights.objectives import Losses
from innerloop.fast_weights.sums import tree_mean
from innerloop.methods.base import Adaptation, Learner
from innerloop.methods.keys import key_of, name_of
from innerloop.methods.maml.learner import MAML, arguments_of
from innerloop.methods.mamlpp.schedules import EPOCHS, cosine_factor, multi_step_weights
from innerloop.methods.parts import Head, HeadInit, Parts
from innerloop.networks.batch_norm import (
    BatchNormMode,
    Moments,
    Statistics,
    Stored,
    refuse_several_passes,
    unbiased_moments,
)
from innerloop.networks.batch_norm import batch_norm_layers as norms_of
from innerloop.settings.run import RunConfig


class MAMLpp(MAML):
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
        super().__init__(model, first_order=False, **settings)
        for name, value in (
            ("multi_step_fraction", multi_step_fraction),
            ("outer_lr_floor", outer_lr_floor),
            ("first_order_fraction", first_order_fraction),
        ):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} must be between 0 and 1: got {value}.")
        if self.inner_steps < 1:
            raise ConfigError(
                "MAML++ has sets of batch norm and rates for each inner step: got "
                f"{self.inner_steps}."
            )
        if learned_rates not in (None, "layer", "tensor"):
            raise ConfigError(
                f"learned_rates must be layer, tensor or None: got {learned_rates!r}."
            )
        self.multi_step_loss = multi_step_loss
        self.multi_step_fraction = multi_step_fraction
        self.derivative_order_annealing = derivative_order_annealing
        self.first_order_fraction = first_order_fraction
        self.per_step_statistics = per_step_statistics
        self.cosine_annealing = cosine_annealing
        self.outer_lr_floor = outer_lr_floor
        self._fraction = 0.0
        self._norms = norms_of(model)
        self._gathered: dict[str, list[Tensor]] = {}
        # In this order: it is that of the optimiser's parameters.
        self.affine = self._affine_sets() if per_step_affine else nn.ParameterDict()
        self._rate_of = self._rate_names(learned_rates) if learned_rates else {}
        self.rates = nn.ParameterDict()
        for key in dict.fromkeys(self._rate_of.values()):
            self.rates[key] = nn.Parameter(torch.full((self.inner_steps,), float(self.inner_lr)))
        if per_step_statistics:
            self._keep_statistics()

    def _affine_sets(self) -> nn.ParameterDict:
        """Scale and shift (N, channels) of every batch norm; they take the place of its own."""
        sets, instead = nn.ParameterDict(), {}
        for name, weight in super().params.items():
            if name.rpartition(".")[0] in self._norms:
                sets[key_of(name)] = nn.Parameter(weight.detach().repeat(self.inner_steps, 1))
                # Not trainable, and so no part of θ, which the inner loop would adapt.
                instead[id(weight)] = nn.Parameter(weight.detach(), requires_grad=False)
        # In a tree of its own around the same tensors: the caller's network stays trainable.
        self.model = private_copy(self.model, instead)
        return sets

    def _rate_names(self, unit: str) -> dict[str, str]:
        """Name of each tensor that takes inner steps -> key of its rates."""
        names = [
            name
            for name in [*self.params, *self._fresh]
            if self._adapted is None or name in self._adapted
        ]
        if unit == "tensor":
            return {name: key_of(name) for name in names}
        return {name: key_of(name.rpartition(".")[0] or name) for name in names}

    def _keep_statistics(self) -> None:
        """Running mean and variance (N, channels) of every batch norm, in the learner's state."""
        self.batch_norm_modes = (*self.batch_norm_modes, "running")
        for name, layer in self._norms.items():
            shape = self.inner_steps, layer.channels
            self.register_buffer(f"running_mean/{key_of(name)}", torch.zeros(shape))
            self.register_buffer(f"running_var/{key_of(name)}", torch.ones(shape))

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """The six switches and their schedules are settings of the same names."""
        settings = arguments_of(config.own)
        rates = settings.pop("learned_rates")
        return cls(model, learned_rates=None if rates == "off" else rates, **settings)

    # Where in the run

    def begin_outer_step(self, step: int, total: int) -> float:
        """Take the schedules to outer step ``step`` of ``total``; returns the outer-rate factor."""
        if not (total >= 1 and 0 <= step < total):
            raise ConfigError(f"Outer steps are 0 to total - 1: got step {step} of {total}.")
        self._fraction = step / total
        self._gathered = {}
        # Outer steps before the switch are of first order: exactly step < fraction * total.
        self.first_order = (
            self.derivative_order_annealing and step < self.first_order_fraction * total
        )
        if not self.cosine_annealing:
            return 1.0
        return cosine_factor(self.epoch, self.outer_lr_floor)

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
        known = type(self) is MAMLpp
        return (self.first_order, tuple(self.step_weights)) if known else None

    @torch.no_grad()
    def end_outer_step(self) -> None:
        """Move each set of running statistics once, towards the mean of what its passes saw."""
        for key, rows in self.gathered().items():
            number, _, name_and_part = key.partition("/")
            name, _, part = name_and_part.rpartition("/")
            stored = getattr(self._running(int(number))[name], part)
            # Over all episodes at once, so that the size of chunks changes nothing.
            stored.lerp_(rows.flatten(0, 1).mean(0), self._norms[name].momentum)
        self._gathered = {}

    # What a step is

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

    def meta_loss(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective of `outer_loop`; `end_outer_step` adds what it sees to the statistics."""
        if not self.per_step_statistics:
            return super().meta_loss(batch)
        network = self._network()
        network.gathered = {}
        losses, _, logged = self._objective(network, batch)
        for number, passes in network.gathered.items():
            for name in self._norms:
                for part in Moments._fields:
                    rows = torch.stack([getattr(of[name], part) for of in passes], dim=1)
                    self._gathered.setdefault(f"{number}/{name}/{part}", []).append(rows)
        return tree_mean(losses), {name: tree_mean(value) for name, value in logged.items()}

    def gathered(self) -> dict[str, Tensor]:
        """Moments (E, passes, channels) of every set and batch norm; see `Learner.gathered`."""
        return {name: torch.cat(rows) for name, rows in self._gathered.items()}

    def gather(self, rows: Mapping[str, Tensor]) -> None:
        """See `Learner.gather`."""
        self._gathered = {name: [value] for name, value in rows.items()}

    def adapting(
        self,
        parts: Parts = "own",
        *,
        rate: float | None = None,
        head: Head = "gradient",
        head_init: HeadInit | None = None,
        penalty: float = 0.1,
    ) -> Learner:
        """Itself: it has learnt how to adapt; see `Learner.adapting`."""
        if (parts, rate, head, head_init) == ("own", None, "gradient", None):
            return self
        raise ConfigError(
            "MAML++ adapts by the rates and batch-norm sets that it learnt: only in its own way."
        )

    def _weights(self, network: Network, adaptation: Adaptation) -> FastWeights:
        weights = super()._weights(network, adaptation)
        return self._with_affine(network, weights, self._last_set(adaptation))

    def _statistics(
        self, network: Network, weights: FastWeights, adaptation: Adaptation, mode: BatchNormMode
    ) -> Statistics | Stored | None:
        if mode != "running":
            return super()._statistics(network, weights, adaptation, mode)
        episodes = len(adaptation.support)
        return {
            name: Moments(*(value.expand(episodes, -1) for value in running))
            for name, running in self._running(self._last_set(adaptation)).items()
        }

    def _running(self, number: int) -> Statistics:
        """Running statistics (channels,) of every batch norm in set ``number``."""
        return {
            name: Moments(
                self.get_buffer(f"running_mean/{key_of(name)}")[number],
                self.get_buffer(f"running_var/{key_of(name)}")[number],
            )
            for name in self._norms
        }

    def _last_set(self, adaptation: Adaptation) -> int:
        """Which set serves φ_K: that of the last step."""
        return self._set(max(adaptation.steps - 1, 0))

    def _set(self, index: int) -> int:
        """Which set serves step ``index``: there are N, and the last serves all later ones."""
        return min(index, self.inner_steps - 1)

    def _query_loss(
        self, network: Network, fast_weights: FastWeights, episodes: EpisodeBatch, index: int
    ) -> tuple[Tensor, Tensor]:
        # The query pass at φ_{i+1} shares set i with the support pass at φ_i.
        return super()._query_loss(network, fast_weights, episodes, max(index - 1, 0))

    def _call(
        self, network: Network, fast_weights: FastWeights, index: int
    ) -> tuple[FastWeights, Stored | None]:
        return self._with_affine(network, fast_weights, self._set(index)), None

    def _losses(
        self,
        network: Network,
        fast_weights: FastWeights,
        batch: LabelledImages,
        index: int,
        **how: Any,
    ) -> tuple[Losses, Tensor]:
        losses, correct = super()._losses(network, fast_weights, batch, index, **how)
        if network.gathered is not None:
            refuse_several_passes(losses.seen, episodes=1)
            network.gathered.setdefault(self._set(index), []).append(losses.seen)
        return losses, correct

    def _measure(self, network: Network) -> Callable[[Tensor], Moments] | None:
        # Unbiased, as PyTorch's running variances are.
        return None if network.gathered is None else unbiased_moments

    def _with_affine(self, network: Network, fast_weights: FastWeights, number: int) -> FastWeights:
        """Fast weights with batch norm's scale and shift of set ``number``, if there are sets."""
        if not self.affine:
            return fast_weights
        episodes = len(next(iter(fast_weights.values())))
        return fast_weights | {
            name: network.share(key_of(name), self.affine[key_of(name)], episodes)[:, number]
            for name, _ in self.model.named_parameters()
            if key_of(name) in self.affine
        }

    def _stepped(
        self, network: Network, adapted: FastWeights, gradients: FastWeights, index: int
    ) -> FastWeights:
        if not self.rates:
            return super()._stepped(network, adapted, gradients, index)
        stepped = {}
        for name, weight in adapted.items():
            key = self._rate_of[name]
            rates = network.share(f"rates of {key}", self.rates[key], len(weight))
            rate = rates[:, self._set(index)].reshape(-1, *[1] * (weight.ndim - 1))
            stepped[name] = weight - rate * gradients[name]
        return stepped

    def diagnostics(self) -> dict[str, Any]:
        """Learnt rates by tensor or layer and step, step-loss weights, mean running statistics."""
        variances = {
            name: self.get_buffer(f"running_var/{key_of(name)}").mean(1).tolist()
            for name in (self._norms if self.per_step_statistics else ())
        }
        return {
            "learned_rates": {name_of(key): rates.tolist() for key, rates in self.rates.items()},
            "step_weights": self.step_weights,
            "first_order": self.first_order,
            "running_var": variances,
        }
