"""What frozen features tell: they are computed once, then any number of heads is tried on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from innerloop.data.sampling import EpisodeSampler
from innerloop.experiments import ranks
from innerloop.methods.base import Learner, accuracy
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.heads.new_head import HeadOfFeatures, NewHead
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

    def of_episode(index: int) -> list[Tensor]:
        """Labels of support and query, and the features of both in each mode."""
        batch = sampler.batch(index, 1).to(device)
        support, query = batch.support, batch.query
        features = []
        for mode in modes:
            of_heads = _of_heads(mode, modes[0])
            features.append(frozen.features(support.images, support.images, of_heads))
            features.append(frozen.features(query.images, support.images, mode))
        return [support.labels, query.labels, *features]

    found = ranks.over(range(episodes), of_episode)
    support_labels, query_labels, *features = map(torch.cat, zip(*found, strict=True))
    return {
        mode: Features(of_support, of_query, support_labels, query_labels)
        for mode, of_support, of_query in zip(modes, features[::2], features[1::2], strict=True)
    }


def _of_heads(mode: BatchNormMode, own: BatchNormMode) -> BatchNormMode:
    """By which mode heads are found that predict by another, as in `FrozenFeatures`."""
    return own if (mode == "running") == (own == "running") else mode


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
    return accuracies_of(NewHead(head, head_init, inner_lr), features, at=at)


def accuracies_of(
    new_head: HeadOfFeatures, features: Features, *, at: Sequence[int]
) -> dict[int, np.ndarray]:
    """Query accuracy (E,) of heads on frozen features, after each number of steps of ``at``."""
    measured = {}
    for step, (weights, _, _) in enumerate(
        new_head.trajectory(features.support, features.support_labels, steps=max(at))
    ):
        if step in at:
            with torch.no_grad():
                logits = new_head.logits(weights, features.query)
            measured[step] = accuracy(logits, features.query_labels).cpu().numpy()
    return measured
