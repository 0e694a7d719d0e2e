"""The benchmark of all methods: trials, trainings, and what they reach on test classes.

    python benchmarks/family.py plan-trials DIR          # six trials of every method
    innerloop sweep work DIR                             # as many workers as there are cores
    python benchmarks/family.py publish-trials DIR       # results/family/trials.json
    python benchmarks/family.py plan FINAL               # each method's best trial, four settings
    innerloop sweep work FINAL/5w5s-s0                   # and the others that are there
    python benchmarks/family.py publish FINAL            # 600 test episodes of every run
    python benchmarks/family.py record                   # comparisons, and the package's rows

`record` takes the seconds of `family_cost.py`, which measures them on an idle machine.

The protocol is in `family_protocol.py`. Everything goes on where it was, if it is stopped; and what
is published is not trained again, so that the trainings can be shared out over days and machines.
"""

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from family_protocol import (
    BESIDE,
    BUDGET,
    EPISODES,
    LONGER,
    OTHER_SCALES,
    OUTER_RATES,
    SCALED,
    SEEDS,
    SHAPES,
    TRIAL_BUDGET,
    TRIAL_EPISODES,
    TRIAL_SHAPE,
    TRIALS,
    UNTRAINED,
    VALIDATION_EPISODES,
    VALIDATIONS,
    fixed,
    length,
    validations,
)
from family_tables import cost, solver
from publish import without_places

from innerloop.analysis.compared import ComparedRow, LearningCurve
from innerloop.analysis.comparison import Comparison, results
from innerloop.analysis.sweep import tables
from innerloop.core.files import json_text, read_json, write_atomic
from innerloop.methods.catalogue import settings_of
from innerloop.methods.measured import FILE
from innerloop.runs.directory import RunDirectory
from innerloop.runs.sweeps.directory import SweepDirectory

RESULTS = Path(__file__).parent / "results" / "family"
TRIALS_FILE = RESULTS / "trials.json"
SPLIT = "1100-100-423"
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


def publish_trials(folder: Path) -> None:
    """Write what every trial reached, the best of each method first."""
    sweep = SweepDirectory(folder)
    if not sweep.done():
        raise SystemExit(f"{folder} has no trial that is done: innerloop sweep work {folder}")
    (table,) = tables(sweep)
    rows = []
    for trial in table.trials:
        config = sweep.config(trial.run)
        varied = {name for of in TRIALS[config.method] for name in of}
        flat = config.flat()
        names = ["meta_steps", *sorted(varied | {"outer_lr"})]
        row = {"method": config.method, "settings": {name: flat[name] for name in names}}
        measured = ("query_accuracy", "query_accuracy_ci95", "batch_norm")
        rows.append(row | {name: getattr(trial.row, name) for name in measured})
    rows.sort(key=lambda row: list(TRIALS).index(row["method"]))
    protocol = dataclasses.asdict(table.protocol) | {"image_passes": TRIAL_BUDGET}
    machine = RunDirectory(sweep.run(table.trials[0].run)).machine
    result = {"protocol": protocol, "machine": machine, "trials": rows}
    write_atomic(TRIALS_FILE, json_text(result, indent=1) + "\n")


def chosen() -> dict[str, dict[str, Any]]:
    """What each method's best trial varied, by the trials that are published."""
    best: dict[str, dict[str, Any]] = {}
    for row in read_json(TRIALS_FILE)["trials"]:
        settings = {name: value for name, value in row["settings"].items() if name != "meta_steps"}
        best.setdefault(row["method"], settings)
    return best


def plan_trainings(folder: Path) -> None:
    """Plan what each method's best trial is trained with, in its whole length, on all settings.

    A training that is published already is left out; what is planned there already stays.
    """
    for shape, seeds in SEEDS.items():
        for seed in seeds:
            plan_setting(folder, shape, shape, seed, lengths(shape), chosen())
    shape, seed = UNTRAINED
    fewer = {method: LONGER for method, steps in lengths(shape).items() if steps < LONGER}
    plan_setting(folder, BESIDE, shape, seed, fewer, chosen())
    scaled = {
        method: chosen()[method] | {"feature_scale": of} for method, of in OTHER_SCALES.items()
    }
    for shape, name in SCALED.items():
        steps = {method: lengths(shape)[method] for method in scaled}
        plan_setting(folder, name, shape, 0, steps, scaled)

    if not folder.is_dir():
        print(f"Every training is published in {RESULTS}: move that folder away to train anew.")


def lengths(shape: str) -> dict[str, int]:
    """Each method's outer steps in a setting."""
    return {method: length(method, shape, BUDGET, of) for method, of in chosen().items()}


def plan_setting(
    folder: Path,
    name: str,
    shape: str,
    seed: int,
    steps: dict[str, int],
    settings: dict[str, dict[str, Any]],
) -> None:
    """Plan the trainings of some methods, of so many outer steps each, under a name."""
    target = folder / f"{name}-s{seed}"
    if target.is_dir():
        return
    methods = {}
    for method, count in steps.items():
        if not is_whole(published(name, method, seed)):
            of_length = {"meta_steps": count} | validations(count, VALIDATIONS)
            methods[method] = {"settings": fixed(shape) | settings[method] | of_length}
    if methods:
        plan({"split": SPLIT}, [seed], VALIDATION_EPISODES, methods, target)


def published(name: str, method: str, seed: int) -> Path:
    """The folder of a training's results; the name is a setting, or of `BESIDE` and `SCALED`."""
    return RESULTS / name / f"{method}-s{seed}"


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


def publish(folder: Path) -> None:
    """Evaluate every run that is done on the test classes, once, and keep what it reached.

    Of one seed of one setting the initial weights are evaluated too.
    """
    if not folder.is_dir():
        raise SystemExit(f"{folder} is not there: plan trainings and work on them first.")
    for name, run in runs_of(folder):
        seed = run.config.training.seed
        target = published(name, run.config.method, seed)
        asked: dict[str, list[str]] = {"own": []}
        if (name, seed) == UNTRAINED:
            asked["own-untrained"] = ["--untrained"]
        if asked.keys() <= evaluated(target):
            continue
        for adaptation, flag in asked.items():
            # The run's own, since all of them are kept anew.
            if adaptation not in evaluated(run.path):
                evaluate = ["evaluate", str(run.path), "--part", "test"]
                evaluate += ["--episodes", str(EPISODES), *flag]
                subprocess.run([*INNERLOOP, *evaluate], check=True)
        keep(run, target)


def evaluated(folder: Path) -> set[str]:
    """Which evaluations on the test classes a run or what is kept of it has."""
    if not is_whole(folder):
        return set()
    rows = RunDirectory(folder).evaluations()
    return {row.adaptation for row in rows if (row.part, row.episodes) == ("test", EPISODES)}


def is_whole(folder: Path) -> bool:
    """Whether a folder of results is there."""
    return (folder / "config.json").is_file()


def runs_of(folder: Path) -> Iterator[tuple[str, RunDirectory]]:
    """All runs of the sweeps that are done, each with its setting, or a name beside them."""
    beside = {BESIDE: [UNTRAINED[1]]} | {name: [0] for name in SCALED.values()}
    for name, seeds in (SEEDS | beside).items():
        for seed in seeds:
            path = folder / f"{name}-s{seed}"
            if path.is_dir():
                sweep = SweepDirectory(path)
                for run in sorted(sweep.done()):
                    yield name, RunDirectory(sweep.run(run))


def keep(run: RunDirectory, target: Path) -> None:
    """Keep of a run its settings, where it was trained, its validations and its evaluations.

    Its folder appears once it is whole, in the place of one that is there.
    """
    folder = target.with_name(f".{target.name}")
    former = target.with_name(f".{target.name}-former")
    for left_over in (folder, former):
        shutil.rmtree(left_over, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(run.path / "config.json", folder)
    write_atomic(folder / "env.json", without_places(run.path / "env.json"))
    lines = [json.dumps(record) for record in run.read_metrics("validation")]
    write_atomic(folder / "metrics.jsonl", "\n".join(lines) + "\n")
    for path in run.path.glob(f"evaluation-{SPLIT}-test-*.json"):
        shutil.copy(path, folder)
    if target.is_dir():
        target.rename(former)
    folder.rename(target)
    shutil.rmtree(former, ignore_errors=True)


def record() -> None:
    """Write a comparison on test classes of each whole setting, and the package's rows.

    Raises:
        DataError: if costs are lacking; the comparisons are written then.
    """
    whole: list[tuple[Comparison, list[RunDirectory]]] = []
    for shape in SHAPES:
        folders = [published(shape, method, seed) for method in TRIALS for seed in SEEDS[shape]]
        missing = [folder.name for folder in folders if not is_whole(folder)]
        if missing:
            print(f"{shape} is left out: it lacks {len(missing)} of {len(folders)} trainings.")
            continue
        runs = [RunDirectory(folder) for folder in sorted(folders)]
        compared = results(runs, "test", EPISODES)
        write_atomic(RESULTS / f"{shape}.json", json_text(compared.to_json(), indent=1) + "\n")
        whole.append((compared, runs))
    rows = [row for compared, runs in whole for row in measured_rows(compared, runs)]
    if len(rows) < len(read_json(FILE)["rows"]):
        raise SystemExit(f"{FILE} has more rows than the {len(rows)} of now: it is left as it is.")
    protocol = {"data": "omniglot", "split": SPLIT, "part": "test"}
    measured = protocol | {"queries": 15, "episodes": EPISODES, "rows": rows}
    write_atomic(FILE, json_text(measured, indent=1) + "\n")


def measured_rows(compared: Comparison, runs: list[RunDirectory]) -> list[dict[str, Any]]:
    """A setting's rows as `innerloop.methods.measured` has them."""
    curves = {curve.run: curve for curve in compared.learning_curves}
    by_name = {run.path.name: run for run in runs}
    return [measured_row(row, curves[row.runs[0]], by_name[row.runs[0]]) for row in compared.rows]


def measured_row(row: ComparedRow, curve: LearningCurve, first: RunDirectory) -> dict[str, Any]:
    """A row, with the training of its first seed."""
    usual = settings_of(row.method)
    # What computed it is another's machine: a command says what, not where.
    config = dataclasses.replace(first.config, machine=usual.machine).flat()
    changed = {name: value for name, value in config.items() if value != usual.flat()[name]}
    of_training = cost(f"{row.ways}w{row.shots}s", row.method)
    return {
        "method": row.method,
        "ways": row.ways,
        "shots": row.shots,
        "training_seeds": row.training_seeds,
        "batch_norm": row.batch_norm,
        "query_accuracy": row.query_accuracy,
        "query_accuracy_ci95": row.query_accuracy_ci95,
        "covers": row.covers,
        "seconds": of_training["seconds"],
        "image_passes": curve.image_passes[-1],
        "command": f"innerloop train {row.method} {flags(changed)}",
        "innerloop": first.environment.innerloop,
        "processor": of_training["processor"],
        "variant": solver(row.method),
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
    RESULTS.mkdir(parents=True, exist_ok=True)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True, dest="command")
    does = {
        "plan-trials": plan_trials,
        "publish-trials": publish_trials,
        "plan": plan_trainings,
        "publish": publish,
        "record": record,
    }
    for name, function in does.items():
        command = commands.add_parser(name)
        if function is not record:
            command.add_argument("folder", type=Path)
    options = vars(parser.parse_args())
    does[options.pop("command")](**options)


if __name__ == "__main__":
    main()
