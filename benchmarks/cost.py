"""Time and peak memory of an outer step of FO-MAML, MAML and MAML++.

Also what the multi-step loss adds.

python benchmarks/cost.py

Times are taken in turn in one process, medians of several rounds; memory in a process of its own
for each row, as the largest resident set beyond what it was before the first step. On an otherwise
idle machine.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from innerloop.core.files import json_text, write_atomic
from innerloop.experiments.experiment import prepare
from innerloop.methods.base import Learner
from innerloop.methods.catalogue import settings_of

ROWS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "FO-MAML": ("fomaml", 500, {}),
    "MAML": ("maml", 500, {}),
    "MAML++, first 10 %: first order, multi-step loss": ("mamlpp", 0, {}),
    "MAML++, 10 to 33 %: first order": ("mamlpp", 200, {}),
    "MAML++, from 33 %: second order": ("mamlpp", 500, {}),
    "MAML++, second order with multi-step loss": (
        "mamlpp",
        0,
        {"derivative_order_annealing": False},
    ),
}
"""What is measured -> method, outer step of 1000, settings that differ. The last row is no phase of
the defaults."""


def outer_step(name: str, threads: int) -> Any:
    """A function that takes one gradient of a row's objective over 4 episodes, in turn."""
    method, step, settings = ROWS[name]
    config = settings_of(method).replace(threads=threads, **settings)
    experiment = prepare(config, say=lambda _: None)
    learner: Learner = experiment.build_learner()
    learner.begin_outer_step(step, 1000)
    sampler = experiment.training_sampler()

    def take() -> None:
        for number in range(config.own.meta_batch_size):
            loss, _ = learner.meta_loss(sampler.batch(number, 1))
            (loss / config.own.meta_batch_size).backward()
        for weight in learner.parameters():
            weight.grad = None

    return take


def resident_mib(which: str) -> float:
    """The resident set of this process (Linux): now (VmRSS), or at its largest (VmHWM)."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def peak_mib(name: str, threads: int) -> float:
    """The largest resident set during three outer steps, beyond what it was before."""
    take = outer_step(name, threads)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading the data
    before = resident_mib("VmRSS")
    for _ in range(3):
        take()
    return resident_mib("VmHWM") - before


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-of", choices=list(ROWS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(peak_mib(options.memory_of, options.threads))
        return
    steps = {name: outer_step(name, options.threads) for name in ROWS}
    seconds: dict[str, list[float]] = {name: [] for name in ROWS}
    for round_number in range(options.rounds + 1):
        for name, take in steps.items():
            started = time.perf_counter()
            take()
            if round_number:  # the first is for warming up
                seconds[name].append(time.perf_counter() - started)
    first = statistics.median(seconds["FO-MAML"])
    rows = []
    for name in ROWS:
        command = [sys.executable, __file__, "--threads", str(options.threads), "--memory-of", name]
        memory = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        median = statistics.median(seconds[name])
        rows.append(
            {
                "what": name,
                "seconds": round(median, 3),
                "ratio": round(median / first, 2),
                "peak_mib": round(memory),
            }
        )
    result = {
        "what": (
            "an outer step of 4 episodes, one after the other, 5-way 5-shot, 5 inner steps, 64 "
            "filters, float32"
        ),
        "command": (
            f"python benchmarks/cost.py --rounds {options.rounds} --threads {options.threads}"
        ),
        "threads": options.threads,
        "torch": torch.__version__,
        "rows": rows,
    }
    print(json.dumps(result, indent=1))
    write_atomic(
        Path(__file__).parent / "results" / "cost.json", json_text(result, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
