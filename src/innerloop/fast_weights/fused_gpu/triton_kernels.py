"""Kernels for what is between two convolutions, in Triton; the formulas are in `layers`.

Tensors are (E, rows, channels), contiguous; a program has some rows and some channels of one
episode. Sums over rows are of float64: each program writes what its rows make, and whoever needs
them adds these parts up in their order, so that bits depend neither on which is ready first nor on
how many episodes there are. ``SPAN`` rows make a part, ``ROWS`` are in registers at once, ``WIDTH``
channels belong to a program.
"""

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]

SIZES = ["rows", "number", "height", "width", "between_gammas", "between_betas", "out_rows"]
SIZES += [f"{which}_{side}" for which in ("after", "out", "next") for side in ("height", "width")]
"""Sizes of which a kernel is not compiled anew for every kind of number: there would be dozens."""


@triton.jit(do_not_specialize=SIZES)
def sums(
    raw,
    parts,
    rows,
    channels,
    SPAN: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """parts (E, parts, 2, channels) = sums of raw and of its squares over SPAN rows each."""
    part, episode = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channel = tl.program_id(2) * WIDTH + tl.arange(0, WIDTH)
    first = tl.zeros([WIDTH], tl.float64)
    second = tl.zeros([WIDTH], tl.float64)
    for start in range(0, SPAN, ROWS):
        row = part * SPAN + start + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & (channel < channels)[None, :]
        place = (episode * rows + row)[:, None] * channels + channel[None, :]
        values = tl.load(raw + place, mask=inside, other=0.0).to(tl.float64)
        first += tl.sum(values, 0)
        second += tl.sum(values * values, 0)
    place = (episode * tl.num_programs(0) + part) * 2 * channels + channel
    tl.store(parts + place, first, mask=channel < channels)
    tl.store(parts + place + channels, second, mask=channel < channels)


@triton.jit
def totals(parts, number, place, channels, inside, WIDTH: tl.constexpr):
    """Two sums over parts, in their order."""
    first = tl.zeros([WIDTH], tl.float64)
    second = tl.zeros([WIDTH], tl.float64)
    for _ in range(number):
        first += tl.load(parts + place, mask=inside, other=0.0)
        second += tl.load(parts + place + channels, mask=inside, other=0.0)
        place += 2 * channels
    return first, second


@triton.jit(do_not_specialize=SIZES)
def norm(
    parts,
    gamma,
    beta,
    out,
    number,
    rows,
    channels,
    between_gammas,
    between_betas,
    EPS: tl.constexpr,
    AFFINE: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """out (5, E, channels) = mean, variance, inverse, scale, shift, from the parts of `sums`."""
    episode, episodes = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    channel = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    inside = channel < channels
    place = episode * number * 2 * channels + channel
    first, second = totals(parts, number, place, channels, inside, WIDTH)
    mean = first / rows
    variance = second / rows - mean * mean
    # Not by a maximum, which would make zero of NaN.
    variance = tl.where(variance < 0, 0.0, variance)
    inverse = 1 / tl.sqrt(variance + EPS)
    scale = inverse
    shift = -mean * inverse
    if AFFINE:
        at = gamma + episode * between_gammas + channel
        scale = tl.load(at, mask=inside, other=0.0).to(tl.float64) * inverse
        at = beta + episode * between_betas + channel
        shift = tl.load(at, mask=inside, other=0.0).to(tl.float64) - mean * scale
    place = episode * channels + channel
    size = episodes * channels
    kind = out.dtype.element_ty
    tl.store(out + place, mean.to(kind), mask=inside)
    tl.store(out + size + place, variance.to(kind), mask=inside)
    tl.store(out + 2 * size + place, inverse.to(kind), mask=inside)
    tl.store(out + 3 * size + place, scale.to(kind), mask=inside)
    tl.store(out + 4 * size + place, shift.to(kind), mask=inside)


@triton.jit(do_not_specialize=SIZES)
def activated(
    raw,
    scale,
    shift,
    values,
    out,
    rows,
    channels,
    height,
    width,
    after_height,
    after_width,
    out_height,
    out_width,
    out_rows,
    STRIDE: tl.constexpr,
    TAPS: tl.constexpr,
    POOLED: tl.constexpr,
    RELU: tl.constexpr,
    SELECT: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """out (E, rows, TAPS, channels) = what a block gives; of 9 taps, patches of it.

    With SELECT it is taken from ``values``, at the places at which the block takes it of ``raw``.
    """
    episode = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(2) * WIDTH + tl.arange(0, WIDTH)
    inside = channel < channels
    image = row // (out_height * out_width)
    position = row % (out_height * out_width)
    by = tl.load(scale + episode * channels + channel, mask=inside, other=0.0)
    plus = tl.load(shift + episode * channels + channel, mask=inside, other=0.0)
    for tap in range(TAPS):
        y = position // out_width
        x = position % out_width
        if TAPS == 9:
            y = y * STRIDE + tap // 3 - 1
            x = x * STRIDE + tap % 3 - 1
        there = (row < out_rows) & (y >= 0) & (y < after_height) & (x >= 0) & (x < after_width)
        mask = there[:, None] & inside[None, :]
        if POOLED:
            y = 2 * y
            x = 2 * x
        place = (episode * rows + (image * height + y) * width + x)[:, None] * channels
        place += channel[None, :]
        best = tl.load(raw + place, mask=mask, other=0.0) * by[None, :] + plus[None, :]
        taken = best
        if SELECT:
            taken = tl.load(values + place, mask=mask, other=0.0)
        if POOLED:
            for corner in tl.static_range(1, 4):
                at = place + (corner // 2 * width + corner % 2) * channels
                other = tl.load(raw + at, mask=mask, other=0.0) * by[None, :] + plus[None, :]
                # The first of the largest, and NaN where there is one, as PyTorch's.
                larger = (other > best) | (other != other)
                if SELECT:
                    taken = tl.where(larger, tl.load(values + at, mask=mask, other=0.0), taken)
                best = tl.where(larger, other, best)
        if not SELECT:
            taken = best
        if RELU:
            taken = tl.where(best <= 0, 0.0, taken)
        taken = tl.where(mask, taken, 0.0)
        place = ((episode * out_rows + row) * TAPS + tap)[:, None] * channels + channel[None, :]
        wanted = (row < out_rows)[:, None] & inside[None, :]
        tl.store(out + place, taken.to(out.dtype.element_ty), mask=wanted)


@triton.jit(do_not_specialize=SIZES)
def behind_norm(
    upstream,
    raw,
    mean,
    inverse,
    scale,
    shift,
    out,
    parts,
    rows,
    channels,
    height,
    width,
    after_height,
    after_width,
    next_height,
    next_width,
    STRIDE: tl.constexpr,
    TAPS: tl.constexpr,
    POOLED: tl.constexpr,
    RELU: tl.constexpr,
    SPAN: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """out (E, rows, channels) = the gradient of what a norm gave; parts: sums for its parameters.

    ``upstream`` is of what the block gave; of 9 taps, of patches of it, of which those that lie on
    a pixel are added up in their order.
    """
    part, episode = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channel = tl.program_id(2) * WIDTH + tl.arange(0, WIDTH)
    known = channel < channels
    vector = episode * channels + channel
    middle = tl.load(mean + vector, mask=known, other=0.0)
    over = tl.load(inverse + vector, mask=known, other=0.0)
    by = tl.load(scale + vector, mask=known, other=0.0)
    plus = tl.load(shift + vector, mask=known, other=0.0)
    images = rows // (height * width)
    of_gamma = tl.zeros([WIDTH], tl.float64)
    of_beta = tl.zeros([WIDTH], tl.float64)
    for start in range(0, SPAN, ROWS):
        row = part * SPAN + start + tl.arange(0, ROWS)
        image = row // (height * width)
        y = row // width % height
        x = row % width
        mask = (row < rows)[:, None] & known[None, :]
        place = (episode * rows + row)[:, None] * channels + channel[None, :]
        own = tl.load(raw + place, mask=mask, other=0.0)
        value = own * by[None, :] + plus[None, :]
        passes = mask
        if POOLED:
            corner = y % 2 * 2 + x % 2
            y = y // 2
            x = x // 2
            passes = passes & ((y < after_height) & (x < after_width))[:, None]
            base = (episode * rows + (image * height + 2 * y) * width + 2 * x)[:, None] * channels
            base += channel[None, :]
            for number in tl.static_range(4):
                at = base + (number // 2 * width + number % 2) * channels
                other = tl.load(raw + at, mask=passes, other=0.0) * by[None, :] + plus[None, :]
                # Of equal ones the first is taken.
                behind = (corner <= number)[:, None]
                passes = passes & ((other < value) | ((other == value) & behind))
        if RELU:
            passes = passes & (value > 0)
        gradient = tl.zeros([ROWS, WIDTH], raw.dtype.element_ty)
        if TAPS == 9:
            for tap in range(9):
                down = y + 1 - tap // 3
                right = x + 1 - tap % 3
                seen = (down >= 0) & (right >= 0) & (down % STRIDE == 0) & (right % STRIDE == 0)
                down = down // STRIDE
                right = right // STRIDE
                seen = seen & (down < next_height) & (right < next_width)
                at = (episode * images + image) * next_height * next_width
                at = (at + down * next_width + right) * 9 + tap
                at = at[:, None] * channels + channel[None, :]
                gradient += tl.load(upstream + at, mask=passes & seen[:, None], other=0.0)
        else:
            at = (episode * images + image) * after_height * after_width
            at = (at + y * after_width + x)[:, None] * channels + channel[None, :]
            gradient += tl.load(upstream + at, mask=passes, other=0.0)
        tl.store(out + place, gradient, mask=mask)
        standard = (own - middle[None, :]) * over[None, :]
        of_gamma += tl.sum((gradient * standard).to(tl.float64), 0)
        of_beta += tl.sum(gradient.to(tl.float64), 0)
    place = (episode * tl.num_programs(0) + part) * 2 * channels + channel
    tl.store(parts + place, of_gamma, mask=known)
    tl.store(parts + place + channels, of_beta, mask=known)


@triton.jit(do_not_specialize=SIZES)
def added(parts, out, number, channels, WIDTH: tl.constexpr):
    """out (2, E, channels) = the parts of `behind_norm` added up."""
    episode, episodes = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    channel = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    inside = channel < channels
    place = episode * number * 2 * channels + channel
    first, second = totals(parts, number, place, channels, inside, WIDTH)
    place = episode * channels + channel
    kind = out.dtype.element_ty
    tl.store(out + place, first.to(kind), mask=inside)
    tl.store(out + episodes * channels + place, second.to(kind), mask=inside)


@triton.jit(do_not_specialize=SIZES)
def through_norm(
    gradient,
    raw,
    mean,
    inverse,
    scale,
    gamma,
    beta,
    out,
    rows,
    channels,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """out = scale (gradient - beta / rows - standardised raw * gamma / rows)."""
    episode = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(2) * WIDTH + tl.arange(0, WIDTH)
    known = channel < channels
    vector = episode * channels + channel
    middle = tl.load(mean + vector, mask=known, other=0.0)[None, :]
    over = tl.load(inverse + vector, mask=known, other=0.0)[None, :]
    by = tl.load(scale + vector, mask=known, other=0.0)[None, :]
    of_gamma = tl.load(gamma + vector, mask=known, other=0.0)[None, :] / rows
    of_beta = tl.load(beta + vector, mask=known, other=0.0)[None, :] / rows
    mask = (row < rows)[:, None] & known[None, :]
    place = (episode * rows + row)[:, None] * channels + channel[None, :]
    values = tl.load(gradient + place, mask=mask, other=0.0)
    standard = (tl.load(raw + place, mask=mask, other=0.0) - middle) * over
    tl.store(out + place, by * (values - of_beta - standard * of_gamma), mask=mask)
