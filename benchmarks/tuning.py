"""The same trials for every method, on `background-heldout`; the best of each is what it is worth.

The rule, written before the first trial: every method has the eight combinations of two outer rates
(0.001, 0.003), two starts (PyTorch's initial weights; Kaiming's with clipping at 0.3) and two
feature scales (1, 0.3), everything else as its defaults are, training seed 0, two fifths of its
usual length. Each trial is evaluated once, on 600 fixed episodes of the held-out alphabets, in the
method's own batch-norm mode; the highest mean is chosen, of equal ones the one with fewer changes.

    python benchmarks/tuning.py RUNS [--methods fomaml maml mamlpp transfer]
    python benchmarks/tuning.py RUNS --seeds 0 1 2 3 4

Trials are run directories in the folder RUNS; one that is there is gone on with or skipped. Several
processes may share the folder if each has methods of its own. Writes
`benchmarks/results/tuning.json` of all trials that are in it.

With training seeds, what `tuning.json` has chosen is trained in its usual length from each of them,
on `assignment`, into run directories METHOD-chosen-omniglot-5w5s-sSEED of the folder.
"""

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path

from innerloop.core.files import json_text, write_atomic
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import evaluations, is_primary
from innerloop.runs.results import EvaluationRow

RESULTS = Path(__file__).parent / "results" / "tuning.json"
STEPS = {"fomaml": 400, "maml": 400, "mamlpp": 400, "transfer": 1920}
OUTER_RATES = (0.001, 0.003)
STARTS = {
    "pytorch": ["--conv-init", "pytorch", "--clip-gradient", "0"],
    "kaiming, clipped": ["--conv-init", "kaiming", "--clip-gradient", "0.3"],
}
SCALES = (1.0, 0.3)
TRIALS = list(itertools.product(OUTER_RATES, STARTS, SCALES))
EPISODES = 600


def name_of(method: str, number: int) -> str:
    """The run directory of a trial."""
    return f"tuning-{method}-{number}"


def innerloop(*arguments: str) -> None:
    """Run a command of innerloop."""
    subprocess.run([sys.executable, "-m", "innerloop", *arguments], check=True)


def run_trial(folder: Path, method: str, number: int) -> None:
    """Train and evaluate a trial, or what is left of it."""
    steps = str(STEPS[method])
    length = ["--meta-steps", steps, "--validation-every", steps, "--split", "background-heldout"]
    run(folder / name_of(method, number), method, [*length, *flags(*TRIALS[number])])


def flags(outer_lr: float, start: str, feature_scale: float) -> list[str]:
    """A trial's settings."""
    return ["--outer-lr", str(outer_lr), "--feature-scale", str(feature_scale), *STARTS[start]]


def run(path: Path, method: str, settings: list[str]) -> None:
    """Train in a run directory, or go on with it, and evaluate."""
    if path.is_dir():
        innerloop("resume", str(path))
    else:
        innerloop("train", method, *settings, "--threads", "1", "--run-dir", str(path))
    if not row_of(path):
        innerloop("evaluate", str(path), "--episodes", str(EPISODES))


def run_chosen(folder: Path, method: str, seed: int) -> None:
    """Train what was chosen for a method in its usual length."""
    trials = json.loads(RESULTS.read_text("utf-8"))["trials"]
    best = next(trial for trial in trials if trial["method"] == method)
    settings = flags(best["outer_lr"], best["start"], best["feature_scale"])
    path = folder / f"{method}-chosen-omniglot-5w5s-s{seed}"
    run(path, method, [*settings, "--seed", str(seed)])


def row_of(path: Path) -> EvaluationRow | None:
    """A trial's evaluation, once it is there."""
    if not (path / "model.safetensors").is_file():
        return None
    run = RunDirectory(path)
    rows = [row for row in evaluations(run, "val", EPISODES) if is_primary(run, row)]
    return rows[0] if rows else None


def collected(folder: Path) -> list[dict]:
    """A row for every trial that is evaluated, the best of each method first."""
    rows = []
    for method, (number, trial) in itertools.product(STEPS, enumerate(TRIALS)):
        row = row_of(folder / name_of(method, number))
        if row:
            rate, start, scale = trial
            rows.append(
                {
                    "method": method,
                    "outer_lr": rate,
                    "start": start,
                    "feature_scale": scale,
                    "outer_steps": STEPS[method],
                    "batch_norm": row.batch_norm,
                    "episodes": row.episodes,
                    "query_accuracy": row.query_accuracy,
                    "query_accuracy_ci95": row.query_accuracy_ci95,
                    "query_accuracy_per_episode": row.query_accuracy_per_episode,
                }
            )
    order = list(STEPS)
    # Sorting is stable: of equal trials the one with fewer changes stays first.
    return sorted(rows, key=lambda row: (order.index(row["method"]), -row["query_accuracy"]))


def main() -> None:
    """Run what is asked for, and collect what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--methods", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--seeds", nargs="+", type=int, help="train what was chosen from these")
    arguments = parser.parse_args()
    for seed, method in itertools.product(arguments.seeds or (), arguments.methods):
        run_chosen(arguments.runs, method, seed)
    if arguments.seeds:
        return
    for method, number in itertools.product(arguments.methods, range(len(TRIALS))):
        run_trial(arguments.runs, method, number)
        write_atomic(RESULTS, json_text({"trials": collected(arguments.runs)}, indent=1) + "\n")
    for row in json.loads(RESULTS.read_text("utf-8"))["trials"]:
        print(
            f"{row['method']:9} {100 * row['query_accuracy']:.2f} "
            f"± {100 * row['query_accuracy_ci95']:.2f} %  outer rate {row['outer_lr']:g}, "
            f"{row['start']}, features times {row['feature_scale']:g}"
        )


if __name__ == "__main__":
    main()
