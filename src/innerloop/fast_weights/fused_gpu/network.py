"""`innerloop.fast_weights.network.Network` of a Conv4, all episodes at once, gradients explicit."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.data.images import LabelledImages
from innerloop.fast_weights.copies import version
from innerloop.fast_weights.fused_gpu.architecture import HEAD, Architecture
from innerloop.fast_weights.fused_gpu.buffers import laid_out
from innerloop.fast_weights.fused_gpu.choice import Shape, convolution_for
from innerloop.fast_weights.fused_gpu.convolution import Convolution
from innerloop.fast_weights.fused_gpu.operation import Episodes, LabelledLoss, Wants
from innerloop.fast_weights.fused_gpu.passes import Forward, Given, Weights
from innerloop.fast_weights.objectives import Losses, Objective
from innerloop.fast_weights.precision import Precision
from innerloop.fast_weights.stock import BLOCKS, StockNetwork, is_transformed
from innerloop.networks.batch_norm import (
    Moments,
    Statistics,
    Stored,
    moments,
    unbiased_moments,
)
from innerloop.networks.conv4 import Conv4

SETS = 2
"""Of images whose patches are kept: support and query, of which a multi-step loss takes turns."""


class GpuNetwork(StockNetwork):
    """A Conv4 of which `architecture.why_not` says nothing, on any device.

    Losses by cross-entropy have gradients of first and second order; other outputs have none, and
    where one is needed, or anything else that is not written out, the call is the reference's.

    Args:
        model: the network.
        method: ``forward`` or ``embed``.
        precision: of products of matrices.
    """

    def __init__(self, model: Conv4, method: str = "forward", precision: Precision = "float32"):
        self._architecture = Architecture.of(model)
        super().__init__(model, method, self._architecture.names)
        self._precision: Precision = precision
        # What the first convolution takes, under the images it was computed from; they are held,
        # so that no others take their address.
        self._first: dict[Any, tuple[Tensor, Tensor]] = {}

    def laid_out(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same numbers in one buffer for the body and one for the head; differentiable."""
        return laid_out(laid_out(params, self._architecture.body), HEAD)

    def call(
        self,
        weights: Mapping[str, Tensor],
        images: Tensor,
        statistics: Statistics | Stored | None = None,
    ) -> Tensor:
        """As `Network.call`; explicit without a graph."""
        parameters = self._parameters(weights, len(images))
        if (
            statistics == "update"
            or not self._fits(parameters, images, statistics)
            or _has_graph(parameters)
        ):
            return super().call(weights, images, statistics)
        return self._outputs_of_all(self._forward(images, statistics)(parameters))

    def call_and_measure(
        self,
        weights: Mapping[str, Tensor],
        images: Tensor,
        measure: Callable[[Tensor], Moments] = moments,
    ) -> tuple[Tensor, Statistics]:
        """As `Network.call_and_measure`; explicit without a graph."""
        parameters = self._parameters(weights, len(images))
        if (
            measure not in (moments, unbiased_moments)
            or not self._fits(parameters, images, None)
            or _has_graph(parameters)
        ):
            return super().call_and_measure(weights, images, measure)
        forward = self._forward(images, None)(parameters)
        seen = self._by_layer(
            forward.moments(), forward.counts(), unbiased=measure is unbiased_moments
        )
        return self._outputs_of_all(forward), seen

    def losses(
        self,
        weights: Mapping[str, Tensor],
        batch: LabelledImages,
        objective: Objective,
        statistics: Statistics | Stored | None = None,
    ) -> Losses:
        """As `Network.losses`; cross-entropies explicitly."""
        images, labels = batch.images, batch.labels
        parameters = self._parameters(weights, len(images))
        if not (
            objective.loss_fn is F.cross_entropy
            and objective.ways in (None, parameters[-1].shape[-1])
            and objective.measure in (None, unbiased_moments)
            and self._method == "forward"
            and labels.dtype == torch.int64
            and labels.shape == images.shape[:2]
            and self._fits(parameters, images, statistics)
        ):
            return super().losses(weights, batch, objective, statistics)
        update = statistics == "update"
        graph = torch.is_grad_enabled()
        wants = Wants(
            body=graph
            and not objective.zero_head
            and any(of.requires_grad for of in parameters[: -len(HEAD)]),
            head=graph and any(of.requires_grad for of in parameters[-len(HEAD) :]),
            second=graph and objective.twice,
        )
        forward = self._forward(images, None if update else statistics)
        values, outputs, of_norms = LabelledLoss.apply(
            Episodes(forward, labels, wants), *parameters
        )
        objective.check(outputs)
        seen = {}
        if objective.measure or update:
            seen = self._by_layer(*of_norms, unbiased=True)
        if update:
            self._update(seen)
        return Losses(values, outputs, seen, head_alone=objective.zero_head is not None)

    def _fits(
        self, parameters: Sequence[Tensor], images: Tensor, statistics: Statistics | Stored | None
    ) -> bool:
        """Whether this call is one that is written out."""
        if images.ndim != 5 or 0 in images.shape or images.shape[2] != parameters[0].shape[2]:
            return False
        given = statistics.values() if isinstance(statistics, dict) else ()
        values = [value for of in given for value in of]
        tensors = [images, *parameters, *values]
        if images.dtype not in (torch.float32, torch.float64):
            return False
        if any(of.dtype != images.dtype or of.device != images.device for of in tensors):
            return False
        # Several passes of one norm have moments of their own.
        if any(of.requires_grad for of in (images, *values)) or any(of.ndim != 2 for of in values):
            return False
        if any(map(is_transformed, tensors)):
            return False
        *_, (height, width) = self._architecture.sides(*images.shape[3:])
        positions = height * width if self._architecture.flatten else min(height * width, 1)
        return parameters[-2].shape[-1] == positions * parameters[3].shape[1] != 0

    def _forward(
        self, images: Tensor, statistics: Statistics | Stored | None
    ) -> Callable[[Sequence[Tensor]], Forward]:
        """The pass of these images, to be called with parameters."""
        given = self._given(statistics, len(images))

        def forward(parameters: Sequence[Tensor]) -> Forward:
            weights = Weights.of(parameters)
            convolutions = self._convolutions(weights, images)
            first = self._first_of(images, convolutions[0])
            sides = images.shape[3], images.shape[4]
            return Forward(self._architecture, convolutions, weights, first, sides, given)

        return forward

    def _convolutions(self, weights: Weights, images: Tensor) -> list[Convolution]:
        """How each convolution is computed."""
        sides = self._architecture.sides(*images.shape[3:])
        return [
            convolution_for(
                Shape(
                    episodes=images.shape[0],
                    images=images.shape[1],
                    sides=of_images,
                    inputs=weight.shape[1] // 9,
                    outputs=weight.shape[2],
                    stride=self._architecture.stride,
                    precision=self._precision,
                    dtype=images.dtype,
                    device=images.device,
                )
            )
            for of_images, weight in zip(sides, weights.convolutions, strict=False)
        ]

    def _first_of(self, images: Tensor, convolution: Convolution) -> Tensor:
        """What the first convolution takes of images: computed once, as long as they are the same.

        What counts no changes is computed each time.
        """
        stamp = images.data_ptr(), images.shape, images.stride(), version(images)
        if stamp not in self._first or version(images) == -1:
            while len(self._first) >= SETS:
                del self._first[next(iter(self._first))]
            inputs = convolution.of_images(images.detach().movedim(2, 4).contiguous())
            self._first[stamp] = inputs, images
        return self._first[stamp][0]

    def _outputs_of_all(self, forward: Forward) -> Tensor:
        return forward.features if self._method == "embed" else forward.logits()

    def _given(self, statistics: Statistics | Stored | None, episodes: int) -> Given:
        """What each norm is given, that of the features last; None: nothing."""
        names = self._norms
        nothing: list[Moments | None] = [None] * (BLOCKS + 1 - len(names))
        if isinstance(statistics, dict):
            return [*(statistics.get(name) for name in names), *nothing]
        if statistics is None:
            return [*(None for _ in names), *nothing]
        stored = [self._layers[name].running() for name in names]
        expanded = [Moments(*(of.expand(episodes, -1) for of in pair)) for pair in stored]
        return [*expanded, *nothing]


def _has_graph(parameters: Sequence[Tensor]) -> bool:
    return torch.is_grad_enabled() and any(of.requires_grad for of in parameters)
