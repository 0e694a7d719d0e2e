"""What a later block does after its convolution, and convolutions backward, in one call each.

Threads meet at Python's lock between calls: so there are few.
"""

from innerloop.fast_weights.fused_cpu.compiling import jit
from innerloop.fast_weights.fused_cpu.convolution import convolve, convolve_weights, transpose
from innerloop.fast_weights.fused_cpu.norm import (
    choose,
    moments_of,
    moments_tangent,
    norm_gradient,
    norm_gradient_tangent,
    norm_relu,
    norm_relu_pool,
    norm_relu_tangent,
    rates_of,
    relu_gradient,
    relu_gradient_tangent,
    unpool,
)


@jit
def flat(x):
    """(rows, channels)."""
    return x.reshape(x.shape[0] * x.shape[1], x.shape[2])


@jit
def norm_forward(y, g, h, m, v, r, eps, own, floor, side, pooled, x, u, which):
    """Statistics, norm, ReLU and pool of a convolution's output y; see `norm`.

    Args:
        own: whether the statistics are y's own; otherwise m and v are given.
        side: of y's grid.
        x: the block's output, to be filled; so are u and which, if it is pooled.
    """
    if own:
        moments_of(flat(y), m, v)
    rates_of(v, eps, r)
    if pooled:
        norm_relu_pool(y, side, g, h, m, r, floor, x, u, which)
    else:
        norm_relu(flat(y), g, h, m, r, floor, flat(x))


@jit
def norm_backward(dx, x, u, y, g, m, r, own, floor, side, pooled, which, dg, dh, dy):
    """Gradients of scale, shift and y from dx, which the ReLU changes in place."""
    relu_gradient(flat(dx), flat(x), flat(u), m, r, floor, dg, dh)
    if pooled:
        unpool(dx, side, which, dy)
        norm_gradient(flat(dy), flat(y), g, m, r, dg, dh, own, flat(dy))
    else:
        norm_gradient(flat(dx), flat(y), g, m, r, dg, dh, own, flat(dy))


@jit
def norm_forward_tangent(
    y, ry, u, ru, x, g, m, r, vg, vh, own, floor, side, pooled, which, rm, rr, rx
):
    """The derivative of `norm_forward`, as y moves by ry, g by vg and h by vh."""
    moments_tangent(flat(y), flat(ry), m, r, own, rm, rr)
    if pooled:
        choose(ry, side, which, ru)
    moved = ru if pooled else ry
    norm_relu_tangent(flat(u), flat(moved), flat(x), g, m, r, vg, vh, rm, rr, floor, flat(rx))


@jit
def norm_backward_tangent(
    dx,
    rdx,
    x,
    u,
    ru,
    y,
    ry,
    g,
    vg,
    m,
    r,
    rm,
    rr,
    dg,
    dh,
    own,
    floor,
    side,
    pooled,
    which,
    spare,
    rdg,
    rdh,
    rdy,
):
    """The derivative of `norm_backward`; spare is like y, for dx under the pool."""
    relu_gradient_tangent(
        flat(dx), flat(rdx), flat(x), flat(u), flat(ru), m, r, rm, rr, floor, rdg, rdh
    )
    before = dx
    if pooled:
        unpool(dx, side, which, spare)
        unpool(rdx, side, which, rdy)
        before = spare
    else:
        rdy[:] = rdx
    norm_gradient_tangent(
        flat(before), flat(rdy), flat(y), flat(ry), g, vg, m, r, rm, rr, dg, dh, rdg, rdh, own
    )


@jit
def direct_backward(
    x, dy, w, by_input, by_input_counts, by_tap, by_tap_counts, at_once, transposed, dw, dx
):
    """Gradients of a direct convolution with respect to weights and inputs."""
    convolve_weights(x, dy, dw, by_tap, by_tap_counts, at_once, False)
    transpose(w, transposed)
    convolve(dy, transposed, dx, by_input, by_input_counts, False)


@jit
def direct_forward_tangent(x, rx, w, vw, pairs, counts, ry):
    """ry = rx * w + x * vw."""
    convolve(rx, w, ry, pairs, counts, False)
    convolve(x, vw, ry, pairs, counts, True)


@jit
def direct_backward_tangent(
    x,
    rx,
    dy,
    rdy,
    w,
    vw,
    by_input,
    by_input_counts,
    by_tap,
    by_tap_counts,
    at_once,
    transposed,
    rdw,
    rdx,
):
    """The derivatives of `direct_backward`."""
    convolve_weights(rx, dy, rdw, by_tap, by_tap_counts, at_once, False)
    convolve_weights(x, rdy, rdw, by_tap, by_tap_counts, at_once, True)
    transpose(w, transposed)
    convolve(rdy, transposed, rdx, by_input, by_input_counts, False)
    transpose(vw, transposed)
    convolve(dy, transposed, rdx, by_input, by_input_counts, True)
