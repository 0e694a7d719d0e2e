"""`innerloop.fast_weights.network.Network` of a Conv4, by the fused kernels where they apply."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.data.images import LabelledImages
from innerloop.fast_weights.copies import version
from innerloop.fast_weights.fused_cpu.architecture import BLOCKS, Architecture, Plan, plan_of
from innerloop.fast_weights.fused_cpu.buffers import Patches, patches_of
from innerloop.fast_weights.fused_cpu.episodes import HEAD, NAMES, Episodes, Wants, arrays_of
from innerloop.fast_weights.fused_cpu.layout import as_taps, from_taps
from innerloop.fast_weights.fused_cpu.operation import Features, LabelledLoss
from innerloop.fast_weights.fused_cpu.passes import Given
from innerloop.fast_weights.fused_cpu.threads import each
from innerloop.fast_weights.objectives import Losses, Objective
from innerloop.fast_weights.stock import StockNetwork, is_transformed
from innerloop.networks.batch_norm import (
    Moments,
    Statistics,
    Stored,
    moments,
    unbiased_moments,
)
from innerloop.networks.conv4 import Conv4


class FusedNetwork(StockNetwork):
    """A Conv4 of which `architecture.why_not` says nothing.

    Losses by cross-entropy have gradients of first and second order, and features of the first;
    other outputs have none, and where one is needed, or anything else that the kernels do not know,
    the call is the reference's.
    """

    def __init__(self, model: Conv4, method: str = "forward"):
        super().__init__(model, method, NAMES)
        self._architecture = Architecture.of(model)
        # What was computed last, under the tensors it was computed from.
        self._patches: tuple[Any, Tensor, list[Patches]] | None = None
        self._last: tuple[Any, list[Tensor], Episodes] | None = None

    def laid_out(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same numbers where the kernels want them; differentiable."""
        return {
            name: from_taps(as_taps(weight, name == NAMES[0]), weight.shape[1], name == NAMES[0])
            if name in NAMES[:4]
            else weight
            for name, weight in params.items()
        }

    def call(
        self,
        weights: Mapping[str, Tensor],
        images: Tensor,
        statistics: Statistics | Stored | None = None,
    ) -> Tensor:
        """As `Network.call`; features, and what needs no graph, by the kernels."""
        parameters = self._parameters(weights, len(images))
        update = statistics == "update"
        # A gradient for given statistics is the reference's; episodes have no order to update in.
        graph = self._method == "embed" and not isinstance(statistics, dict)
        if (update and len(images) > 1) or not self._fits(parameters, images, graph=graph):
            return super().call(weights, images, statistics)
        episodes = self._episodes(parameters, images, None if update else statistics)

        def by_reference(parameters: Sequence[Tensor]) -> Tensor:
            of_batch = None if update else statistics
            return super(FusedNetwork, self).call(self._named(parameters), images, of_batch)

        outputs = self._outputs_of_all(episodes, parameters, by_reference)
        if update:
            self._update(self._moments_of(episodes, images, unbiased=True))
        return outputs

    def call_and_measure(
        self,
        weights: Mapping[str, Tensor],
        images: Tensor,
        measure: Callable[[Tensor], Moments] = moments,
    ) -> tuple[Tensor, Statistics]:
        """As `Network.call_and_measure`; without a graph by the kernels.

        Features by `unbiased_moments`, which have no graph, may have one themselves.
        """
        parameters = self._parameters(weights, len(images))
        unbiased = measure is unbiased_moments
        graph = unbiased and self._method == "embed"
        if not (unbiased or measure is moments) or not self._fits(parameters, images, graph=graph):
            return super().call_and_measure(weights, images, measure)
        episodes = self._episodes(parameters, images, None)

        def by_reference(parameters: Sequence[Tensor]) -> Tensor:
            return super(FusedNetwork, self).call(self._named(parameters), images)

        outputs = self._outputs_of_all(episodes, parameters, by_reference)
        return outputs, self._moments_of(episodes, images, unbiased=unbiased)

    def _outputs_of_all(
        self,
        episodes: Episodes,
        parameters: Sequence[Tensor],
        by_reference: Callable[[Sequence[Tensor]], Tensor],
    ) -> Tensor:
        """(E, n, ...), with a graph where one is needed."""
        if self._method != "embed":
            return episodes.outputs()
        if torch.is_grad_enabled() and any(of.requires_grad for of in parameters[:-HEAD]):
            return Features.apply(episodes, by_reference, *parameters)  # pyright: ignore
        return episodes.outputs(features=True)

    def _named(self, parameters: Sequence[Tensor]) -> dict[str, Tensor]:
        return dict(zip(NAMES, parameters, strict=True))

    def losses(
        self,
        weights: Mapping[str, Tensor],
        batch: LabelledImages,
        objective: Objective,
        statistics: Statistics | Stored | None = None,
    ) -> Losses:
        """As `Network.losses`; cross-entropies by the kernels."""
        images, labels = batch.images, batch.labels
        parameters = self._parameters(weights, len(images))
        ways = parameters[-1].shape[-1]
        if not (
            objective.loss_fn is F.cross_entropy
            and objective.ways in (None, ways)
            and objective.measure in (None, unbiased_moments)
            and self._method == "forward"
            and self._fits(parameters, images, graph=True)
            and _are_classes(labels, images, ways)
        ):
            return super().losses(weights, batch, objective, statistics)
        update = statistics == "update"
        episodes = self._episodes(parameters, images, None if update else statistics)
        graph = torch.is_grad_enabled()
        wants = Wants(
            body=graph
            and not objective.zero_head
            and any(of.requires_grad for of in parameters[:-HEAD]),
            head=graph and any(of.requires_grad for of in parameters[-HEAD:]),
            second=graph and objective.twice,
        )
        values, outputs = LabelledLoss.apply(episodes, labels, wants, *parameters)
        seen = {}
        if objective.measure or update:
            seen = self._moments_of(episodes, images, unbiased=True)
        if update:
            self._update(seen)
        return Losses(values, outputs, seen, head_alone=objective.zero_head is not None)

    def _fits(self, parameters: Sequence[Tensor], images: Tensor, *, graph: bool) -> bool:
        """Whether the kernels can compute this call."""
        architecture = self._architecture
        if images.ndim != 5 or images.shape[2] != architecture.channels:
            return False
        side = images.shape[3]
        if images.shape[4] != side or side < 16 or 0 in images.shape:
            return False
        tensors = [images, *parameters]
        if any(of.dtype != torch.float32 or of.device.type != "cpu" for of in tensors):
            return False
        if images.requires_grad or any(map(is_transformed, tensors)):
            return False
        if not graph and torch.is_grad_enabled() and any(of.requires_grad for of in parameters):
            return False
        plan = plan_of(architecture, images.shape[1], side)
        return parameters[-2].shape[-1] == plan.features

    def _episodes(
        self,
        parameters: Sequence[Tensor],
        images: Tensor,
        statistics: Statistics | Stored | None,
    ) -> Episodes:
        """The episodes of a call, with features that are known already, if there are some."""
        plan = plan_of(self._architecture, images.shape[1], images.shape[3])
        body = parameters[:-HEAD]
        held = [images, *body]
        stamp = [_stamp(of) for of in held]
        known = None
        # Statistics that are given are new ones at every call.
        if statistics is None and self._last is not None and _equal(self._last[0], stamp):
            known = self._last[2]
        episodes = Episodes(
            plan,
            self._patches_of(images, plan),
            arrays_of(parameters, len(images)),
            self._given(statistics, len(images)),
            known,
        )
        if statistics is None:
            # The tensors are held, so that no other takes their address.
            self._last = stamp, held, episodes
        return episodes

    def _patches_of(self, images: Tensor, plan: Plan) -> list[Patches]:
        stamp = [_stamp(images)]
        if self._patches is None or not _equal(self._patches[0], stamp):

            def of_one(episode: int) -> Patches:
                values = images[episode].detach().numpy().transpose(2, 3, 1, 0)
                return patches_of(plan, np.ascontiguousarray(values))

            self._patches = stamp, images, each(of_one, len(images))
        return self._patches[2]

    def _given(self, statistics: Statistics | Stored | None, episodes: int) -> list[Given]:
        """What each norm is given in each episode, the features' norm last."""
        nothing: list[None] = [None] * (BLOCKS + 1)
        if statistics is None:
            return [nothing] * episodes
        if isinstance(statistics, str):
            stored = [self._layers[name].running() for name in self._norms]
            pairs = [(of.mean.detach().numpy(), of.variance.detach().numpy()) for of in stored]
            return [[*pairs, *nothing[len(pairs) :]]] * episodes
        arrays = {
            name: (of.mean.detach().contiguous().numpy(), of.variance.detach().contiguous().numpy())
            for name, of in statistics.items()
        }
        names = [*self._norms, *nothing[len(self._norms) :]]
        return [
            [
                (arrays[name][0][episode], arrays[name][1][episode]) if name in arrays else None
                for name in names
            ]
            for episode in range(episodes)
        ]

    def _moments_of(self, episodes: Episodes, images: Tensor, *, unbiased: bool) -> Statistics:
        """What batch norm saw of images (E, n, ...)."""
        counts = [images.shape[1] * side**2 for side in episodes.plan.grids] + [images.shape[1]]
        return self._by_layer(episodes.moments(), counts, unbiased=unbiased)


def _stamp(tensor: Tensor) -> tuple[Any, ...]:
    """What tells a tensor's memory and its changes; the version last."""
    return tensor.data_ptr(), tensor.shape, tensor.stride(), version(tensor)


def _equal(former: list[tuple[Any, ...]], stamps: list[tuple[Any, ...]]) -> bool:
    """Whether tensors are the same, unchanged; what counts no changes never is."""
    return former == stamps and all(stamp[-1] != -1 for stamp in stamps)


def _are_classes(labels: Tensor, images: Tensor, ways: int) -> bool:
    """Whether labels (E, n) are among so many classes; kernels look up what they say."""
    if labels.dtype != torch.int64 or labels.shape != images.shape[:2]:
        return False
    least, most = torch.aminmax(labels)
    return 0 <= int(least) and int(most) < ways
