"""The loss of labelled images as an operation of autograd, differentiable twice.

The gradient is computed along with the loss, while the activations are in the caches, and these
need not be kept. Only where a second derivative is announced they are: it is a product with the
Hessian, see `tangents`; unannounced, it computes them again.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from innerloop.fast_weights.fused_cpu.episodes import Episodes, Wants


class LabelledLoss(torch.autograd.Function):
    """(episodes, labels, wants, parameters (E, *shape) each) -> losses (E,), logits (E, n, ways).

    Logits are for metrics, without a graph.
    """

    @staticmethod
    def forward(
        ctx: Any, episodes: Episodes, labels: Tensor, wants: Wants, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Losses, and all gradients that are wanted."""
        losses, logits = episodes.losses(labels, wants)
        ctx.episodes = episodes
        ctx.save_for_backward(*parameters)
        ctx.mark_non_differentiable(logits)
        return losses, logits

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        """Each episode's gradient, times that of its loss."""
        factor = upstream[0]
        gradients = _Gradient.apply(ctx.episodes, *ctx.saved_tensors)
        # An inner step's are of the sum of the losses: times one.
        if factor.requires_grad or bool((factor != 1).any()):
            gradients = (
                None if gradient is None else gradient * _beside(factor, gradient)
                for gradient in gradients
            )
        return None, None, None, *gradients


class _Gradient(torch.autograd.Function):
    """The gradient of `LabelledLoss` with respect to the parameters, as an operation."""

    @staticmethod
    def forward(ctx: Any, episodes: Episodes, *parameters: Tensor) -> tuple[Tensor | None, ...]:
        ctx.episodes = episodes
        ctx.save_for_backward(*parameters)
        ctx.set_materialize_grads(False)
        return tuple(episodes.gradients())

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *directions: Tensor | None
    ) -> tuple[Any, ...]:
        """The product of the Hessian, which is symmetric, with the directions."""
        if all(direction is None for direction in directions):
            return None, *[None] * len(directions)
        _ = ctx.saved_tensors  # raises if one was changed in place
        return None, *ctx.episodes.hessian_vector(directions)


def _beside(factor: Tensor, gradient: Tensor) -> Tensor:
    return factor.reshape(-1, *[1] * (gradient.ndim - 1))
