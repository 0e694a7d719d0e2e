"""The benchmark of all methods: trials, trainings, and what they reach on test classes.

    python benchmarks/family.py plan-trials DIR          # six trials of every method
    innerloop sweep work DIR                             # as many workers as there are cores
    python benchmarks/family.py plan DIR FINAL           # each method's best trial, four settings
    innerloop sweep work FINAL/5w5s                      # and the other three
    python benchmarks/family.py test FINAL               # 600 test episodes of every run
    python benchmarks/family.py record FINAL             # results/family/, and the package's rows

The protocol is in `family_protocol.py`. Everything goes on where it was, if it is stopped.
"""

import argparse
import json
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

from innerloop.analysis.compared import ComparedRow, LearningCurve
from innerloop.analysis.comparison import results
from innerloop.analysis.sweep import tables
from innerloop.core.files import json_text, write_atomic
from innerloop.core.version import __version__
from innerloop.methods.catalogue import settings_of
from innerloop.methods.measured import FILE
from innerloop.runs.directory import RunDirectory
from innerloop.runs.sweeps.directory import SweepDirectory

RESULTS = Path(__file__).parent / "results" / "family"
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


def record(folder: Path) -> None:
    """Write a comparison on test classes of each setting, every run, and the package's rows."""
    rows = []
    for shape in SHAPES:
        sweep = SweepDirectory(folder / shape)
        runs = [RunDirectory(sweep.run(name)) for name in sorted(sweep.done())]
        compared = results(runs, "test", EPISODES)
        write_atomic(RESULTS / f"{shape}.json", json_text(compared.to_json(), indent=1) + "\n")
        for run in runs:
            publish(run, RESULTS / shape / run.path.name)
        curves = {curve.run: curve for curve in compared.learning_curves}
        rows += [measured_row(row, curves, sweep) for row in compared.rows]
    protocol = {"data": "omniglot", "split": "1100-100-423", "part": "test"}
    measured = protocol | {"queries": 15, "episodes": EPISODES, "rows": rows}
    write_atomic(FILE, json_text(measured, indent=1) + "\n")


def publish(run: RunDirectory, folder: Path) -> None:
    """Keep of a run its settings, where it was trained, its validations and its evaluations."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "env.json"):
        write_atomic(folder / name, (run.path / name).read_text(encoding="utf-8"))
    lines = (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["kind"] == "validation"]
    write_atomic(folder / "metrics.jsonl", "".join(kept))
    for path in run.path.glob("evaluation-1100-100-423-test-*.json"):
        write_atomic(folder / path.name, path.read_text(encoding="utf-8"))


def measured_row(
    row: ComparedRow, curves: dict[str, LearningCurve], sweep: SweepDirectory
) -> dict[str, Any]:
    """A row as `innerloop.methods.measured` has it."""
    of_runs = [curves[name] for name in row.runs]
    config = sweep.config(row.runs[0])
    usual = settings_of(row.method).flat()
    changed = {name: value for name, value in config.flat().items() if value != usual[name]}
    return {
        "method": row.method,
        "ways": row.ways,
        "shots": row.shots,
        "training_seeds": row.training_seeds,
        "batch_norm": row.batch_norm,
        "query_accuracy": row.query_accuracy,
        "query_accuracy_ci95": row.query_accuracy_ci95,
        "covers": row.covers,
        "seconds": round(sum(curve.seconds[-1] for curve in of_runs) / len(of_runs), 1),
        "image_passes": of_runs[0].image_passes[-1],
        "command": f"innerloop train {row.method} {flags(changed)}",
        "innerloop": __version__,
        "processor": of_runs[0].machine,
    }


def flags(changed: dict[str, Any]) -> str:
    """Settings as a command has them."""
    words = []
    for name, value in changed.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif name != "method":
            words.append(f"--{flag} {value}")
    return " ".join(words)


def main() -> None:
    """Do what is asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True, dest="command")
    for name, folders in {"plan-trials": 1, "plan": 2, "test": 1, "record": 1}.items():
        command = commands.add_parser(name)
        command.add_argument("folders", nargs=folders, type=Path)
    options = parser.parse_args()
    does = {"plan-trials": plan_trials, "plan": plan_trainings, "test": test, "record": record}
    does[options.command](*options.folders)


if __name__ == "__main__":
    main()
