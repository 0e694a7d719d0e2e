"""What frozen features tell: they are computed once, then any number of heads is tried on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from innerloop.data.episodes import EpisodeSampler
from innerloop.methods.base import Learner, accuracy
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.heads.new_head import NewHead
from innerloop.methods.parts import Head, HeadInit
from innerloop.networks.batch_norm import BatchNormMode


@dataclass(frozen=True)
class Features:
    """Features of E episodes under one network and one batch-norm mode, and their labels.

    Attributes:
        support: (E, ways * shots, features).
        query: (E, ways * queries, features).
        support_labels: (E, ways * shots).
        query_labels: (E, ways * queries).
    """

    support: Tensor
    query: Tensor
    support_labels: Tensor
    query_labels: Tensor


def frozen_features(
    learner: Learner,
    sampler: EpisodeSampler,
    modes: Sequence[BatchNormMode],
    *,
    episodes: int,
    device: str = "cpu",
) -> dict[BatchNormMode, Features]:
    """Features of the first ``episodes`` episodes, by batch-norm mode of a trained network."""
    frozen = FrozenFeatures(learner.model, batch_norm_modes=learner.batch_norm_modes)  # type: ignore[arg-type]
    parts: dict[BatchNormMode, list[tuple[Tensor, Tensor]]] = {mode: [] for mode in modes}
    labels = []
    for index in range(episodes):
        batch = sampler.batch(index, 1).to(device)
        # Heads adapt in the network's own mode, as in `FrozenFeatures`; others are for queries.
        own = frozen.features(batch.support.images, batch.support.images, modes[0])
        for mode in modes:
            parts[mode].append(
                (own, frozen.features(batch.query.images, batch.support.images, mode))
            )
        labels.append((batch.support.labels, batch.query.labels))
    support_labels, query_labels = (torch.cat(of_all) for of_all in zip(*labels, strict=True))
    return {
        mode: Features(
            torch.cat([support for support, _ in pairs]),
            torch.cat([query for _, query in pairs]),
            support_labels,
            query_labels,
        )
        for mode, pairs in parts.items()
    }


def head_accuracies(
    features: Features,
    *,
    head: Head = "gradient",
    head_init: HeadInit = "zero",
    inner_lr: float = 0.4,
    at: Sequence[int] = (5,),
) -> dict[int, np.ndarray]:
    """Query accuracy (E,) of a new head on frozen features, after each number of steps of ``at``.

    A head in closed form has no steps: it is there under every number from one on.
    """
    new_head = NewHead(head, head_init, inner_lr)
    measured = {}
    for step, (weights, _, _) in enumerate(
        new_head.trajectory(features.support, features.support_labels, steps=max(at))
    ):
        if step in at:
            with torch.no_grad():
                logits = new_head.logits(weights, features.query)
            measured[step] = accuracy(logits, features.query_labels).cpu().numpy()
    return measured
