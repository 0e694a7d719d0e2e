"""A run put together: data, split, episodes, learner and directory, from the settings alone."""

import io
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from innerloop.config import RunConfig, did_you_mean, json_text
from innerloop.data import load_dataset
from innerloop.data.images import FewShotDataset
from innerloop.data.splits import DEFAULT_SPLITS, Split, find_split
from innerloop.episodes import EpisodeSampler
from innerloop.errors import ConfigError
from innerloop.evaluation import Evaluation, evaluate
from innerloop.learners.base import Learner
from innerloop.models.batch_norm import BatchNormMode
from innerloop.runs import RunDirectory, write_atomic
from innerloop.training import Stop, Training, build_learner
from innerloop.weights import load_weights

EVALUATION_SEED = 0
"""Seed of validation and test episodes: the same for every run, so that comparisons are paired."""


@dataclass(frozen=True)
class Experiment:
    """Resolved settings with the data they speak of.

    Attributes:
        config: nothing is ``auto`` any more.
        dataset: the images.
        split: which classes are whose.
    """

    config: RunConfig
    dataset: FewShotDataset
    split: Split

    def training_sampler(self) -> EpisodeSampler:
        """The stream of training episodes."""
        return self._sampler("train", {}, self.config.seed, self.config.rotations)

    def evaluation_sampler(self, part: str, **shape: int) -> EpisodeSampler:
        """The fixed stream of a part; ``ways``, ``shots`` and ``queries`` where they differ from training."""
        return self._sampler(part, shape, EVALUATION_SEED, False)

    def _sampler(self, part: str, shape: dict[str, int], seed: int, rotations: bool) -> EpisodeSampler:
        config = self.config
        counts = {"ways": config.ways, "shots": config.shots, "queries": config.queries} | shape
        return EpisodeSampler(
            self.dataset,
            self.dataset.class_indices(self.split.part(part)),
            **counts,
            seed=seed,
            stream_name=f"episodes/{part}",
            rotations=rotations,
        )

    def protocol(self, part: str) -> dict[str, Any]:
        """What an accuracy of this run must not be quoted without, besides the episodes' shape."""
        return {
            "method": self.config.method,
            "split": self.split.name,
            "part": part,
            "training_seed": self.config.seed,
            "training_rotations": self.config.rotations,
            "averaging": self.config.averaging,
            "data_fingerprint": self.dataset.fingerprint,
        }

    def refuse_what_does_not_fit(self) -> None:
        """Build once what a training needs, so that wrong settings are refused before anything is written."""
        for part in ("train", "val"):
            self.evaluation_sampler(part)
        self.build_learner()

    def build_learner(self) -> Learner:
        """The method with its initial weights."""
        return build_learner(self.config, self.dataset.image_shape[0])


def prepare(config: RunConfig, *, data_dir: Path | None = None, say: Callable[[str], None] = print) -> Experiment:
    """Resolve what is ``auto``, load the data, and set the threads.

    Args:
        config: the settings asked for.
        data_dir: where Omniglot's archives are.
        say: told in sentences what a user should know.

    Raises:
        ConfigError: if settings do not fit the data or the device.
        DataError: if the data set is missing or damaged.
    """
    device = _device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    dataset = load_dataset(config.data, size=config.image_size, data_dir=data_dir, say=say)
    split = find_split(DEFAULT_SPLITS[dataset.name] if config.split == "auto" else config.split, dataset)
    resolved = config.replace(
        data=dataset.name,
        split=split.name,
        device=device,
        threads=torch.get_num_threads(),
        episodes_per_chunk=config.episodes_per_chunk or (1 if device == "cpu" else config.meta_batch_size),
    )
    return Experiment(resolved, dataset, split)


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise ConfigError(f"There is no device {name!r}.{did_you_mean(name, ['auto', 'cpu', 'cuda', 'mps'])}")
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"Device {name!r} cannot be used on this machine: choose --device cpu or auto.") from error
    return name


def environment(experiment: Experiment) -> dict[str, Any]:
    """What ``env.json`` records: versions, machine, data, and the state of the source."""
    import innerloop

    return {
        "innerloop": innerloop.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": _processor(),
        "device": experiment.config.device,
        "threads": experiment.config.threads,
        "git": _git_state(),
        "data_source": experiment.dataset.source,
        "data_fingerprint": experiment.dataset.fingerprint,
        "split_digest": experiment.split.digest,
        "command": " ".join(["innerloop", *sys.argv[1:]]),
    }


def _processor() -> str:
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()}, {capability}"


def _git_state() -> str:
    """Commit of the source, with ``-dirty`` where it was changed; empty outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def validator(experiment: Experiment) -> Callable[[Learner], dict[str, Any]]:
    """The validation of a training: its fixed episodes, and what is recorded of them."""
    sampler, config = experiment.evaluation_sampler("val"), experiment.config

    def validate(learner: Learner) -> dict[str, Any]:
        (evaluation,) = evaluate(
            learner,
            sampler,
            episodes=config.validation_episodes,
            steps=config.inner_steps,
            batch_norms=learner.batch_norm_modes[:1],
            protocol=experiment.protocol("val"),
            device=config.device,
            episodes_per_chunk=config.episodes_per_chunk,
        )
        record = evaluation.to_json(step=config.inner_steps)
        del record["query_accuracy_per_episode"]
        return record

    return validate


def train(
    experiment: Experiment,
    run: RunDirectory,
    *,
    resume: bool = False,
    say: Callable[[str], None] = print,
    **hooks: Any,
) -> Stop | None:
    """Train, or go on with, a run; `Training.train` takes the hooks and says what comes back."""
    training = Training(experiment.build_learner(), experiment.training_sampler(), run, experiment.dataset.fingerprint)
    with run.locked():
        if resume:
            for warning in training.resume():
                say(warning)
        stop = training.train(validator(experiment), **hooks)
        if stop is None:
            save_episode(experiment, run, training.learner)
            # Only now: a run that is killed before this has something left for `resume` to do.
            run.set_status("finished", training.step)
    return stop


def open_run(
    run: RunDirectory, *, data_dir: Path | None = None, say: Callable[[str], None] = print
) -> tuple[Experiment, Learner]:
    """The experiment and trained learner of a finished run.

    Raises:
        ConfigError: if the run is unfinished or the data set is another than it was trained on.
        DataError: if its weights are damaged.
    """
    if not run.weights_path.is_file():
        raise ConfigError(
            f"{run.path} has no final weights: it is not finished. Go on with: innerloop resume {run.path}"
        )
    experiment = prepare(run.config, data_dir=data_dir, say=say)
    if experiment.dataset.fingerprint != run.environment.get("data_fingerprint"):
        raise ConfigError(f"{run.path} was trained on another data set: data_fingerprint differs.")
    learner = experiment.build_learner()
    learner.load_state_dict(load_weights(run.weights_path, learner.state_dict()))
    return experiment, learner


def evaluate_run(
    experiment: Experiment,
    learner: Learner,
    *,
    part: str,
    episodes: int,
    inner_steps: int,
    batch_norms: tuple[BatchNormMode, ...],
    on_episodes: Callable[[int], None] = lambda done: None,
    **shape: int,
) -> list[Evaluation]:
    """Evaluate a trained learner on a part's fixed episodes, from 0 to twice ``inner_steps`` steps."""
    return evaluate(
        learner,
        experiment.evaluation_sampler(part, **shape),
        episodes=episodes,
        steps=inner_steps,
        extra_steps=inner_steps,
        batch_norms=batch_norms,
        protocol=experiment.protocol(part),
        device=experiment.config.device,
        episodes_per_chunk=experiment.config.episodes_per_chunk,
        on_episodes=on_episodes,
    )


def save_evaluation(run: RunDirectory, evaluation: Evaluation, *, inner_steps: int) -> Path:
    """Write one evaluation, every episode's accuracy included, into the run directory."""
    row = evaluation.to_json(step=inner_steps)
    name = "evaluation-{split}-{part}-{ways}w{shots}s{queries}q-{inner_steps}steps-{batch_norm}.json"
    path = run.path / name.format(**row)
    write_atomic(path, json_text(row, indent=1) + "\n")
    return path


def save_episode(experiment: Experiment, run: RunDirectory, learner: Learner) -> None:
    """Write the first validation episode with its predictions to ``episode.npz``, for the figure."""
    batch = experiment.evaluation_sampler("val").batch(0, 1)
    moved = batch.to(experiment.config.device)
    adaptation = learner.adapt(moved.support, steps=experiment.config.inner_steps)
    with torch.no_grad():
        logits = learner.predict(adaptation, moved.query.images)
    pixels = [(images[0] * 255).round().byte().numpy() for images in (batch.support.images, batch.query.images)]
    content = io.BytesIO()
    np.savez_compressed(
        content,
        support=pixels[0],
        query=pixels[1],
        labels=batch.query.labels[0].numpy(),
        predictions=logits[0].argmax(dim=-1).cpu().numpy(),
        class_names=np.array([experiment.dataset.class_names[index] for index in batch.classes[0].tolist()]),
    )
    write_atomic(run.path / "episode.npz", content.getvalue())
