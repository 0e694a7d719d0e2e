"""Train and measure the cells of one part of the stability study that have no result yet.

python benchmarks/stability/run.py S1

Type it again after an interruption; start it twice to use two cores: a cell is taken by one process
at a time.
"""

import argparse
import json
import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from grid import PARTS, Cell, cells
from torch import Tensor
from torch.nn import functional as F

from innerloop.analysis.explanation.formulas import safe_rates
from innerloop.core.claims import claim
from innerloop.core.errors import NonFiniteError
from innerloop.core.files import json_text, write_atomic
from innerloop.core.intervals import mean_and_interval
from innerloop.experiments.environment import environment
from innerloop.experiments.evaluation import evaluate
from innerloop.experiments.experiment import Experiment, prepare
from innerloop.experiments.training import train
from innerloop.methods.maml.learner import MAML
from innerloop.methods.mamlpp.learner import MAMLpp
from innerloop.runs.directory import RunDirectory
from innerloop.runs.weights import load_weights

RESULTS = Path(__file__).parent / "results"
TEST_STEPS, TEST_EPISODES, GRADIENT_EPISODES = 20, 60, 8


def run_cell(cell: Cell, runs: Path, results: Path) -> None:
    """Train a cell, or go on with it, measure what came out, and write its result."""
    path = runs / cell.name
    experiment = prepare(cell.config)
    if path.exists():
        run = RunDirectory(path)
        if run.config != experiment.config:
            raise SystemExit(
                f"{path} was started with other settings than the grid has; remove it."
            )
    else:
        run = RunDirectory.create(experiment.config, environment(experiment), path)
    failure = train_timed(experiment, run)
    result = {"part": cell.part, "arm": cell.arm, "seed": cell.seed, "failure": failure} | curve(
        run
    )
    if failure is None:
        learner = trained_learner(experiment, run)
        result |= measure(experiment, learner)
        if cell.final_episodes:
            result["final"] = final_accuracy(experiment, learner, cell.final_episodes)
    result["config"] = json.loads(run.config.to_json())
    recorded = run.environment.recorded()
    result["environment"] = {
        key: recorded[key]
        for key in ("innerloop", "torch", "git", "processor", "threads", "data_fingerprint")
    }
    write_atomic(results / f"{cell.name}.json", json_text(result) + "\n")


def train_timed(experiment: Experiment, run: RunDirectory) -> str | None:
    """Train to the end, noting processor seconds per outer step; returns why it failed, if so."""
    with open(run.path / "seconds.jsonl", "a") as file:
        before = time.process_time()

        def on_step(step: int, record: dict[str, Any]) -> None:
            nonlocal before
            now = time.process_time()
            if record["kind"] == "train":
                file.write(json.dumps([step, round(now - before, 4)]) + "\n")
                file.flush()
            before = now

        if run.status.state == "finished":
            return None
        try:
            train(experiment, run, resume=True, say=print, on_step=on_step)
        except NonFiniteError as error:
            return str(error)
    return None


def curve(run: RunDirectory) -> dict[str, Any]:
    """What the training recorded: validation curve, each outer step's loss and gradient norm."""
    validations, steps = run.read_metrics("validation"), run.read_metrics("train")
    seconds = dict(
        json.loads(line) for line in (run.path / "seconds.jsonl").read_text().splitlines()
    )
    return {
        "steps": [record["step"] for record in validations],
        "accuracy": [record["query_accuracy"] for record in validations],
        "accuracy_ci95": [record["query_accuracy_ci95"] for record in validations],
        "accuracy_before": [record["query_accuracy_before"] for record in validations],
        "loss": [record["query_loss"] for record in validations],
        "diagnostics": [record.get("diagnostics") for record in validations],
        "validation_episodes": run.config.training.validation_episodes,
        "training_loss": [_short(record["loss"]) for record in steps],
        "gradient_norm": [_short(record["gradient_norm"]) for record in steps],
        "processor_seconds": [seconds.get(record["step"]) for record in steps],
    }


def trained_learner(experiment: Experiment, run: RunDirectory) -> MAML:
    """The learner with the run's final weights."""
    learner = experiment.build_learner()
    assert isinstance(learner, MAML)
    learner.load_state_dict(load_weights(run.weights_path, learner.state_dict()))
    return learner


def measure(experiment: Experiment, learner: MAML) -> dict[str, Any]:
    """What the protocol measures of every training once, at the final weights."""
    sampler, steps = experiment.evaluation_sampler("val"), experiment.config.own.inner_steps
    (tested,) = evaluate(
        learner,
        sampler,
        episodes=TEST_EPISODES,
        steps=steps,
        extra_steps=TEST_STEPS - steps,
        batch_norms=("transductive",),
        split=experiment.split.name,
        part="val",
        origin=experiment.origin(),
    )
    per_step = [mean_and_interval(column) for column in tested.query_accuracy.T]
    support = tested.support_loss[:, : steps + 1]
    return {
        "test": {
            "episodes": TEST_EPISODES,
            "accuracy_per_step": [mean for mean, _ in per_step],
            "accuracy_per_step_ci95": [half for _, half in per_step],
            "support_loss_rises": float((support[:, 1:] > support[:, :-1]).any(axis=1).mean()),
        },
        "gradient_cosines": gradient_cosines(learner, experiment),
        "head_rate_over_safe": head_rate_over_safe(learner, experiment),
    }


def final_accuracy(experiment: Experiment, learner: MAML, episodes: int) -> dict[str, Any]:
    """Query accuracy of every one of many episodes, after the inner steps of the training."""
    steps = experiment.config.own.inner_steps
    (evaluation,) = evaluate(
        learner,
        experiment.evaluation_sampler("val"),
        episodes=episodes,
        steps=steps,
        batch_norms=("transductive",),
        split=experiment.split.name,
        part="val",
        origin=experiment.origin(),
    )
    accuracy = evaluation.query_accuracy[:, steps]
    mean, half = mean_and_interval(accuracy)
    return {
        "episodes": episodes,
        "accuracy": mean,
        "accuracy_ci95": half,
        "each": [_short(a) for a in accuracy],
    }


def gradient_cosines(learner: MAML, experiment: Experiment) -> list[float]:
    """Cosine between first- and second-order meta-gradient with respect to θ, on 8 episodes each.

    Of the query loss after the last inner step; at the final weights.
    """
    sampler, theta = experiment.evaluation_sampler("val"), list(learner.params.values())
    cosines = []
    for number in range(GRADIENT_EPISODES):
        episode = sampler.batch(number, 1)
        flat: list[Tensor] = []
        for first_order in (True, False):
            learner.begin_outer_step(999, 1000)  # the schedules' end: the last loss alone
            learner.first_order = first_order
            loss, _ = learner.meta_loss(episode)
            gradients = torch.autograd.grad(loss, theta, allow_unused=True, materialize_grads=True)
            flat.append(torch.cat([gradient.flatten() for gradient in gradients]))
        cosines.append(F.cosine_similarity(*flat, dim=0).item())
    return cosines


def head_rate_over_safe(learner: MAML, experiment: Experiment) -> list[float]:
    """The head's first inner rate over its safe one (`safe_rates`), per test episode, at φ_0."""
    head = learner.model.get_submodule("head")
    seen: list[Tensor] = []
    hook = head.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach()))
    rate = learner.inner_lr
    if isinstance(learner, MAMLpp) and "head" in learner.rates:
        rate = learner.rates["head"][0].item()
    try:
        for number in range(TEST_EPISODES):
            learner.adapt(experiment.evaluation_sampler("val").batch(number, 1).support, steps=0)
    finally:
        hook.remove()
    return [_short(rate / safe.item()) for features in seen for safe in safe_rates(features[None])]


def _short(value: float | None) -> Any:
    """Four digits, enough for a figure; what is not finite stays so and becomes null in JSON."""
    return value if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/stability"), help="where the run directories go"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    for folder in (options.runs, options.out):
        folder.mkdir(parents=True, exist_ok=True)
    for cell in cells(options.part):
        with claim(options.runs / f".{cell.name}.lock") as ours:
            if not ours or (options.out / f"{cell.name}.json").exists():
                continue
            started = time.monotonic()
            run_cell(cell, options.runs, options.out)
            print(f"{cell.name}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
