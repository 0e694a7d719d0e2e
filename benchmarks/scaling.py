"""Time and memory of an outer step against each thing that makes it larger, by both engines.

From FO-MAML's setting one number is changed at a time. Times are taken by turns in one process,
medians of several rounds; memory in a process of its own for each row, the largest resident set
beyond what it was before (Linux). One thread; random images, since no number depends on them.

    python benchmarks/scaling.py     # writes results/scaling.json and docs/figures/scaling.png
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from cost import resident_mib
from matplotlib.figure import Figure
from plain import seconds

from innerloop import MAML, Conv4, EpisodeBatch
from innerloop.core.files import json_text, write_atomic
from innerloop.data.images import LabelledImages
from innerloop.experiments.environment import processor
from innerloop.experiments.meta_gradient import accumulate_meta_gradient
from innerloop.fast_weights.engine import Engine

RESULTS = Path(__file__).parent / "results" / "scaling.json"
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "scaling.png"
ENGINES = ("reference", "fused")
QUERIES = 15


@dataclass(frozen=True)
class Size:
    """An outer step, of first order, strided."""

    episodes: int = 4
    ways: int = 5
    shots: int = 5
    filters: int = 64
    inner_steps: int = 5
    side: int = 28


AXES = {
    "episodes": (1, 2, 4, 8, 16, 32),
    "ways": (2, 5, 10, 20),
    "shots": (1, 2, 5, 10, 20),
    "filters": (16, 32, 64, 128),
    "inner_steps": (1, 2, 5, 10, 20),
    "side": (28, 42, 56, 84),
}


def outer_step(size: Size, engine: Engine) -> Callable[[], Any]:
    """What takes a meta-gradient."""
    torch.manual_seed(0)
    learner = MAML(
        Conv4(size.ways, filters=size.filters, image_size=size.side),
        inner_steps=size.inner_steps,
        first_order=True,
        fresh_head="head",
    )
    learner.engine = engine
    batch = episodes_of(size)
    return lambda: accumulate_meta_gradient(learner, batch, size.episodes)


def episodes_of(size: Size) -> EpisodeBatch:
    """Random images, as many of each class as in an episode."""

    def images(of_each: int) -> LabelledImages:
        labels = torch.arange(size.ways).repeat_interleave(of_each).expand(size.episodes, -1)
        values = torch.rand(size.episodes, size.ways * of_each, 1, size.side, size.side)
        return LabelledImages(values, labels.contiguous())

    none = torch.zeros(size.episodes, size.ways, dtype=torch.int64)
    return EpisodeBatch(images(size.shots), images(QUERIES), none, none[..., None], none[..., None])


def peak_mib(size: Size, engine: Engine) -> float:
    """The largest resident set of three outer steps, beyond what it was before."""
    outer_step(Size(episodes=1), engine)()  # compiled kernels are no memory of a step
    take = outer_step(size, engine)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_mib("VmRSS")
    for _ in range(3):
        take()
    return resident_mib("VmHWM") - before


def memory_in_a_process(size: Size, engine: Engine) -> float:
    """The same, undisturbed by what ran before."""
    command = [sys.executable, __file__, "--memory-of", engine, json.dumps(asdict(size))]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(size: Size, rounds: int) -> dict[str, Any]:
    """Milliseconds and MiB by each engine."""
    takes = {engine: outer_step(size, engine) for engine in ENGINES}
    for take in takes.values():
        take()
    times = {engine: [] for engine in ENGINES}
    for _ in range(rounds):
        for engine, take in takes.items():
            times[engine].append(seconds(take))
    return {
        "ms": {engine: 1e3 * statistics.median(of) for engine, of in times.items()},
        "peak_mib": {engine: memory_in_a_process(size, engine) for engine in ENGINES},
    }


def draw(result: dict[str, Any]) -> None:
    """A column of panels for each axis: milliseconds above, MiB below."""
    figure = Figure(figsize=(15, 6), layout="constrained")
    panels = figure.subplots(2, len(AXES), squeeze=False, sharey="row")
    for column, axis in enumerate(AXES):
        rows = [row for row in result["rows"] if row["axis"] == axis]
        values = [row["value"] for row in rows]
        for line, what in enumerate(("ms", "peak_mib")):
            axes = panels[line, column]
            for engine in ENGINES:
                axes.loglog(values, [row[what][engine] for row in rows], "o-", label=engine)
            axes.set_xticks(values, [str(value) for value in values])
            axes.minorticks_off()
        panels[1, column].set_xlabel(axis.replace("_", " "))
    panels[0, 0].set_ylabel("ms an outer step")
    panels[1, 0].set_ylabel("peak memory, MiB")
    panels[0, 0].legend()
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=150)


def main() -> None:
    """Measure every axis."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-of", choices=get_args(Engine), help=argparse.SUPPRESS)
    parser.add_argument("size", nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory_of:
        print(peak_mib(Size(**json.loads(options.size)), options.memory_of))
        return
    rows = []
    for axis, values in AXES.items():
        for value in values:
            size = replace(Size(), **{axis: value})
            rows.append({"axis": axis, "value": value} | measure(size, options.rounds))
            print(rows[-1], flush=True)
    result = {
        "what": "an outer step of FO-MAML, strided, 15 queries, one number changed at a time",
        "from": asdict(Size()),
        "command": f"python benchmarks/scaling.py --rounds {options.rounds}",
        "threads": 1,
        "torch": torch.__version__,
        "machine": processor(),
        "rows": rows,
    }
    write_atomic(RESULTS, json_text(result, indent=1) + "\n")
    draw(result)


if __name__ == "__main__":
    main()
