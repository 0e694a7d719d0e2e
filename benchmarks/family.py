"""The benchmark of all methods: trials, trainings, and what they reach on test classes.

    python benchmarks/family.py plan-trials DIR          # six trials of every method
    innerloop sweep work DIR                             # as many workers as there are cores
    python benchmarks/family.py plan DIR FINAL           # each method's best trial, four settings
    innerloop sweep work FINAL/5w5s                      # and the other three
    python benchmarks/family.py test FINAL               # 600 test episodes of every run
    python benchmarks/family.py record DIR FINAL         # results/family.json

The protocol is in `family_protocol.py`. Everything goes on where it was, if it is stopped.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from family_protocol import (
    BUDGET,
    EPISODES,
    OUTER_RATES,
    SEEDS,
    SHAPES,
    TRIAL_BUDGET,
    TRIAL_EPISODES,
    TRIAL_SHAPE,
    TRIALS,
    VALIDATION_EPISODES,
    VALIDATIONS,
    fixed,
    length,
    validations,
)

from innerloop.analysis.sweep import tables
from innerloop.core.files import write_atomic
from innerloop.runs.directory import RunDirectory
from innerloop.runs.sweeps.directory import SweepDirectory

INNERLOOP = [sys.executable, "-m", "innerloop"]


def plan_trials(folder: Path) -> None:
    """Plan the same number of trials for every method, on `background-heldout`."""
    methods = {}
    for method, starts in TRIALS.items():
        steps = [length(method, TRIAL_SHAPE, TRIAL_BUDGET, start) for start in starts]
        varied = [of | {"meta_steps": steps} for of, steps in zip(starts, steps, strict=True)]
        methods[method] = {
            "settings": fixed(TRIAL_SHAPE) | validations(min(steps), 1),
            "grid": {"outer_lr": OUTER_RATES, "start": varied},
        }
    plan({"split": "background-heldout"}, [0], TRIAL_EPISODES, methods, folder)


def plan_trainings(trials: Path, folder: Path) -> None:
    """Plan what each method's best trial is trained with, in its whole length, on all settings."""
    chosen = dict(best_of(SweepDirectory(trials)))
    for shape in SHAPES:
        methods = {}
        for method, varied in chosen.items():
            steps = length(method, shape, BUDGET, varied)
            of_length = {"meta_steps": steps} | validations(steps, VALIDATIONS)
            methods[method] = {"settings": fixed(shape) | varied | of_length}
        split = {"split": "1100-100-423"}
        plan(split, SEEDS[shape], VALIDATION_EPISODES, methods, folder / shape)


def best_of(sweep: SweepDirectory) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each method's best trial by mean accuracy on `background-heldout`: what it varied."""
    (table,) = tables(sweep)
    for choice in table.choices:
        config = sweep.config(choice.trial.run)
        varied = {name for of in TRIALS[config.method] for name in of}
        flat = config.flat()
        yield config.method, {name: flat[name] for name in sorted(varied | {"outer_lr"})}


def plan(
    settings: dict[str, Any],
    seeds: list[int],
    episodes: int,
    methods: dict[str, dict[str, Any]],
    folder: Path,
) -> None:
    """Write a grid and plan it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    grid = folder.with_suffix(".toml")
    lines = [
        f"methods = {toml(list(methods))}",
        f"seeds = {toml(seeds)}",
        f"episodes = {episodes}",
        f"settings = {toml(settings)}",
    ]
    lines += [f"method.{name} = {toml(of)}" for name, of in methods.items()]
    write_atomic(grid, "\n".join(lines) + "\n")
    subprocess.run([*INNERLOOP, "sweep", "plan", str(grid), str(folder)], check=True)


def toml(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {toml(of)}" for name, of in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)


def runs_of(folder: Path) -> Iterator[RunDirectory]:
    """All runs of the four sweeps that are done."""
    for shape in SHAPES:
        sweep = SweepDirectory(folder / shape)
        for name in sorted(sweep.done()):
            yield RunDirectory(sweep.run(name))


def test(folder: Path) -> None:
    """Evaluate every run that is done on the test classes, once."""
    for run in runs_of(folder):
        if list(run.path.glob("evaluation-1100-100-423-test-*.json")):
            continue
        evaluate = ["evaluate", str(run.path), "--part", "test", "--episodes", str(EPISODES)]
        subprocess.run([*INNERLOOP, *evaluate], check=True)


def main() -> None:
    """Do what is asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True, dest="command")
    for name, folders in {"plan-trials": 1, "plan": 2, "test": 1}.items():
        command = commands.add_parser(name)
        command.add_argument("folders", nargs=folders, type=Path)
    options = parser.parse_args()
    {"plan-trials": plan_trials, "plan": plan_trainings, "test": test}[options.command](
        *options.folders
    )


if __name__ == "__main__":
    main()
