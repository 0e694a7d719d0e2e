"""Batch norm for every inner step: running statistics, and a learnt scale and shift."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.copies import private_copy
from innerloop.fast_weights.functional import FastWeights
from innerloop.fast_weights.network import Network
from innerloop.fast_weights.objectives import Losses
from innerloop.methods.base import Adaptation
from innerloop.methods.keys import key_of
from innerloop.methods.maml.learner import MAML
from innerloop.methods.parts import checked
from innerloop.networks.batch_norm import (
    BatchNormMode,
    Moments,
    Statistics,
    Stored,
    batch_norm_layers,
    refuse_several_passes,
    unbiased_moments,
)
from innerloop.networks.checks import norms_by_batch_alone


class PerStepNorms(MAML):
    """MAML whose batch norms have sets of their own for each of N inner steps.

    The support pass at φ_i and the query pass at φ_{i+1} share set i. More steps than N take the
    last set again.

    Args:
        model: as in `MAML`; its batch norm is `BatchNorm2d`.
        per_step_statistics: keep running statistics of every step; see `MAMLpp`.
        per_step_affine: learn a scale and shift of every step; see `MAMLpp`.
        settings: those of `MAML`.

    Raises:
        ConfigError: if there is no inner step, or a batch norm of which there can be no sets.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        per_step_statistics: bool,
        per_step_affine: bool,
        **settings: Any,
    ):
        super().__init__(model, **settings)
        if self.inner_steps < 1:
            raise ConfigError(
                "MAML++ has sets of batch norm and rates for each inner step: got "
                f"{self.inner_steps}."
            )
        self.per_step_statistics: bool = checked("per_step_statistics", bool, per_step_statistics)
        by_batch = norms_by_batch_alone(model)
        if by_batch and (per_step_statistics or per_step_affine):
            raise ConfigError(
                f"MAML++ keeps batch norm's sets for each inner step, which layer {by_batch[0]!r} "
                "of PyTorch's own has not: use innerloop.BatchNorm2d, or switch "
                "per_step_statistics and per_step_affine off."
            )
        self._norms = batch_norm_layers(model)
        self._gathered: dict[str, list[Tensor]] = {}
        with_sets = checked("per_step_affine", bool, per_step_affine)
        self.affine = self._affine_sets() if with_sets else nn.ParameterDict()
        if per_step_statistics:
            self._keep_statistics()

    def _affine_sets(self) -> nn.ParameterDict:
        """Scale and shift (N, channels) of every batch norm; they take the place of its own."""
        sets, instead = nn.ParameterDict(), {}
        for name, weight in self.params.items():
            if name.rpartition(".")[0] in self._norms:
                sets[key_of(name)] = nn.Parameter(weight.detach().repeat(self.inner_steps, 1))
                # Not trainable, and so no part of θ, which the inner loop would adapt.
                instead[id(weight)] = nn.Parameter(weight.detach(), requires_grad=False)
        # In a tree of its own around the same tensors: the caller's network stays trainable.
        self.model = private_copy(self.model, instead)
        return sets

    def _keep_statistics(self) -> None:
        """Running mean and variance (N, channels) of every batch norm, in the learner's state."""
        if "running" not in self.batch_norm_modes:
            self.batch_norm_modes = (*self.batch_norm_modes, "running")
        like = next(self.model.parameters())
        for name, layer in self._norms.items():
            shape = self.inner_steps, layer.channels
            self.register_buffer(f"running_mean/{key_of(name)}", like.new_zeros(shape))
            self.register_buffer(f"running_var/{key_of(name)}", like.new_ones(shape))

    @property
    def training_mode(self) -> BatchNormMode:
        """A batch's own statistics, wherever there are sets of them."""
        return "transductive" if self.per_step_statistics else super().training_mode

    def begin_outer_step(self, step: int, total: int) -> float:
        """Nothing is gathered yet; see `Learner.begin_outer_step`."""
        self._gathered = {}
        return super().begin_outer_step(step, total)

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

    def _training_objective(
        self, network: Network, batch: EpisodeBatch
    ) -> tuple[Tensor, FastWeights, dict[str, Tensor]]:
        """The objective; `end_outer_step` adds what its passes see to the statistics."""
        if not (self.per_step_statistics and torch.is_grad_enabled()):
            return super()._training_objective(network, batch)
        network.gathered = {}
        found = super()._training_objective(network, batch)
        gathered, network.gathered = network.gathered, None
        for number, passes in gathered.items():
            for name in self._norms:
                for part in Moments._fields:
                    rows = torch.stack([getattr(of[name], part) for of in passes], dim=1)
                    self._gathered.setdefault(f"{number}/{name}/{part}", []).append(rows)
        return found

    def gathered(self) -> dict[str, Tensor]:
        """Moments (E, passes, channels) of every set and batch norm; see `Learner.gathered`."""
        return {name: torch.cat(rows) for name, rows in self._gathered.items()}

    def gather(self, rows: Mapping[str, Tensor]) -> None:
        """See `Learner.gather`."""
        self._gathered = {name: [value] for name, value in rows.items()}

    def _weights(self, network: Network, adaptation: Adaptation) -> FastWeights:
        weights = super()._weights(network, adaptation)
        return self._with_affine(network, weights, self._last_set(adaptation))

    def _statistics(
        self, network: Network, weights: FastWeights, adaptation: Adaptation, mode: BatchNormMode
    ) -> Statistics | Stored | None:
        if mode != "running" or not self.per_step_statistics:
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
        weights, statistics = super()._call(network, fast_weights, index)
        # Training and inner loop normalise by the batch, wherever there are sets of statistics.
        statistics = None if self.per_step_statistics else statistics
        return self._with_affine(network, weights, self._set(index)), statistics

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

    def diagnostics(self) -> dict[str, Any]:
        """The mean running variance of every batch norm and step, if they are kept."""
        kept = self._norms if self.per_step_statistics else ()
        return {
            "running_var": {
                name: self.get_buffer(f"running_var/{key_of(name)}").mean(1).tolist()
                for name in kept
            }
        }
