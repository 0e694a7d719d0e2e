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

from innerloop.core.errors import ConfigError, did_you_mean
from innerloop.core.files import json_text, write_atomic
from innerloop.core.seeding import EVALUATION_SEED
from innerloop.core.stability import DIVERGED, diverged
from innerloop.data import load_dataset
from innerloop.data.episodes import EpisodeSampler
from innerloop.data.images import FewShotDataset
from innerloop.data.minibatches import ImageSampler
from innerloop.data.splits import DEFAULT_SPLITS, Split, find_split
from innerloop.experiments.evaluation import Evaluation, evaluate
from innerloop.experiments.training import Stop, Training, build_learner
from innerloop.methods.base import Learner
from innerloop.methods.variants import Variant
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.runs.directory import RunDirectory
from innerloop.runs.results import Environment
from innerloop.runs.weights import load_weights
from innerloop.settings.run import RunConfig

USUAL_EPISODES = 600
"""Episodes of an evaluation whose file name does not say how many they are."""
OWN = Variant()
"""Adaptation in the method's own way."""


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

    @property
    def _trains_on_images(self) -> bool:
        return self.config.own.trains_on == "images"

    def training_sampler(self) -> EpisodeSampler | ImageSampler:
        """The stream of what the method trains on: episodes, or images of all training classes."""
        if self._trains_on_images:
            return self._image_sampler()
        return self._sampler("train", {}, self.config.training.seed, self.config.data.rotations)

    def _image_sampler(self) -> ImageSampler:
        return ImageSampler(
            self.dataset,
            self.dataset.class_indices(self.split.part("train")),
            seed=self.config.training.seed,
            stream_name="images/train",
            rotations=self.config.data.rotations,
            rotations_as_classes=self.config.data.rotations
            and self.config.own.rotations_as_classes,
        )

    def evaluation_sampler(self, part: str, **shape: int) -> EpisodeSampler:
        """The fixed stream of a part; ``ways``, ``shots``, ``queries`` if other than training's."""
        return self._sampler(part, shape, EVALUATION_SEED, False)

    def disjoint_sampler(self, part: str) -> EpisodeSampler:
        """Episodes of a part in which no class comes twice."""
        return self._sampler(part, {}, EVALUATION_SEED, False, disjoint=True)

    def _sampler(
        self, part: str, shape: dict[str, int], seed: int, rotations: bool, disjoint: bool = False
    ) -> EpisodeSampler:
        config = self.config
        counts = {
            "ways": config.episode.ways,
            "shots": config.episode.shots,
            "queries": config.episode.queries,
        } | shape
        return EpisodeSampler(
            self.dataset,
            self.dataset.class_indices(self.split.part(part)),
            **counts,
            seed=seed,
            stream_name=f"episodes/{part}",
            rotations=rotations,
            disjoint=disjoint,
        )

    def describe(self) -> str:
        """What will be trained, in a few words."""
        config = self.config
        unit = config.own.batch_in_words
        if self._trains_on_images:
            sampler = self._image_sampler()
            epochs = config.training.meta_steps * config.own.batch / len(sampler)
            unit = f"{config.own.batch} images of {sampler.labels} classes ({epochs:.1f} epochs)"
        return (
            f"{config.method} on {config.data.name}, split {config.data.split}, "
            f"{config.training.meta_steps} outer steps of {unit}"
        )

    def protocol(self, part: str, variant: Variant = OWN) -> dict[str, Any]:
        """What an accuracy of this run must not be quoted without, besides the episodes' shape."""
        return {
            "method": self.config.method,
            "split": self.split.name,
            "part": part,
            "training_seed": self.config.training.seed,
            "adaptation": variant.describe(),
            "inner_lr": variant.rate(self.config),
            "learned_rates": self.config.own.learns_rates and variant.describe() == OWN.describe(),
            "training_rotations": self.config.data.rotations,
            "averaging": self.config.training.averaging,
            "data_fingerprint": self.dataset.fingerprint,
        }

    def refuse_what_does_not_fit(self) -> None:
        """Build once what a training needs, to refuse wrong settings before anything is written."""
        for part in ("train", "val"):
            self.evaluation_sampler(part)
        self.build_learner()

    @torch.no_grad()
    def gather_statistics(self, learner: Learner, batches: int = 100) -> None:
        """Fill an untrained learner's running statistics, if any, from its first mini-batches."""
        if self._trains_on_images:
            sampler, size = self._image_sampler(), self.config.own.batch
            for number in range(batches):
                learner.meta_loss(sampler.batch(number * size, size).to(self.config.machine.device))

    def build_learner(self) -> Learner:
        """The method with its initial weights."""
        labels = self._image_sampler().labels if self._trains_on_images else 0
        return build_learner(self.config, self.dataset.image_shape[0], training_labels=labels)


def prepare(
    config: RunConfig,
    *,
    data_dir: Path | None = None,
    dataset: FewShotDataset | None = None,
    say: Callable[[str], None] = print,
) -> Experiment:
    """Resolve what is ``auto``, load the data, and set the threads.

    Args:
        config: the settings asked for.
        data_dir: where Omniglot's archives are.
        dataset: the images, if they are loaded already.
        say: told in sentences what a user should know.

    Raises:
        ConfigError: if settings do not fit the data or the device.
        DataError: if the data set is missing or damaged.
    """
    device = _device(config.machine.device)
    if config.machine.threads:
        torch.set_num_threads(config.machine.threads)
    if dataset is None:
        dataset = load_dataset(
            config.data.name, size=config.data.image_size, data_dir=data_dir, say=say
        )
    split = find_split(
        DEFAULT_SPLITS[dataset.name] if config.data.split == "auto" else config.data.split, dataset
    )
    resolved = config.replace(
        data=dataset.name,
        split=split.name,
        device=device,
        threads=torch.get_num_threads(),
        episodes_per_chunk=config.machine.episodes_per_chunk
        or (1 if device == "cpu" else config.own.batch),
    )
    return Experiment(resolved, dataset, split)


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise ConfigError(
            f"There is no device {name!r}.{did_you_mean(name, ['auto', 'cpu', 'cuda', 'mps'])}"
        )
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"Device {name!r} cannot be used on this machine: choose --device cpu or auto."
        ) from error
    return name


def environment(experiment: Experiment) -> Environment:
    """What ``env.json`` records: versions, machine, data, and the state of the source."""
    import innerloop

    return Environment(
        innerloop=innerloop.__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        platform=platform.platform(),
        processor=_processor(),
        trains_on=experiment.config.own.trains_on,
        device=experiment.config.machine.device,
        threads=experiment.config.machine.threads,
        git=_git_state(),
        data_source=experiment.dataset.source,
        data_fingerprint=experiment.dataset.fingerprint,
        split_digest=experiment.split.digest,
        command=" ".join(["innerloop", *sys.argv[1:]]),
    )


def _processor() -> str:
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()}, {capability}"


def _git_state() -> str:
    """Commit of the source, with ``-dirty`` where it was changed; empty outside a checkout."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
    ]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def validator(experiment: Experiment) -> Callable[[Learner], dict[str, Any]]:
    """The validation of a training: its fixed episodes, and what is recorded of them."""
    sampler, config = experiment.evaluation_sampler("val"), experiment.config

    def validate(learner: Learner) -> dict[str, Any]:
        (evaluation,) = evaluate(
            learner,
            sampler,
            episodes=config.training.validation_episodes,
            steps=config.own.adaptation_steps,
            batch_norms=learner.batch_norm_modes[:1],
            protocol=experiment.protocol("val"),
            device=config.machine.device,
            episodes_per_chunk=config.machine.episodes_per_chunk,
        )
        record = evaluation.to_json(step=config.own.adaptation_steps)
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
    training = Training(
        experiment.build_learner(),
        experiment.training_sampler(),
        run,
        experiment.dataset.fingerprint,
    )
    with run.locked():
        if resume:
            for warning in training.resume():
                say(warning)
        stop = training.train(validator(experiment), **hooks)
        if stop is None:
            save_episode(experiment, run, training.learner)
            # Only now: a run that is killed before this has something left for `resume` to do.
            run.set_status("finished", training.step, divergence(run))
    return stop


def divergence(run: RunDirectory) -> str:
    """A sentence if the run's validation accuracy fell and did not come back; else nothing."""
    records = run.read_metrics("validation")
    curve = [record["query_accuracy"] for record in records]
    return DIVERGED if diverged([record["step"] for record in records], curve) else ""


def open_run(
    run: RunDirectory,
    *,
    data_dir: Path | None = None,
    untrained: bool = False,
    say: Callable[[str], None] = print,
) -> tuple[Experiment, Learner]:
    """The experiment and trained learner of a finished run; or the learner with initial weights.

    Raises:
        ConfigError: if the run is unfinished or the data set is another than it was trained on.
        DataError: if its weights are damaged.
    """
    run.refuse_unfinished()
    experiment = prepare(run.config, data_dir=data_dir, say=say)
    if experiment.dataset.fingerprint != run.environment.data_fingerprint:
        raise ConfigError(f"{run.path} was trained on another data set: data_fingerprint differs.")
    learner = experiment.build_learner()
    if untrained:
        experiment.gather_statistics(learner)
    else:
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
    variant: Variant = OWN,
    on_episodes: Callable[[int], None] = lambda done: None,
    **shape: int,
) -> list[Evaluation]:
    """Evaluate a trained learner on a part's fixed episodes, from 0 to twice ``inner_steps`` steps.

    With a ``variant`` its network is adapted in another way; the rows name it as ``adaptation``.
    """
    return evaluate(
        variant.of(learner, experiment.config),
        experiment.evaluation_sampler(part, **shape),
        episodes=episodes,
        steps=inner_steps,
        extra_steps=inner_steps,
        batch_norms=batch_norms,
        protocol=experiment.protocol(part, variant),
        device=experiment.config.machine.device,
        episodes_per_chunk=experiment.config.machine.episodes_per_chunk,
        on_episodes=on_episodes,
    )


def save_evaluation(run: RunDirectory, evaluation: Evaluation, *, inner_steps: int) -> Path:
    """Write one evaluation, every episode's accuracy included, into the run directory."""
    row = evaluation.to_json(step=inner_steps)
    name = (
        "evaluation-{split}-{part}-{ways}w{shots}s{queries}q-{inner_steps}steps-{batch_norm}"
    ).format(**row)
    if (row["adaptation"], row["inner_lr"]) != (OWN.describe(), run.config.own.adaptation_rate):
        name += f"-{row['adaptation']}" + (
            "" if row["inner_lr"] is None else f"-at-{row['inner_lr']:g}"
        )
    if row["episodes"] != USUAL_EPISODES:  # so that a shorter evaluation takes nothing away
        name += f"-{row['episodes']}episodes"
    path = run.path / f"{name}.json"
    write_atomic(path, json_text(row, indent=1) + "\n")
    return path


def save_episode(experiment: Experiment, run: RunDirectory, learner: Learner) -> None:
    """Write the first validation episode with predictions to ``episode.npz``, for the figure."""
    batch = experiment.evaluation_sampler("val").batch(0, 1)
    moved = batch.to(experiment.config.machine.device)
    adaptation = learner.adapt(moved.support, steps=experiment.config.own.adaptation_steps)
    with torch.no_grad():
        logits = learner.predict(adaptation, moved.query.images)
    pixels = [
        (images[0] * 255).round().byte().numpy()
        for images in (batch.support.images, batch.query.images)
    ]
    content = io.BytesIO()
    np.savez_compressed(
        content,
        support=pixels[0],
        query=pixels[1],
        labels=batch.query.labels[0].numpy(),
        predictions=logits[0].argmax(dim=-1).cpu().numpy(),
        class_names=np.array(
            [experiment.dataset.class_names[index] for index in batch.classes[0].tolist()]
        ),
    )
    write_atomic(run.path / "episode.npz", content.getvalue())
