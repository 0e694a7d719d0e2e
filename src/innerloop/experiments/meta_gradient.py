"""The meta-gradient of an outer step, by chunks."""

import torch
from torch import Tensor

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.methods.base import Learner


def accumulate_meta_gradient(
    learner: Learner, batch: EpisodeBatch | LabelledImages, episodes_per_chunk: int
) -> dict[str, float]:
    """Leave a meta-batch's meta-gradient in ``.grad``, by chunks, so that memory does not grow.

    Args:
        learner: its `Learner.meta_loss` is a mean over episodes.
        batch: E episodes; or a mini-batch of images, which is never divided, since batch norm
            makes its images depend on one another.
        episodes_per_chunk: how many are computed at once; the gradient is the same to rounding.

    Returns:
        ``loss``, what `Learner.meta_loss` logs, and ``gradient_norm``, over the whole meta-batch.
    """
    learner.zero_grad()
    totals: dict[str, float] = {}
    for chunk in batch.chunks(episodes_per_chunk) if isinstance(batch, EpisodeBatch) else [batch]:
        # The last chunk may be smaller, so that means are weighed by their episodes.
        share = len(chunk) / len(batch)
        loss, logged = learner.meta_loss(chunk)
        if any(weight.requires_grad for weight in learner.parameters()):
            refuse_constant(learner, loss)
            # At once, so that a chunk's graph is freed before the next one's is made.
            (loss * share).backward()
        for name, value in ({"loss": loss.detach()} | logged).items():
            totals[name] = totals.get(name, 0.0) + share * value.item()
    norms = [weight.grad.norm() for weight in learner.parameters() if weight.grad is not None]
    return totals | {"gradient_norm": torch.stack(norms).norm().item() if norms else 0.0}


def refuse_constant(learner: Learner, loss: Tensor) -> None:
    """Raise `ConfigError` for a loss without a gradient."""
    if not loss.requires_grad:
        raise ConfigError(
            f"The meta_loss of {type(learner).__name__} depends on none of its parameters: compute "
            "it with them, outside of no_grad and detach."
        )
