"""The linear head with its cross-entropy, and features made of the last block's output.

With features z (n, F), weights A (ways, F), bias b and softmax p: logits = z A' + b, and

    d = (p - labels) / n;   dA = d' z,  db = sum d,  dz = d A
"""

import math

import numpy as np

from innerloop.fast_weights.fused_cpu.compiling import HOST, jit
from innerloop.fast_weights.fused_cpu.tiles import ALONE, NO_FLOOR, add_products

TO_TWO = math.log2(math.e)
LEAST = -700.0
"""Of which the exponential is still a number in double precision."""
TERMS = tuple(1 / math.factorial(power) for power in range(9))


def by_tiles(a: np.ndarray) -> np.ndarray:
    """(F, classes) of A (ways, F), as tiles read it: of the classes that fill whole vectors."""
    whole = len(a) // HOST.width * HOST.width
    return np.ascontiguousarray(a[:whole].T)


@jit
def linear(z, a, columns, b, logits):
    """logits (n, ways) = z A' + b; columns are `by_tiles` of A."""
    n, ways = logits.shape
    features, tiled = columns.shape
    if tiled:
        add_products(
            z.ctypes.data,
            4 * features,
            4,
            columns.ctypes.data,
            4 * tiled,
            logits.ctypes.data,
            4 * ways,
            ALONE.ctypes.data,
            1,
            features,
            n,
            tiled,
            False,
            NO_FLOOR,
        )
    for i in range(n):
        for k in range(tiled, ways):
            total = np.float32(0)
            for c in range(features):
                total += z[i, c] * a[k, c]
            logits[i, k] = total
        for k in range(ways):
            logits[i, k] += b[k]


@jit
def exponentials(logits, top, powers, result):
    """result (ways,) = exp(logits - top) for logits up to top, within 3e-10 of its value.

    With x log2(e) = m + r / log(2), m whole: exp(x) = 2^m sum of r^j / j! over j to 8, where 2^m is
    made of its bits. So that it is done in vectors: the library's function is not. ``powers``
    (ways,) int64 is written over.
    """
    scales = powers.view(np.float64)
    for k in range(len(logits)):
        x = np.float64(logits[k]) - top
        x = x if x > LEAST else LEAST
        m = np.floor(x * TO_TWO + 0.5)
        r = x - m * math.log(2)
        value = TERMS[8]
        value = TERMS[7] + r * value
        value = TERMS[6] + r * value
        value = TERMS[5] + r * value
        value = TERMS[4] + r * value
        value = TERMS[3] + r * value
        value = TERMS[2] + r * value
        value = TERMS[1] + r * value
        value = TERMS[0] + r * value
        result[k] = value
        powers[k] = np.int64(np.int32(m) + np.int32(1023)) << np.int64(52)
    for k in range(len(logits)):
        scaled = result[k] * scales[k]
        # What is no number stays none.
        result[k] = scaled if logits[k] - top <= 0 else np.nan


@jit
def cross_entropy(logits, labels, p):
    """The mean cross-entropy; the softmax p (n, ways) is filled."""
    n, ways = logits.shape
    of_image = np.empty(ways)
    powers = np.empty(ways, np.int64)
    loss = 0.0
    for i in range(n):
        top = logits[i, 0]
        for k in range(ways):
            # So that NaN comes through.
            top = top if logits[i, k] <= top else logits[i, k]
        exponentials(logits[i], np.float64(top), powers, of_image)
        total = 0.0
        for k in range(ways):
            total += of_image[k]
        for k in range(ways):
            p[i, k] = of_image[k] / total
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
