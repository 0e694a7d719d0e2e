"""3x3 convolutions with padding 1, forward, and backward to inputs and weights."""

from innerloop.fast_weights.fused_cpu.compiling import jit
from innerloop.fast_weights.fused_cpu.tiles import NO_FLOOR, add_products


@jit
def convolve(x, w, y, pairs, counts, keep):
    """y[o] = keep y[o] + sum over taps t of x[position of tap t at o] w[t].

    Backward to the inputs it is the same sum over other pairs, with transposed weights.

    Args:
        x: (positions, images, inputs).
        w: (9, inputs, outputs).
        y: (positions, images, outputs).
        pairs: of (x, w) by position of y, see `layout.Taps`.
        counts: how many.
        keep: whether y is added to.
    """
    images, inputs = x.shape[1], x.shape[2]
    outputs = y.shape[2]
    for position in range(len(counts)):
        add_products(
            x.ctypes.data,
            inputs * 4,
            4,
            w.ctypes.data,
            outputs * 4,
            y[position].ctypes.data,
            outputs * 4,
            pairs[position].ctypes.data,
            counts[position],
            inputs,
            images,
            outputs,
            keep,
            NO_FLOOR,
        )


@jit
def convolve_weights(x, dy, dw, pairs, counts, at_once, keep):
    """dw[t] = keep dw[t] + sum over output positions o of x[position of tap t at o]' dy[o].

    Args:
        x: (positions, images, inputs).
        dy: (positions, images, outputs).
        dw: (9, inputs, outputs).
        pairs: of (x, dy) by tap, see `layout.Taps`.
        counts: how many.
        at_once: positions summed before the next tile of dw: as many as the first cache holds.
        keep: whether dw is added to.
    """
    images, inputs = x.shape[1], x.shape[2]
    outputs = dy.shape[2]
    if not keep:
        dw[:] = 0
    for tap in range(len(counts)):
        for first in range(0, counts[tap], at_once):
            add_products(
                x.ctypes.data,
                4,
                inputs * 4,
                dy.ctypes.data,
                outputs * 4,
                dw[tap].ctypes.data,
                outputs * 4,
                pairs[tap, first:].ctypes.data,
                min(at_once, counts[tap] - first),
                images,
                inputs,
                outputs,
                True,
                NO_FLOOR,
            )


@jit
def transpose(w, transposed):
    """transposed[t] = w[t]', in squares that fit a few cache lines.

    Args:
        w: (9, inputs, outputs).
        transposed: (9, outputs, inputs).
    """
    square = 16
    for tap in range(w.shape[0]):
        for first in range(0, w.shape[1], square):
            for second in range(0, w.shape[2], square):
                for column in range(second, min(second + square, w.shape[2])):
                    for row in range(first, min(first + square, w.shape[1])):
                        transposed[tap, column, row] = w[tap, row, column]
