"""What a sweep costs beyond its runs, and how soon its status comes.

    python benchmarks/sweeps.py

One worker computes 20 short runs of FO-MAML (16 filters, 10 outer steps, strokes), one after the
other. Overhead is the worker's time, after the first run, which loads the data, minus that in
training and evaluation, which single runs take too; and, apart, minus the seconds that the runs'
metrics have, which lack the evaluation and the last files. Then a sweep of 10,000 runs is planned,
8000 of them are marked as done and 1000 as given up after three attempts, and `innerloop sweep
status` is started ten times. Writes `benchmarks/results/sweeps.json`.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from innerloop.core.files import json_text, write_atomic
from innerloop.core.version import __version__
from innerloop.experiments import sweep as sweeping
from innerloop.experiments.environment import processor
from innerloop.runs.directory import RunDirectory
from innerloop.runs.sweeps.claims import create_claim, own_claim
from innerloop.runs.sweeps.directory import SweepDirectory
from innerloop.runs.sweeps.grid import read_grid
from innerloop.runs.sweeps.plan import plan_of, write_plan

RESULTS = Path(__file__).parent / "results" / "sweeps.json"
RUNS = 20
SHORT = f"""
methods = ["fomaml"]
seeds = {list(range(RUNS))}
episodes = 2
[settings]
data = "strokes"
filters = 16
meta_steps = 10
validation_episodes = 2
"""
MANY = """
methods = ["fomaml"]
seeds = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
[sample]
size = 1000
ranges = {outer_lr = {low = 1e-4, high = 0.1, scale = "log"}}
"""
DONE, GIVEN_UP, AT_WORK = 8000, 1000, 16
STARTS = 10


def planned(folder: Path, text: str) -> SweepDirectory:
    """The sweep of a grid."""
    grid = folder / "grid.toml"
    grid.write_text(text, encoding="utf-8")
    return write_plan(plan_of(read_grid(grid), source=str(grid)), folder / "sweep", print)


def overhead(folder: Path) -> dict[str, Any]:
    """Seconds of a run beyond training and evaluation: wall, and of the processor."""
    sweep = planned(folder, SHORT)
    marks: list[tuple[float, float]] = []
    within = [0.0, 0.0]

    def now() -> tuple[float, float]:
        return time.monotonic(), time.process_time()

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            before = now()
            try:
                return function(*arguments, **options)
            finally:
                for index, (start, end) in enumerate(zip(before, now(), strict=True)):
                    within[index] += end - start

        return called

    def said(sentence: str) -> None:
        if not marks:
            within[:] = [0.0, 0.0]
        marks.append(now())

    train, evaluate_run = sweeping.train, sweeping.evaluate_run
    sweeping.train, sweeping.evaluate_run = timed(train), timed(evaluate_run)
    try:
        sweeping.work(sweep, say=said)
    finally:
        sweeping.train, sweeping.evaluate_run = train, evaluate_run
    whole = [end - start for start, end in zip(marks[0], marks[-1], strict=True)]
    runs = len(marks) - 1
    names = sweep.plan.runs[1:]
    recorded = [RunDirectory(sweep.run(name)).read_metrics()[-1]["elapsed_s"] for name in names]
    return {
        "runs": runs,
        "seconds_a_run": whole[0] / runs,
        "overhead_s": (whole[0] - within[0]) / runs,
        "beyond_metrics_s": (whole[0] - sum(recorded)) / runs,
        "overhead_processor_s": (whole[1] - within[1]) / runs,
    }


def status(folder: Path) -> dict[str, Any]:
    """Seconds of `innerloop sweep status` as a command: wall, and of the processor."""
    sweep = planned(folder, MANY)
    claim = own_claim(sweep, 0)
    for number, name in enumerate(sweep.plan.runs[: DONE + GIVEN_UP + AT_WORK]):
        if number < DONE:
            sweep.run(name).mkdir()
            create_claim(sweep.claim(name, 1), replace(claim, ended="done", seconds=60.0))
        elif number < DONE + GIVEN_UP:
            for attempt in (1, 2, 3):
                failed = replace(claim, ended="failed", failures=attempt, message="It failed.")
                create_claim(sweep.claim(name, attempt), failed)
        else:
            create_claim(sweep.claim(name, 1), claim)
    command = [sys.executable, "-m", "innerloop", "sweep", "status", str(sweep.path)]
    seconds, processor_seconds = [], []
    for _ in range(STARTS):
        started, before = time.monotonic(), _children()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.monotonic() - started)
        processor_seconds.append(_children() - before)
    return {
        "planned": len(sweep.plan.runs),
        "median_s": statistics.median(seconds),
        "least_s": min(seconds),
        "median_processor_s": statistics.median(processor_seconds),
    }


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def main() -> None:
    """Measure both, and write them."""
    results: dict[str, Any] = {
        "innerloop": __version__,
        "processor": processor(),
        "load_average": round(os.getloadavg()[0], 1),  # of the machine: 0 is idle
    }
    for name, measure in {"overhead": overhead, "status": status}.items():
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(Path(folder))
        print(name, json_text(results[name]), flush=True)
    write_atomic(RESULTS, json_text(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
