"""A method of a module, called for each episode with weights of that episode's own."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from innerloop.fast_weights.copies import PrivateCopy
from innerloop.fast_weights.network import FastWeights
from innerloop.fast_weights.norms import measuring, normalising_by
from innerloop.networks.batch_norm import (
    Moments,
    Statistics,
    Stored,
    batch_norm_layers,
    of_episode,
)


class EachEpisode:
    """A module's method as a function of the number of an episode and of inputs.

    It calls a private copy, so that the module is not touched; use it in one thread only.

    Args:
        module: any module.
        method: what to call.
        weights: (E, *shape) by name; parameters that it does not name are the module's own.
        statistics: what the module's batch norms normalise by: None, each call's own; given
            moments (E, channels) by layer; or what the layers keep.
    """

    def __init__(
        self,
        module: nn.Module,
        method: str,
        weights: FastWeights,
        statistics: Statistics | Stored | None = None,
    ):
        self._copy = PrivateCopy(module)
        # functional_call knows only how to call a module, so the method takes forward's place.
        self._copy.module.forward = getattr(self._copy.module, method)
        self._copy.lend(weights)
        self._weights = weights
        self._layers = batch_norm_layers(self._copy.module)
        self._statistics: Statistics | Stored | None = statistics

    def __call__(self, episode: int, *inputs: Any) -> Any:
        """What the method returns with the weights of one episode."""
        weights = {name: of[episode] for name, of in self._weights.items()}
        with normalising_by(self._layers, of_episode(self._statistics, episode)):
            return functional_call(self._copy.module, weights, inputs)

    def measured(
        self, measure: Callable[[Tensor], Moments], episode: int, *inputs: Any
    ) -> tuple[Any, Statistics]:
        """The same, and moments (channels,) of what the batch norms saw.

        Args:
            measure: takes the moments of a layer's input.
            episode: whose weights.
            *inputs: of the method.
        """
        with measuring(self._layers, measure) as seen:
            value = self(episode, *inputs)
        return value, seen
