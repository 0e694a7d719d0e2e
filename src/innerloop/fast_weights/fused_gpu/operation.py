"""The loss of labelled images as an operation of autograd, differentiable twice.

The gradient is computed along with the loss, while what it needs is at hand, and without a graph.
A second derivative is a product with the Hessian, see `tangents`; what that needs is kept where it
is announced, and computed again where it is not. Nothing here looks at a value: the device is never
waited for, and everything can be captured in a CUDA graph.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from innerloop.fast_weights.fused_gpu.architecture import HEAD
from innerloop.fast_weights.fused_gpu.buffers import from_one_buffer, in_one_buffer
from innerloop.fast_weights.fused_gpu.head import cross_entropy
from innerloop.fast_weights.fused_gpu.passes import Backward, Forward, Weights
from innerloop.fast_weights.fused_gpu.tangents import hessian_vector


class Wants(NamedTuple):
    """Which gradients will be asked for.

    Attributes:
        body: of the parameters before the head.
        head: of the head.
        second: whether they will be differentiated.
    """

    body: bool
    head: bool
    second: bool


class Episodes:
    """Episodes on which a loss was computed, with their gradients.

    Args:
        forward: makes the pass forward at parameters.
        labels: (E, n).
        wants: gradients.
    """

    def __init__(
        self, forward: Callable[[Sequence[Tensor]], Forward], labels: Tensor, wants: Wants
    ):
        self._forward = forward
        self._labels = labels
        self._wants = wants
        self._backward: Backward | None = None
        self._logits: Tensor | None = None
        self._body: Tensor | None = None
        self._head: Tensor | None = None

    def losses(self, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor, Forward]:
        """Losses (E,), logits (E, n, ways) and the pass; the gradients wanted are computed."""
        wants = self._wants
        forward = self._forward(parameters)
        logits = forward.logits()
        if wants.body or wants.head:
            backward = Backward(forward, logits, self._labels, body=wants.body)
            if wants.body:
                self._body = in_one_buffer(backward.body)
            if wants.head:
                self._head = in_one_buffer(backward.head())
            if wants.second:
                self._backward, self._logits = backward, logits
        return cross_entropy(logits, self._labels), logits, forward

    def gradients(self, factor: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of body and head in a buffer each, every episode's times its factor (E,)."""
        body, head = (
            None if of is None else of * factor[:, None] for of in (self._body, self._head)
        )
        return body, head

    def hessian_vector(
        self, parameters: Sequence[Tensor], directions: Sequence[Tensor | None]
    ) -> list[Tensor]:
        """The product of each episode's Hessian with directions in a buffer each; None is zero."""
        backward, logits = self._backward, self._logits
        if backward is None or logits is None or not backward.body:
            forward = self._forward(parameters)
            logits = forward.logits()
            backward = Backward(forward, logits, self._labels, body=True)
        along = [
            way
            for part, direction in zip(_parts(parameters), directions, strict=True)
            for way in _ways(direction, part)
        ]
        return hessian_vector(backward, logits, Weights.of(along))


def _parts(parameters: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Those of the body, and those of the head."""
    return parameters[: -len(HEAD)], parameters[-len(HEAD) :]


def _ways(buffer: Tensor | None, like: Sequence[Tensor]) -> Sequence[Tensor]:
    if buffer is None:
        return [torch.zeros_like(of) for of in like]
    return from_one_buffer(buffer, like)


class LabelledLoss(torch.autograd.Function):
    """(episodes, parameters (E, *shape) each) -> losses (E,), logits (E, n, ways), moments.

    Logits and moments are for metrics, without a graph.
    """

    @staticmethod
    def forward(ctx: Any, episodes: Episodes, *parameters: Tensor) -> tuple[Any, ...]:
        """Losses, and all gradients that are wanted."""
        losses, logits, forward = episodes.losses(parameters)
        ctx.episodes = episodes
        ctx.save_for_backward(*parameters)
        ctx.mark_non_differentiable(logits)
        ctx.set_materialize_grads(False)
        return losses, logits, (forward.moments(), forward.counts())

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Any, ...]:
        """Each episode's gradient, times that of its loss."""
        parameters = ctx.saved_tensors
        buffers = _Gradient.apply(ctx.episodes, upstream[0], *parameters)
        gradients: list[Tensor | None] = []
        for buffer, part in zip(buffers, _parts(parameters), strict=True):
            gradients += [None] * len(part) if buffer is None else from_one_buffer(buffer, part)
        return None, *gradients


class _Gradient(torch.autograd.Function):
    """The gradient of `LabelledLoss`, that of body and head in a buffer each, as an operation."""

    @staticmethod
    def forward(
        ctx: Any, episodes: Episodes, factor: Tensor, *parameters: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        ctx.episodes = episodes
        ctx.save_for_backward(factor, *parameters)
        ctx.set_materialize_grads(False)
        return episodes.gradients(factor)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *directions: Tensor | None
    ) -> tuple[Any, ...]:
        """The product of the Hessian, which is symmetric, with the directions.

        The gradient is linear in the factor: its derivative is that of a factor of one.
        """
        factor, *parameters = ctx.saved_tensors  # raises if one was changed in place
        if all(direction is None for direction in directions):
            return None, None, *[None] * len(parameters)
        of_factor = None
        if ctx.needs_input_grad[1]:
            pairs = zip(ctx.episodes.gradients(torch.ones_like(factor)), directions, strict=True)
            products = [a * b for a, b in pairs if a is not None and b is not None]
            of_factor = torch.stack([of.sum(1) for of in products]).sum(0)
        second = ctx.episodes.hessian_vector(parameters, directions)
        return None, of_factor, *(_times(factor, of) for of in second)


def _times(factor: Tensor, values: Tensor) -> Tensor:
    return values * factor.reshape(-1, *[1] * (values.ndim - 1))
