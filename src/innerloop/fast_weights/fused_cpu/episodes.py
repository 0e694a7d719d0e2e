"""Several episodes at once: what tensors and kernels are to each other, and work on threads."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from innerloop.fast_weights.fused_cpu.architecture import BLOCKS, Plan
from innerloop.fast_weights.fused_cpu.buffers import (
    Activations,
    Kept,
    Patches,
    Statistics,
    Weights,
    scratch_of,
)
from innerloop.fast_weights.fused_cpu.layout import TAPS, as_taps, from_taps
from innerloop.fast_weights.fused_cpu.passes import Given, Pass
from innerloop.fast_weights.fused_cpu.tangents import hessian_vector
from innerloop.fast_weights.fused_cpu.threads import each
from innerloop.networks.batch_norm import Moments

Result = TypeVar("Result")

NAMES = (
    *(f"convs.{block}.weight" for block in range(BLOCKS)),
    *(f"norms.{block}.weight" for block in range(BLOCKS)),
    *(f"norms.{block}.bias" for block in range(BLOCKS)),
    "head.weight",
    "head.bias",
)
"""A Conv4's parameters, in the order in which operations take them."""
HEAD = 2
"""How many of them, the last, are the head's."""


def arrays_of(parameters: Sequence[Tensor], episodes: int) -> list[Weights]:
    """Each episode's weights as kernels take them; those that all episodes share, once.

    Args:
        parameters: (E, *shape) each, in the order of `NAMES`.
        episodes: E.
    """
    columns = []
    for number, tensor in enumerate(parameters):
        alike = tensor.stride(0) == 0
        array = _array_of(number, tensor.detach()[:1] if alike else tensor.detach())
        columns.append([array[0]] * episodes if alike else list(array))
    return [_weights(row) for row in zip(*columns, strict=True)]


def _array_of(number: int, parameter: Tensor) -> np.ndarray:
    """(E, ...) as kernels take them."""
    if number >= BLOCKS:
        return parameter.contiguous().numpy()
    return _by_tap(number, as_taps(parameter, inputs_first=number == 0).numpy())


def _by_tap(number: int, taps: np.ndarray) -> np.ndarray:
    """(E, 9, inputs, outputs) from (E, 9 inputs, outputs); (E, 1, 9 inputs, outputs) at first."""
    blocks = 1 if number == 0 else TAPS
    return taps.reshape(len(taps), blocks, -1, taps.shape[-1])


def _weights(arrays: Sequence[np.ndarray]) -> Weights:
    w, g, h = (tuple(arrays[first : first + BLOCKS]) for first in range(0, 3 * BLOCKS, BLOCKS))
    return Weights(w, g, h, *arrays[-HEAD:])


class Results:
    """Memory for gradients, or products with the Hessian, of E episodes.

    Attributes:
        tensors: (E, *shape) each, in the order of `NAMES`.
        of_episode: the same as kernels take it, for each episode.
    """

    def __init__(self, plan: Plan, ways: int, episodes: int):
        filters, channels = plan.architecture.filters, plan.architecture.channels
        inputs = [channels] + [filters] * (BLOCKS - 1)
        shapes = [(TAPS * size, filters) for size in inputs]
        shapes += [(filters,)] * (2 * BLOCKS) + [(ways, plan.features), (ways,)]
        memory = [np.empty((episodes, *shape), np.float32) for shape in shapes]
        tensors = [torch.from_numpy(of) for of in memory]
        convolutions = [
            from_taps(tensors[block], inputs[block], inputs_first=block == 0)
            for block in range(BLOCKS)
        ]
        self.tensors = [*convolutions, *tensors[BLOCKS:]]
        arrays = [
            _by_tap(number, of) if number < BLOCKS else of for number, of in enumerate(memory)
        ]
        self.of_episode = [_weights(row) for row in zip(*arrays, strict=True)]


class Wants(NamedTuple):
    """What will be asked of episodes besides their losses.

    Attributes:
        body: gradients before the head.
        head: the head's gradients.
        second: derivatives of these.
    """

    body: bool = False
    head: bool = False
    second: bool = False


class Episodes:
    """E episodes' images, each at weights of its own.

    Args:
        plan: sizes and tables.
        patches: of each episode's images.
        weights: of each episode.
        given: what batch norm is given in each episode.
        known: other episodes, of the same images and weights before the head, whose features are
            these.
    """

    def __init__(
        self,
        plan: Plan,
        patches: Sequence[Patches],
        weights: Sequence[Weights],
        given: Sequence[Given],
        known: "Episodes | None" = None,
    ):
        self.plan = plan
        self._patches, self._weights, self._given = patches, weights, given
        self._forwards: list[Kept[tuple[Activations, Statistics]] | None] = [None] * len(patches)
        if known is not None:
            self._forwards = list(known._forwards)
        self._passes: list[Pass | None] = [None] * len(patches)
        self._moments: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in patches]
        self._wants = Wants()
        self._labels = np.empty((0, 0), np.int64)
        self._ways = len(weights[0].b)
        self._results: Results | None = None

    def outputs(self, *, features: bool = False) -> Tensor:
        """Logits (E, n, ways), or features (E, n, features)."""

        def of_one(episode: int) -> np.ndarray:
            computed = self._forward(episode)
            return computed.scaled_features() if features else computed.logits

        return torch.from_numpy(np.stack(self._each(of_one)))

    def features(self) -> Tensor:
        """Features (E, n, features), of which `before_features` will be asked."""

        def of_one(episode: int) -> np.ndarray:
            computed = self._passes[episode] = self._forward(episode)
            return computed.scaled_features()

        return torch.from_numpy(np.stack(self._each(of_one)))

    def before_features(self, gradients: Tensor) -> list[Tensor | None]:
        """Gradients (E, *shape) for each of `NAMES`, from those of `features`; None for the head's.

        Args:
            gradients: (E, n, features).
        """
        results = Results(self.plan, 1, len(self._patches))
        arrays = gradients.detach().contiguous().numpy()

        def of_one(episode: int) -> None:
            computed = self._passes[episode] or self._forward(episode)
            computed.from_features(
                arrays[episode],
                self._patches[episode],
                self._weights[episode],
                scratch_of(self.plan),
                results.of_episode[episode],
            )

        self._each(of_one)
        return [*results.tensors[:-HEAD], *[None] * HEAD]

    def moments(self) -> list[Moments]:
        """What each batch norm saw, (E, channels) each, the features' norm last."""
        by_norm = zip(*self._moments, strict=True)
        return [
            Moments(*(torch.from_numpy(np.stack(of)) for of in zip(*pairs, strict=True)))
            for pairs in by_norm
        ]

    def losses(self, labels: Tensor, wants: Wants) -> tuple[Tensor, Tensor]:
        """Mean cross-entropies (E,) and logits (E, n, ways), and what is wanted besides.

        Args:
            labels: (E, n) int64.
            wants: what will be asked for.
        """
        self._labels, self._wants = labels.contiguous().numpy(), wants
        if wants.body or wants.head:
            self._results = Results(self.plan, self._ways, len(self._patches))

        def of_one(episode: int) -> tuple[float, np.ndarray]:
            computed = self._forward(episode)
            loss = computed.loss(self._labels[episode])
            if self._results is not None:
                self._differentiate(computed, episode, self._results.of_episode[episode])
            if wants.second:
                self._passes[episode] = computed
            if wants.head and not wants.body:
                # A step of the head alone leaves the features as they are: the next one's.
                self._forwards[episode] = computed.kept
            return loss, computed.logits

        losses, logits = zip(*self._each(of_one), strict=True)
        return torch.tensor(losses, dtype=torch.float32), torch.from_numpy(np.stack(logits))

    def gradients(self) -> list[Tensor | None]:
        """(E, *shape) for each of `NAMES`; None where it was not wanted."""
        found = Results(self.plan, 1, 0) if self._results is None else self._results
        body = [of.detach() if self._wants.body else None for of in found.tensors[:-HEAD]]
        head = [of.detach() if self._wants.head else None for of in found.tensors[-HEAD:]]
        return body + head

    def hessian_vector(self, directions: Sequence[Tensor | None]) -> list[Tensor]:
        """The Hessians of the losses, times a direction.

        Args:
            directions: (E, *shape) for each of `NAMES`; None is zero.
        """
        head_alone = all(direction is None for direction in directions[:-HEAD])
        count = len(self._patches)
        like = Results(self.plan, self._ways, 1).tensors
        filled = [
            torch.zeros_like(one).expand(count, *one.shape[1:]) if direction is None else direction
            for direction, one in zip(directions, like, strict=True)
        ]
        along = arrays_of(filled, count)
        products = Results(self.plan, self._ways, count)

        def of_one(episode: int) -> None:
            computed = self._passes[episode] or self._again(episode)
            hessian_vector(
                computed,
                self._patches[episode],
                self._weights[episode],
                along[episode],
                scratch_of(self.plan),
                products.of_episode[episode],
                head_alone=head_alone,
            )

        self._each(of_one)
        return products.tensors

    def _each(self, of_one: Callable[[int], Result]) -> list[Result]:
        return each(of_one, len(self._patches))

    def _forward(self, episode: int) -> Pass:
        """The pass of an episode up to its logits."""
        known, weights = self._forwards[episode], self._weights[episode]
        computed = Pass(self.plan, self._ways, known)
        if known is None:
            patches, given = self._patches[episode], self._given[episode]
            computed.features(patches, weights, given, scratch_of(self.plan))
        computed.head(weights)
        # Copies, since a pass's own arrays are another's as soon as it is gone.
        pairs = zip(computed.s.m, computed.s.v, strict=True)
        self._moments[episode] = [
            (mean.astype(np.float32), variance.astype(np.float32)) for mean, variance in pairs
        ]
        return computed

    def _differentiate(self, computed: Pass, episode: int, out: Weights) -> None:
        """Gradients of a pass whose loss is computed, as far as they are wanted."""
        weights = self._weights[episode]
        computed.head_backward(weights, self._labels[episode], out)
        if self._wants.body:
            computed.backward(self._patches[episode], weights, scratch_of(self.plan), out)

    def _again(self, episode: int) -> Pass:
        """A pass that was not kept, with its gradients."""
        computed = self._forward(episode)
        computed.loss(self._labels[episode])
        spare = Results(self.plan, self._ways, 1).of_episode[0]
        self._differentiate(computed, episode, spare)
        return computed
