"""A graph of ONNX operators, and in it what `innerloop.classifier.squares` does to a picture.

Pictures are prepared in whole numbers and double precision, step by step as Pillow does it, so that
a runtime gives the network the same bits as this package does.
"""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from innerloop.classifier.squares import FAINT, MARGIN

OPSET = 18
"""Of ONNX's operators: the first in which all of the reductions take their axes as an input."""
IR_VERSION = 8
"""Of the file's format: that of the ONNX in which the operators came."""
BITS = 22
"""Of the fraction of Pillow's whole-numbered weights: 32, less 8 of a pixel and 2 to spare."""
GREY = (19595, 38470, 7471)
"""Luminance's weights in 65536ths, as Pillow has them (ITU-R 601)."""

Value = str | np.ndarray | np.generic
"""What a node takes: another's output, or a constant."""


class Graph:
    """Nodes in the order in which they are computed, and their constants."""

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(
        self,
        kind: str,
        *inputs: Value | None,
        name: str = "",
        outputs: int = 1,
        **attributes: Any,
    ) -> str:
        """A node; the result is the name of its first output.

        Args:
            kind: the operator.
            *inputs: what it takes; None for one that is left out.
            name: of the first output; a fresh one if it is empty.
            outputs: how many it has.
            **attributes: of the operator.
        """
        output = name or f"{kind}_{len(self.nodes)}"
        names = ["" if of is None else self.named(of) for of in inputs]
        others = [f"{output}_{number}" for number in range(1, outputs)]
        self.nodes.append(helper.make_node(kind, names, [output, *others], **attributes))
        return output

    def named(self, value: Value) -> str:
        """The name of a value, which is kept if it is a constant."""
        if isinstance(value, str):
            return value
        name = f"constant_{len(self.initializers)}"
        array = np.array(value, order="C")  # of scalars, too, an array without dimensions
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def cast(self, value: Value, dtype: Any, name: str = "") -> str:
        """The value in another type; see `add`."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.add("Cast", value, name=name, to=kind)

    def sum(self, *values: Value) -> str:
        """Their sum, added from left to right."""
        total, *others = values
        for value in others:
            total = self.add("Add", total, value)
        return self.named(total)

    def side(self, value: Value, axis: int) -> str:
        """The length (1,) int64 of one dimension."""
        return self.add("Shape", value, start=axis, end=axis + 1)

    def cut(self, value: Value, starts: Value, ends: Value, axis: int) -> str:
        """A part of a value along one dimension; starts and ends (1,) int64."""
        return self.add("Slice", value, starts, ends, np.array([axis]))

    def halved(self, value: Value) -> str:
        """A whole number int64 from 0 on divided by two, rounded down."""
        return self.add("Div", value, np.int64(2))


def photo(graph: Graph, image: str, size: int) -> str:
    """As `squares.photo`: (1, 3, size, size) float32 of an image (height, width, 3) uint8."""
    height, width = graph.side(image, 0), graph.side(image, 1)
    side = graph.add("Min", height, width)
    top = graph.halved(graph.add("Sub", height, side))
    left = graph.halved(graph.add("Sub", width, side))
    square = graph.cut(image, top, graph.sum(top, side), 0)
    square = graph.cut(square, left, graph.sum(left, side), 1)
    small = graph.add("Less", side, np.array([size]))
    pixels = graph.add("Where", small, enlarged(graph, square, size), resized(graph, square, size))
    pixels = graph.add("Transpose", pixels, perm=[2, 0, 1])
    pixels = graph.add("Div", graph.cast(pixels, np.float32), np.float32(255))
    return graph.add("Unsqueeze", pixels, np.array([0]))


def drawing(graph: Graph, image: str, size: int) -> str:
    """As `squares.drawing`: (1, 1, size, size) float32 of an image (height, width, 3) uint8."""
    grey = _grey(graph, image)
    ground = _ground(graph, grey)
    ink = graph.add("Abs", graph.add("Sub", grey, ground))
    strongest = graph.add("ReduceMax", ink, keepdims=0)
    limit = graph.add("Mul", strongest, np.float32(FAINT))
    drawn = graph.cast(graph.add("Greater", ink, limit), np.uint8)
    for axis in (0, 1):
        hit = graph.add("ReduceMax", drawn, np.array([1 - axis]), keepdims=0)
        # Where nothing is drawn, that is the first line and the last one.
        first = graph.add("ArgMax", hit, axis=0)
        last = graph.add("ArgMax", hit, axis=0, select_last_index=1)
        ink = graph.cut(ink, first, graph.sum(last, np.int64(1)), axis)
    square = _padded(graph, graph.cast(ink, np.uint8))
    square = graph.add("Unsqueeze", square, np.array([2]))
    small = graph.cast(resized(graph, square, size), np.float32)
    darkest = graph.add("ReduceMax", small, keepdims=0)
    small = graph.add("Div", small, graph.add("Max", darkest, np.float32(1)))
    return graph.add("Reshape", small, np.array([1, 1, size, size]))


def _grey(graph: Graph, image: str) -> str:
    """(height, width) float32, luminance in whole numbers."""
    # All of this is below 2^24, so that nothing is rounded.
    weights = np.array(GREY, np.float32)[:, None]
    weighted = graph.add("MatMul", graph.cast(image, np.float32), weights)
    weighted = graph.add("Squeeze", weighted, np.array([2]))
    shifted = graph.add("Mul", graph.sum(weighted, np.float32(2**15)), np.float32(2**-16))
    return graph.add("Floor", shifted)


def _ground(graph: Graph, grey: str) -> str:
    """The median of the border (), float32, rounded down; corners count twice."""
    lines = []
    for axis in (0, 1):
        for place in (0, -1):
            lines.append(graph.add("Gather", grey, np.int64(place), axis=axis))
    border = graph.add("Concat", *lines, axis=0)
    # The border has twice as many pixels as this: two are in the middle.
    half = graph.sum(graph.side(grey, 0), graph.side(grey, 1))
    lower = graph.add("TopK", border, graph.sum(half, np.array([1])), outputs=2, axis=0, largest=0)
    middle = graph.cut(lower, np.array([-2]), np.array([2**31]), 0)
    mean = graph.add("Mul", graph.add("ReduceSum", middle, keepdims=0), np.float32(0.5))
    return graph.add("Floor", mean)


def _padded(graph: Graph, ink: str) -> str:
    """Ink (height, width) uint8 in the middle of a square, with a margin."""
    height, width = graph.side(ink, 0), graph.side(ink, 1)
    side = graph.add("Max", height, width)
    share = np.float64(MARGIN / (1 - 2 * MARGIN))
    margin = graph.add("Round", graph.add("Mul", share, graph.cast(side, np.float64)))
    margin = graph.add("Max", graph.cast(margin, np.int64), np.array([1]))
    before, after = [], []
    for length in (height, width):
        spare = graph.add("Sub", side, length)
        half = graph.halved(spare)
        before.append(graph.sum(margin, half))
        after.append(graph.sum(margin, graph.add("Sub", spare, half)))
    pads = graph.add("Concat", *before, *after, axis=0)
    return graph.add("Pad", ink, pads, np.uint8(0))


def resized(graph: Graph, pixels: str, size: int) -> str:
    """As `innerloop.data.images.resize`: (size, size, channels) of (n, n, channels), both uint8."""
    # Pillow rounds to bytes in between, and of a square does the rows first.
    return _shrunk(graph, _shrunk(graph, pixels, size, 1), size, 0)


def _shrunk(graph: Graph, pixels: str, size: int, axis: int) -> str:
    """Pixels (height, width, channels) uint8, ``size`` of them along one axis.

    A box weighs all of its pixels alike, so that a difference of running sums is enough.
    """
    first, last, weights = _boxes(graph, graph.side(pixels, axis), size)
    whole = graph.cast(pixels, np.int32)
    running = graph.add("CumSum", whole, np.int64(axis))
    until = graph.add("Gather", running, last, axis=axis)
    more = graph.add("Sub", until, graph.add("Gather", running, first, axis=axis))
    sums = graph.sum(more, graph.add("Gather", whole, first, axis=axis))
    return _byte(graph, _weighed(graph, sums, weights, axis))


def _weighed(graph: Graph, pixels: str, weights: str, axis: int) -> str:
    """Pixels (height, width, channels) int32 times weights (size,) int32 along one axis."""
    weights = graph.add("Reshape", weights, np.array([-1, 1, 1] if axis == 0 else [1, -1, 1]))
    return graph.add("Mul", pixels, weights)


def _byte(graph: Graph, weighted: str) -> str:
    """Weighted sums int32, in units of 2^-22, rounded to uint8."""
    means = graph.add("Div", graph.sum(weighted, np.int32(2 ** (BITS - 1))), np.int32(2**BITS))
    return graph.cast(graph.add("Min", means, np.int32(255)), np.uint8)


def enlarged(graph: Graph, pixels: str, size: int) -> str:
    """By Pillow's BILINEAR filter: (size, size, channels) of (n, n, channels), uint8, n < size.

    Of a larger n it is something else, which costs little.
    """
    return _drawn_out(graph, _drawn_out(graph, pixels, size, 1), size, 0)


def _drawn_out(graph: Graph, pixels: str, size: int, axis: int) -> str:
    """Pixels (height, width, channels) uint8, ``size`` of them along one axis: each of two."""
    length = graph.side(pixels, axis)
    scale = graph.add("Div", graph.cast(length, np.float64), np.float64(size))
    centres = graph.add("Mul", np.arange(size) + 0.5, scale)
    # At the first edge that is between -0.5 and 0, which is cast to 0.
    first = graph.cast(graph.sum(centres, np.float64(-1), np.float64(0.5)), np.int64)
    second = graph.sum(first, np.int64(1))
    shares = []
    for place in (first, second):
        away = graph.sum(graph.add("Sub", graph.cast(place, np.float64), centres), np.float64(0.5))
        share = graph.add("Sub", np.float64(1), graph.add("Abs", away))
        shares.append(graph.add("Max", share, np.float64(0)))
    # Beyond the other edge there is nothing to weigh.
    inside = graph.cast(graph.add("Less", second, length), np.float64)
    shares[1] = graph.add("Mul", shares[1], inside)
    both = graph.sum(*shares)
    second = graph.add("Min", second, graph.add("Sub", length, np.int64(1)))
    products = []
    for place, share in zip((first, second), shares, strict=True):
        weight = graph.add("Mul", graph.add("Div", share, both), np.float64(2**BITS))
        weight = graph.cast(graph.sum(weight, np.float64(0.5)), np.int32)
        there = graph.cast(graph.add("Gather", pixels, place, axis=axis), np.int32)
        products.append(_weighed(graph, there, weight, axis))
    return _byte(graph, graph.sum(*products))


def _boxes(graph: Graph, length: str, size: int) -> tuple[str, str, str]:
    """Which pixels of a line each of ``size`` new ones is the mean of, by Pillow's BOX filter.

    Args:
        graph: gets the nodes.
        length: (1,) int64, pixels of the line.
        size: new pixels.

    Returns:
        The first and the last pixel (size,) int64, and the weight of each between them
        (size,) int32, in units of 2^-22.
    """
    scale = graph.add("Div", graph.cast(length, np.float64), np.float64(size))
    width = graph.add("Max", scale, np.float64(1))
    half = graph.add("Mul", width, np.float64(0.5))
    inverse = graph.add("Div", np.float64(1), width)
    centres = graph.add("Mul", np.arange(size) + 0.5, scale)

    def place(of: str) -> str:
        """In widths, how far the middle of a pixel is from its box's centre."""
        from_centre = graph.add("Sub", graph.cast(of, np.float64), centres)
        return graph.add("Mul", graph.sum(from_centre, np.float64(0.5)), inverse)

    one = np.int64(1)
    first = graph.sum(graph.add("Sub", centres, half), np.float64(0.5))
    first = graph.add("Max", graph.cast(first, np.int64), np.int64(0))
    end = graph.cast(graph.sum(centres, half, np.float64(0.5)), np.int64)
    last = graph.add("Sub", graph.add("Min", end, length), one)
    # Rounding can leave a pixel at either end just outside, where the filter is zero.
    before = graph.add("LessOrEqual", place(first), np.float64(-0.5))
    after = graph.add("Greater", place(last), np.float64(0.5))
    first = graph.sum(first, graph.cast(before, np.int64))
    last = graph.add("Sub", last, graph.cast(after, np.int64))
    count = graph.cast(graph.sum(graph.add("Sub", last, first), one), np.float64)
    share = graph.add("Mul", graph.add("Div", np.float64(1), count), np.float64(2**BITS))
    weights = graph.cast(graph.sum(share, np.float64(0.5)), np.int32)
    return first, last, weights
