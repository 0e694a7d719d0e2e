"""What is between two convolutions, forward and backward, episode by episode.

Everything has a formula in PyTorch's operations, which is what runs on a CPU and where Triton is
missing; on a GPU `kernels` computes the same in fewer passes over memory. ``raw`` are a
convolution's outputs (E, rows, channels), a row for each position of each image. Sums over rows
are of float64, also where everything else is float32: the rounding of a mean is the same for all
images, so it does not average out, and rectifiers amplify it.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.fast_weights.fused_gpu import kernels
from innerloop.fast_weights.fused_gpu.patches import from_patches, patches_of
from innerloop.networks.batch_norm import Moments


class Norm(NamedTuple):
    """A batch norm at work: it gives raw * scale + shift. All are (E, channels).

    Attributes:
        mean, variance: what it normalises by.
        inverse: one over the standard deviation.
        scale, shift: as above.
    """

    mean: Tensor
    variance: Tensor
    inverse: Tensor
    scale: Tensor
    shift: Tensor


class Grid(NamedTuple):
    """Where a convolution's outputs lie, and what becomes of them.

    Attributes:
        sides: height and width of the outputs, each a row of ``raw``.
        pooled: whether a 2x2 max-pooling follows.
        relu: whether a ReLU does.
    """

    sides: tuple[int, int]
    pooled: bool
    relu: bool

    @property
    def after(self) -> tuple[int, int]:
        """Height and width of what comes out."""
        height, width = self.sides
        return (height // 2, width // 2) if self.pooled else self.sides


def norm_of(raw: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float) -> Norm:
    """A batch norm by the statistics of its own batch.

    Args:
        raw: (E, rows, channels).
        gamma: (E, channels), its scale; None: one.
        beta: (E, channels), its shift; None: zero.
        eps: added to the variance.
    """
    if kernels.take(raw):
        return Norm(*kernels.norm_of(raw, gamma, beta, eps))
    variance, mean = torch.var_mean(raw.double(), dim=1, correction=0)
    return given_norm(Moments(mean.to(raw), variance.to(raw)), gamma, beta, eps)


def given_norm(of: Moments, gamma: Tensor | None, beta: Tensor | None, eps: float) -> Norm:
    """A batch norm by moments (E, channels) that are given."""
    inverse = torch.rsqrt(of.variance + eps)
    scale = inverse if gamma is None else gamma * inverse
    shift = -of.mean * scale if beta is None else beta - of.mean * scale
    return Norm(of.mean, of.variance, inverse, scale, shift)


def activated(raw: Tensor, norm: Norm, grid: Grid) -> Tensor:
    """What a block gives: normalised, pooled, rectified.

    Returns:
        (E, n, height, width, channels).
    """
    if kernels.take(raw):
        return kernels.activated(raw, norm.scale, norm.shift, grid)
    values = (raw * norm.scale[:, None] + norm.shift[:, None]).unflatten(1, (-1, *grid.sides))
    if grid.pooled:
        values = _windows(values).amax(-2)
    return values.relu() if grid.relu else values


def activated_patches(
    raw: Tensor, norm: Norm, grid: Grid, stride: int, dtype: torch.dtype
) -> Tensor:
    """The patches of `activated`, for the next convolution.

    Args:
        raw: (E, rows, channels).
        norm: of this block.
        grid: of this block.
        stride: of the next convolution.
        dtype: of the patches.

    Returns:
        (E, n x positions, 9 x channels).
    """
    if kernels.take(raw):
        return kernels.activated(raw, norm.scale, norm.shift, grid, stride=stride, dtype=dtype)
    return patches_of(activated(raw, norm, grid).to(dtype), stride)


def selected(values: Tensor, raw: Tensor, norm: Norm, grid: Grid) -> Tensor:
    """What `activated` would give of other values at the places that it takes of ``raw``.

    Its derivative: which of a window is the largest, and whether it is positive, is constant.

    Args:
        values: (E, rows, channels), in the place of what the norm gives.
        raw: (E, rows, channels).
        norm: of the block.
        grid: of the block.

    Returns:
        (E, n, height, width, channels).
    """
    if kernels.take(raw):
        return kernels.activated(raw, norm.scale, norm.shift, grid, values=values)
    normed = (raw * norm.scale[:, None] + norm.shift[:, None]).unflatten(1, (-1, *grid.sides))
    values = values.unflatten(1, (-1, *grid.sides))
    if grid.pooled:
        windows = _windows(normed)
        first = windows.argmax(-2, keepdim=True)
        normed = windows.gather(-2, first).squeeze(-2)
        values = _windows(values).gather(-2, first).squeeze(-2)
    return torch.where(normed > 0, values, 0) if grid.relu else values


class Back(NamedTuple):
    """A gradient on its way back through a block.

    Attributes:
        values: (E, rows, channels), of what the norm gave.
        gamma, beta: (E, channels), of the norm's scale and shift.
    """

    values: Tensor
    gamma: Tensor
    beta: Tensor


def behind_norm(upstream: Tensor, raw: Tensor, norm: Norm, grid: Grid, stride: int | None) -> Back:
    """The gradient of what a norm gave, from that of what its block gave.

    Args:
        upstream: (E, n, height, width, channels), of `activated`; or with a stride
            (E, n x positions, 9 x channels), of `activated_patches`.
        raw: (E, rows, channels).
        norm: of the block.
        grid: of the block.
        stride: of the next convolution; None: there is none.
    """
    if kernels.take(raw):
        return Back(*kernels.behind_norm(upstream, raw, norm, grid, stride))
    if stride is not None:
        upstream = from_patches(upstream, grid.after, stride)
    values = raw * norm.scale[:, None] + norm.shift[:, None]
    if grid.pooled:
        windows = _windows(values.unflatten(1, (-1, *grid.sides)))
        # The first of the largest, as PyTorch's.
        first = windows.argmax(-2, keepdim=True)
        spread = torch.zeros_like(windows).scatter(-2, first, upstream.unsqueeze(-2))
        upstream = _from_windows(spread, grid.sides)
    gradient = upstream.flatten(1, 3)
    if grid.relu:
        gradient = torch.where(values > 0, gradient, 0)
    return back_of(gradient, raw, norm)


def back_of(gradient: Tensor, raw: Tensor, norm: Norm) -> Back:
    """With its sums, the gradient (E, rows, channels) of what a norm gave."""
    standard = (raw - norm.mean[:, None]) * norm.inverse[:, None]
    return Back(gradient, sum_of(gradient * standard), sum_of(gradient))


def sum_of(values: Tensor) -> Tensor:
    """The sum (E, channels) over rows (E, rows, channels)."""
    return values.sum(1, dtype=torch.float64).to(values)


def through_norm(back: Back, raw: Tensor, norm: Norm, *, by_batch: bool) -> Tensor:
    """The gradient (E, rows, channels) of ``raw``.

    Args:
        back: from `behind_norm`.
        raw: (E, rows, channels).
        norm: of the block.
        by_batch: whether its statistics are the batch's own, or constants.
    """
    if not by_batch:
        return back.values * norm.scale[:, None]
    if kernels.take(raw):
        return kernels.through_norm(back.values, raw, norm, back.gamma, back.beta)
    rows = raw.shape[1]
    standard = (raw - norm.mean[:, None]) * norm.inverse[:, None]
    by_standard = standard * (back.gamma / rows)[:, None]
    return norm.scale[:, None] * (back.values - (back.beta / rows)[:, None] - by_standard)


def _windows(values: Tensor) -> Tensor:
    """(E, n, height, width, channels) -> (E, n, height / 2, width / 2, 4, channels)."""
    height, width = (side // 2 for side in values.shape[2:4])
    even = values[:, :, : 2 * height, : 2 * width]
    cut = even.unflatten(3, (width, 2)).unflatten(2, (height, 2))
    return cut.movedim(3, 4).flatten(4, 5)


def _from_windows(windows: Tensor, sides: tuple[int, int]) -> Tensor:
    """The inverse of `_windows`; zeros where a side is odd."""
    even = windows.unflatten(4, (2, 2)).movedim(4, 3).flatten(4, 5).flatten(2, 3)
    height, width = sides
    return F.pad(even, (0, 0, 0, width - even.shape[3], 0, height - even.shape[2]))
