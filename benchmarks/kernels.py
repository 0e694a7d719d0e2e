"""What share of a processor's peak each of the fused engine's products reaches.

The peak is measured: the same tiles over blocks that stay in the first cache. One thread, 64
filters, 25 and 75 images; the best of many runs, since a machine may have other work.

    taskset -c 0 python benchmarks/kernels.py     # writes benchmarks/results/kernels.json
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from innerloop.core.files import json_text, write_atomic
from innerloop.experiments.environment import processor
from innerloop.fast_weights.fused_cpu import convolution, first_layer, winograd
from innerloop.fast_weights.fused_cpu.layout import convolution_tables
from innerloop.fast_weights.fused_cpu.tiles import NO_FLOOR, add_products

RESULTS = Path(__file__).parent / "results" / "kernels.json"
FILTERS = 64
ROUNDS = 200
BLOCKS = {
    "strided, block 2": (14, 2),
    "strided, block 3": (7, 2),
    "strided, block 4": (4, 2),
    "max-pool, block 3": (7, 1),
    "max-pool, block 4": (3, 1),
}
"""Side of the inputs' grid, and stride."""


def seconds(function: Callable[[], object]) -> float:
    """The least of many."""
    function()
    least = float("inf")
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        function()
        least = min(least, time.perf_counter() - begun)
    return least


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def peak() -> float:
    """FLOP a second of tiles whose operands stay in the first cache."""
    rows, depth, times = 6, FILTERS, 2000
    a, b, c = drawn(rows, depth), drawn(depth, FILTERS), drawn(rows, FILTERS)
    pairs = np.zeros((times, 2), np.int64)
    taken = seconds(
        lambda: add_products(
            a.ctypes.data,
            4 * depth,
            4,
            b.ctypes.data,
            4 * FILTERS,
            c.ctypes.data,
            4 * FILTERS,
            pairs.ctypes.data,
            times,
            depth,
            rows,
            FILTERS,
            False,
            NO_FLOOR,
        )
    )
    return 2 * rows * depth * FILTERS * times / taken


def convolutions(images: int) -> dict[str, float]:
    """FLOP a second of the direct convolutions."""
    rates = {}
    for name, (side, stride) in BLOCKS.items():
        out = -(-side // stride)
        tables = convolution_tables(side, stride, images, FILTERS, FILTERS)
        work = 2 * tables.forward.counts.sum() * images * FILTERS**2
        x, y = drawn(side**2, images, FILTERS), drawn(out**2, images, FILTERS)
        w, dw, dx = drawn(9, FILTERS, FILTERS), drawn(9, FILTERS, FILTERS), np.empty_like(x)
        few = max(1, 50 // images)
        # Bound now: the names are another block's by the time the table is written.
        kernels = {
            "forward": lambda x=x, w=w, y=y, t=tables: convolution.convolve(
                x, w, y, *t.forward, False
            ),
            "to inputs": lambda y=y, w=w, dx=dx, t=tables: convolution.convolve(
                y, w, dx, *t.backward, False
            ),
            "to weights": lambda x=x, y=y, dw=dw, t=tables, few=few: convolution.convolve_weights(
                x, y, dw, *t.weights, few, False
            ),
        }
        rates |= {f"{name}, {kind}": work / seconds(of) for kind, of in kernels.items()}
    return rates


def by_winograd(images: int) -> dict[str, float]:
    """FLOP a second of the 14 x 14 convolution, counted as if it were direct."""
    side = 14
    few = 25
    work = 2 * convolution_tables(side, 1, images, FILTERS, FILTERS).forward.counts.sum()
    work = work * images * FILTERS**2
    x, y = drawn((side + 2) ** 2, images, FILTERS), drawn(side**2, images, FILTERS)
    w, dw, dx = drawn(9, FILTERS, FILTERS), drawn(9, FILTERS, FILTERS), np.empty_like(x)
    u, ut, du = (np.empty((16, FILTERS, FILTERS), np.float32) for _ in range(3))
    v, m = (np.empty((2, 16, 2, few, FILTERS), np.float32) for _ in range(2))
    forward = seconds(lambda: winograd.forward(x, w, u, ut, y, side, v[0], m[0]))
    backward = seconds(lambda: winograd.backward(x, y, w, u, ut, dx, du, dw, side, v, m))
    name = "max-pool, block 2 by Winograd"
    return {f"{name}, forward": work / forward, f"{name}, backward": 2 * work / backward}


def first(images: int) -> dict[str, float]:
    """FLOP a second of the first block's products, strided, ReLU included."""
    positions = 14 * 14
    patches, b = drawn(positions, 10, images), drawn(10, FILTERS)
    x, scratch = drawn(positions, images, FILTERS), drawn(1, images, FILTERS)
    where, pool = np.arange(positions), np.arange(positions)[:, None]
    which = np.zeros((positions, 0, FILTERS), np.int8)
    total = np.zeros((10, FILTERS))
    floor = np.float32(0)
    work = 2 * positions * images * 10 * FILTERS
    forward = seconds(
        lambda: first_layer.first_forward(patches, b, x, where, pool, which, scratch, floor)
    )
    backward = seconds(
        lambda: first_layer.first_backward(patches, x, x, where, pool, which, scratch, floor, total)
    )
    return {"first block, forward": work / forward, "first block, to weights": work / backward}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    out: Path = parser.parse_args().out
    top = peak()
    print(f"{processor()}: peak {top / 1e9:.0f} GFLOP/s")
    rows = []
    for images in (25, 75):
        for name, rate in (convolutions(images) | by_winograd(images) | first(images)).items():
            rows.append(
                {"kernel": name, "images": images, "gflops": rate / 1e9, "share": rate / top}
            )
            share = f"{rate / 1e9:6.0f} GFLOP/s  {100 * rate / top:4.0f} %"
            print(f"{images:3d} images  {name:42s} {share}")
    result = {"processor": processor(), "peak_gflops": top / 1e9, "kernels": rows}
    write_atomic(out, json_text(json.loads(json.dumps(result)), indent=1) + "\n")


if __name__ == "__main__":
    main()
