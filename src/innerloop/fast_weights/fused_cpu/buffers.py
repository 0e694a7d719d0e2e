"""The memory that passes work in, kept from one to the next.

Without keeping it, the system would hand out and clear several MB for every pass, which takes a
fifth of its time.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from innerloop.fast_weights.fused_cpu import first_layer
from innerloop.fast_weights.fused_cpu.architecture import BLOCKS, Plan
from innerloop.fast_weights.fused_cpu.layout import TAPS

Buffers = TypeVar("Buffers")

TILES, IMAGES = 2, 25
"""What Winograd works on at a time."""


def zeros(*shape: int) -> np.ndarray:
    """Of float32."""
    return np.zeros(shape, np.float32)


def first_total(plan: Plan) -> np.ndarray:
    """For the sums of `first_layer.first_backward`."""
    return np.zeros((TAPS * plan.architecture.channels + 1, plan.architecture.filters))


class Weights(NamedTuple):
    """The weights of one episode, or their gradients, or a direction, as kernels take them.

    Attributes:
        w: of each block (9, inputs, filters); of the first (1, 9 channels, filters).
        g: (filters,) scale of each batch norm.
        h: (filters,) shift of each batch norm.
        a: (ways, features) of the head.
        b: (ways,) of the head.
    """

    w: tuple[np.ndarray, ...]
    g: tuple[np.ndarray, ...]
    h: tuple[np.ndarray, ...]
    a: np.ndarray
    b: np.ndarray


class Patches(NamedTuple):
    """The first block's view of an episode's images, the same at every inner step.

    Attributes:
        values: (positions, 9 channels + 1, n); the last row is one.
        mean: (9 channels,).
        covariance: (9 channels, 9 channels).
    """

    values: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray


def patches_of(plan: Plan, images: np.ndarray) -> Patches:
    """Of images (side, side, channels, n)."""
    size = TAPS * plan.architecture.channels
    values = zeros(plan.grids[0] ** 2, size + 1, plan.images)
    patches = Patches(values, np.zeros(size), np.zeros((size, size)))
    first_layer.patches_of(images, 1 if plan.architecture.pooled else 2, *patches)
    return patches


class Activations(NamedTuple):
    """What a pass leaves behind: inputs, gradients or tangents.

    Attributes:
        x: inputs of each block, and last the features' input, (places, n, filters).
        y: outputs of each convolution; of the first there is none, see `first_layer`.
        u: what of y came through a pool; without one that is y itself.
        z: (n, features).
    """

    x: tuple[np.ndarray, ...]
    y: tuple[np.ndarray, ...]
    u: tuple[np.ndarray, ...]
    z: np.ndarray


def activations(plan: Plan) -> Activations:
    """Zeros; a border that Winograd's convolution wants stays so."""
    n, filters = plan.images, plan.architecture.filters
    later = range(1, BLOCKS)
    outputs = [plan.sides[block + 1] ** 2 for block in range(BLOCKS)]
    nothing = zeros(0, 0, 0)
    x = [nothing, *(zeros(plan.places(block), n, filters) for block in later)]
    y = (nothing, *(zeros(plan.grids[block] ** 2, n, filters) for block in later))
    u = y
    if plan.architecture.pooled:
        u = (nothing, *(zeros(outputs[block], n, filters) for block in later))
    return Activations((*x, zeros(outputs[-1], n, filters)), y, u, zeros(n, plan.features))


class Statistics(NamedTuple):
    """What batch norm normalised by, and which of four a pool took.

    Attributes:
        which: of each block, (places, n, filters).
        m: means of each block, and last of the features' norm; so are v, variances, and r, one
            over the standard deviations.
        own: (5,) whether these are the batch's own.
    """

    which: tuple[np.ndarray, ...]
    m: tuple[np.ndarray, ...]
    v: tuple[np.ndarray, ...]
    r: tuple[np.ndarray, ...]
    own: np.ndarray


def widths(plan: Plan) -> list[int]:
    """Channels of each batch norm, the features' last."""
    return [plan.architecture.filters] * BLOCKS + [plan.features]


def statistics(plan: Plan) -> Statistics:
    """To be filled."""
    n = plan.images if plan.architecture.pooled else 0
    which = tuple(
        np.zeros((plan.sides[block + 1] ** 2, n, plan.architecture.filters), np.int8)
        for block in range(BLOCKS)
    )
    m, v, r = (tuple(np.zeros(width) for width in widths(plan)) for _ in range(3))
    return Statistics(which, m, v, r, np.ones(BLOCKS + 1, np.bool_))


def forward(plan: Plan) -> tuple[Activations, Statistics]:
    """What a forward pass leaves behind."""
    return activations(plan), statistics(plan)


class Work(NamedTuple):
    """What kernels need while they run.

    Attributes:
        folded, total, block: of `first_layer`.
        transposed: (9, filters, filters).
        rm, rr: tangents of statistics.
        v, m, u, ut, ru, rut, du: of `winograd`.
    """

    folded: np.ndarray
    total: np.ndarray
    block: np.ndarray
    transposed: np.ndarray
    rm: tuple[np.ndarray, ...]
    rr: tuple[np.ndarray, ...]
    v: np.ndarray
    m: np.ndarray
    u: np.ndarray
    ut: np.ndarray
    ru: np.ndarray
    rut: np.ndarray
    du: np.ndarray


class Scratch:
    """What a pass needs while it runs: one of these for each thread."""

    def __init__(self, plan: Plan):
        self._plan = plan
        architecture, n = plan.architecture, plan.images
        filters, size = architecture.filters, TAPS * architecture.channels + 1
        rm, rr = (tuple(np.zeros(width) for width in widths(plan)) for _ in range(2))
        places = 16 if plan.winograd else 0
        few = next(k for k in range(min(IMAGES, n), 0, -1) if n % k == 0)
        v, m = (zeros(2, places, TILES, few, filters) for _ in range(2))
        self.work = Work(
            zeros(size, filters),
            first_total(plan),
            zeros(4 if architecture.pooled else 1, n, filters),
            zeros(TAPS, filters, filters),
            rm,
            rr,
            v,
            m,
            *(zeros(places, filters, filters) for _ in range(5)),
        )

    @cached_property
    def tangent(self) -> Activations:
        """Tangents of a forward pass."""
        return activations(self._plan)

    @cached_property
    def d_tangent(self) -> Activations:
        """Tangents of a backward pass."""
        return activations(self._plan)

    @cached_property
    def unpooled(self) -> Activations:
        """Gradients of the norms' outputs, where a pool comes after them."""
        return activations(self._plan)


class Kept(Generic[Buffers]):
    """Buffers that are free for others once nobody holds this."""

    def __init__(self, plan: Plan, kind: Callable[[Plan], Buffers]):
        self._free: list[Buffers] = plan.free.setdefault(kind, [])
        try:
            self.buffers = self._free.pop()
        except IndexError:
            self.buffers = kind(plan)

    def __del__(self):
        # There are none where memory was used up.
        if hasattr(self, "buffers"):
            self._free.append(self.buffers)


def scratch_of(plan: Plan) -> Scratch:
    """What belongs to this thread; a pass takes it, and gives it back by returning."""
    if not hasattr(plan.of_thread, "scratch"):
        plan.of_thread.scratch = Scratch(plan)
    return plan.of_thread.scratch
