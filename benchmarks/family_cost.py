"""What a training of each method takes, on an idle machine.

    python benchmarks/family_cost.py FOLDER [--shapes 5w5s ...]

Trains every method with the settings of its best trial, in each of the four settings of the
benchmark, for a twentieth of the budget; one thread. Seconds are those of an outer step, from the
third on, times the steps of the whole training: without validations, data and compilation. FOLDER
takes the runs; what was measured with the same settings and processor is not measured again.
Writes `results/family/cost.json`.
"""

import argparse
import shutil
import subprocess
from pathlib import Path
from typing import Any

from family import INNERLOOP, RESULTS, SPLIT, chosen, flags
from family_protocol import BUDGET, SHAPES, fixed, length

from innerloop.core.files import json_text, read_json, write_atomic
from innerloop.experiments.environment import git_state, processor
from innerloop.methods.catalogue import settings_of
from innerloop.runs.directory import RunDirectory

FILE = RESULTS / "cost.json"
PART = 20
"""Of the budget: so many times shorter than the training."""
WARMING = 2
"""First outer steps, which are not counted."""


def asked(method: str, shape: str, varied: dict[str, Any]) -> dict[str, Any]:
    """Of a row all but its seconds: the whole training, and with what and where it is measured."""
    steps = length(method, shape, BUDGET, varied)
    short = max(10, length(method, shape, BUDGET // PART, varied))
    settings = fixed(shape) | varied | {"meta_steps": short, "split": SPLIT, "threads": 1}
    settings |= {"validation_every": short, "checkpoint_every": short, "validation_episodes": 2}
    usual = settings_of(method).flat()
    changed = {name: value for name, value in settings.items() if value != usual[name]}
    own = settings_of(method, **changed).own
    return {
        "steps": steps,
        "episodes": steps * own.meta_batch_size if own.trains_on == "episodes" else None,
        "command": f"innerloop train {method} {flags(changed)}",
        "processor": processor(),
    }


def seconds_of(command: str, steps: int, folder: Path) -> float:
    """Of so many outer steps, by a short training into a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    _, *arguments = command.split()
    subprocess.run(
        [*INNERLOOP, *arguments, "--run-dir", str(folder)], check=True, capture_output=True
    )
    times = [record.elapsed_s for record in RunDirectory(folder).train_records()]
    return (times[-1] - times[WARMING - 1]) / (len(times) - WARMING) * steps


def main() -> None:
    """Measure what is not measured yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    options = parser.parse_args()
    shapes = read_json(FILE)["shapes"] if FILE.is_file() else {}
    for shape in options.shapes:
        rows = shapes.setdefault(shape, {})
        for method, varied in chosen().items():
            row = asked(method, shape, varied)
            if {name: rows.get(method, {}).get(name) for name in row} == row:
                continue
            seconds = seconds_of(row["command"], row["steps"], options.folder / f"{method}-{shape}")
            rows[method] = row | {"git": git_state(), "seconds": round(seconds, 1)}
            print(f"{shape}: {method} {seconds:.0f} s", flush=True)
            result = {
                "command": "python benchmarks/family_cost.py FOLDER",
                "image_passes": BUDGET,
                "shapes": shapes,
            }
            write_atomic(FILE, json_text(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
