"""What MAML++ has a set of for every inner step: how it is called, and what batch norm saw."""

from torch import Tensor, nn

from innerloop.fast_weights.network import FastWeights, Network
from innerloop.networks.batch_norm import Statistics, refuse_several_passes, unbiased_moments


class Gathering(Network):
    """A network that keeps what batch norm saw, by set."""

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.gathered: dict[int, list[Statistics]] = {}

    def call_and_gather(self, weights: FastWeights, images: Tensor, number: int) -> Tensor:
        """`Network.call`; the moments (E, channels) go to set ``number``."""
        # Unbiased, as PyTorch's running variances are.
        outputs, seen = self.call_and_measure(weights, images, unbiased_moments)
        refuse_several_passes(seen, episodes=1)
        self.gathered.setdefault(number, []).append(seen)
        return outputs


_ESCAPES = (("~", "~0"), ("/", "~1"), (".", "/"))
"""Dots become slashes, since PyTorch keeps dots for submodules; slashes are escaped before."""
_RESERVED = "~2"
"""Before a key that would be an attribute of the dictionary, such as ``keys``."""


def key_of(name: str) -> str:
    """A tensor's or layer's name as a key, another one for every name; see `name_of`."""
    for part, escape in _ESCAPES:
        name = name.replace(part, escape)
    return f"{_RESERVED}{name}" if hasattr(_EMPTY, name) else name


def name_of(key: str) -> str:
    """The name behind `key_of`."""
    name = key.removeprefix(_RESERVED)
    for part, escape in reversed(_ESCAPES):
        name = name.replace(escape, part)
    return name


_EMPTY = nn.ParameterDict()
