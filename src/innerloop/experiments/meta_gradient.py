"""The meta-gradient of an outer step, by blocks of episodes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.sums import Node, blocks, insert, merged, node_of
from innerloop.methods.base import Learner


@dataclass(frozen=True)
class Part:
    """What a block of episodes adds to an outer step.

    Attributes:
        gradients: of the learner's parameters, in their order; None: of one that has none.
        measures: by name, scalars: sums over the block's episodes, or the means over all of them.
        of_all: whether the block is all episodes, so that they are means.
    """

    gradients: list[Tensor | None]
    measures: dict[str, Tensor]
    of_all: bool = False

    def __add__(self, other: "Part") -> "Part":
        gradients = [
            two if one is None else one if two is None else one + two
            for one, two in zip(self.gradients, other.gradients, strict=True)
        ]
        measures = {name: value + other.measures[name] for name, value in self.measures.items()}
        return Part(gradients, measures)


def accumulate_meta_gradient(
    learner: Learner, batch: EpisodeBatch | LabelledImages, episodes_per_chunk: int
) -> dict[str, float]:
    """Leave a meta-batch's meta-gradient in ``.grad``, by chunks, so that memory does not grow.

    Args:
        learner: its `Learner.meta_loss` is a mean over episodes.
        batch: E episodes; or a mini-batch of images, which is never divided, since batch norm
            makes its images depend on one another.
        episodes_per_chunk: how many are computed at once, at most. To the last bit the gradient is
            the same: see `innerloop.fast_weights.sums`.

    Returns:
        ``loss``, what `Learner.meta_loss` logs, and ``gradient_norm``, over the whole meta-batch.
    """
    total = pieces_of(batch)
    return taken(learner, parts_of(learner, batch, 0, total, episodes_per_chunk), total)


def pieces_of(batch: EpisodeBatch | LabelledImages) -> int:
    """Into how many pieces a batch can be divided: its episodes, or none."""
    return len(batch) if isinstance(batch, EpisodeBatch) else 1


def parts_of(
    learner: Learner, batch: EpisodeBatch | LabelledImages, first: int, total: int, most: int
) -> dict[Node, Part]:
    """What a batch adds to an outer step, by the nodes of the tree over its pieces.

    Args:
        learner: its gradients are overwritten.
        batch: some pieces of the outer step's.
        first: the number of the first of them.
        total: how many pieces the outer step has.
        most: how many are computed at once, at most.
    """
    parts: dict[Node, Part] = {}
    for block in blocks(first, first + pieces_of(batch), total, most):
        chunk = batch
        if isinstance(batch, EpisodeBatch):
            chunk = batch[block.start - first : block.stop - first]
        # Added up at once, and in no variable: else an earlier chunk's tensors would be kept.
        insert(parts, node_of(block, total), _part(learner, chunk, len(block), total), Part.__add__)
    return parts


def _part(learner: Learner, chunk: EpisodeBatch | LabelledImages, pieces: int, total: int) -> Part:
    """What some pieces add to an outer step of ``total``."""
    learner.zero_grad()
    loss, logged = learner.meta_loss(chunk)
    if any(weight.requires_grad for weight in learner.parameters()):
        refuse_constant(learner, loss)
        # Of a block that is not all, the size is a power of two: nothing is rounded here.
        (loss * (pieces / total)).backward()
    measures = {
        name: value.detach() * (1 if pieces == total else pieces)
        for name, value in ({"loss": loss} | logged).items()
    }
    gradients = [weight.grad for weight in learner.parameters()]
    return Part(gradients, measures, of_all=pieces == total)


def taken(learner: Learner, parts: dict[Node, Part], total: int) -> dict[str, float]:
    """Leave the sum of all parts of an outer step in ``.grad``; returns what is recorded."""
    whole = merged(parts, total, Part.__add__)
    norms = []
    for weight, gradient in zip(learner.parameters(), whole.gradients, strict=True):
        weight.grad = gradient
        if gradient is not None:
            norms.append(gradient.norm())
    values = {
        name: (value if whole.of_all else value / total).item()
        for name, value in whole.measures.items()
    }
    return values | {"gradient_norm": torch.stack(norms).norm().item() if norms else 0.0}


def refuse_constant(learner: Learner, loss: Tensor) -> None:
    """Raise `ConfigError` for a loss without a gradient."""
    if not loss.requires_grad:
        raise ConfigError(
            f"The meta_loss of {type(learner).__name__} depends on none of its parameters: compute "
            "it with them, outside of no_grad and detach."
        )
