"""Evaluation: a learner and fixed episodes -> per-episode accuracies -> mean and 95 % interval."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.core.intervals import mean_and_interval
from innerloop.data.episodes import EpisodeBatch, EpisodeSampler
from innerloop.methods.base import Adaptation, Learner, accuracy
from innerloop.networks.batch_norm import BatchNormMode


@dataclass(frozen=True)
class Evaluation:
    """What was measured, episode by episode; every array is (episodes, steps + 1), at φ_0, φ_1, ...

    Attributes:
        protocol: data, split, part, ways, shots, queries, query_batches, rotations, batch_norm,
            stream,
            seed: whatever a number must not be quoted without.
        query_accuracy: fraction in [0, 1].
        query_loss: mean over the query set.
        support_accuracy: fraction in [0, 1].
        support_loss: mean over the support set.
    """

    protocol: dict[str, Any]
    query_accuracy: np.ndarray
    query_loss: np.ndarray
    support_accuracy: np.ndarray
    support_loss: np.ndarray

    def summary(self, *, step: int) -> dict[str, Any]:
        """A result row: the protocol, and means with intervals after ``step`` inner steps."""
        after, after_ci = mean_and_interval(self.query_accuracy[:, step])
        before, before_ci = mean_and_interval(self.query_accuracy[:, 0])
        return self.protocol | {
            "inner_steps": step,
            "episodes": len(self.query_accuracy),
            "query_accuracy": after,
            "query_accuracy_ci95": after_ci,
            "query_accuracy_before": before,
            "query_accuracy_before_ci95": before_ci,
            "query_loss": float(self.query_loss[:, step].mean()),
            "support_accuracy": float(self.support_accuracy[:, step].mean()),
            "support_accuracy_before": float(self.support_accuracy[:, 0].mean()),
            "support_loss": float(self.support_loss[:, step].mean()),
        }

    def to_json(self, *, step: int) -> dict[str, Any]:
        """`summary`, accuracy by inner step with intervals, and each episode's after ``step``."""
        per_step = [mean_and_interval(column) for column in self.query_accuracy.T]
        return self.summary(step=step) | {
            "query_accuracy_per_step": [None if math.isnan(mean) else mean for mean, _ in per_step],
            "query_accuracy_per_step_ci95": [
                None if math.isnan(half) else half for _, half in per_step
            ],
            "support_accuracy_per_step": self.support_accuracy.mean(axis=0).tolist(),
            "query_accuracy_per_episode": self.query_accuracy[:, step].round(6).tolist(),
        }


def evaluate(
    learner: Learner,
    sampler: EpisodeSampler,
    *,
    episodes: int,
    steps: int,
    batch_norms: Sequence[BatchNormMode],
    protocol: dict[str, Any],
    extra_steps: int = 0,
    device: str = "cpu",
    episodes_per_chunk: int = 1,
    on_episodes: Callable[[int], None] = lambda done: None,
) -> list[Evaluation]:
    """Adapt to each of the first ``episodes`` episodes and measure before, after and at every step.

    The learner's weights are not changed.

    Args:
        learner: what is evaluated.
        sampler: where the episodes come from.
        episodes: how many, at least two.
        steps: inner steps K of the reported accuracy.
        batch_norms: whose statistics normalise the query images. The first mode is measured at
            every step, the others before adaptation and after K steps (NaN elsewhere).
        protocol: what the numbers must not be quoted without, besides what the sampler knows.
        extra_steps: go on this many steps beyond K.
        device: where the learner is.
        episodes_per_chunk: episodes computed at once.
        on_episodes: called with the number of episodes done so far.

    Returns:
        One evaluation for each mode, over the same episodes and the same adaptations.
    """
    if episodes < 2:
        raise ConfigError(f"An interval needs at least 2 episodes: got {episodes}.")
    chunks = []
    for start in range(0, episodes, episodes_per_chunk):
        batch = sampler.batch(start, min(episodes_per_chunk, episodes - start)).to(device)
        query = np.full((len(batch_norms), 2, len(batch), steps + extra_steps + 1), np.nan)
        adaptation = None
        for index, adaptation in enumerate(
            learner.trajectory(batch.support, steps=steps + extra_steps)
        ):
            for mode, batch_norm in enumerate(batch_norms):
                if mode == 0 or index in (0, steps):
                    query[mode, :, :, index] = _query_measures(
                        learner, adaptation, batch, batch_norm
                    )
        assert adaptation is not None, "a trajectory yields at least the state before adaptation"
        support = [adaptation.support_accuracy.cpu().numpy(), adaptation.support_loss.cpu().numpy()]
        chunks.append((query, *support))
        on_episodes(start + len(batch))
    query = np.concatenate([chunk[0] for chunk in chunks], axis=2)
    support_accuracy, support_loss = (
        np.concatenate([chunk[part] for chunk in chunks]) for part in (1, 2)
    )
    described = {
        "data": sampler.dataset.name,
        "ways": sampler.ways,
        "shots": sampler.shots,
        "queries": sampler.queries,
        "query_batches": 1,
        "rotations": sampler.rotations,
        "stream": sampler.stream_name,
        "episode_seed": sampler.seed,
    } | protocol
    return [
        Evaluation(
            described | {"batch_norm": name},
            query[mode, 0],
            query[mode, 1],
            support_accuracy,
            support_loss,
        )
        for mode, name in enumerate(batch_norms)
    ]


@torch.no_grad()
def _query_measures(
    learner: Learner, adaptation: Adaptation, batch: EpisodeBatch, batch_norm: BatchNormMode
) -> np.ndarray:
    """Accuracy and loss of the query set, (2, E)."""
    logits = learner.predict(adaptation, batch.query.images, batch_norm=batch_norm)
    losses = F.cross_entropy(logits.flatten(0, 1), batch.query.labels.flatten(), reduction="none")
    loss = losses.view(batch.query.labels.shape).mean(dim=1)
    return torch.stack([accuracy(logits, batch.query.labels), loss]).cpu().numpy()
