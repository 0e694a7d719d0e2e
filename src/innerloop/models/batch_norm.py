"""Batch normalisation by named statistics: of the batch itself, or of another batch seen before."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BatchNormMode = Literal["transductive", "support"]
"""Whose statistics normalise a prediction.

``transductive``: every forward pass uses the statistics of its own batch; the query images help one
another, and a single image on its own means nothing. ``support``: the statistics of one forward pass of the support
set at the adapted weights; predictions do not depend on the other query images.
"""


class BatchNorm2d(nn.Module):
    """Batch normalisation of (n, channels, height, width) that keeps no running statistics.

    y = (x - m) / sqrt(v + eps) * weight + bias per channel (Ioffe and Szegedy, 2015), where m and v (the
    biased variance) are those of the batch, or inside `support_statistics` those recorded before.

    Args:
        channels: number of channels; ``weight`` starts at one and ``bias`` at zero.
        eps: added to the variance.
        affine: have ``weight`` and ``bias``; without them the output is standardised and no more.
    """

    def __init__(self, channels: int, eps: float = 1e-5, *, affine: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.eps = eps
        self._mode: Literal["batch", "record", "recorded"] = "batch"
        self._recorded: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, channels, height, width); n * height * width must exceed one."""
        if self._mode == "recorded":
            assert self._recorded is not None, "no statistics were recorded before this forward pass"
            mean, variance = self._recorded
            standardised = (x - mean[:, None, None]) * torch.rsqrt(variance + self.eps)[:, None, None]
            if self.weight is None or self.bias is None:
                return standardised
            return standardised * self.weight[:, None, None] + self.bias[:, None, None]
        if self._mode == "record":
            variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
            self._recorded = mean, variance
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


@contextmanager
def batch_norm_statistics(model: nn.Module, mode: Literal["record", "recorded"]) -> Iterator[None]:
    """Within the context, every `BatchNorm2d` of ``model`` records its batch's statistics, or uses them."""
    layers = [module for module in model.modules() if isinstance(module, BatchNorm2d)]
    for layer in layers:
        layer._mode = mode
    try:
        yield
    finally:
        for layer in layers:
            layer._mode = "batch"


def forget_statistics(model: nn.Module) -> None:
    """Drop what `batch_norm_statistics` recorded, so that no graph or image outlives its prediction."""
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            module._recorded = None
