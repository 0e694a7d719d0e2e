"""A sum of matrix products whose result stays in registers from the first term to the last.

Numba compiles plain loops to a quarter of a processor's peak; these tiles reach nine tenths of it.
They are written as LLVM instructions, for whatever vectors the host has. A sum of products instead
of one product ("batch-reduce", Georganas et al. 2020, arXiv 1906.06440) is what a convolution is:
one product for each of its taps.

Addresses, strides and table entries are in bytes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from innerloop.fast_weights.fused_cpu.compiling import HOST, jit

ROWS = 6
"""Of the largest tile."""
_int64, _int32, _float = ir.IntType(64), ir.IntType(32), ir.FloatType()
_vector = ir.VectorType(_float, HOST.width)


class Vectors:
    """Instructions on vectors of the host's width, written through an LLVM builder."""

    def __init__(self, builder: Any):
        self._builder = builder

    def at(self, address: Any, stride: Any, number: int) -> Any:
        """An address so many strides on."""
        return self._builder.add(address, self._builder.mul(stride, _int64(number)))

    def next(self, address: Any, number: int) -> Any:
        """An address so many vectors on."""
        return self._builder.add(address, _int64(4 * HOST.width * number))

    def load(self, address: Any, kind: Any = _vector) -> Any:
        """What lies at an address."""
        value = self._builder.load(self._builder.inttoptr(address, kind.as_pointer()))
        value.align = 4
        return value

    def store(self, value: Any, address: Any) -> None:
        """Write a vector to an address."""
        target = self._builder.inttoptr(address, _vector.as_pointer())
        self._builder.store(value, target).align = 4

    def in_every_lane(self, number: Any) -> Any:
        """A vector of equal numbers."""
        empty = ir.Constant(_vector, ir.Undefined)
        lanes = ir.Constant(ir.VectorType(_int32, HOST.width), [0] * HOST.width)
        first = self._builder.insert_element(empty, number, _int32(0))
        return self._builder.shuffle_vector(first, empty, lanes)

    def product_and_sum(self, one: Any, other: Any, total: Any) -> Any:
        """One * other + total, rounded once."""
        kind = ir.FunctionType(_vector, [_vector] * 3)
        name = f"llvm.fma.v{HOST.width}f32"
        function = cgutils.get_or_insert_function(self._builder.module, kind, name)
        return self._builder.call(function, [one, other, total])


def register_tile(rows: int, across: int) -> Any:
    """The tile of so many rows and vectors, as a function for kernels.

    C[r, j] = max(floor, keep C[r, j] + sum over pairs (s, t) and k < depth of
    A[s + r a_row + k a_k] B[t + k b_k + j]), where j runs over the columns of the tile.
    """

    @intrinsic
    def tile(typing, a, a_row, a_k, b, b_k, c, c_row, pairs, count, depth, keep, floor):
        return types.void(*[types.int64] * 10, types.boolean, types.float32), _emit(rows, across)

    return tile


def _emit(rows: int, across: int) -> Any:
    """What writes a tile's instructions."""
    columns = range(across)
    zero = ir.Constant(_vector, [0.0] * HOST.width)

    def emit(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        a, a_row, a_k, b, b_k, c, c_row, pairs, count, depth, keep, floor = arguments
        vectors = Vectors(builder)

        # LLVM keeps these in registers, since nobody takes their address.
        sums = [[cgutils.alloca_once(builder, _vector) for _ in columns] for _ in range(rows)]
        targets = [vectors.at(c, c_row, row) for row in range(rows)]
        for row in range(rows):
            for column in columns:
                builder.store(zero, sums[row][column])
        with cgutils.for_range(builder, count) as pair:
            entry = builder.add(pairs, builder.mul(pair.index, _int64(16)))
            left = [builder.add(a, vectors.load(entry, _int64))]
            for _ in range(1, rows):
                left.append(builder.add(left[-1], a_row))
            right = builder.add(b, vectors.load(builder.add(entry, _int64(8)), _int64))
            with cgutils.for_range(builder, depth) as term:
                right_k = builder.add(right, builder.mul(term.index, b_k))
                left_k = builder.mul(term.index, a_k)
                factors = [vectors.load(vectors.next(right_k, column)) for column in columns]
                for row in range(rows):
                    number = vectors.load(builder.add(left[row], left_k), _float)
                    factor = vectors.in_every_lane(number)
                    for column in columns:
                        total = builder.load(sums[row][column])
                        total = vectors.product_and_sum(factor, factors[column], total)
                        builder.store(total, sums[row][column])
        # Added last: so a long sum is one of shorter ones, and more exact.
        with builder.if_then(keep):
            for row in range(rows):
                for column in columns:
                    former = vectors.load(vectors.next(targets[row], column))
                    total = builder.fadd(builder.load(sums[row][column]), former)
                    builder.store(total, sums[row][column])
        least = vectors.in_every_lane(floor)
        for row in range(rows):
            for column in columns:
                total = builder.load(sums[row][column])
                # So that NaN stays NaN, which is not less than anything.
                total = builder.select(builder.fcmp_ordered("<", total, least), least, total)
                vectors.store(total, vectors.next(targets[row], column))
        return context.get_dummy_value()

    return emit


_wide_1, _wide_2, _wide_3, _wide_4, _wide_5, _wide_6 = (
    register_tile(rows, HOST.across) for rows in range(1, ROWS + 1)
)
_narrow_1, _narrow_2, _narrow_3, _narrow_4, _narrow_5, _narrow_6 = (
    register_tile(rows, 1) for rows in range(1, ROWS + 1)
)
_NARROW = HOST.width
_WIDE = HOST.width * HOST.across


@jit
def _wide(rows, a, a_row, a_k, b, b_k, c, c_row, pairs, count, depth, keep, floor):
    if rows == 6:
        _wide_6(a, a_row, a_k, b, b_k, c, c_row, pairs, count, depth, keep, floor)
    elif rows == 5:
        _wide_5(a, a_row, a_k, b, b_k, c, c_row, pairs, count, depth, keep, floor)
    elif rows == 4:
        _wide_4(a, a_row, a_k, b, b_k, c, c_row, pairs, count, depth, keep, floor)
    elif rows == 3:
        _wide_3(a, a_row, a_k, b, b_k, c, c_row, pairs, count, depth, keep, floor)
    elif rows == 2:
        _wide_2(a, a_row, a_k, b, b_k, c, c_row, pairs, count, depth, keep, floor)
    else:
        _wide_1(a, a_row, a_k, b, b_k, c, c_row, pairs, count, depth, keep, floor)


@jit
def _narrow(rows, a, a_row, a_k, b, b_k, c, c_row, pairs, count, depth, keep, floor):
    if rows == 6:
        _narrow_6(a, a_row, a_k, b, b_k, c, c_row, pairs, count, depth, keep, floor)
    elif rows == 5:
        _narrow_5(a, a_row, a_k, b, b_k, c, c_row, pairs, count, depth, keep, floor)
    elif rows == 4:
        _narrow_4(a, a_row, a_k, b, b_k, c, c_row, pairs, count, depth, keep, floor)
    elif rows == 3:
        _narrow_3(a, a_row, a_k, b, b_k, c, c_row, pairs, count, depth, keep, floor)
    elif rows == 2:
        _narrow_2(a, a_row, a_k, b, b_k, c, c_row, pairs, count, depth, keep, floor)
    else:
        _narrow_1(a, a_row, a_k, b, b_k, c, c_row, pairs, count, depth, keep, floor)


NO_FLOOR = np.float32(-np.inf)
"""For a product that is no ReLU's."""
ALONE = np.zeros(2, np.int64)
"""The pair of a single product: a constant, since an array that a kernel makes may be gone once its
address is taken."""


@jit
def add_products(a, a_row, a_k, b, b_k, c, c_row, pairs, count, depth, rows, columns, keep, floor):
    """C (rows, columns) = max(floor, keep C + sum over pairs (s, t) of A[s] B[t]).

    Args:
        a: address of A; its row r and inner index k lie ``r a_row + k a_k`` behind.
        a_row: bytes.
        a_k: bytes.
        b: address of B; inner index k lies ``k b_k`` behind, columns are neighbours.
        b_k: bytes.
        c: address of C; row r lies ``r c_row`` behind, columns are neighbours.
        c_row: bytes.
        pairs: address of ``count`` pairs of int64: what to add to a and b for each product.
        count: how many products are summed.
        depth: the inner dimension of each.
        rows: of C.
        columns: of C, a multiple of the vectors' width.
        keep: whether C is added to, or overwritten.
        floor: what C is at least.
    """
    tiles = (rows + 5) // 6
    column = 0
    while column < columns:
        wide = columns - column >= _WIDE
        first = 0
        for tile in range(tiles):
            # As equal as can be: 25 rows are five tiles of five.
            height = (rows - first) // (tiles - tile)
            left = a + first * a_row
            target = c + first * c_row + column * 4
            if wide:
                _wide(
                    height,
                    left,
                    a_row,
                    a_k,
                    b + column * 4,
                    b_k,
                    target,
                    c_row,
                    pairs,
                    count,
                    depth,
                    keep,
                    floor,
                )
            else:
                _narrow(
                    height,
                    left,
                    a_row,
                    a_k,
                    b + column * 4,
                    b_k,
                    target,
                    c_row,
                    pairs,
                    count,
                    depth,
                    keep,
                    floor,
                )
            first += height
        column += _WIDE if wide else _NARROW
