"""The loss of labelled images, and their features, as operations of autograd.

The loss is differentiable twice. Its gradient is computed along with it, while the activations are
in the caches, and these need not be kept. Only where a second derivative is announced they are: it
is a product with the Hessian, see `tangents`; unannounced, it computes them again.
"""

from collections.abc import Callable, Sequence
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


class Features(torch.autograd.Function):
    """(episodes, by_reference, parameters (E, *shape) each) -> features (E, n, features).

    ``by_reference`` computes the same of parameters by operations that can be differentiated any
    number of times: it is called where the gradient itself is to have a graph.
    """

    @staticmethod
    def forward(
        ctx: Any,
        episodes: Episodes,
        by_reference: Callable[[Sequence[Tensor]], Tensor],
        *parameters: Tensor,
    ) -> Tensor:
        """The features; their activations are kept."""
        ctx.episodes, ctx.by_reference = episodes, by_reference
        ctx.save_for_backward(*parameters)
        return episodes.features()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        """Gradients of all parameters before the head."""
        parameters = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return None, None, *ctx.episodes.before_features(upstream[0])
        features = ctx.by_reference(parameters)
        wanted = [of for of in parameters if of.requires_grad]
        found = torch.autograd.grad(
            features, wanted, upstream, create_graph=True, allow_unused=True
        )
        gradients = iter(found)
        return None, None, *(next(gradients) if of.requires_grad else None for of in parameters)


def _beside(factor: Tensor, gradient: Tensor) -> Tensor:
    return factor.reshape(-1, *[1] * (gradient.ndim - 1))
