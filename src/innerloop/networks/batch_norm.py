"""Batch normalisation by named statistics: the batch's own, given ones, or stored ones."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError

BatchNormMode = Literal["transductive", "support", "running"]
"""Whose statistics normalise a prediction.

``transductive``: every forward pass uses the statistics of its own batch; the query images help one
another, and a single image on its own means nothing. ``support``: the statistics of one forward
pass of the support set at the adapted weights; predictions do not depend on the other query images.
``running``: stored statistics, gathered in training; predictions depend on nothing but the image
and the weights.
"""


class Moments(NamedTuple):
    """Mean and biased variance of each channel, (channels,) or, of E episodes, (E, channels)."""

    mean: Tensor
    variance: Tensor


Statistics = dict[str, Moments]
"""A layer's name -> what it normalises by, or what it saw."""

Stored = Literal["stored", "update"]
"""What a layer keeps itself. ``stored``: normalise by its running statistics. ``update``: normalise
by the batch, and move the running statistics towards the batch's."""

LONE = (
    "One image alone has no batch to be normalised by: give more images, or choose another "
    "batch norm than transductive."
)
"""Said where a lone image would be normalised by itself."""


def moments(x: Tensor) -> Moments:
    """Mean and biased variance (channels,) of (n, channels, height, width), differentiable."""
    # Biased, as batch norm normalises; only running statistics are unbiased.
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    return Moments(mean, variance)


def unbiased_moments(x: Tensor) -> Moments:
    """As `moments`, with the unbiased variance, as running ones are, and without a graph."""
    mean, variance = moments(x.detach())
    count = x.numel() // x.shape[1]
    # A single value has no unbiased variance.
    return Moments(mean, variance * count / max(count - 1, 1))


def in_one(passes: Sequence[Moments]) -> Moments:
    """What a layer saw within one forward pass: (channels,); (times, channels) where it ran often.

    A layer at several places normalises each of its inputs by that input's own statistics.
    """
    if len(passes) == 1:
        return passes[0]
    return Moments(*(torch.stack(values) for values in zip(*passes, strict=True)))


def of_pass(statistics: Moments | Stored, number: int) -> Moments | Stored:
    """What a layer normalises by when it runs for time ``number`` (from 0) in a forward pass."""
    if not isinstance(statistics, Moments) or statistics.mean.ndim == 1:
        return statistics
    if number >= len(statistics.mean):
        raise ConfigError(
            "A BatchNorm2d runs more often in this forward pass than in that of the support set: "
            "let it run as often for any images."
        )
    return Moments(statistics.mean[number], statistics.variance[number])


def refuse_several_passes(statistics: Statistics, episodes: int) -> None:
    """Raise `ConfigError` if a layer ran several times in a pass, and one pair has to serve it.

    Args:
        statistics: by layer.
        episodes: leading dimensions of moments that are not of the layer: 1, or 0.
    """
    for name, of in statistics.items():
        if of.mean.ndim > episodes + 1:
            raise several_passes(name)


def several_passes(name: str) -> ConfigError:
    """That one pair of statistics would have to serve several places."""
    return ConfigError(
        f"Layer {name!r} runs more than once in a forward pass, so no one pair of statistics can "
        "be kept for it: give every place a BatchNorm2d of its own."
    )


class BatchNorm2d(nn.Module):
    """Batch normalisation of (n, channels, height, width), a function of its arguments.

    y = (x - m) / sqrt(v + eps) * weight + bias per channel (Ioffe and Szegedy, 2015), where m and v
    (the biased variance) are those of the batch, unless the caller says otherwise. The layer has no
    mode: train() and eval() change nothing. Running statistics (`keep_running_statistics`) move by
    ``momentum`` towards those of each batch under ``update`` alone, the variance towards the
    unbiased one, as PyTorch's do.

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
        self.channels = channels
        self.momentum = momentum
        # None instead of zeros: a network that keeps no statistics has none in its weight file.
        self.register_buffer("running_mean", None)
        self.register_buffer("running_var", None)
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.eps = eps

    def forward(self, x: Tensor, statistics: Moments | Stored | None = None) -> Tensor:
        """Normalise a batch.

        Args:
            x: (n, channels, height, width); by its own statistics n * height * width must exceed
                one.
            statistics: what to normalise by: None, the batch's own; given moments, through which
                gradients flow; or what the layer keeps, see `Stored`.

        Raises:
            ConfigError: if the layer keeps no running statistics and is to use them, or
                ``statistics`` is none of these.
        """
        if isinstance(statistics, Moments):
            return self._normalise(x, *statistics)
        if statistics not in (None, *get_args(Stored)):
            known = ", ".join(map(repr, get_args(Stored)))
            raise ConfigError(
                f"BatchNorm2d normalises by None, Moments, {known}: got {statistics!r}."
            )
        if x.device.type == "cpu":
            # In channels_last PyTorch's statistics are off by up to 1e-4 on a CPU.
            x = x.contiguous()
        running = self.running() if statistics else (None, None)
        by_batch = statistics != "stored"
        return F.batch_norm(x, *running, self.weight, self.bias, by_batch, self.momentum, self.eps)

    def _normalise(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        # Written out, since `F.batch_norm` passes no gradient on to statistics that it is given.
        scale = torch.rsqrt(variance + self.eps)
        standardised = (x - mean[:, None, None]) * scale[:, None, None]
        if self.weight is None or self.bias is None:
            return standardised
        return standardised * self.weight[:, None, None] + self.bias[:, None, None]

    def running(self) -> Moments:
        """The running statistics themselves.

        Raises:
            ConfigError: if the layer keeps none.
        """
        if self.running_mean is None or self.running_var is None:
            raise ConfigError(
                "A BatchNorm2d keeps no running statistics, so it cannot normalise by them: call "
                "keep_running_statistics(model) before training, or choose another batch norm."
            )
        return Moments(self.running_mean, self.running_var)


def batch_norm_layers(model: nn.Module) -> dict[str, BatchNorm2d]:
    """Every `BatchNorm2d` of a model by its name, in the model's order."""
    return {
        name: module for name, module in model.named_modules() if isinstance(module, BatchNorm2d)
    }


def of_episode(statistics: Statistics | Stored | None, episode: int) -> Statistics | Stored | None:
    """One episode's (channels,) of given statistics (E, channels); others as they are."""
    if not isinstance(statistics, dict):
        return statistics
    return {
        name: Moments(of.mean[episode], of.variance[episode]) for name, of in statistics.items()
    }


def stored_statistics(model: nn.Module) -> Statistics:
    """The running statistics of every `BatchNorm2d`, (channels,) each."""
    return {name: layer.running() for name, layer in batch_norm_layers(model).items()}


def keep_running_statistics(model: nn.Module) -> None:
    """Give each `BatchNorm2d` of ``model`` running statistics, mean 0, variance 1, in its state."""
    like = next(model.parameters(), torch.empty(0))
    for layer in batch_norm_layers(model).values():
        layer.running_mean = like.new_zeros(layer.channels)
        layer.running_var = like.new_ones(layer.channels)
