"""A network with weights and statistics fixed, in PyTorch's own layers."""

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from innerloop.core.errors import ConfigError
from innerloop.networks.batch_norm import (
    LONE,
    BatchNorm2d,
    Moments,
    Statistics,
    Stored,
    batch_norm_layers,
    refuse_several_passes,
    stored_statistics,
)


def plain_network(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    statistics: Statistics | Stored | None,
    replaced: Mapping[str, nn.Module] | None = None,
) -> nn.Module:
    """An independent copy of a network, in evaluation mode.

    Args:
        model: any module.
        weights: parameters that are not the model's own, by name; a head may have other rows.
        statistics: what each `BatchNorm2d` normalises by, as a `torch.nn.BatchNorm2d` in its
            place: moments (channels,) by layer; those that it keeps; None, and where a layer is not
            named, its batch.
        replaced: submodules by name that others take the place of.
    """
    layers = batch_norm_layers(model)
    moments = stored_statistics(model) if isinstance(statistics, str) else statistics or {}
    refuse_several_passes(moments, episodes=0)
    # deepcopy asks the memo first: what is in it under the id of a part stands in the copy instead.
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(
            weights.get(name, parameter).detach().clone(memory_format=torch.contiguous_format),
            requires_grad=parameter.is_floating_point(),
        )
        for name, parameter in model.named_parameters()
    }
    for name, layer in layers.items():
        own = {
            part: weights.get(f"{name}.{part}" if name else part, parameter)
            for part, parameter in layer.named_parameters()
        }
        memo[id(layer)] = plain_batch_norm(layer, own, moments.get(name))
    for name, module in (replaced or {}).items():
        memo[id(model.get_submodule(name))] = module
    plain = copy.deepcopy(model, memo)
    for module in plain.modules():
        if isinstance(module, nn.Linear):  # a new head may have other rows
            module.out_features = len(module.weight)
    return plain.eval()


def refusing_lone_images(plain: nn.Module) -> nn.Module:
    """The module itself; where layers normalise by their batch, one image alone is refused."""
    if any(
        isinstance(module, _BatchNorm) and not module.track_running_stats
        for module in plain.modules()
    ):
        plain.register_forward_pre_hook(_refuse_lone_image)
    return plain


def _refuse_lone_image(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
    if inputs and len(inputs[0]) == 1:
        raise ConfigError(LONE)


def giving_ways(plain: nn.Module, images: Tensor, ways: int | None) -> nn.Module:
    """The module itself; where it gives more logits than there are ways, the first are taken.

    Args:
        plain: in evaluation mode.
        images: (n, ...) that it is tried on.
        ways: of its episode; None where labels are no classes.
    """
    outputs = plain(images.clone())
    if ways is not None and outputs.ndim == 2 and outputs.shape[1] > ways:
        plain.register_forward_hook(partial(_first, ways))
    return plain


def _first(ways: int, _module: nn.Module, _inputs: tuple[Any, ...], outputs: Tensor) -> Tensor:
    return outputs[:, :ways]


def plain_batch_norm(
    layer: BatchNorm2d, weights: Mapping[str, Tensor], statistics: Moments | None
) -> nn.BatchNorm2d:
    """PyTorch's layer that normalises by these statistics, or, without any, by its batch."""
    plain = nn.BatchNorm2d(
        layer.channels,
        eps=layer.eps,
        momentum=layer.momentum,
        affine=bool(weights),
        track_running_stats=statistics is not None,
    )
    values = dict(weights)
    if statistics is not None:
        values |= {"running_mean": statistics.mean, "running_var": statistics.variance}
    for name, value in values.items():
        fixed = value.detach().clone()
        setattr(plain, name, nn.Parameter(fixed) if name in weights else fixed)
    if plain.num_batches_tracked is not None:
        like = next(iter(values.values()))
        # PyTorch makes it on the CPU, wherever the statistics are.
        plain.num_batches_tracked = torch.zeros_like(plain.num_batches_tracked, device=like.device)
    return plain


class CutNetwork(nn.Module):
    """A network's features, and another head.

    Args:
        body: the network.
        head: maps features (n, ...) to logits (n, ways).
        method: which method of the body gives features.
    """

    def __init__(self, body: nn.Module, head: nn.Module, method: str = "embed"):
        super().__init__()
        self._method = method
        self.body = body
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, ways) of images (n, channels, height, width)."""
        return self.head(getattr(self.body, self._method)(images))
