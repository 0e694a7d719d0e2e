"""Batch norm, ReLU and max pooling of the later blocks, forward, backward and their tangents.

Over the rows of y (all positions and images), channel by channel, with mean m, r = 1 / sqrt(v +
eps), scale g and shift h, n = (y - m) r:

    x = max(floor, g n + h)                              the floor is zero, or -inf without a ReLU
    d = dx where x > floor;   dh = sum d,  dg = sum d n
    dy = g r (d - (dh + n dg) / rows)                    d alone if the statistics are given

Sums are of float32 over blocks of rows, and of float64 over the blocks. Statistics are of float64:
their rounding would be the same for all rows, and would not average out.
"""

import math

import numpy as np

from innerloop.fast_weights.fused_cpu.compiling import jit

BLOCK = 64
"""Rows that are summed in float32."""


@jit
def moments_of(y, m, v):
    """Mean and biased variance of the rows of y (rows, channels), in two passes."""
    rows, channels = y.shape
    totals = np.zeros(channels)
    part = np.empty(channels, np.float32)
    for first in range(0, rows, BLOCK):
        part[:] = 0
        for i in range(first, min(first + BLOCK, rows)):
            for c in range(channels):
                part[c] += y[i, c]
        for c in range(channels):
            totals[c] += part[c]
    near = np.empty(channels, np.float32)
    for c in range(channels):
        m[c] = totals[c] / rows
        near[c] = m[c]
        totals[c] = 0
    for first in range(0, rows, BLOCK):
        part[:] = 0
        for i in range(first, min(first + BLOCK, rows)):
            for c in range(channels):
                d = y[i, c] - near[c]
                part[c] += d * d
        for c in range(channels):
            totals[c] += part[c]
    for c in range(channels):
        v[c] = totals[c] / rows - (m[c] - near[c]) ** 2


@jit
def rates_of(v, eps, r):
    """r = 1 / sqrt(v + eps)."""
    for c in range(len(v)):
        r[c] = 1 / math.sqrt(v[c] + eps)


@jit
def norm_relu(y, g, h, m, r, floor, x):
    """x = max(floor, g (y - m) r + h)."""
    rows, channels = y.shape
    a, b = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for c in range(channels):
        a[c] = g[c] * r[c]
        b[c] = h[c] - m[c] * (g[c] * r[c])
    for i in range(rows):
        for c in range(channels):
            v = a[c] * y[i, c] + b[c]
            x[i, c] = floor if v < floor else v


@jit
def norm_relu_pool(y, side, g, h, m, r, floor, x, chosen, which):
    """x = 2x2 max-pool of max(floor, norm(y)); which of the four it was, and its y.

    Args:
        y: (side * side, n, channels).
        side: of the grid; an odd one's last row and column are not pooled.
        x: ((side // 2)^2, n, channels), to be filled; so are ``chosen`` and ``which`` (int8).
    """
    channels = y.shape[2]
    a, b = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for c in range(channels):
        a[c] = g[c] * r[c]
        b[c] = h[c] - m[c] * (g[c] * r[c])
    half = side // 2
    for p in range(half * half):
        q = 2 * (p // half) * side + 2 * (p % half)
        for n in range(y.shape[1]):
            for c in range(channels):
                u, k = y[q, n, c], np.int8(0)
                u1, u2, u3 = y[q + 1, n, c], y[q + side, n, c], y[q + side + 1, n, c]
                v = a[c] * u + b[c]
                v1, v2, v3 = a[c] * u1 + b[c], a[c] * u2 + b[c], a[c] * u3 + b[c]
                # NaN is not greater than anything, and must not be passed over.
                if v1 > v or v1 != v1:
                    v, u, k = v1, u1, np.int8(1)
                if v2 > v or v2 != v2:
                    v, u, k = v2, u2, np.int8(2)
                if v3 > v or v3 != v3:
                    v, u, k = v3, u3, np.int8(3)
                x[p, n, c] = floor if v < floor else v
                chosen[p, n, c] = u
                which[p, n, c] = k


@jit
def choose(y, side, which, out):
    """out = of the four values of y under each place, that which was the largest."""
    half = side // 2
    for p in range(half * half):
        q = 2 * (p // half) * side + 2 * (p % half)
        y0, y1 = y[q].reshape(-1), y[q + 1].reshape(-1)
        y2, y3 = y[q + side].reshape(-1), y[q + side + 1].reshape(-1)
        number, target = which[p].reshape(-1), out[p].reshape(-1)
        for e in range(len(target)):
            v = y0[e]
            v = y1[e] if number[e] == 1 else v
            v = y2[e] if number[e] == 2 else v
            v = y3[e] if number[e] == 3 else v
            target[e] = v


@jit
def unpool(d, side, which, out):
    """out (side * side, n, channels) = d where the largest was, and zero elsewhere."""
    half = side // 2
    for row in range(side):
        for column in range(side):
            target = out[row * side + column].reshape(-1)
            if row < 2 * half and column < 2 * half:
                p, s = row // 2 * half + column // 2, row % 2 * 2 + column % 2
                value, number = d[p].reshape(-1), which[p].reshape(-1)
                for e in range(len(target)):
                    target[e] = value[e] if number[e] == s else np.float32(0)
            else:
                target[:] = 0


@jit
def relu_gradient(d, x, u, m, r, floor, dg, dh):
    """d is made zero where x is at the floor; dh = sum d, dg = sum d (u - m) r.

    Args:
        d: (rows, channels) gradient of x, changed in place.
        x: (rows, channels).
        u: (rows, channels) what x was computed from.
        m: (channels,) mean.
        r: (channels,) one over the standard deviation.
        floor: see `norm_relu`.
        dg: (channels,), to be filled; so is ``dh``.
    """
    rows, channels = d.shape
    part, weighted = np.empty(channels, np.float32), np.empty(channels, np.float32)
    totals, products = np.zeros(channels), np.zeros(channels)
    near = m.astype(np.float32)
    for first in range(0, rows, BLOCK):
        part[:] = 0
        weighted[:] = 0
        for i in range(first, min(first + BLOCK, rows)):
            for c in range(channels):
                v = d[i, c] if x[i, c] > floor else np.float32(0)
                d[i, c] = v
                part[c] += v
                weighted[c] += v * (u[i, c] - near[c])
        for c in range(channels):
            totals[c] += part[c]
            products[c] += weighted[c]
    for c in range(channels):
        dh[c] = totals[c]
        dg[c] = (products[c] - (m[c] - near[c]) * totals[c]) * r[c]


@jit
def norm_gradient(d, y, g, m, r, dg, dh, own, dy):
    """dy from the gradient d of the norm's output; d and dy may be the same array."""
    rows, channels = y.shape
    a, b = np.empty(channels, np.float32), np.empty(channels, np.float32)
    constant = np.empty(channels, np.float32)
    for c in range(channels):
        rate = g[c] * r[c]
        slope = -rate * r[c] * dg[c] / rows if own else 0.0
        a[c], b[c] = rate, slope
        constant[c] = -rate * dh[c] / rows - slope * m[c] if own else 0.0
    for i in range(rows):
        for c in range(channels):
            dy[i, c] = a[c] * d[i, c] + b[c] * y[i, c] + constant[c]


@jit
def moments_tangent(y, ry, m, r, own, rm, rr):
    """Derivatives rm of the mean and rr of r, where y moves by ry; zero for given statistics."""
    rows, channels = y.shape
    totals, products = np.zeros(channels), np.zeros(channels)
    part, weighted = np.empty(channels, np.float32), np.empty(channels, np.float32)
    near = m.astype(np.float32)
    for first in range(0, rows if own else 0, BLOCK):
        part[:] = 0
        weighted[:] = 0
        for i in range(first, min(first + BLOCK, rows)):
            for c in range(channels):
                part[c] += ry[i, c]
                weighted[c] += (y[i, c] - near[c]) * ry[i, c]
        for c in range(channels):
            totals[c] += part[c]
            products[c] += weighted[c]
    for c in range(channels):
        rm[c] = totals[c] / rows
        rr[c] = -(r[c] ** 3) * (products[c] - (m[c] - near[c]) * totals[c]) / rows


@jit
def norm_relu_tangent(u, ru, x, g, m, r, vg, vh, rm, rr, floor, rx):
    """rx = derivative of x where it is above the floor, as u moves by ru, g by vg and h by vh."""
    rows, channels = x.shape
    a, ra = np.empty(channels, np.float32), np.empty(channels, np.float32)
    constant = np.empty(channels, np.float32)
    for c in range(channels):
        rate, slope = g[c] * r[c], vg[c] * r[c] + g[c] * rr[c]
        a[c], ra[c] = rate, slope
        constant[c] = vh[c] - rate * rm[c] - slope * m[c]
    for i in range(rows):
        for c in range(channels):
            v = a[c] * ru[i, c] + ra[c] * u[i, c] + constant[c]
            rx[i, c] = v if x[i, c] > floor else np.float32(0)


@jit
def relu_gradient_tangent(d, rd, x, u, ru, m, r, rm, rr, floor, rdg, rdh):
    """The derivatives of `relu_gradient`; rd is changed in place."""
    rows, channels = d.shape
    totals, products = np.zeros(channels), np.zeros(channels)
    part, weighted = np.empty(channels, np.float32), np.empty(channels, np.float32)
    # The derivative of n = (u - m) r is moved ru + still u + constant.
    moved, still = np.empty(channels, np.float32), np.empty(channels, np.float32)
    constant = np.empty(channels, np.float32)
    rate, shift = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for c in range(channels):
        rate[c], shift[c] = r[c], -m[c] * r[c]
        moved[c], still[c], constant[c] = r[c], rr[c], -rm[c] * r[c] - m[c] * rr[c]
    for first in range(0, rows, BLOCK):
        part[:] = 0
        weighted[:] = 0
        for i in range(first, min(first + BLOCK, rows)):
            for c in range(channels):
                v = rd[i, c] if x[i, c] > floor else np.float32(0)
                rd[i, c] = v
                part[c] += v
                n = rate[c] * u[i, c] + shift[c]
                rn = moved[c] * ru[i, c] + still[c] * u[i, c] + constant[c]
                weighted[c] += v * n + d[i, c] * rn
        for c in range(channels):
            totals[c] += part[c]
            products[c] += weighted[c]
    for c in range(channels):
        rdh[c], rdg[c] = totals[c], products[c]


@jit
def norm_gradient_tangent(d, rd, y, ry, g, vg, m, r, rm, rr, dg, dh, rdg, rdh, own):
    """rd becomes the derivative of dy, see `norm_gradient`.

    Args:
        d: (rows, channels) gradient of the norm's output.
        rd: its derivative, changed in place.
    """
    rows, channels = y.shape
    share = 1 / rows if own else 0.0
    # What is linear in each of the four arrays, channel by channel.
    of_d, of_rd = np.empty(channels, np.float32), np.empty(channels, np.float32)
    of_y, of_ry = np.empty(channels, np.float32), np.empty(channels, np.float32)
    constant = np.empty(channels, np.float32)
    for c in range(channels):
        a, ra = g[c] * r[c], vg[c] * r[c] + g[c] * rr[c]
        of_d[c], of_rd[c] = ra, a
        n_of_y, n_0 = r[c], -m[c] * r[c]
        rn_of_ry, rn_of_y, rn_0 = r[c], rr[c], -rm[c] * r[c] - m[c] * rr[c]
        of_ry[c] = -a * share * rn_of_ry * dg[c]
        of_y[c] = -share * (ra * n_of_y * dg[c] + a * (rn_of_y * dg[c] + n_of_y * rdg[c]))
        first = dh[c] + n_0 * dg[c]
        second = rdh[c] + rn_0 * dg[c] + n_0 * rdg[c]
        constant[c] = -share * (ra * first + a * second)
    for i in range(rows):
        for c in range(channels):
            linear = of_d[c] * d[i, c] + of_rd[c] * rd[i, c]
            rd[i, c] = linear + of_y[c] * y[i, c] + of_ry[c] * ry[i, c] + constant[c]
