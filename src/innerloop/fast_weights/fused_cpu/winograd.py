"""3x3 convolutions of stride 1 by Winograd's F(2x2, 3x3): 16 products where there were 36.

For each 2x2 tile of the output, with the 4x4 inputs i under it and the filter f (Lavin and Gray,
2015, arXiv 1509.09308)::

    y = A' [(G f G') * (B' i B)] A
    G  = [1 0 0; 1/2 1/2 1/2; 1/2 -1/2 1/2; 0 0 1]
    B' = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1]        A' = [1 1 1 0; 0 1 -1 -1]

where * is a matrix product over channels for each of the 16 places. Backward the same matrices
serve transposed: df = G' [V' (A dy A')] G, di = B [(A dy A') U'] B'.

Inputs lie in a grid with a border of zeros, so that no tile is special. A few tiles are worked on
at a time, so that they stay in the second cache. F(4x4, 3x3) would save more and is six times less
exact.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from innerloop.fast_weights.fused_cpu.compiling import HOST, jit
from innerloop.fast_weights.fused_cpu.tiles import ALONE, NO_FLOOR, Vectors, add_products

_BT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_AT = ((1, 1, 1, 0), (0, 1, -1, -1))
Matrix = Sequence[Sequence[int]]


@jit
def transform_weights(w, u, transposed):
    """u = G f G' for all channels, and each of its 16 matrices transposed.

    Args:
        w: (9, inputs, outputs).
        u: (16, inputs, outputs), to be filled.
        transposed: (16, outputs, inputs), to be filled.
    """
    inputs, outputs = w.shape[1], w.shape[2]
    half = np.float32(0.5)
    rows = np.empty((4, 3, outputs), np.float32)
    for i in range(inputs):
        for j in range(3):
            for o in range(outputs):
                top, middle, bottom = w[j, i, o], w[3 + j, i, o], w[6 + j, i, o]
                rows[0, j, o] = top
                rows[1, j, o] = half * (top + middle + bottom)
                rows[2, j, o] = half * (top - middle + bottom)
                rows[3, j, o] = bottom
        for k in range(4):
            for o in range(outputs):
                left, centre, right = rows[k, 0, o], rows[k, 1, o], rows[k, 2, o]
                u[4 * k, i, o] = left
                u[4 * k + 1, i, o] = half * (left + centre + right)
                u[4 * k + 2, i, o] = half * (left - centre + right)
                u[4 * k + 3, i, o] = right
    for place in range(16):
        for i in range(inputs):
            for o in range(outputs):
                transposed[place, o, i] = u[place, i, o]


@jit
def weight_gradient(du, dw):
    """dw = G' du G."""
    inputs, outputs = du.shape[1], du.shape[2]
    half = np.float32(0.5)
    rows = np.empty((3, 4, outputs), np.float32)
    for i in range(inputs):
        for k in range(4):
            for o in range(outputs):
                d0, d1, d2, d3 = du[k, i, o], du[4 + k, i, o], du[8 + k, i, o], du[12 + k, i, o]
                rows[0, k, o] = d0 + half * (d1 + d2)
                rows[1, k, o] = half * (d1 - d2)
                rows[2, k, o] = half * (d1 + d2) + d3
        for j in range(3):
            for o in range(outputs):
                d0, d1, d2, d3 = rows[j, 0, o], rows[j, 1, o], rows[j, 2, o], rows[j, 3, o]
                dw[3 * j, i, o] = d0 + half * (d1 + d2)
                dw[3 * j + 1, i, o] = half * (d1 - d2)
                dw[3 * j + 2, i, o] = half * (d1 + d2) + d3


def sandwich(matrix: Matrix, *, add: bool = False) -> Any:
    """D = M S M' or, with ``add``, D + M S M', as a function for kernels.

    The entries of S and D are vectors on grids: that of row i and column j lies i times the row's
    stride and j times the column's behind the first. M has entries 1, 0 and -1. Written as
    instructions, since a plain loop over so many rows of memory is not vectorised.
    """

    @intrinsic
    def apply(typing, source, source_row, source_column, target, target_row, target_column):
        return types.void(*[types.int64] * 6), _emit(matrix, add)

    return apply


def _emit(matrix: Matrix, add: bool) -> Any:
    outputs, inputs = range(len(matrix)), range(len(matrix[0]))

    def emit(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        source, source_row, source_column, target, target_row, target_column = arguments
        vectors = Vectors(builder)

        def place(first: Any, row: Any, column: Any, i: int, j: int) -> Any:
            return vectors.at(vectors.at(first, row, i), column, j)

        def combined(signs: Sequence[int], values: Sequence[Any]) -> Any:
            total = None
            for sign, value in zip(signs, values, strict=True):
                if sign and total is None:
                    total = value if sign > 0 else builder.fneg(value)
                elif sign:
                    total = (builder.fadd if sign > 0 else builder.fsub)(total, value)
            return total

        entries = [
            [vectors.load(place(source, source_row, source_column, i, j)) for j in inputs]
            for i in inputs
        ]
        columns = list(zip(*entries, strict=True))
        products = [[combined(matrix[k], columns[j]) for j in inputs] for k in outputs]
        for k in outputs:
            for m in outputs:
                value = combined(matrix[m], products[k])
                address = place(target, target_row, target_column, k, m)
                if add:
                    value = builder.fadd(value, vectors.load(address))
                vectors.store(value, address)
        return context.get_dummy_value()

    return emit


_of_inputs = sandwich(_BT)
_of_outputs = sandwich(_AT)
_to_outputs = sandwich(tuple(zip(*_AT, strict=True)))
_to_inputs = sandwich(tuple(zip(*_BT, strict=True)), add=True)
_LANES = HOST.width


@jit
def _take_inputs(x, wide, first, row, column, v, tile):
    """v[:, tile] = B' i B of the 4x4 inputs of the tile at (row, column), images from ``first``."""
    place = x.shape[1] * x.shape[2] * 4
    size = v.shape[2] * v.shape[3]
    source = x[2 * row * wide + 2 * column, first].ctypes.data
    target = v[0, tile].ctypes.data
    step = v.shape[1] * size * 4
    for e in range(0, size, _LANES):
        _of_inputs(source + 4 * e, wide * place, place, target + 4 * e, 4 * step, step)


@jit
def _give_inputs(v, tile, dx, wide, first, row, column):
    """The 4x4 gradients dx of the tile's inputs grow by B v[:, tile] B'."""
    place = dx.shape[1] * dx.shape[2] * 4
    size = v.shape[2] * v.shape[3]
    target = dx[2 * row * wide + 2 * column, first].ctypes.data
    source = v[0, tile].ctypes.data
    step = v.shape[1] * size * 4
    for e in range(0, size, _LANES):
        _to_inputs(source + 4 * e, 4 * step, step, target + 4 * e, wide * place, place)


@jit
def _give_outputs(v, tile, y, side, first, row, column):
    """The tile's 2x2 outputs are A' v[:, tile] A."""
    place = y.shape[1] * y.shape[2] * 4
    size = v.shape[2] * v.shape[3]
    target = y[2 * row * side + 2 * column, first].ctypes.data
    source = v[0, tile].ctypes.data
    step = v.shape[1] * size * 4
    for e in range(0, size, _LANES):
        _of_outputs(source + 4 * e, 4 * step, step, target + 4 * e, side * place, place)


@jit
def _take_outputs(dy, side, first, row, column, v, tile):
    """v[:, tile] = A dy A' of the gradients of the tile's 2x2 outputs."""
    place = dy.shape[1] * dy.shape[2] * 4
    size = v.shape[2] * v.shape[3]
    source = dy[2 * row * side + 2 * column, first].ctypes.data
    target = v[0, tile].ctypes.data
    step = v.shape[1] * size * 4
    for e in range(0, size, _LANES):
        _to_outputs(source + 4 * e, side * place, place, target + 4 * e, 4 * step, step)


@jit
def _multiply(v, u, out, rows, keep):
    """out[k] = keep out[k] + v[k] u[k] for the 16 places, over so many rows."""
    inputs, outputs = u.shape[1], u.shape[2]
    for k in range(16):
        add_products(
            v[k].ctypes.data,
            inputs * 4,
            4,
            u[k].ctypes.data,
            outputs * 4,
            out[k].ctypes.data,
            outputs * 4,
            ALONE.ctypes.data,
            1,
            inputs,
            rows,
            outputs,
            keep,
            NO_FLOOR,
        )


@jit
def _add_outer_products(v, d, du, rows):
    """du[k] += v[k]' d[k] for the 16 places, over so many rows."""
    inputs, outputs = du.shape[1], du.shape[2]
    for k in range(16):
        add_products(
            v[k].ctypes.data,
            4,
            inputs * 4,
            d[k].ctypes.data,
            outputs * 4,
            du[k].ctypes.data,
            outputs * 4,
            ALONE.ctypes.data,
            1,
            rows,
            inputs,
            outputs,
            True,
            NO_FLOOR,
        )


@jit
def winograd_forward(x, u, rx, ru, tangent, y, side, v, m):
    """y = x * f; with ``tangent`` y = rx * f + x * rf.

    Args:
        x: ((side + 2)^2, images, inputs), with its border of zeros.
        u: (16, inputs, outputs), see `transform_weights`.
        rx: like x.
        ru: like u.
        y: (side * side, images, outputs), to be filled.
        side: even.
        v: (16, tiles, images at once, inputs): how many are worked on at a time.
        m: (16, tiles, images at once, outputs).
    """
    across, at_once, few = side // 2, v.shape[1], v.shape[2]
    for first in range(0, x.shape[1], few):
        for start in range(0, across * across, at_once):
            tiles = min(at_once, across * across - start)
            for t in range(tiles):
                row, column = (start + t) // across, (start + t) % across
                _take_inputs(x, side + 2, first, row, column, v, t)
            _multiply(v, ru if tangent else u, m, tiles * few, False)
            if tangent:
                for t in range(tiles):
                    row, column = (start + t) // across, (start + t) % across
                    _take_inputs(rx, side + 2, first, row, column, v, t)
                _multiply(v, u, m, tiles * few, True)
            for t in range(tiles):
                row, column = (start + t) // across, (start + t) % across
                _give_outputs(m, t, y, side, first, row, column)


@jit
def winograd_backward(x, dy, ut, rx, rdy, rut, tangent, dx, du, side, v, m):
    """du and dx of y = x * f; with ``tangent`` their derivatives.

    du = x' dy and dx = dy f'; with ``tangent`` du = rx' dy + x' rdy and dx = rdy f' + dy rf'.

    Args:
        x: ((side + 2)^2, images, inputs), with its border of zeros.
        dy: (side * side, images, outputs).
        ut: (16, outputs, inputs), see `transform_weights`.
        rx: like x; rdy is like dy, and rut like ut.
        dx: like x, to be filled.
        du: (16, inputs, outputs), to be filled: see `weight_gradient`.
        side: even.
        v: as in `winograd_forward`; so is ``m``, twice.
    """
    across, at_once, few = side // 2, v.shape[2], v.shape[3]
    dx[:] = 0
    du[:] = 0
    for first in range(0, x.shape[1], few):
        for start in range(0, across * across, at_once):
            tiles = min(at_once, across * across - start)
            rows = tiles * few
            for t in range(tiles):
                row, column = (start + t) // across, (start + t) % across
                _take_inputs(x, side + 2, first, row, column, v[0], t)
                _take_outputs(dy, side, first, row, column, m[0], t)
                if tangent:
                    _take_inputs(rx, side + 2, first, row, column, v[1], t)
                    _take_outputs(rdy, side, first, row, column, m[1], t)
            if tangent:
                _add_outer_products(v[1], m[0], du, rows)
                _add_outer_products(v[0], m[1], du, rows)
                _multiply(m[1], ut, v[0], rows, False)
                _multiply(m[0], rut, v[0], rows, True)
            else:
                _add_outer_products(v[0], m[0], du, rows)
                _multiply(m[0], ut, v[0], rows, False)
            for t in range(tiles):
                row, column = (start + t) // across, (start + t) % across
                _give_inputs(v[0], t, dx, side + 2, first, row, column)


@jit
def forward(x, w, u, ut, y, side, v, m):
    """y = x * w; u and ut are filled, see `transform_weights`."""
    transform_weights(w, u, ut)
    winograd_forward(x, u, x, u, False, y, side, v, m)


@jit
def backward(x, dy, w, u, ut, dx, du, dw, side, v, m):
    """dw and dx of y = x * w."""
    transform_weights(w, u, ut)
    winograd_backward(x, dy, ut, x, dy, ut, False, dx, du, side, v, m)
    weight_gradient(du, dw)


@jit
def forward_tangent(x, rx, w, vw, u, ut, ru, rut, ry, side, v, m):
    """ry = rx * w + x * vw; u, ut, ru and rut are filled."""
    transform_weights(w, u, ut)
    transform_weights(vw, ru, rut)
    winograd_forward(x, u, rx, ru, True, ry, side, v, m)


@jit
def backward_tangent(x, rx, dy, rdy, ut, rut, rdx, du, rdw, side, v, m):
    """The derivatives of `backward`, after `forward_tangent` with the same weights."""
    winograd_backward(x, dy, ut, rx, rdy, rut, True, rdx, du, side, v, m)
    weight_gradient(du, rdw)
