"""Each kernel of the fused engine against plain numpy in float64."""

import itertools

import numpy as np
import pytest

from innerloop.fast_weights.fused_cpu import convolution, first_layer, head, norm, winograd
from innerloop.fast_weights.fused_cpu.compiling import HOST, Registers, vectors_of
from innerloop.fast_weights.fused_cpu.layout import convolution_tables
from innerloop.fast_weights.fused_cpu.tiles import NO_FLOOR, add_products

EPS = 1e-5
F = HOST.width
"""Filters: the fewest that the kernels take."""


@pytest.fixture
def draw():
    generator = np.random.default_rng(0)
    return lambda *shape: generator.normal(size=shape).astype(np.float32)


def near(found: np.ndarray, expected: np.ndarray, tolerance: float = 2e-6) -> bool:
    return bool(np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected))


# Products


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 25])
@pytest.mark.parametrize("vectors", [1, HOST.across, HOST.across + 1])
@pytest.mark.parametrize("keep", [False, True])
def test_a_sum_of_products_is_that_of_numpy(draw, rows, vectors, keep):
    columns = vectors * HOST.width
    a, b, former = draw(3, rows, 10), draw(3, 10, columns), draw(rows, columns)
    c = former.copy() if keep else np.full_like(former, np.nan)
    pairs = np.array([[n * a[0].nbytes, n * b[0].nbytes] for n in range(3)])
    add_products(
        a.ctypes.data,
        40,
        4,
        b.ctypes.data,
        4 * columns,
        c.ctypes.data,
        4 * columns,
        pairs.ctypes.data,
        3,
        10,
        rows,
        columns,
        keep,
        NO_FLOOR,
    )

    expected = np.einsum("prk,pkc->rc", a.astype(float), b) + keep * former
    assert near(c, expected)


def test_a_floor_is_a_relu_and_nan_stays_nan(draw):
    a, b, c = draw(2, 3), draw(3, F), np.zeros((2, F), np.float32)
    a[1, 0] = np.nan
    pair = np.zeros(2, np.int64)
    add_products(
        a.ctypes.data,
        12,
        4,
        b.ctypes.data,
        4 * F,
        c.ctypes.data,
        4 * F,
        pair.ctypes.data,
        1,
        3,
        2,
        F,
        False,
        np.float32(0),
    )

    assert near(c[0], np.maximum(a[0].astype(float) @ b, 0))
    assert np.isnan(c[1]).all()


@pytest.mark.parametrize(
    ("features", "machine", "expected"),
    [
        ({"avx512f": True, "avx2": True, "fma": True}, "x86_64", Registers(16, 4)),
        ({"avx2": True, "fma": True}, "x86_64", Registers(8, 2)),
        ({"avx2": True}, "x86_64", Registers(4, 2)),
        ({}, "arm64", Registers(4, 4)),
    ],
)
def test_tiles_fit_the_registers_of_the_processor(features, machine, expected):
    assert vectors_of(features, machine) == expected


# Convolutions


def padded(x: np.ndarray, side: int) -> np.ndarray:
    """(positions, n, channels) -> (side + 2, side + 2, n, channels) with a border of zeros."""
    grid = x.astype(float).reshape(side, side, *x.shape[1:])
    return np.pad(grid, ((1, 1), (1, 1), (0, 0), (0, 0)))


def convolved(x: np.ndarray, w: np.ndarray, side: int, stride: int) -> np.ndarray:
    """By the definition: y[i, j] = sum over row and column of x[s i + row, s j + column] w."""
    grid, out = padded(x, side), -(-side // stride)
    y = np.zeros((out, out, x.shape[1], w.shape[2]))
    for i, j, row, column in itertools.product(range(out), range(out), range(3), range(3)):
        y[i, j] += grid[stride * i + row, stride * j + column] @ w[3 * row + column]
    return y.reshape(out * out, x.shape[1], -1)


def weights_gradient(x: np.ndarray, dy: np.ndarray, side: int, stride: int) -> np.ndarray:
    grid, out = padded(x, side), -(-side // stride)
    d = dy.astype(float).reshape(out, out, *dy.shape[1:])
    dw = np.zeros((9, x.shape[2], dy.shape[2]))
    for i, j, row, column in itertools.product(range(out), range(out), range(3), range(3)):
        dw[3 * row + column] += grid[stride * i + row, stride * j + column].T @ d[i, j]
    return dw


def inputs_gradient(dy: np.ndarray, w: np.ndarray, side: int, stride: int) -> np.ndarray:
    out = -(-side // stride)
    d = dy.astype(float).reshape(out, out, *dy.shape[1:])
    grid = np.zeros((side + 2, side + 2, dy.shape[1], w.shape[1]))
    for i, j, row, column in itertools.product(range(out), range(out), range(3), range(3)):
        grid[stride * i + row, stride * j + column] += d[i, j] @ w[3 * row + column].T
    return grid[1:-1, 1:-1].reshape(side * side, dy.shape[1], -1)


@pytest.mark.parametrize(("side", "stride"), [(7, 1), (7, 2), (4, 2), (1, 1), (2, 2)])
@pytest.mark.parametrize("keep", [False, True])
def test_a_convolution_and_its_gradients_are_those_of_the_definition(draw, side, stride, keep):
    n, out = 5, -(-side // stride)
    x, w, dy = draw(side**2, n, F), draw(9, F, F), draw(out**2, n, F)
    tables = convolution_tables(side, stride, n, F, F)
    y, dx, dw = draw(out**2, n, F), draw(side**2, n, F), draw(9, F, F)
    former = [keep * of.astype(float) for of in (y, dx, dw)]
    transposed = np.empty_like(w)
    convolution.transpose(w, transposed)
    convolution.convolve(x, w, y, *tables.forward, keep)
    convolution.convolve(dy, transposed, dx, *tables.backward, keep)
    convolution.convolve_weights(x, dy, dw, *tables.weights, 3, keep)

    assert (transposed == w.transpose(0, 2, 1)).all()
    assert near(y, former[0] + convolved(x, w, side, stride))
    assert near(dx, former[1] + inputs_gradient(dy, w, side, stride))
    assert near(dw, former[2] + weights_gradient(x, dy, side, stride))


@pytest.mark.parametrize("tangent", [False, True])
def test_winograds_convolution_and_its_gradients_are_those_of_the_definition(draw, tangent):
    side, n = 6, 4
    x, rx, w, rw = draw(side**2, n, F), draw(side**2, n, F), draw(9, F, F), draw(9, F, F)
    dy, rdy = draw(side**2, n, F), draw(side**2, n, F)
    bordered, rbordered = (
        np.ascontiguousarray(padded(of, side).reshape(-1, n, F).astype(np.float32))
        for of in (x, rx)
    )
    u, ut, ru, rut, du = (np.empty((16, F, F), np.float32) for _ in range(5))
    winograd.transform_weights(w, u, ut)
    winograd.transform_weights(rw, ru, rut)
    # Two images and two tiles at a time: both loops come round more than once.
    v, m = (np.empty((2, 16, 2, 2, F), np.float32) for _ in range(2))
    y, dx, dw = draw(side**2, n, F), np.empty_like(bordered), np.empty_like(w)
    winograd.winograd_forward(bordered, u, rbordered, ru, tangent, y, side, v[0], m[0])
    winograd.winograd_backward(bordered, dy, ut, rbordered, rdy, rut, tangent, dx, du, side, v, m)
    winograd.weight_gradient(du, dw)
    inside = dx.reshape(side + 2, side + 2, n, F)[1:-1, 1:-1].reshape(-1, n, F)

    if tangent:
        assert near(y, convolved(rx, w, side, 1) + convolved(x, rw, side, 1))
        assert near(inside, inputs_gradient(rdy, w, side, 1) + inputs_gradient(dy, rw, side, 1))
        assert near(dw, weights_gradient(rx, dy, side, 1) + weights_gradient(x, rdy, side, 1))
    else:
        assert near(y, convolved(x, w, side, 1))
        assert near(inside, inputs_gradient(dy, w, side, 1))
        assert near(dw, weights_gradient(x, dy, side, 1))


# The first layer


@pytest.mark.parametrize(("side", "stride", "channels"), [(6, 1, 1), (7, 2, 3), (5, 1, 3)])
def test_patches_are_what_a_convolution_sees_with_their_moments(draw, side, stride, channels):
    n, out, size = 3, -(-side // stride), 9 * channels
    images = draw(side, side, channels, n)
    patches = np.empty((out**2, size + 1, n), np.float32)
    mean, covariance = np.empty(size), np.empty((size, size))
    first_layer.patches_of(images, stride, patches, mean, covariance)
    grid = np.pad(images, ((1, 1), (1, 1), (0, 0), (0, 0)))

    for i, j in itertools.product(range(out), range(out)):
        window = grid[stride * i : stride * i + 3, stride * j : stride * j + 3]
        expected = window.transpose(2, 0, 1, 3).reshape(size, n)
        assert (patches[i * out + j, :size] == expected).all()
    assert (patches[:, size] == 1).all()
    rows = patches[:, :size].astype(float).transpose(0, 2, 1).reshape(-1, size)
    assert near(mean, rows.mean(0)) and near(covariance, np.cov(rows.T, bias=True))


def test_statistics_of_the_first_layer_are_those_of_its_outputs(draw):
    patches, w = draw(4, 10, 5), draw(9, F)
    rows = patches[:, :9].astype(float).transpose(0, 2, 1).reshape(-1, 9)
    m, v, r = np.empty((3, F))
    first_layer.statistics_of(w, rows.mean(0), np.cov(rows.T, bias=True), m, v)
    norm.rates_of(v, EPS, r)

    assert near(m, (rows @ w).mean(0)) and near(v, (rows @ w).var(0))
    assert near(r, 1 / np.sqrt((rows @ w).var(0) + EPS))


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("floor", [0.0, -np.inf])
def test_the_first_block_is_convolution_norm_and_the_largest_of_four(draw, pooled, floor):
    n, positions = 3, 4
    patches, w, g, h = draw(positions, 10, n), draw(9, F), draw(F), draw(F)
    patches[:, 9] = 1
    m, r = draw(F).astype(float), np.abs(draw(F)).astype(float)
    b = np.empty((10, F), np.float32)
    first_layer.folded(w, g, h, m, r, b)
    pool = np.arange(positions)[None] if pooled else np.arange(positions)[:, None]
    where = np.arange(len(pool))
    x, scratch = draw(len(pool), n, F), draw(4, n, F)
    which = np.zeros((len(pool), n, F), np.int8)
    first_layer.first_forward(patches, b, x, where, pool, which, scratch, np.float32(floor))
    y = np.einsum("ptn,tc->pnc", patches[:, :9].astype(float), w)
    z = (y - m) * r * g + h

    largest = z.max(0, keepdims=True) if pooled else z
    assert near(x, np.maximum(largest, floor), 1e-5)
    if pooled:
        assert (which[0] == z.argmax(0)).all()


@pytest.mark.parametrize("pooled", [False, True])
def test_the_first_block_backward_sums_patches_times_gradients(draw, pooled):
    n, positions = 3, 4
    patches = draw(positions, 10, n)
    pool = np.arange(positions)[None] if pooled else np.arange(positions)[:, None]
    where = np.arange(len(pool))
    x, dx = draw(len(pool), n, F), draw(len(pool), n, F)
    which = np.random.default_rng(1).integers(0, 4, x.shape).astype(np.int8)
    total, scratch = np.empty((10, F)), draw(4, n, F)
    first_layer.first_backward(patches, dx, x, where, pool, which, scratch, np.float32(0), total)
    dz = np.zeros((positions, n, F))
    for place, s in itertools.product(range(len(pool)), range(pool.shape[1])):
        taken = which[place] == s if pooled else True
        dz[pool[place, s]] = np.where((x[place] > 0) & taken, dx[place], 0)

    assert near(total, np.einsum("ptn,pnc->tc", patches.astype(float), dz))


# Batch norm


def test_moments_are_numpys_also_far_from_zero(draw):
    y = 1000 + draw(200, F)
    m, v = np.empty((2, F))
    norm.moments_of(y, m, v)

    assert near(m, y.astype(float).mean(0), 1e-7) and near(v, y.astype(float).var(0), 1e-6)


@pytest.mark.parametrize("floor", [0.0, -np.inf])
def test_norm_and_relu_are_numpys_with_and_without_a_pool(draw, floor):
    side, n = 5, 3
    y, g, h = draw(side**2, n, F), draw(F), draw(F)
    m, r = draw(F).astype(float), np.abs(draw(F)).astype(float)
    x, pooled, chosen = np.empty_like(y), draw(4, n, F), draw(4, n, F)
    which = np.empty((4, n, F), np.int8)
    norm.norm_relu(y.reshape(-1, F), g, h, m, r, np.float32(floor), x.reshape(-1, F))
    norm.norm_relu_pool(y, side, g, h, m, r, np.float32(floor), pooled, chosen, which)
    z = (y.astype(float) - m) * r * g + h
    of_four = fours(z, side)

    assert near(x, np.maximum(z, floor), 1e-5)
    assert near(pooled, np.maximum(of_four.max(0), floor), 1e-5)
    assert (which == of_four.argmax(0)).all()
    assert (chosen == np.take_along_axis(fours(y, side), which[None].astype(int), 0)[0]).all()


def fours(y: np.ndarray, side: int) -> np.ndarray:
    """(4, (side // 2)^2, n, channels): the four values under each place of a pool."""
    grid = y.reshape(side, side, *y.shape[1:])[: side // 2 * 2, : side // 2 * 2]
    corners = [grid[i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return np.stack([corner.reshape(-1, *y.shape[1:]) for corner in corners])


def test_nan_comes_through_a_pool(draw):
    y, which = draw(4, 1, F), np.empty((1, 1, F), np.int8)
    y[2] = np.nan
    one, x, chosen = np.ones(F, np.float32), draw(1, 1, F), draw(1, 1, F)
    norm.norm_relu_pool(y, 2, one, one, np.ones(F), np.ones(F), np.float32(0), x, chosen, which)

    assert np.isnan(x).all()


def test_a_pool_gives_gradients_back_to_where_it_took_from(draw):
    side, n = 5, 2
    which = np.random.default_rng(1).integers(0, 4, (4, n, F)).astype(np.int8)
    d, y = draw(4, n, F), draw(side**2, n, F)
    out, chosen = np.empty_like(y), np.empty_like(d)
    norm.unpool(d, side, which, out)
    norm.choose(y, side, which, chosen)

    # Each is the other's transpose: <unpool(d), y> = <d, choose(y)>.
    assert np.vdot(out, y) == pytest.approx(np.vdot(d, chosen), rel=1e-5)
    assert (chosen == np.take_along_axis(fours(y, side), which[None].astype(int), 0)[0]).all()


@pytest.mark.parametrize("own", [False, True])
def test_the_norms_gradient_is_that_of_finite_differences(draw, own):
    rows = 12
    y, g, h, weights = draw(rows, F), draw(F), draw(F), draw(rows, F)

    def loss(y: np.ndarray, g: np.ndarray, h: np.ndarray) -> float:
        m, v = (y.mean(0), y.var(0)) if own else (mean, variance)
        return float((weights * np.maximum((y - m) / np.sqrt(v + EPS) * g + h, 0)).sum())

    mean, variance = y.astype(float).mean(0) + 0.1, y.astype(float).var(0) + 0.2
    m, r = np.empty((2, F))
    m[:] = y.astype(float).mean(0) if own else mean
    norm.rates_of(y.astype(float).var(0) if own else variance, EPS, r)
    x, d = np.empty_like(y), weights.copy()
    norm.norm_relu(y, g, h, m, r, np.float32(0), x)
    dg, dh, dy = np.empty(F, np.float32), np.empty(F, np.float32), np.empty_like(y)
    norm.relu_gradient(d, x, y, m, r, np.float32(0), dg, dh)
    norm.norm_gradient(d, y, g, m, r, dg, dh, own, dy)

    arguments = [of.astype(float) for of in (y, g, h)]
    for number, found in enumerate((dy, dg, dh)):
        assert near(found, differences(loss, arguments, number), 2e-5)


def differences(function, arguments: list[np.ndarray], number: int) -> np.ndarray:
    """Central differences with respect to one of the arguments."""
    result = np.empty_like(arguments[number])
    for index in np.ndindex(result.shape):
        values = []
        for step in (1e-6, -1e-6):
            moved = [of.copy() for of in arguments]
            moved[number][index] += step
            values.append(function(*moved))
        result[index] = (values[0] - values[1]) / 2e-6
    return result


# The head


@pytest.mark.parametrize(
    "ways", [3, HOST.width, 5 * HOST.width + 3], ids=["few", "a vector", "many"]
)
def test_the_head_is_a_linear_layer_with_cross_entropy(draw, ways):
    n, size = 6, 2 * HOST.width
    z, a, b = draw(n, size), draw(ways, size), draw(ways)
    labels = np.arange(n) % ways
    logits, p, d = (np.empty((n, ways), np.float32) for _ in range(3))
    head.linear(z, a, head.by_tiles(a), b, logits)
    found = head.cross_entropy(logits, labels, p)
    da, db, dz = np.empty_like(a), np.empty_like(b), np.empty_like(z)
    head.head_backward(z, a, p, labels, d, da, db, dz)

    def loss(z: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
        outputs = z @ a.T + b
        chosen = outputs[np.arange(n), labels]
        return float((np.log(np.exp(outputs).sum(1)) - chosen).mean())

    arguments = [of.astype(float) for of in (z, a, b)]
    assert near(logits, arguments[0] @ arguments[1].T + arguments[2])
    assert found == pytest.approx(loss(*arguments), rel=1e-6)
    for number, gradient in enumerate((dz, da, db)):
        assert near(gradient, differences(loss, arguments, number), 1e-5)


def test_exponentials_are_the_librarys_to_a_few_parts_in_ten_billion():
    logits = np.linspace(-90, 0, 1001, dtype=np.float32)
    result, powers = np.empty(len(logits)), np.empty(len(logits), np.int64)
    head.exponentials(logits, np.float64(logits.max()), powers, result)
    expected = np.exp(logits.astype(float))

    assert np.abs(result / expected - 1).max() < 3e-10
    head.exponentials(logits - np.float32(np.inf), 0.0, powers, result)
    assert result.max() < 1e-300
    head.exponentials(logits * np.float32(np.nan), 0.0, powers, result)
    assert np.isnan(result).all()


def test_large_logits_do_not_overflow_and_nan_comes_through():
    logits, p = np.array([[1000, 0, 0]], np.float32), np.empty((1, 3), np.float32)
    assert head.cross_entropy(logits, np.array([1]), p) == pytest.approx(1000)
    assert p.tolist() == [[1, 0, 0]]

    logits[0, 2] = np.nan
    assert np.isnan(head.cross_entropy(logits, np.array([0]), p))
