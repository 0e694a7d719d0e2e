"""Run directories as trainings and evaluations leave them, made without training."""

import functools
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from innerloop import data
from innerloop.core.files import json_text, write_atomic
from innerloop.core.intervals import mean_and_interval
from innerloop.data import strokes
from innerloop.methods.catalogue import settings_of
from innerloop.runs.directory import RunDirectory
from innerloop.runs.results import Environment


@contextmanager
def few_strokes(drawings: int = 20) -> Iterator[None]:
    """Within it the built-in data are 100 characters, drawn once for each size of images.

    Nothing of them stays: a process keeps the data that it generated last, and would show them to
    the tests that follow.
    """
    generate = functools.cache(functools.partial(strokes.generate, 100, drawings=drawings))
    data._strokes.cache_clear()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(strokes, "generate", lambda *, size: generate(size=size))
            yield
    finally:
        data._strokes.cache_clear()


MODES = {"transfer": "running"}
FINGERPRINT = "d470ef8fac27e1cdc542b16cb8b095f69eaec310a7770220d58e26419d03b563"
"""Omniglot's, so that the committed explanation is of these runs."""
CURVES = {
    "fomaml": (0.6, 0.9, 0.97, 0.98),
    "maml": (0.6, 0.85, 0.9, 0.97),
    "mamlpp": (0.6, 0.92, 0.98, 0.985),
    "transfer": (0.6, 0.95, 0.98, 0.99),
}


def make_run(
    folder: Path,
    method: str,
    seed: int = 0,
    *,
    name: str = "",
    curve: Sequence[float] = (),
    evaluated: float | None = 0.98,
    finished: bool = True,
    **settings: Any,
) -> RunDirectory:
    """A run with a validation curve and, unless ``evaluated`` is None, 8 evaluated episodes around
    that accuracy."""
    config = settings_of(method).replace(
        data="omniglot",
        split="assignment",
        device="cpu",
        threads=1,
        episodes_per_chunk=1,
        meta_steps=30,
        seed=seed,
        **settings,
    )
    environment = Environment(
        innerloop="0.1.0",
        torch="2.13.0",
        threads=1,
        data_fingerprint=FINGERPRINT,
        split_digest="def",
        command=f"innerloop train {method} --seed {seed}",
        trains_on="images" if method == "transfer" else "episodes",
    )
    run = RunDirectory.create(config, environment, folder / (name or f"{method}-s{seed}"))
    mode, curve = MODES.get(method, "transductive"), curve or CURVES[method]
    for index, accuracy in enumerate(curve):
        run.append_metrics(_validation(10 * index, accuracy, mode, method))
        for step in range(10 * index + 1, 10 * index + 11):
            run.append_metrics(
                {
                    "step": step,
                    "kind": "train",
                    "loss": 1 / step,
                    "gradient_norm": 1 / step,
                    "elapsed_s": float(step),
                }
            )
    if finished:
        run.weights_path.write_bytes(save({f"weights of {method}": np.full(2, seed)}))
        run.set_status("finished", 30)
    if evaluated is not None:
        evaluate(run, evaluated)
    return run


def evaluate(
    run: RunDirectory, accuracy: float, *, name: str = "", **changes: Any
) -> dict[str, Any]:
    """Write an evaluation of 8 episodes."""
    config = run.config
    mode = MODES.get(config.method, "transductive")
    rng = np.random.default_rng(config.training.seed)
    drawn = accuracy + 0.01 * rng.choice([-1, 0, 1], size=8) + 0.002 * np.arange(8)
    each = np.round(np.minimum(drawn, 1.0), 6).tolist()
    mean = float(np.mean(each))
    row: dict[str, Any] = {
        "data": "omniglot",
        "data_fingerprint": FINGERPRINT,
        "split": config.data.split,
        "part": "val",
        "ways": config.episode.ways,
        "shots": config.episode.shots,
        "queries": config.episode.queries,
        "query_batches": 1,
        "rotations": False,
        "stream": "episodes/val",
        "episode_seed": 0,
        "episodes": 8,
        "method": config.method,
        "training_seed": config.training.seed,
        "adaptation": "own",
        "inner_lr": config.own.adaptation_rate,
        "inner_steps": config.own.adaptation_steps,
        "batch_norm": mode,
        "query_accuracy": mean,
        "query_accuracy_ci95": mean_and_interval(np.array(each))[1],
        "query_accuracy_before": 0.2,
        "query_accuracy_before_ci95": 0.0,
        "query_loss": 0.1,
        "support_accuracy": 0.999,
        "support_accuracy_before": 0.2,
        "support_loss": 0.01,
        "query_accuracy_per_step": [0.2, 0.8, 0.9, 0.93, 0.95, mean, *[mean] * 5],
        "query_accuracy_per_step_ci95": [0.01] * 11,
        "support_accuracy_per_step": [0.2, *[0.99] * 10],
        "query_accuracy_per_episode": each,
    } | changes
    name = (
        name
        or f"evaluation-{row['part']}-{row['shots']}s{row['queries']}q-{row['batch_norm']}.json"
    )
    write_atomic(run.path / name, json_text(row))
    return row


def _validation(step: int, accuracy: float, mode: str, method: str) -> dict[str, Any]:
    record: dict[str, Any] = {
        "step": step,
        "kind": "validation",
        "query_accuracy": accuracy,
        "query_accuracy_ci95": 0.01,
        "query_accuracy_before": 0.2,
        "query_accuracy_before_ci95": 0.0,
        "query_loss": 1.01 - accuracy,
        "support_accuracy": 0.999,
        "inner_steps": 5,
        "episodes": 30,
        "batch_norm": mode,
        "elapsed_s": float(step),
        "image_passes": 800 * step,
        "query_accuracy_per_step": [0.2, 0.5, 0.6, 0.7, 0.75, accuracy],
        "query_accuracy_per_step_ci95": [0.01] * 6,
        "support_accuracy_per_step": [0.2, 0.9, 1.0, 1.0, 1.0, 1.0],
    }
    if method == "mamlpp":
        record["diagnostics"] = {
            "learned_rates": {"blocks.0": [0.4] * 5, "head": [0.4 + 0.001 * step] * 5},
            "first_order": step < 10,
            "step_weights": [0.2] * 5 if step < 10 else [0.0] * 4 + [1.0],
            "running_var": {"blocks.0.norm": [1.0] * 5},
        }
    return record


_EXPLAINED = tempfile.TemporaryDirectory()


@functools.cache
def explanation_of_made_runs() -> Path:
    """The committed explanation, without the checksums of weights: runs made here have others."""
    published = Path(__file__).parents[1] / "benchmarks" / "results" / "explanation"
    content = json.loads((published / "explanation.json").read_text("utf-8"))
    for subject in content["subjects"]:
        del subject["weights_sha256"]
    folder = Path(_EXPLAINED.name)
    (folder / "explanation.json").write_text(json.dumps(content), "utf-8")
    return folder
