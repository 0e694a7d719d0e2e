"""Which networks the engine computes, and their sizes."""

import threading
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from innerloop.fast_weights.fused_cpu.compiling import HOST
from innerloop.fast_weights.fused_cpu.layout import Taps, convolution_tables
from innerloop.fast_weights.stock import BLOCKS, why_changed
from innerloop.networks.batch_norm import batch_norm_layers
from innerloop.networks.conv4 import Conv4

ROWS_AT_ONCE = 50
"""Of activations, that a tile of a weight gradient sums before the next: they fit the first
cache."""
WINOGRAD_FROM = 12
"""Side of a grid from which Winograd's tiles pay."""


@dataclass(frozen=True)
class Architecture:
    """What a `Conv4` is, as far as its computation goes.

    Attributes:
        channels: of the images.
        filters: of each block.
        pooled: whether blocks pool, or their convolutions have stride 2.
        last_relu: whether the last block has its ReLU.
        flatten: whether features are all positions, or their mean.
        feature_norm: whether features are standardised.
        feature_scale: what they are multiplied by.
        eps: of all batch norms.
    """

    channels: int
    filters: int
    pooled: bool
    last_relu: bool
    flatten: bool
    feature_norm: bool
    feature_scale: float
    eps: float

    @staticmethod
    def of(model: Conv4) -> "Architecture":
        """That of a network which `why_not` has nothing against."""
        filters, channels = model.get_parameter("convs.0.weight").shape[:2]
        return Architecture(
            channels,
            filters,
            model.downsample == "max-pool",
            model.last_relu,
            model.features == "flatten",
            model.feature_norm is not None,
            float(model.feature_scale),
            batch_norm_layers(model)["norms.0"].eps,
        )


def why_not(model: nn.Module) -> str | None:
    """Why the engine cannot compute a network, to go on after "because"; None if it can."""
    if because := why_changed(model):
        return because
    if "convs.0.bias" in dict(model.named_parameters()):
        return "its convolutions have a bias"
    shapes = [model.get_parameter(f"convs.{block}.weight").shape for block in range(BLOCKS)]
    filters = {shape[0] for shape in shapes} | {shape[1] for shape in shapes[1:]}
    if len(filters) != 1:
        return "its blocks have different numbers of filters"
    if (number := filters.pop()) % HOST.width:
        return f"its {number} filters are no multiple of {HOST.width}, this processor's vectors"
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.dtype != torch.float32:
            return f"its weights are {tensor.dtype}"
        if tensor.device.type != "cpu":
            return f"it is on {tensor.device}"
    return None


class Sums(NamedTuple):
    """`layout.Taps` of each convolution: their pairs, and their counts."""

    pairs: tuple[np.ndarray, ...]
    counts: tuple[np.ndarray, ...]


def _sums(tables: list[Taps]) -> Sums:
    return Sums(tuple(of.pairs for of in tables), tuple(of.counts for of in tables))


class Sizes(NamedTuple):
    """What kernels need of a plan. Where something is of a block, it has an entry for each.

    Attributes:
        forward, backward, weights: what each convolution sums; that of the first, of so few
            inputs, is not used.
        grids: sides of the convolutions' outputs.
        floors: what outputs are at least: zero, or minus infinity without a ReLU.
        where: (positions,) places of the first block's outputs in the second's inputs.
        pool: (positions, 1 or 4) positions of the first convolution that are under each of them.
        at_once: positions that a tile of a weight gradient sums before the next.
        eps: of all batch norms.
        pooled, winograd, flatten, standardise: as in `Plan` and `Architecture`.
    """

    forward: Sums
    backward: Sums
    weights: Sums
    grids: np.ndarray
    floors: np.ndarray
    where: np.ndarray
    pool: np.ndarray
    at_once: int
    eps: float
    pooled: bool
    winograd: bool
    flatten: bool
    standardise: bool


@dataclass(frozen=True, eq=False)
class Plan:
    """Sizes and tables for a number of images of some size.

    Attributes:
        architecture: of the network.
        images: n.
        sides: of the grid of images, and of each block's output.
        grids: sides of the convolutions' outputs.
        winograd: whether the second block's convolution is by Winograd.
        sizes: what kernels need.
        free: buffers of each kind that nobody uses, see `buffers`.
        of_thread: what each thread has of its own.
    """

    architecture: Architecture
    images: int
    sides: tuple[int, ...]
    grids: tuple[int, ...]
    winograd: bool
    sizes: "Sizes"
    free: dict[Any, list[Any]] = field(default_factory=dict, repr=False)
    of_thread: threading.local = field(default_factory=threading.local, repr=False)

    @property
    def features(self) -> int:
        """How many there are."""
        positions = self.sides[BLOCKS] ** 2 if self.architecture.flatten else 1
        return positions * self.architecture.filters

    def places(self, block: int) -> int:
        """Places of the grid that a block reads, with Winograd's border where it has one."""
        border = 2 if block == 1 and self.winograd else 0
        return (self.sides[block] + border) ** 2


@lru_cache(maxsize=16)
def plan_of(architecture: Architecture, images: int, side: int) -> Plan:
    """The plan for so many images of a side."""
    sides, grids = [side], []
    for _ in range(BLOCKS):
        last = sides[-1]
        grids.append(last if architecture.pooled else -(-last // 2))
        sides.append(last // 2 if architecture.pooled else grids[-1])
    stride, filters = 1 if architecture.pooled else 2, architecture.filters
    winograd = architecture.pooled and sides[1] % 2 == 0 and sides[1] >= WINOGRAD_FROM
    tables = [
        convolution_tables(sides[block], stride, images, filters, filters)
        for block in range(BLOCKS)
    ]
    rows, columns = np.divmod(np.arange(sides[1] ** 2), sides[1])
    border = 1 if winograd else 0
    where = (rows + border) * (sides[1] + 2 * border) + columns + border
    pool = np.arange(len(where))[:, None]
    if architecture.pooled:
        corner = 2 * rows * grids[0] + 2 * columns
        pool = corner[:, None] + np.array([0, 1, grids[0], grids[0] + 1])
    relus = [True] * (BLOCKS - 1) + [architecture.last_relu]
    sizes = Sizes(
        _sums([table.forward for table in tables]),
        _sums([table.backward for table in tables]),
        _sums([table.weights for table in tables]),
        np.array(grids),
        np.array([0 if relu else -np.inf for relu in relus], np.float32),
        where,
        pool,
        max(1, ROWS_AT_ONCE // images),
        architecture.eps,
        architecture.pooled,
        winograd,
        architecture.flatten,
        architecture.feature_norm,
    )
    return Plan(architecture, images, tuple(sides), tuple(grids), winograd, sizes)
