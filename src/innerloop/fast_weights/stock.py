"""What engines for `Conv4` share: whether a network is one as it was made, and its parameters."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from innerloop.fast_weights.network import Network
from innerloop.networks.batch_norm import BatchNorm2d, Moments, Statistics
from innerloop.networks.conv4 import Conv4

BLOCKS = 4


def why_changed(model: nn.Module) -> str | None:
    """Why a network is no `Conv4` as it was made, to go on after "because"; None if it is one."""
    if type(model) is not Conv4:
        return f"the network is a {type(model).__name__} and not a Conv4"
    if any(hooks for module in model.modules() for hooks in _hooks(module)):
        return "a module of the network has hooks"
    if model.halvings != BLOCKS:
        return "its last blocks do not halve the image"
    convs, norms = list(model.convs), list(model.norms)
    stride = (1, 1) if model.downsample == "max-pool" else (2, 2)
    for conv in convs:
        if type(conv) is not nn.Conv2d or len(convs) != BLOCKS:
            return "its convolutions are not those of a Conv4"
        shape = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups
        if shape != ((3, 3), stride, (1, 1), (1, 1), 1) or conv.padding_mode != "zeros":
            return "its convolutions are not those of a Conv4"
        if (conv.bias is None) != (convs[0].bias is None):
            return "its convolutions are not those of a Conv4"
    if type(model.head) is not nn.Linear or model.head.bias is None:
        return "its head is not a linear layer with a bias"
    features = [] if model.feature_norm is None else [model.feature_norm]
    for norm in [*norms, *features]:
        if type(norm) is not BatchNorm2d or norm.eps != norms[0].eps or len(norms) != BLOCKS:
            return "its batch norms are not those of a Conv4"
        if (norm.weight is None) != (norm in features):
            return "its batch norms are not those of a Conv4"
    return None


def _hooks(module: nn.Module):
    return (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )


class StockNetwork(Network):
    """A `Conv4` as it was made, whose parameters have an order.

    Args:
        model: the network.
        method: what to call.
        names: of its parameters, in the order in which an engine takes them.
    """

    def __init__(self, model: Conv4, method: str, names: Sequence[str]):
        super().__init__(model, method)
        self._method = method
        self._names = names
        self._own = dict(model.named_parameters())
        norms = [f"norms.{block}" for block in range(BLOCKS)]
        self._norms = norms if model.feature_norm is None else [*norms, "feature_norm"]

    def _parameters(self, weights: Mapping[str, Tensor], episodes: int) -> list[Tensor]:
        """(E, *shape) in their order; those not named are the model's own."""
        return [
            weights[name]
            if name in weights
            else self._own[name].expand(episodes, *self._own[name].shape)
            for name in self._names
        ]

    def _by_layer(
        self, seen: Sequence[Moments], counts: Sequence[int], *, unbiased: bool
    ) -> Statistics:
        """Moments (E, channels) by layer, from those of so many values."""
        return {
            name: Moments(mean, variance * count / max(count - 1, 1) if unbiased else variance)
            for name, (mean, variance), count in zip(self._norms, seen, counts, strict=False)
        }

    @torch.no_grad()
    def _update(self, seen: Statistics) -> None:
        """Move the running statistics towards those of a batch."""
        for name, of_batch in seen.items():
            layer = self._layers[name]
            for running, value in zip(layer.running(), of_batch, strict=True):
                running.lerp_(value[0], layer.momentum)


def is_transformed(tensor: Tensor) -> bool:
    """Whether it is of one of `torch.func`'s transformations, which see no kernels."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # pyright: ignore
