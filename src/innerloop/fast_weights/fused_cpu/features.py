"""Features of the last block's output: its mean or all of it, standardised; and the way back.

With u (n, features) the mean over the positions, or all positions side by side, and with m and r
as in `norm`:

    z = (u - m) r;   du = r (dz - mean(dz) - z mean(z dz))            r dz if statistics are given
"""

import numpy as np

from innerloop.fast_weights.fused_cpu.compiling import jit
from innerloop.fast_weights.fused_cpu.norm import moments_of, rates_of


@jit
def by_image(x, flatten, u):
    """u (n, features) from x (positions, n, channels).

    Of all positions, number c positions + p is channel c at position p.
    """
    positions, n, channels = x.shape
    u[:] = 0
    for p in range(positions):
        for i in range(n):
            for c in range(channels):
                if flatten:
                    u[i, c * positions + p] = x[p, i, c]
                else:
                    u[i, c] += x[p, i, c] / np.float32(positions)


@jit
def to_positions(du, flatten, dx):
    """The gradient of `by_image`."""
    positions, n, channels = dx.shape
    for p in range(positions):
        for i in range(n):
            for c in range(channels):
                if flatten:
                    dx[p, i, c] = du[i, c * positions + p]
                else:
                    dx[p, i, c] = du[i, c] / np.float32(positions)


@jit
def means_of(one, other, average, product):
    """Of each column: the mean of ``one``, and of ``one`` times ``other``."""
    average[:] = 0
    product[:] = 0
    for i in range(len(one)):
        for c in range(one.shape[1]):
            average[c] += one[i, c]
            product[c] += one[i, c] * other[i, c]
    average /= len(one)
    product /= len(one)


@jit
def features_forward(x, flatten, standardise, own, eps, m, v, r, z):
    """z (n, features) of the last block's output."""
    by_image(x, flatten, z)
    if standardise:
        if own:
            moments_of(z, m, v)
        rates_of(v, eps, r)
        for i in range(len(z)):
            for c in range(z.shape[1]):
                z[i, c] = (z[i, c] - m[c]) * r[c]


@jit
def features_backward(dz, z, r, flatten, standardise, own, dx):
    """dx of the last block's output from the gradient of the features."""
    du = dz.copy()
    if standardise:
        average, product = np.zeros(z.shape[1]), np.zeros(z.shape[1])
        if own:
            means_of(dz, z, average, product)
        for i in range(len(z)):
            for c in range(z.shape[1]):
                du[i, c] = r[c] * (dz[i, c] - average[c] - z[i, c] * product[c])
    to_positions(du, flatten, dx)


@jit
def features_tangent(rx, z, r, flatten, standardise, own, rr, rz):
    """rz and rr: how z and r move as x moves by rx."""
    by_image(rx, flatten, rz)
    rr[:] = 0
    if standardise:
        average, product = np.zeros(z.shape[1]), np.zeros(z.shape[1])
        if own:
            means_of(rz, z, average, product)
        for c in range(z.shape[1]):
            rr[c] = -r[c] * r[c] * product[c]
        for i in range(len(z)):
            for c in range(z.shape[1]):
                rz[i, c] = r[c] * (rz[i, c] - average[c] - z[i, c] * product[c])


@jit
def features_backward_tangent(dz, rdz, z, rz, r, rr, flatten, standardise, own, rdx):
    """The derivative of `features_backward`, as dz moves by rdz."""
    rdu = rdz.copy()
    if standardise:
        size = z.shape[1]
        average, product = np.zeros(size), np.zeros(size)
        raverage, rproduct = np.zeros(size), np.zeros(size)
        others, mixed = np.zeros(size), np.zeros(size)
        if own:
            means_of(dz, z, average, product)
            means_of(rdz, z, raverage, rproduct)
            means_of(dz, rz, others, mixed)
        for i in range(len(z)):
            for c in range(size):
                first = dz[i, c] - average[c] - z[i, c] * product[c]
                second = rdz[i, c] - raverage[c] - rz[i, c] * product[c]
                second -= z[i, c] * (rproduct[c] + mixed[c])
                rdu[i, c] = rr[c] * first + r[c] * second
    to_positions(rdu, flatten, rdx)
