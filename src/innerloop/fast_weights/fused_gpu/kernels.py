"""The door to the kernels in Triton: where they are taken, and how they are launched.

They are taken on a CUDA device on which they work, which is tried out once; and on any in Triton's
interpreter (TRITON_INTERPRET=1), to test them without one. What each computes is in `layers`.
"""

import os
from contextlib import nullcontext
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from innerloop.fast_weights.fused_gpu.layers import Grid, Norm

ROWS = 16
"""In registers at once."""
SPAN = 512
"""Rows whose sums are a part; fixed, so that an episode is the same alone as among others."""
WIDEST = 64
"""Channels of a program, at most."""


def take(raw: Tensor) -> bool:
    """Whether the kernels compute what is between convolutions that give such a tensor."""
    return raw.dtype in (torch.float32, torch.float64) and why_formulas(raw.device) is None


@lru_cache(maxsize=16)
def why_formulas(device: torch.device) -> str | None:
    """Why PyTorch's operations are taken on a device, to go on after "because"; None: they aren't.

    The first call for a device compiles a kernel; it must not be while a CUDA graph is captured.
    """
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"it is computed on {device.type}"
    if find_spec("triton") is None:
        return "Triton is not installed"
    try:
        # Tried out: it needs a C compiler, and a driver that suits it.
        mean = norm_of(torch.ones(1, 2, 1, device=device), None, None, 1e-5)[0]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except Exception as error:  # whatever a broken installation raises
        return f"Triton cannot be used ({type(error).__name__}: {error})"
    return None if mean.shape == (1, 1) else "Triton cannot be used"


def norm_of(
    raw: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float
) -> tuple[Tensor, ...]:
    """See `layers.norm_of`."""
    episodes, rows, channels = raw.shape
    parts = _parts(raw)
    grid = parts.shape[1], episodes, _widths(channels)
    width = _width(channels)
    arguments = raw.contiguous(), parts, rows, channels
    _launch("sums", grid, *arguments, SPAN=SPAN, ROWS=ROWS, WIDTH=width)
    out = raw.new_empty(5, episodes, channels)
    affine = gamma is not None and beta is not None
    # Within an episode they lie one after the other; the episodes may be all the same.
    gamma, beta = (_rows_dense(of) if of is not None else out for of in (gamma, beta))
    _launch(
        "norm",
        grid[1:],
        *(parts, gamma, beta, out, parts.shape[1], rows, channels),
        *(gamma.stride(0), beta.stride(0)),
        EPS=eps,
        AFFINE=affine,
        WIDTH=width,
    )
    return out.unbind()


def activated(
    raw: Tensor,
    scale: Tensor,
    shift: Tensor,
    grid: "Grid",
    *,
    values: Tensor | None = None,
    stride: int | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """See `layers.activated`, with a stride `layers.activated_patches`, with values `selected`."""
    episodes, rows, channels = raw.shape
    images = rows // (grid.sides[0] * grid.sides[1])
    out_sides = grid.after if stride is None else _strided(grid.after, stride)
    out_rows = images * out_sides[0] * out_sides[1]
    taps = 1 if stride is None else 9
    out = torch.empty(
        episodes, out_rows, taps * channels, dtype=dtype or raw.dtype, device=raw.device
    )
    _launch(
        "activated",
        (_parted(out_rows, ROWS), episodes, _widths(channels)),
        *(raw.contiguous(), scale.contiguous(), shift.contiguous()),
        *(raw if values is None else values.contiguous(), out, rows, channels),
        *(*grid.sides, *grid.after, *out_sides, out_rows),
        STRIDE=stride or 1,
        TAPS=taps,
        POOLED=grid.pooled,
        RELU=grid.relu,
        SELECT=values is not None,
        ROWS=ROWS,
        WIDTH=_width(channels),
    )
    return out if stride is not None else out.unflatten(1, (images, *out_sides))


def behind_norm(
    upstream: Tensor, raw: Tensor, norm: "Norm", grid: "Grid", stride: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """See `layers.behind_norm`."""
    episodes, rows, channels = raw.shape
    out, parts, width = torch.empty_like(raw), _parts(raw), _width(channels)
    following = (0, 0) if stride is None else _strided(grid.after, stride)
    vectors = (of.contiguous() for of in (norm.mean, norm.inverse, norm.scale, norm.shift))
    _launch(
        "behind_norm",
        (parts.shape[1], episodes, _widths(channels)),
        *(upstream.contiguous(), raw.contiguous(), *vectors, out, parts, rows, channels),
        *(*grid.sides, *grid.after, *following),
        STRIDE=stride or 1,
        TAPS=1 if stride is None else 9,
        POOLED=grid.pooled,
        RELU=grid.relu,
        SPAN=SPAN,
        ROWS=ROWS,
        WIDTH=width,
    )
    total = raw.new_empty(2, episodes, channels)
    grid_of_sums = episodes, _widths(channels)
    _launch("added", grid_of_sums, parts, total, parts.shape[1], channels, WIDTH=width)
    return out, total[0], total[1]


def through_norm(
    gradient: Tensor, raw: Tensor, norm: "Norm", gamma: Tensor, beta: Tensor
) -> Tensor:
    """See `layers.through_norm`, by the statistics of the batch."""
    episodes, rows, channels = raw.shape
    out = torch.empty_like(raw)
    vectors = (of.contiguous() for of in (norm.mean, norm.inverse, norm.scale, gamma, beta))
    _launch(
        "through_norm",
        (_parted(rows, ROWS), episodes, _widths(channels)),
        *(gradient.contiguous(), raw.contiguous(), *vectors, out, rows, channels),
        ROWS=ROWS,
        WIDTH=_width(channels),
    )
    return out


def _launch(
    name: str, programs: tuple[int, ...], first: Tensor, *others: Any, **sizes: Any
) -> None:
    """Run a kernel of `triton_kernels` on the device of its first tensor."""
    # Not before one is taken: Triton takes a second to import.
    from innerloop.fast_weights.fused_gpu import triton_kernels

    kernel: Any = getattr(triton_kernels, name)
    # Triton launches on the process's current device, wherever its tensors are.
    with torch.cuda.device(first.device) if first.is_cuda else nullcontext():
        kernel[programs](first, *others, **sizes)


def _parts(raw: Tensor) -> Tensor:
    episodes, rows, channels = raw.shape
    shape = episodes, _parted(rows, SPAN), 2, channels
    return torch.empty(shape, dtype=torch.float64, device=raw.device)


def _parted(number: int, size: int) -> int:
    return -(-number // size)


def _width(channels: int) -> int:
    """Channels of a program, a power of two."""
    return min(WIDEST, 1 << (channels - 1).bit_length())


def _widths(channels: int) -> int:
    """How many programs there are side by side."""
    return _parted(channels, _width(channels))


def _strided(sides: tuple[int, int], stride: int) -> tuple[int, int]:
    return _parted(sides[0], stride), _parted(sides[1], stride)


def _rows_dense(vectors: Tensor) -> Tensor:
    return vectors if vectors.stride(1) == 1 else vectors.contiguous()
