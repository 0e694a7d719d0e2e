"""A method of a module, called for each episode with weights of that episode's own."""

from typing import Any

from torch import nn
from torch.func import functional_call

from innerloop.fast_weights.copies import PrivateCopy
from innerloop.fast_weights.network import FastWeights


class EachEpisode:
    """A module's method as a function of the number of an episode and of inputs.

    It calls a private copy, so that the module is not touched; use it in one thread only.

    Args:
        module: any module.
        method: what to call.
        weights: (E, *shape) by name; parameters that it does not name are the module's own.
    """

    def __init__(self, module: nn.Module, method: str, weights: FastWeights):
        self._copy = PrivateCopy(module)
        # functional_call knows only how to call a module, so the method takes forward's place.
        self._copy.module.forward = getattr(self._copy.module, method)
        self._copy.lend(weights)
        self._weights = weights

    def __call__(self, episode: int, *inputs: Any) -> Any:
        """What the method returns with the weights of one episode."""
        weights = {name: of[episode] for name, of in self._weights.items()}
        return functional_call(self._copy.module, weights, inputs)
