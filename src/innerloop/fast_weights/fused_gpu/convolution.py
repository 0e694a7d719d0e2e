"""How a convolution with weights of each episode's own is computed: in one of two ways.

As a product of matrices, patches times weights; or by the device's own grouped convolution, every
episode a group. Which is faster depends on shape and device, and is measured: see `choice`.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.fast_weights.fused_gpu.layers import Grid, Norm, activated, activated_patches
from innerloop.fast_weights.fused_gpu.patches import patches_of
from innerloop.fast_weights.fused_gpu.products import kept, product
from innerloop.fast_weights.precision import Precision, float32_products


class Convolution(Protocol):
    """A 3x3 convolution with padding 1, and its two gradients.

    Weights and their gradients are (E, 9 x inputs, outputs), what it gives is (E, rows, outputs).

    Attributes:
        stride: 1 or 2.
        of_patches: whether `of_inputs` gives the gradient of patches, or of images.
    """

    stride: int
    of_patches: bool

    def of_images(self, images: Tensor) -> Tensor:
        """What `forward` takes of (E, n, height, width, channels)."""
        ...

    def of_block(self, raw: Tensor, norm: Norm, grid: Grid) -> Tensor:
        """What `forward` takes of what the former block gives, see `layers.activated`."""
        ...

    def forward(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """Outputs."""
        ...

    def of_weights(self, inputs: Tensor, upstream: Tensor) -> Tensor:
        """The gradient of the weights from that of the outputs."""
        ...

    def of_inputs(self, upstream: Tensor, weight: Tensor) -> Tensor:
        """The gradient of the inputs from that of the outputs; see ``of_patches``."""
        ...


class ByPatches:
    """One product of matrices an episode, see `patches`.

    Args:
        stride: 1 or 2.
        precision: of the products.
    """

    of_patches = True

    def __init__(self, stride: int, precision: Precision):
        self.stride = stride
        self._precision: Precision = precision

    def of_images(self, images: Tensor) -> Tensor:
        """Their patches."""
        return patches_of(kept(images, self._precision), self.stride)

    def of_block(self, raw: Tensor, norm: Norm, grid: Grid) -> Tensor:
        """Patches of it."""
        dtype = kept(raw.new_empty(0), self._precision).dtype
        return activated_patches(raw, norm, grid, self.stride, dtype)

    def forward(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """Patches times weights."""
        return product(inputs, weight, self._precision)

    def of_weights(self, inputs: Tensor, upstream: Tensor) -> Tensor:
        """Transposed patches times upstream."""
        return product(inputs.mT, upstream, self._precision)

    def of_inputs(self, upstream: Tensor, weight: Tensor) -> Tensor:
        """Upstream times transposed weights: of the patches."""
        return product(upstream, weight.mT, self._precision)


class ByGroups:
    """One grouped convolution of all episodes.

    Args:
        stride: 1 or 2.
        sides: height and width of the images.
        precision: float32 or tf32; factors of bfloat16 would round the sums too.
    """

    of_patches = False

    def __init__(self, stride: int, sides: tuple[int, int], precision: Precision):
        self.stride = stride
        self._sides = sides
        self._precision: Precision = precision

    def of_images(self, images: Tensor) -> Tensor:
        """The images."""
        return images

    def of_block(self, raw: Tensor, norm: Norm, grid: Grid) -> Tensor:
        """What the block gives."""
        return activated(raw, norm, grid)

    def forward(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """The convolution; episodes are groups."""
        with float32_products(self._precision):
            outputs = F.conv2d(
                _as_groups(inputs), _as_filters(weight), None, self.stride, 1, 1, len(inputs)
            )
        return _from_groups(outputs, len(inputs)).flatten(1, 3)

    def of_weights(self, inputs: Tensor, upstream: Tensor) -> Tensor:
        """By the convolution's own backward pass."""
        outputs = upstream.shape[-1]
        shape = len(inputs) * outputs, inputs.shape[-1], 3, 3
        # Its shape is what the operation looks at, and not its values.
        filters = inputs.new_empty(1).expand(shape)
        gradient = self._backward(upstream, _as_groups(inputs), filters, (False, True))[1]
        return _from_filters(gradient, len(inputs))

    def of_inputs(self, upstream: Tensor, weight: Tensor) -> Tensor:
        """By the convolution's own backward pass: of the images."""
        rows, columns = (-(-side // self.stride) for side in self._sides)
        images = upstream.shape[1] // (rows * columns)
        channels = weight.shape[1] // 9
        inputs = upstream.new_empty(1).expand(images, len(upstream) * channels, *self._sides)
        gradient = self._backward(upstream, inputs, _as_filters(weight), (True, False))[0]
        return _from_groups(gradient, len(upstream))

    def _backward(
        self, upstream: Tensor, inputs: Tensor, filters: Tensor, wanted: Sequence[bool]
    ) -> Any:
        rows, columns = (-(-side // self.stride) for side in self._sides)
        groups = _as_groups(upstream.unflatten(1, (-1, rows, columns)))
        stride, ones = [self.stride] * 2, [1, 1]
        with float32_products(self._precision):
            return torch.ops.aten.convolution_backward(
                *(groups, inputs, filters, None, stride, ones, ones),
                *(False, [0, 0], len(upstream), [*wanted, False]),
            )


def _as_groups(images: Tensor) -> Tensor:
    """(E, n, height, width, channels) -> (n, E x channels, height, width)."""
    return images.movedim((1, 0, 4), (0, 1, 2)).flatten(1, 2)


def _from_groups(images: Tensor, episodes: int) -> Tensor:
    """The inverse of `_as_groups`, contiguous."""
    return images.unflatten(1, (episodes, -1)).movedim((0, 1, 2), (1, 0, 4)).contiguous()


def _as_filters(weight: Tensor) -> Tensor:
    """(E, 9 x inputs, outputs) -> (E x outputs, inputs, 3, 3)."""
    return weight.unflatten(1, (3, 3, -1)).movedim((4, 3), (1, 2)).flatten(0, 1)


def _from_filters(weight: Tensor, episodes: int) -> Tensor:
    """The inverse of `_as_filters`."""
    return weight.unflatten(0, (episodes, -1)).movedim((1, 2), (4, 3)).flatten(1, 3)
