"""How far two engines are apart in an outer step of a learner."""

import copy
from typing import Any

import torch
from torch import Tensor

from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.methods.base import Learner


def far(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference over the norm."""
    return float((found.detach().double() - expected.detach()).norm() / expected.detach().norm())


def joined(tensors: Any) -> Tensor:
    return torch.cat([of.detach().reshape(-1) for of in tensors])


def in_single(episodes: EpisodeBatch) -> EpisodeBatch:
    def single(images: LabelledImages) -> LabelledImages:
        return LabelledImages(images.images.float(), images.labels)

    return EpisodeBatch(
        single(episodes.support),
        single(episodes.query),
        episodes.classes,
        episodes.support_drawings,
        episodes.query_drawings,
    )


def meta_gradient(learner: Learner, batch: Any) -> Tensor:
    """The loss and all gradients of an outer step."""
    learner.zero_grad()
    loss, _ = learner.meta_loss(batch)
    loss.backward()
    gradients = [of.grad for of in learner.parameters() if of.grad is not None]
    return joined([loss[None], *gradients])


def engines_apart(learner: Learner, episodes: EpisodeBatch) -> float:
    """How far the fused engine's meta-gradient in float32 is from the reference's in float64."""
    exact = copy.deepcopy(learner).double()
    exact.engine = "reference"
    learner.engine = "fused"
    return far(meta_gradient(learner, in_single(episodes)), meta_gradient(exact, episodes))
