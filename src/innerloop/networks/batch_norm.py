"""Batch normalisation by named statistics: the batch's own, an earlier batch's, or stored ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BatchNormMode = Literal["transductive", "support", "running"]
"""Whose statistics normalise a prediction.

``transductive``: every forward pass uses the statistics of its own batch; the query images help one
another, and a single image on its own means nothing. ``support``: the statistics of one forward
pass of the support set at the adapted weights; predictions do not depend on the other query images.
``running``: stored statistics, gathered in training; predictions depend on nothing but the image
and the weights.
"""

Statistics = Literal["batch", "record", "recorded", "update", "running"]
"""What a layer does in a forward pass. ``batch``: normalise by the batch. ``record``: the same, and
remember its statistics. ``recorded``: normalise by those. ``update``: normalise by the batch, and
take its statistics into the running ones. ``running``: normalise by the running ones.
"""


class BatchNorm2d(nn.Module):
    """Batch normalisation of (n, channels, height, width); running statistics only where asked for.

    y = (x - m) / sqrt(v + eps) * weight + bias per channel (Ioffe and Szegedy, 2015), where m and v
    (the biased variance) are those of the batch, unless `batch_norm_statistics` says otherwise.
    Running statistics (`keep_running_statistics`) move by ``momentum`` towards those of each batch,
    the variance towards the unbiased one, as PyTorch's do.

    Args:
        channels: number of channels; ``weight`` starts at one and ``bias`` at zero.
        eps: added to the variance.
        affine: have ``weight`` and ``bias``; without them the output is standardised and no more.
        momentum: how far one batch moves the running statistics, in [0, 1].
    """

    running_mean: Tensor | None
    running_var: Tensor | None

    def __init__(
        self, channels: int, eps: float = 1e-5, *, affine: bool = True, momentum: float = 0.1
    ):
        super().__init__()
        self.channels, self.momentum = channels, momentum
        self.register_buffer("running_mean", None)
        self.register_buffer("running_var", None)
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.eps = eps
        self._mode: Statistics = "batch"  # what `batch_norm_statistics` sets
        self._recorded: tuple[Tensor, Tensor] | None = None
        self._count = 0

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, channels, height, width); n * height * width must exceed one."""
        if self._mode == "recorded":
            assert self._recorded is not None, (
                "no statistics were recorded before this forward pass"
            )
            mean, variance = self._recorded
            standardised = (x - mean[:, None, None]) * torch.rsqrt(variance + self.eps)[
                :, None, None
            ]
            if self.weight is None or self.bias is None:
                return standardised
            return standardised * self.weight[:, None, None] + self.bias[:, None, None]
        if self._mode == "running":
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        if self._mode == "record":
            variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
            self._recorded, self._count = (mean, variance), x.numel() // self.channels
        running = (self.running_mean, self.running_var) if self._mode == "update" else (None, None)
        return F.batch_norm(x, *running, self.weight, self.bias, True, self.momentum, self.eps)


def batch_norm_layers(model: nn.Module) -> list[BatchNorm2d]:
    """Every `BatchNorm2d` of a model, in its order."""
    return [module for module in model.modules() if isinstance(module, BatchNorm2d)]


def keep_running_statistics(model: nn.Module) -> None:
    """Give each `BatchNorm2d` of ``model`` running statistics, mean 0, variance 1, in its state."""
    like = next(model.parameters())
    for layer in batch_norm_layers(model):
        layer.running_mean, layer.running_var = (
            like.new_zeros(layer.channels),
            like.new_ones(layer.channels),
        )


@contextmanager
def batch_norm_statistics(model: nn.Module, mode: Statistics) -> Iterator[None]:
    """Within the context, every `BatchNorm2d` of ``model`` does what ``mode`` says.

    Afterwards it does what it did before.
    """
    before: list[tuple[BatchNorm2d, Statistics]] = [
        (layer, layer._mode) for layer in batch_norm_layers(model)
    ]
    for layer, _ in before:
        layer._mode = mode
    try:
        yield
    finally:
        for layer, previous in before:
            layer._mode = previous


@contextmanager
def recorded_statistics(model: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """In the context every `BatchNorm2d` normalises by its batch; the list then holds what it saw.

    One (mean, variance) a layer, each (channels,), the variance unbiased as running ones are,
    without a graph.
    """
    seen: list[tuple[Tensor, Tensor]] = []
    with batch_norm_statistics(model, "record"):
        yield seen
    for layer in batch_norm_layers(model):
        assert layer._recorded is not None, "there was no forward pass"
        mean, variance = (value.detach() for value in layer._recorded)
        seen.append((mean, variance * layer._count / max(layer._count - 1, 1)))
    forget_statistics(model)


@contextmanager
def given_statistics(model: nn.Module, statistics: list[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Within the context every `BatchNorm2d` normalises by the (mean, variance) given for it."""
    for layer, given in zip(batch_norm_layers(model), statistics, strict=True):
        layer._recorded = given
    try:
        with batch_norm_statistics(model, "recorded"):
            yield
    finally:
        forget_statistics(model)


def use_running_statistics(model: nn.Module) -> None:
    """Freeze batch norm: from now on every `BatchNorm2d` normalises by its running statistics."""
    for layer in batch_norm_layers(model):
        layer._mode = "running"


def forget_statistics(model: nn.Module) -> None:
    """Drop what `batch_norm_statistics` recorded: no graph or image may outlive its prediction."""
    for layer in batch_norm_layers(model):
        layer._recorded = None
