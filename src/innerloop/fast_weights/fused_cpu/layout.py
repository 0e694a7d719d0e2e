"""Where the numbers lie.

Activations are (position, image, channel): all images at one position of the grid are neighbours.
So a 3x3 convolution is, for each output position, a sum of at most nine products of (images x
inputs) with (inputs x outputs), read where they lie: nothing is gathered, and taps that fall off
the image are left out instead of multiplied by zero.

Weights of a convolution are (tap, input, output), tap = 3 row + column: what the products take.
As a tensor that is (outputs, inputs, 3, 3) with other strides than usual, see `as_taps`.
"""

from typing import NamedTuple

import numpy as np
from torch import Tensor

TAPS = 9
FLOAT = 4
"""Bytes."""


class Taps(NamedTuple):
    """Which blocks meet in a sum of products: (sums, most, 2) byte offsets, and how many there are.

    Attributes:
        pairs: for each sum, offsets into both factors; unused ones are zero.
        counts: (sums,).
    """

    pairs: np.ndarray
    counts: np.ndarray


class Convolution(NamedTuple):
    """The tables of a 3x3 convolution with padding 1.

    Attributes:
        forward: by output position: (input position, tap).
        backward: by input position: (output position, tap).
        weights: by tap: (input position, output position).
    """

    forward: Taps
    backward: Taps
    weights: Taps


def convolution_tables(
    side: int, stride: int, images: int, inputs: int, outputs: int
) -> Convolution:
    """The tables of a convolution of a square grid.

    Args:
        side: of the input grid.
        stride: 1 or 2.
        images: n.
        inputs: channels that come in.
        outputs: channels that go out.
    """
    out_side = -(-side // stride)
    forward = [[] for _ in range(out_side**2)]
    backward = [[] for _ in range(side**2)]
    weights = [[] for _ in range(TAPS)]
    taken, given = images * inputs * FLOAT, images * outputs * FLOAT
    matrix = inputs * outputs * FLOAT
    for target in range(out_side**2):
        for tap in range(TAPS):
            row = target // out_side * stride + tap // 3 - 1
            column = target % out_side * stride + tap % 3 - 1
            if 0 <= row < side and 0 <= column < side:
                source = row * side + column
                forward[target].append((source * taken, tap * matrix))
                backward[source].append((target * given, tap * matrix))
                weights[tap].append((source * taken, target * given))
    return Convolution(_table(forward), _table(backward), _table(weights))


def _table(sums: list[list[tuple[int, int]]]) -> Taps:
    pairs = np.zeros((len(sums), max(map(len, sums)), 2), np.int64)
    for number, terms in enumerate(sums):
        if terms:
            pairs[number, : len(terms)] = terms
    return Taps(pairs, np.array([len(terms) for terms in sums], np.int64))


def as_taps(weight: Tensor, inputs_first: bool = False) -> Tensor:
    """A convolution's weights as the kernels take them; a view if they lie so already.

    Args:
        weight: (..., outputs, inputs, 3, 3).
        inputs_first: whether rows are (input, tap), as the first block takes them, or (tap, input).

    Returns:
        (..., 9 inputs, outputs), contiguous.
    """
    moved = weight.movedim(-4, -1) if inputs_first else weight.movedim((-4, -3), (-1, -2))
    return moved.contiguous().flatten(-4, -2)


def from_taps(taps: Tensor, inputs: int, inputs_first: bool = False) -> Tensor:
    """The inverse of `as_taps`, a view.

    Args:
        taps: (..., 9 inputs, outputs).
        inputs: how many.
        inputs_first: as in `as_taps`.

    Returns:
        (..., outputs, inputs, 3, 3).
    """
    if inputs_first:
        return taps.unflatten(-2, (inputs, 3, 3)).movedim(-1, -4)
    return taps.unflatten(-2, (3, 3, inputs)).movedim((-1, -2), (-4, -3))
