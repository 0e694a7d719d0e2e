"""The linear head with its cross-entropy, and features made of the last block's output.

With features z (n, F), weights A (ways, F), bias b and softmax p: logits = z A' + b, and

    d = (p - labels) / n;   dA = d' z,  db = sum d,  dz = d A
"""

import math

import numpy as np

from innerloop.fast_weights.fused_cpu.compiling import jit
from innerloop.fast_weights.fused_cpu.tiles import ALONE, NO_FLOOR, add_products


@jit
def linear(z, a, b, logits):
    """logits (n, ways) = z A' + b."""
    n, ways = logits.shape
    # Images within: all of them fit the first cache, and thousands of rows of A do not.
    for k in range(ways):
        for i in range(n):
            total = np.float32(0)
            for c in range(z.shape[1]):
                total += z[i, c] * a[k, c]
            logits[i, k] = total + b[k]


@jit
def cross_entropy(logits, labels, p):
    """The mean cross-entropy; the softmax p (n, ways) is filled."""
    n, ways = logits.shape
    exponentials = np.empty(ways)
    loss = 0.0
    for i in range(n):
        top = logits[i, 0]
        for k in range(ways):
            # So that NaN comes through.
            top = top if logits[i, k] <= top else logits[i, k]
        total = 0.0
        for k in range(ways):
            exponentials[k] = math.exp(np.float64(logits[i, k] - top))
            total += exponentials[k]
        for k in range(ways):
            p[i, k] = exponentials[k] / total
        loss += math.log(total) + top - logits[i, labels[i]]
    return loss / n


@jit
def head_backward(z, a, p, labels, d, da, db, dz):
    """Gradients of the head and of the features; d (n, ways) is filled on the way.

    F is a multiple of the vectors' width.
    """
    n, ways = p.shape
    features = z.shape[1]
    db[:] = 0
    for i in range(n):
        for k in range(ways):
            d[i, k] = (p[i, k] - np.float32(k == labels[i])) / np.float32(n)
            db[k] += d[i, k]
    alone = ALONE.ctypes.data
    left, right, row = d.ctypes.data, 4 * ways, 4 * features
    add_products(
        left,
        4,
        right,
        z.ctypes.data,
        row,
        da.ctypes.data,
        row,
        alone,
        1,
        n,
        ways,
        features,
        False,
        NO_FLOOR,
    )
    add_products(
        left,
        right,
        4,
        a.ctypes.data,
        row,
        dz.ctypes.data,
        row,
        alone,
        1,
        ways,
        n,
        features,
        False,
        NO_FLOOR,
    )


@jit
def head_tangent(z, rz, a, va, vb, p, d, rda, rdb, rdz):
    """Derivatives of `head_backward`, as z moves by rz, a by va and b by vb."""
    n, ways = p.shape
    rlogits = np.empty(ways, np.float32)
    rda[:] = 0
    rdb[:] = 0
    rdz[:] = 0
    for i in range(n):
        average = np.float32(0)
        for k in range(ways):
            total = vb[k]
            for c in range(z.shape[1]):
                total += rz[i, c] * a[k, c] + z[i, c] * va[k, c]
            rlogits[k] = total
            average += p[i, k] * total
        for k in range(ways):
            rd = p[i, k] * (rlogits[k] - average) / np.float32(n)
            rdb[k] += rd
            for c in range(z.shape[1]):
                rda[k, c] += rd * z[i, c] + d[i, k] * rz[i, c]
            for c in range(z.shape[1]):
                rdz[i, c] += rd * a[k, c] + d[i, k] * va[k, c]
