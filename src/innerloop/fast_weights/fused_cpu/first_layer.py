"""The first block: few inputs, so that batch norm's statistics follow from the images alone.

With one or three channels a patch p of an image has 9 or 27 numbers. A convolution's output is
y = w'p, so over all patches its mean is w' mean(p) and its variance w' cov(p) w. Mean and
covariance are the images', and taken once for all inner steps; y itself is never stored. Batch norm
is folded into the weights: with a = g r, r = 1 / sqrt(variance + eps),

    norm(y) = sum over i of p_i (a w_i) + (h - a mean(y)) = [p, 1] B

and the block is one product with a floor of zero. Backward it needs but G = [p, 1]' dz, where dz is
the gradient before the ReLU. With s = sum dz (its last row), t = w'G (of the others) and
q = r (t - mean(y) s)

    dh = s,   dg = q,   dw_i = a (G_i - mean_i s - r (cov w)_i q)

where the last two terms of dw, those of the statistics, are left out if statistics are given.
"""

import math

import numpy as np

from innerloop.fast_weights.fused_cpu.compiling import jit
from innerloop.fast_weights.fused_cpu.tiles import ALONE, NO_FLOOR, add_products


@jit
def patches_of(images, stride, patches, mean, covariance):
    """Patches of all output positions, with their moments.

    Args:
        images: (side, side, channels, n).
        stride: 1 or 2.
        patches: (positions, 9 channels + 1, n), to be filled; the last row is one.
        mean: (9 channels,) float64, to be filled.
        covariance: (9 channels, 9 channels) float64, to be filled.
    """
    side, channels, count = images.shape[0], images.shape[2], images.shape[3]
    width = -(-side // stride)
    size = patches.shape[1] - 1
    totals = np.zeros(size)
    squares = np.zeros((size, size))
    for position in range(len(patches)):
        for tap in range(9):
            row = position // width * stride + tap // 3 - 1
            column = position % width * stride + tap % 3 - 1
            inside = 0 <= row < side and 0 <= column < side
            for channel in range(channels):
                target = patches[position, channel * 9 + tap]
                for n in range(count):
                    target[n] = images[row, column, channel, n] if inside else np.float32(0)
        for n in range(count):
            patches[position, size, n] = 1
        for i in range(size):
            total = np.float32(0)
            for n in range(count):
                total += patches[position, i, n]
            totals[i] += total
            for j in range(i + 1):
                total = np.float32(0)
                for n in range(count):
                    total += patches[position, i, n] * patches[position, j, n]
                squares[i, j] += total
    number = len(patches) * count
    for i in range(size):
        mean[i] = totals[i] / number
    for i in range(size):
        for j in range(i + 1):
            value = squares[i, j] / number - mean[i] * mean[j]
            covariance[i, j] = value
            covariance[j, i] = value


@jit
def statistics_of(w, mean, covariance, m, v):
    """Mean and variance of w'p over all patches.

    Args:
        w: (size, outputs).
        mean: (size,) of the patches.
        covariance: (size, size) of the patches.
        m: (outputs,), to be filled.
        v: (outputs,), to be filled.
    """
    for c in range(w.shape[1]):
        average, variance = 0.0, 0.0
        for i in range(len(w)):
            average += mean[i] * w[i, c]
            for j in range(len(w)):
                variance += covariance[i, j] * w[i, c] * w[j, c]
        m[c], v[c] = average, max(variance, 0.0)


@jit
def folded(w, g, h, m, r, b):
    """b (size + 1, outputs): convolution, batch norm, scale and shift as one matrix."""
    size = len(w)
    for c in range(w.shape[1]):
        a = g[c] * r[c]
        for i in range(size):
            b[i, c] = w[i, c] * a
        b[size, c] = h[c] - m[c] * a


@jit
def folded_tangent(w, g, mean, covariance, m, r, own, vw, vg, vh, rb, rm, rr):
    """The derivatives of `folded` and of the statistics in direction (vw, vg, vh).

    Args:
        own: whether the statistics are the batch's own, and so move with w.
        rb: (size + 1, outputs), derivative of b, to be filled.
        rm: (outputs,), derivative of the mean, to be filled.
        rr: (outputs,), derivative of r, to be filled.
    """
    size = len(w)
    for c in range(w.shape[1]):
        average, product = 0.0, 0.0
        if own:
            for i in range(size):
                average += mean[i] * vw[i, c]
                for j in range(size):
                    product += covariance[i, j] * w[i, c] * vw[j, c]
        rm[c], rr[c] = average, -(r[c] ** 3) * product
        a, ra = g[c] * r[c], vg[c] * r[c] + g[c] * rr[c]
        for i in range(size):
            rb[i, c] = a * vw[i, c] + ra * w[i, c]
        rb[size, c] = vh[c] - average * a - m[c] * ra


@jit
def multiply_patches(patches, position, b, out, floor):
    """out (n, outputs) = max(floor, patches[position]' b)."""
    size, count = patches.shape[1], patches.shape[2]
    outputs = b.shape[1]
    add_products(
        patches[position].ctypes.data,
        4,
        count * 4,
        b.ctypes.data,
        outputs * 4,
        out.ctypes.data,
        outputs * 4,
        ALONE.ctypes.data,
        1,
        size,
        count,
        outputs,
        False,
        floor,
    )


@jit
def first_forward(patches, b, x, where, pool, which, scratch, floor):
    """The block's output.

    Args:
        patches: (positions, size + 1, n).
        b: (size + 1, outputs), see `folded`.
        x: (places, n, outputs), to be filled at ``where``.
        where: (outputs' positions,) their places in x.
        pool: (outputs' positions, 1 or 4) positions of patches under each: the largest of four is
            taken.
        which: (outputs' positions, n, outputs) int8: which of four it was, to be filled.
        scratch: (4, n, outputs).
        floor: zero, or minus infinity where the block has no ReLU.
    """
    for p in range(len(where)):
        out = x[where[p]]
        if pool.shape[1] == 1:
            multiply_patches(patches, pool[p, 0], b, out, floor)
        else:
            for s in range(4):
                multiply_patches(patches, pool[p, s], b, scratch[s], NO_FLOOR)
            largest(scratch, floor, out, which[p])


@jit
def largest(z, floor, out, which):
    """Of four, the largest but at least the floor, and which it was, the first of equal ones."""
    z0, z1, z2, z3 = z[0].reshape(-1), z[1].reshape(-1), z[2].reshape(-1), z[3].reshape(-1)
    largest, number = out.reshape(-1), which.reshape(-1)
    for e in range(len(largest)):
        v, k = z0[e], np.int8(0)
        # NaN is not greater than anything, and must not be passed over.
        if z1[e] > v or z1[e] != z1[e]:
            v, k = z1[e], np.int8(1)
        if z2[e] > v or z2[e] != z2[e]:
            v, k = z2[e], np.int8(2)
        if z3[e] > v or z3[e] != z3[e]:
            v, k = z3[e], np.int8(3)
        largest[e] = floor if v < floor else v
        number[e] = k


@jit
def first_tangent(patches, rb, rx, x, where, pool, which, scratch, floor):
    """rx = derivative of the block's output where it is above the floor; see `first_forward`."""
    for p in range(len(where)):
        for s in range(pool.shape[1]):
            multiply_patches(patches, pool[p, s], rb, scratch[s], NO_FLOOR)
        out, on = rx[where[p]].reshape(-1), x[where[p]].reshape(-1)
        z0 = scratch[0].reshape(-1)
        if pool.shape[1] == 1:
            for e in range(len(out)):
                out[e] = z0[e] if on[e] > floor else np.float32(0)
        else:
            z1, z2, z3 = scratch[1].reshape(-1), scratch[2].reshape(-1), scratch[3].reshape(-1)
            number = which[p].reshape(-1)
            for e in range(len(out)):
                v = z0[e]
                v = z1[e] if number[e] == 1 else v
                v = z2[e] if number[e] == 2 else v
                v = z3[e] if number[e] == 3 else v
                out[e] = v if on[e] > floor else np.float32(0)


@jit
def first_backward(patches, dx, x, where, pool, which, scratch, floor, total):
    """total (size + 1, outputs) = G, the sum of patches times the gradient before the ReLU.

    Sums are of float32 over a row of the grid, and of float64 over the rows.
    """
    size, count = patches.shape[1], patches.shape[2]
    outputs = x.shape[2]
    total[:] = 0
    part = np.zeros((size, outputs), np.float32)
    row = round(math.sqrt(len(where)))
    z = scratch[0].reshape(-1)
    for p in range(len(where)):
        d, on = dx[where[p]].reshape(-1), x[where[p]].reshape(-1)
        for s in range(pool.shape[1]):
            if pool.shape[1] == 1:
                for e in range(len(z)):
                    z[e] = d[e] if on[e] > floor else np.float32(0)
            else:
                number = which[p].reshape(-1)
                for e in range(len(z)):
                    here = on[e] > floor and number[e] == s
                    z[e] = d[e] if here else np.float32(0)
            add_products(
                patches[pool[p, s]].ctypes.data,
                count * 4,
                4,
                z.ctypes.data,
                outputs * 4,
                part.ctypes.data,
                outputs * 4,
                ALONE.ctypes.data,
                1,
                count,
                size,
                outputs,
                True,
                NO_FLOOR,
            )
        if (p + 1) % row == 0:
            for i in range(size):
                for c in range(outputs):
                    total[i, c] += part[i, c]
                    part[i, c] = 0


@jit
def first_gradients(total, w, g, m, r, mean, covariance, own, dw, dg, dh):
    """Gradients of weights, scale and shift from G, see the top of the file."""
    size = len(w)
    for c in range(w.shape[1]):
        s, t = total[size, c], 0.0
        for i in range(size):
            t += w[i, c] * total[i, c]
        q = r[c] * (t - m[c] * s)
        dh[c], dg[c] = s, q
        a = g[c] * r[c]
        for i in range(size):
            value = total[i, c]
            if own:
                product = 0.0
                for k in range(size):
                    product += covariance[i, k] * w[k, c]
                value += -mean[i] * s - r[c] * product * q
            dw[i, c] = a * value


@jit
def first_gradients_tangent(
    total, rtotal, w, g, m, r, mean, covariance, own, vw, vg, rm, rr, rdw, rdg, rdh
):
    """The derivatives of `first_gradients` in direction (vw, vg)."""
    size = len(w)
    for c in range(w.shape[1]):
        s, rs = total[size, c], rtotal[size, c]
        t, rt = 0.0, 0.0
        for i in range(size):
            t += w[i, c] * total[i, c]
            rt += vw[i, c] * total[i, c] + w[i, c] * rtotal[i, c]
        q = r[c] * (t - m[c] * s)
        rq = rr[c] * (t - m[c] * s) + r[c] * (rt - rm[c] * s - m[c] * rs)
        rdh[c], rdg[c] = rs, rq
        a, ra = g[c] * r[c], vg[c] * r[c] + g[c] * rr[c]
        for i in range(size):
            value, rvalue = total[i, c], rtotal[i, c]
            if own:
                product, rproduct = 0.0, 0.0
                for k in range(size):
                    product += covariance[i, k] * w[k, c]
                    rproduct += covariance[i, k] * vw[k, c]
                value += -mean[i] * s - r[c] * product * q
                rvalue -= mean[i] * rs
                rvalue -= (rr[c] * product + r[c] * rproduct) * q + r[c] * product * rq
            rdw[i, c] = ra * value + a * rvalue
