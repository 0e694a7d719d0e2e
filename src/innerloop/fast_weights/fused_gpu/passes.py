"""The passes of E episodes through a network, each with weights of its own, written out.

Forward, a block is: patches, times weights, batch norm, pooling or not, ReLU. Backward it is the
same in reverse. There is no graph: both passes keep what `tangents` needs, as long as they live.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from innerloop.fast_weights.fused_gpu.architecture import Architecture
from innerloop.fast_weights.fused_gpu.buffers import taps_of
from innerloop.fast_weights.fused_gpu.convolution import Convolution
from innerloop.fast_weights.fused_gpu.head import cross_entropy_back, features_of, from_features
from innerloop.fast_weights.fused_gpu.layers import (
    Back,
    Grid,
    Norm,
    activated,
    back_of,
    behind_norm,
    given_norm,
    norm_of,
    sum_of,
    through_norm,
)
from innerloop.fast_weights.fused_gpu.products import product
from innerloop.fast_weights.stock import BLOCKS
from innerloop.networks.batch_norm import Moments

Given = Sequence[Moments | None]
"""What each norm normalises by, (E, channels), that of the features last; None: the batch."""


class Weights(NamedTuple):
    """The parameters of E episodes, or what is of each of them: gradients, directions.

    Attributes:
        convolutions: (E, 9 x inputs, outputs), tap after tap.
        gammas, betas: (E, channels), of each block's norm.
        biases: (E, channels), of each convolution; empty: there are none.
        head: (E, ways, features).
        head_bias: (E, ways).
    """

    convolutions: Sequence[Tensor]
    gammas: Sequence[Tensor]
    betas: Sequence[Tensor]
    biases: Sequence[Tensor]
    head: Tensor
    head_bias: Tensor

    @staticmethod
    def of(parameters: Sequence[Tensor]) -> "Weights":
        """From parameters (E, *shape) in the order of `Architecture.names`."""
        body = parameters[:-2]
        kinds = [body[start : start + BLOCKS] for start in range(0, len(body), BLOCKS)]
        convolutions = [taps_of(weight) for weight in kinds[0]]
        biases = kinds[3] if len(kinds) > 3 else ()
        return Weights(convolutions, kinds[1], kinds[2], biases, *parameters[-2:])


class Block(NamedTuple):
    """What is known of a block.

    Attributes:
        inputs: what the convolution took.
        raw: (E, rows, channels), what it gave.
        norm: of the block.
        grid: of the block.
    """

    inputs: Tensor
    raw: Tensor
    norm: Norm
    grid: Grid


class Forward:
    """A pass forward.

    Args:
        architecture: of the network.
        convolutions: how each is computed.
        weights: of every episode.
        first: what the first convolution takes of the images.
        sides: height and width of the images.
        given: statistics.

    Attributes:
        blocks: what is known of each.
        raw_features: (E, n, features) before their norm.
        feature_norm: theirs; None: they have none.
        features: (E, n, features).
    """

    def __init__(
        self,
        architecture: Architecture,
        convolutions: Sequence[Convolution],
        weights: Weights,
        first: Tensor,
        sides: tuple[int, int],
        given: Given,
    ):
        self.architecture = architecture
        self.convolutions = convolutions
        self.weights = weights
        self.given = given
        self.blocks: list[Block] = []
        for number, convolution in enumerate(convolutions):
            inputs = first if number == 0 else self._handed_on(convolution)
            block = self._block(number, inputs, sides)
            self.blocks.append(block)
            sides = block.grid.after
        last = self.blocks[-1]
        outputs = activated(last.raw, last.norm, last.grid)
        self.raw_features = features_of(outputs, architecture.flatten).contiguous()
        self.feature_norm: Norm | None = None
        self.features = self.raw_features
        if architecture.feature_norm:
            norm = self._norm(BLOCKS, self.raw_features, None, None)
            self.feature_norm = norm
            self.features = self.raw_features * norm.scale[:, None] + norm.shift[:, None]
        if architecture.feature_scale != 1:
            self.features = self.features * architecture.feature_scale

    def _handed_on(self, convolution: Convolution) -> Tensor:
        last = self.blocks[-1]
        return convolution.of_block(last.raw, last.norm, last.grid)

    def _block(self, number: int, inputs: Tensor, sides: tuple[int, int]) -> Block:
        architecture, weights = self.architecture, self.weights
        raw = self.convolutions[number].forward(inputs, weights.convolutions[number])
        if weights.biases:
            raw = raw + weights.biases[number][:, None]
        norm = self._norm(number, raw, weights.gammas[number], weights.betas[number])
        grid = sides if architecture.pooled else architecture.after(*sides)
        return Block(inputs, raw, norm, Grid(grid, architecture.pooled, architecture.relu(number)))

    def _norm(self, number: int, raw: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Norm:
        given, eps = self.given[number], self.architecture.eps
        if given is None:
            return norm_of(raw, gamma, beta, eps)
        return given_norm(given, gamma, beta, eps)

    def by_batch(self, number: int) -> bool:
        """Whether a norm has the statistics of the batch."""
        return self.given[number] is None

    def moments(self) -> list[Moments]:
        """What each norm saw, or was given; the features' last."""
        norms = [block.norm for block in self.blocks]
        norms += [self.feature_norm] if self.feature_norm else []
        return [Moments(norm.mean, norm.variance) for norm in norms]

    def counts(self) -> list[int]:
        """Of how many values those of each norm are."""
        return [block.raw.shape[1] for block in self.blocks] + [self.raw_features.shape[1]]

    def logits(self) -> Tensor:
        """(E, n, ways). The head is small: it is computed in float32 at every precision."""
        weights = self.weights
        return product(self.features, weights.head.mT, "float32") + weights.head_bias[:, None]


class Backward:
    """The pass backward from each episode's cross-entropy.

    Args:
        forward: the pass forward.
        logits: of that pass.
        labels: (E, n).
        body: whether gradients before the head are computed.

    Attributes:
        of_logits: gradients (E, n, ways).
        of_features: gradients of what the features' norm gave, if they have one.
        behind: of what each block's norm gave.
        of_raw: of what each convolution gave.
        body: gradients of the body's parameters, in the order of `Architecture.body`; those of
            convolutions as `Weights` has them.
    """

    def __init__(self, forward: Forward, logits: Tensor, labels: Tensor, *, body: bool):
        self.forward = forward
        self.of_logits = cross_entropy_back(logits, labels)
        self.of_features: Back | None = None
        self.behind: dict[int, Back] = {}
        self.of_raw: dict[int, Tensor] = {}
        self.body: list[Tensor] = self._body() if body else []

    def head(self) -> tuple[Tensor, Tensor]:
        """Gradients of the head's weight and bias."""
        weight = product(self.of_logits.mT, self.forward.features, "float32")
        return weight, self.of_logits.sum(1)

    def _body(self) -> list[Tensor]:
        forward = self.forward
        convolutions: dict[int, Tensor] = {}
        stride, back = None, self._before_features()
        for number in reversed(range(BLOCKS)):
            inputs, raw, norm, grid = forward.blocks[number]
            behind = behind_norm(back, raw, norm, grid, stride)
            of_raw = through_norm(behind, raw, norm, by_batch=forward.by_batch(number))
            self.behind[number], self.of_raw[number] = behind, of_raw
            convolution = forward.convolutions[number]
            convolutions[number] = convolution.of_weights(inputs, of_raw)
            if number:
                back = convolution.of_inputs(of_raw, forward.weights.convolutions[number])
                stride = convolution.stride if convolution.of_patches else None
        blocks = range(BLOCKS)
        return [
            *(convolutions[number] for number in blocks),
            *(self.behind[number].gamma for number in blocks),
            *(self.behind[number].beta for number in blocks),
            *(sum_of(self.of_raw[number]) for number in blocks if forward.weights.biases),
        ]

    def _before_features(self) -> Tensor:
        """The gradient of what the last block gave."""
        forward = self.forward
        back = product(self.of_logits, forward.weights.head, "float32")
        back = back * forward.architecture.feature_scale
        if forward.feature_norm is not None:
            raw, norm = forward.raw_features, forward.feature_norm
            self.of_features = back_of(back, raw, norm)
            back = through_norm(self.of_features, raw, norm, by_batch=forward.by_batch(BLOCKS))
        return from_features(back, forward.architecture.flatten, forward.blocks[-1].grid.after)
