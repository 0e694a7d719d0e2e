"""The linear head with its cross-entropy, and features made of the last block's output.

With features z (n, F), weights A (ways, F), bias b and softmax p: logits = z A' + b, and

    d = (p - labels) / n;   dA = d' z,  db = sum d,  dz = d A
"""

import math

import numpy as np

from innerloop.fast_weights.fused_cpu.compiling import jit


@jit
def linear(z, a, b, logits):
    """logits (n, ways) = z A' + b."""
    n, ways = logits.shape
    for i in range(n):
        for k in range(ways):
            total = np.float32(0)
            for c in range(z.shape[1]):
                total += z[i, c] * a[k, c]
            logits[i, k] = total + b[k]


@jit
def cross_entropy(logits, labels, p):
    """The mean cross-entropy; the softmax p (n, ways) is filled."""
    n, ways = logits.shape
    loss = 0.0
    for i in range(n):
        top = logits[i, 0]
        for k in range(ways):
            # So that NaN comes through.
            top = top if logits[i, k] <= top else logits[i, k]
        total = 0.0
        for k in range(ways):
            total += math.exp(np.float64(logits[i, k] - top))
        for k in range(ways):
            p[i, k] = math.exp(np.float64(logits[i, k] - top)) / total
        loss += math.log(total) + top - logits[i, labels[i]]
    return loss / n


@jit
def head_backward(z, a, p, labels, d, da, db, dz):
    """Gradients of the head and of the features; d (n, ways) is filled on the way."""
    n, ways = p.shape
    da[:] = 0
    db[:] = 0
    dz[:] = 0
    for i in range(n):
        for k in range(ways):
            d[i, k] = (p[i, k] - np.float32(k == labels[i])) / np.float32(n)
            db[k] += d[i, k]
            for c in range(z.shape[1]):
                da[k, c] += d[i, k] * z[i, c]
            for c in range(z.shape[1]):
                dz[i, c] += d[i, k] * a[k, c]


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
