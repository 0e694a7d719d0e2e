"""How long to pretrain, and on how many classes: transfer's accuracy at milestones.

One training each. Writes JSON.

python benchmarks/pretraining.py length [--epochs 64]
python benchmarks/pretraining.py classes --classes 50
"""

import argparse
import json
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from innerloop.analysis.explanation.features import frozen_features, head_accuracies
from innerloop.core.intervals import mean_and_interval
from innerloop.core.seeding import stream
from innerloop.data.splits import Split
from innerloop.experiments.experiment import Experiment, prepare
from innerloop.experiments.training import Training
from innerloop.methods.base import Learner
from innerloop.methods.catalogue import settings_of
from innerloop.runs.directory import RunDirectory
from innerloop.runs.results import Environment

HEADS = {
    "5 steps at 0.4": ("gradient", 5),
    "converged": ("logistic", 1),
    "cosine prototypes": ("cosine", 1),
}


def fewer_classes(experiment: Experiment, count: int, seed: int) -> Experiment:
    """The same experiment with ``count`` of its training classes, drawn by the seed."""
    split = experiment.split
    names = split.part("train")
    chosen = sorted(
        stream(seed, "benchmarks/classes").choice(len(names), count, replace=False).tolist()
    )
    parts = {part: split.part(part) for part in ("train", "val")}
    parts["train"] = tuple(names[index] for index in chosen)
    return replace(experiment, split=Split(split.name, parts))


def accuracies(experiment: Experiment, learner: Learner, episodes: int) -> dict[str, Any]:
    """Mean and interval of each head on the frozen features, over fixed validation episodes."""
    sampler = experiment.evaluation_sampler("val")
    features = frozen_features(learner, sampler, ("running",), episodes=episodes)["running"]
    row = {}
    for name, (head, steps) in HEADS.items():
        mean, half = mean_and_interval(head_accuracies(features, head=head, at=(steps,))[steps])  # type: ignore[arg-type]
        row[name] = {"mean": mean, "ci95": half}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("length", "classes"))
    parser.add_argument(
        "--epochs",
        type=int,
        default=64,
        help="of length: the last milestone; 1, 2, 4, ... before it",
    )
    parser.add_argument(
        "--classes", type=int, default=50, help="of classes: how many of the training classes"
    )
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="where the run directory goes"
    )
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    config = settings_of("transfer").replace(
        seed=options.seed, threads=options.threads, validation_every=10_000_000
    )
    experiment = prepare(config)
    epoch = round(len(experiment.training_sampler()) / config.own.batch_size)  # type: ignore[arg-type]
    if options.what == "length":
        milestones = [epoch * 2**power for power in range(int(np.log2(options.epochs)) + 1)]
        name = "length"
    else:
        experiment = fewer_classes(experiment, options.classes, options.seed)
        milestones, name = [config.training.meta_steps], f"classes-{options.classes}"
    config = experiment.config.replace(meta_steps=milestones[-1], checkpoint_every=10_000_000)
    experiment = replace(experiment, config=config)
    training = Training(
        experiment.build_learner(),
        experiment.training_sampler(),
        RunDirectory.create(config, Environment(), options.runs / f"pretraining-{name}"),
        experiment.dataset.fingerprint,
    )
    rows = []

    def at_milestones(step: int, record: dict[str, Any]) -> None:
        if record["kind"] == "train" and step in milestones and training.average:
            with training.average.in_place(training.learner):
                found = accuracies(experiment, training.learner, options.episodes)
            rows.append(
                {
                    "steps": step,
                    "epochs_of_all_classes": round(step / epoch, 2),
                    "image_passes": step * config.own.batch_size,
                    "loss": record["loss"],
                }
                | found
            )
            print(json.dumps(rows[-1]), flush=True)

    training.train(lambda learner: {}, on_step=at_milestones)
    result = {
        "what": (
            f"transfer on {experiment.dataset.name}, split {experiment.split.name}, part val, "
            f"{config.episode.ways}-way {config.episode.shots}-shot, {config.episode.queries} "
            f"queries, {options.episodes} episodes, seed {options.seed}, batch norm running; "
            "heads on frozen features"
        ),
        "command": "python benchmarks/pretraining.py "
        + (
            f"length --epochs {options.epochs}"
            if name == "length"
            else f"classes --classes {options.classes}"
        ),
        "training_classes": len(experiment.split.part("train")),
        "torch": torch.__version__,
        "machine": (
            f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, "
            f"{config.machine.threads} threads"
        ),
        "rows": rows,
    }
    out = options.out or Path("benchmarks/results") / f"pretraining-{name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
