"""Evaluation: a learner and fixed episodes -> per-episode accuracies -> mean and 95 % interval."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.core.components import Design
from innerloop.core.errors import ConfigError, described
from innerloop.core.files import json_text, write_atomic
from innerloop.core.intervals import mean_and_interval, what_is_covered
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.sampling import EpisodeSampler
from innerloop.experiments import ranks
from innerloop.experiments.experiment import OWN, Experiment
from innerloop.methods.base import Adaptation, Learner, accuracy
from innerloop.methods.variants import Variant
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.networks.usual import usual_torch
from innerloop.runs.directory import RunDirectory
from innerloop.runs.results import EvaluationRow, Origin, Protocol

USUAL_EPISODES = 600
"""Episodes of an evaluation whose file name does not say how many they are."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured, episode by episode; accuracies and losses are (episodes, steps + 1).

    Attributes:
        protocol: over which episodes.
        origin: whose result it is.
        batch_norm: whose statistics normalised the query images.
        classes: (episodes, ways) of the data set, those of each episode.
        query_accuracy: fraction in [0, 1] at φ_0, φ_1, ...
        query_loss: mean over the query set.
        support_accuracy: fraction in [0, 1].
        support_loss: mean over the support set.
    """

    protocol: Protocol
    origin: Origin
    batch_norm: BatchNormMode
    classes: np.ndarray
    query_accuracy: np.ndarray
    query_loss: np.ndarray
    support_accuracy: np.ndarray
    support_loss: np.ndarray

    def row(self, *, step: int) -> EvaluationRow:
        """Means with intervals after ``step`` inner steps, and each episode's accuracy then."""
        design = Design(len(self.classes), self.classes)
        per_step = [mean_and_interval(column, design) for column in self.query_accuracy.T]
        return EvaluationRow(
            **asdict(self.protocol),
            **asdict(self.origin),
            batch_norm=self.batch_norm,
            inner_steps=step,
            query_accuracy=per_step[step][0],
            query_accuracy_ci95=per_step[step][1],
            query_accuracy_before=per_step[0][0],
            query_accuracy_before_ci95=per_step[0][1],
            query_loss=float(self.query_loss[:, step].mean()),
            support_accuracy=float(self.support_accuracy[:, step].mean()),
            support_accuracy_before=float(self.support_accuracy[:, 0].mean()),
            support_loss=float(self.support_loss[:, step].mean()),
            query_accuracy_per_step=[mean for mean, _ in per_step],
            query_accuracy_per_step_ci95=[half for _, half in per_step],
            support_accuracy_per_step=self.support_accuracy.mean(axis=0).tolist(),
            # To the millionth: what follows in float32 is rounding, and would part equal ones.
            query_accuracy_per_episode=self.query_accuracy[:, step].round(6).tolist(),
            episode_classes=self.classes.tolist(),
            covers=what_is_covered(design, seeds=False),
        )


@usual_torch()
def evaluate(
    learner: Learner,
    sampler: EpisodeSampler,
    *,
    episodes: int,
    steps: int,
    batch_norms: Sequence[BatchNormMode],
    split: str,
    part: str,
    origin: Origin,
    extra_steps: int = 0,
    first: int = 0,
    device: str = "cpu",
    episodes_per_chunk: int = 1,
    on_episodes: Callable[[int], None] = lambda done: None,
) -> list[Evaluation]:
    """Adapt to each of ``episodes`` episodes in a row and measure before, after and at every step.

    The learner's weights are not changed.

    Args:
        learner: what is evaluated.
        sampler: where the episodes come from.
        episodes: how many, at least two.
        steps: inner steps K of the reported accuracy.
        batch_norms: whose statistics normalise the query images. The first mode is measured at
            every step, the others before adaptation and after K steps (NaN elsewhere).
        split: name of the split that the sampler's classes are of.
        part: name of the part of it.
        origin: whose result it is.
        extra_steps: go on this many steps beyond K.
        first: number of the first episode; a result that is kept begins with 0.
        device: where the learner is.
        episodes_per_chunk: episodes computed at once.
        on_episodes: called with the number of episodes done so far.

    Returns:
        One evaluation for each mode, over the same episodes and the same adaptations.

    Raises:
        ConfigError: if learner or sampler is none, or there are too few episodes for an interval.
    """
    if not isinstance(learner, Learner):
        raise ConfigError(f"What is evaluated is a learner: got {described(learner)}.")
    if not isinstance(sampler, EpisodeSampler):
        raise ConfigError(
            f"Accuracies are measured on the episodes of an EpisodeSampler: got "
            f"{described(sampler)}. Of other episodes, of a regression for instance, take "
            "learner.meta_loss(batch), or what learner.predict(...) gives."
        )
    if episodes < 2:
        raise ConfigError(f"An interval needs at least 2 episodes: got {episodes}.")

    # Each process may have found room for other chunks.
    episodes_per_chunk = ranks.gathered(episodes_per_chunk)[0]
    if ranks.size() > 1:
        ranks.refuse_others({"data set": sampler.dataset.fingerprint, "weights": digest(learner)})

    def of_chunk(start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        count = min(episodes_per_chunk, episodes - start)
        batch = sampler.batch(first + start, count)
        measured = _measured(learner, batch.to(device), batch_norms, steps, extra_steps)
        on_episodes(min(episodes, (start + count) * ranks.size()))
        return *measured, batch.classes.numpy()

    chunks = ranks.over(range(0, episodes, episodes_per_chunk), of_chunk)
    queries, supports, classes = zip(*chunks, strict=True)
    query, support = np.concatenate(queries, axis=2), np.concatenate(supports, axis=1)
    protocol = _protocol(sampler, split, part, episodes)
    return [
        Evaluation(protocol, origin, name, np.concatenate(classes), *query[mode], *support)
        for mode, name in enumerate(batch_norms)
    ]


def digest(learner: Learner) -> str:
    """Of all tensors of a learner's state."""
    of_all = hashlib.sha256()
    for name, value in learner.state_dict().items():
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        of_all.update(name.encode() + content.tobytes())
    return of_all.hexdigest()


def _protocol(sampler: EpisodeSampler, split: str, part: str, episodes: int) -> Protocol:
    return Protocol(
        data=sampler.dataset.name,
        data_fingerprint=sampler.dataset.fingerprint,
        split=split,
        part=part,
        ways=sampler.ways,
        shots=sampler.shots,
        queries=sampler.queries,
        query_batches=1,
        rotations=sampler.rotations,
        stream=sampler.stream_name,
        episode_seed=sampler.seed,
        episodes=episodes,
    )


def _measured(
    learner: Learner,
    batch: EpisodeBatch,
    batch_norms: Sequence[BatchNormMode],
    steps: int,
    extra_steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy and loss of query sets, (modes, 2, E, steps + 1), and of support sets, (2, ...)."""
    query = np.full((len(batch_norms), 2, len(batch), steps + extra_steps + 1), np.nan)
    adaptation = None
    measured: dict[tuple[int, int], Tensor] = {}
    # One descent serves all numbers of steps, instead of one descent for each.
    trajectory = learner.trajectory(batch.support, steps=steps + extra_steps)
    for index, adaptation in enumerate(trajectory):
        for mode, batch_norm in enumerate(batch_norms):
            if mode == 0 or index in (0, steps):
                measured[mode, index] = _query_measures(learner, adaptation, batch, batch_norm)
    if adaptation is None:
        raise ConfigError(
            f"{type(learner).__name__}.trajectory yields nothing: it must yield the state before "
            "adaptation, and one more after every step."
        )
    # All at once, since a GPU is waited for at each.
    values = torch.stack(list(measured.values())).cpu().numpy()
    for (mode, index), value in zip(measured, values, strict=True):
        query[mode, :, :, index] = value
    support = (adaptation.support_accuracy, adaptation.support_loss)
    return query, np.stack([measure.cpu().numpy() for measure in support])


@torch.no_grad()
def _query_measures(
    learner: Learner, adaptation: Adaptation, batch: EpisodeBatch, batch_norm: BatchNormMode
) -> Tensor:
    """Accuracy and loss of the query set, (2, E)."""
    logits = learner.predict(adaptation, batch.query.images, batch_norm=batch_norm)
    losses = F.cross_entropy(logits.flatten(0, 1), batch.query.labels.flatten(), reduction="none")
    loss = losses.view(batch.query.labels.shape).mean(dim=1)
    return torch.stack([accuracy(logits, batch.query.labels), loss])


def evaluate_run(
    experiment: Experiment,
    learner: Learner,
    *,
    part: str,
    episodes: int,
    inner_steps: int,
    batch_norms: tuple[BatchNormMode, ...],
    first: int = 0,
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
        first=first,
        split=experiment.split.name,
        part=part,
        origin=experiment.origin(variant),
        device=experiment.config.machine.device,
        episodes_per_chunk=experiment.config.machine.episodes_per_chunk,
        on_episodes=on_episodes,
    )


def save_evaluation(run: RunDirectory, row: EvaluationRow) -> Path:
    """Write a row, every episode's accuracy included, into the run directory."""
    path = run.path / f"{_file_name(row, run.config.own.adaptation_rate)}.json"
    write_atomic(path, json_text(row.to_json(), indent=1) + "\n")
    return path


def _file_name(row: EvaluationRow, usual_rate: float | None) -> str:
    name = (
        f"evaluation-{row.split}-{row.part}-{row.ways}w{row.shots}s{row.queries}q-"
        f"{row.inner_steps}steps-{row.batch_norm}"
    )
    if (row.adaptation, row.inner_lr) != (OWN.describe(), usual_rate):
        name += f"-{row.adaptation}"
        if row.inner_lr is not None:
            name += f"-at-{row.inner_lr:g}"
    if row.episodes != USUAL_EPISODES:  # so that a shorter evaluation takes nothing away
        name += f"-{row.episodes}episodes"
    return name
