"""Resident memory of a training at the default settings, over its outer steps. Writes JSON.

python benchmarks/memory.py [--steps 300] [--out benchmarks/results/memory.json]
"""

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

import torch

from innerloop.experiments.environment import environment
from innerloop.experiments.experiment import prepare
from innerloop.experiments.training import train
from innerloop.methods.catalogue import settings_of
from innerloop.runs.directory import RunDirectory


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--method", default="fomaml")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/memory.json"))
    options = parser.parse_args()
    config = settings_of(options.method, meta_steps=options.steps, validation_every=options.steps)
    experiment = prepare(config)
    samples: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory.create(experiment.config, environment(experiment), Path(folder) / "run")
        train(
            experiment,
            run,
            on_step=lambda step, record: samples.update({step: round(resident_mb(), 1)}),
        )
    # The first steps fill caches that stay; growth is counted from a sixth of the run on.
    first = samples[options.steps // 6]
    result = {
        "what": "resident set of the whole process in MiB, default settings",
        "command": f"python benchmarks/memory.py --steps {options.steps} --method {options.method}",
        "method": options.method,
        "data": experiment.dataset.name,
        "threads": experiment.config.machine.threads,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "peak_mib": max(samples.values()),
        "growth": round(samples[options.steps - 1] / first - 1, 4),
        "mib_at_step": {
            step: samples[step] for step in range(0, options.steps + 1, max(1, options.steps // 12))
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
