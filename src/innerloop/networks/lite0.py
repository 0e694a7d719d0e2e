"""EfficientNet-Lite0 without its last layer: a frozen network that turns photos into features."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import DataError

STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
"""Kernel, stride of the first block, expansion, output channels, and how many blocks."""


class SameConv2d(nn.Conv2d):
    """A convolution with bias, padded as TensorFlow's ``SAME`` is.

    Zeros make the output's side the input's divided by the stride. An odd number of them puts one
    more below and to the right than above and to the left.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel: side of the kernel in pixels; at least the stride.
        stride: in pixels; height and width of the input are multiples of it.
        groups: groups of channels that are convolved apart.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        zeros, self.odd = divmod(kernel - stride, 2)
        super().__init__(inputs, outputs, kernel, stride, padding=zeros, groups=groups)

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, inputs, height, width) to (n, outputs, height / stride, width / stride)."""
        return super().forward(F.pad(input, (0, 1, 0, 1)) if self.odd else input)


class InvertedBottleneck(nn.Module):
    """Widen the channels, convolve each by itself, narrow them; add the input where it fits.

    MBConv of Tan and Le (2019) without squeeze-and-excitation.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel: side of the kernel in pixels.
        stride: in pixels.
        expansion: the channels between are so many times ``inputs``.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = inputs * expansion
        self.expand = SameConv2d(inputs, wide, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(wide, wide, kernel, stride, groups=wide)
        self.project = SameConv2d(wide, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, inputs, height, width) to (n, outputs, height / stride, width / stride)."""
        x = F.relu6(self.expand(input), inplace=True) if self.expand is not None else input
        x = self.project(F.relu6(self.depthwise(x), inplace=True))
        return input + x if self.residual else x


class Lite0(nn.Module):
    """EfficientNet-Lite0 without its last layer.

    EfficientNet-B0 of Tan and Le (2019, arXiv 1905.11946, table 1) in the variant that Google
    published in 2020: ReLU6, no squeeze-and-excitation. Every batch norm is folded into the
    convolution before it, so that there are convolutions with bias alone. Features of an image do
    not depend on the other images.
    """

    def __init__(self):
        super().__init__()
        self.stem = SameConv2d(3, 32, 3, stride=2)
        blocks = []
        inputs = 32
        for kernel, stride, expansion, outputs, repeats in STAGES:
            for number in range(repeats):
                first = stride if number == 0 else 1
                blocks.append(InvertedBottleneck(inputs, outputs, kernel, first, expansion))
                inputs = outputs
        self.body = nn.Sequential(*blocks)
        self.last = SameConv2d(inputs, 1280, 1)

    def embed(self, images: Tensor) -> Tensor:
        """Features (n, 1280), float32 in [0, 6], of images (n, 3, 224, 224), float32 in [0, 1]."""
        # Google's training took (x - 127) / 128 of bytes x.
        x = images * (255 / 128) - 127 / 128
        x = F.relu6(self.stem(x), inplace=True)
        x = F.relu6(self.last(self.body(x)), inplace=True)
        return x.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Features (n, 1280), as `embed` gives them."""
        return self.embed(images)


def load_lite0(path: Path, sha256: str) -> Lite0:
    """The network with the weights of a safetensors file, frozen, in float32 on the CPU.

    Args:
        path: the file: tensors by their names in `Lite0`, float32. A weight may be int16, and has
            then a ``scale`` (outputs,), float32, by which it is multiplied.
        sha256: of the whole file, as hexadecimal digits.

    Raises:
        DataError: if the file cannot be read, is damaged, or is another one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unusable(path, f"cannot be read ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _unusable(path, "is damaged or another file, by its checksum")
    try:
        tensors = _scaled(load(content))
    except (SafetensorError, ValueError, LookupError, TypeError, RuntimeError) as error:
        raise _unusable(path, "does not hold the weights of Lite0") from error
    # Without random numbers: every weight is replaced.
    with torch.device("meta"):
        network = Lite0()
    expected = {
        name: (weight.shape, torch.float32) for name, weight in network.state_dict().items()
    }
    if {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()} != expected:
        raise _unusable(path, "does not hold the weights of Lite0")
    network.load_state_dict(tensors, assign=True)
    # On a CPU convolutions are faster in this layout.
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return network.requires_grad_(False).eval()


def _scaled(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights and biases, those with a scale multiplied by it."""
    scaled = {name: tensor for name, tensor in tensors.items() if not name.endswith(".scale")}
    for name in tensors.keys() - scaled.keys():
        weight = name.removesuffix("scale") + "weight"
        scaled[weight] = scaled[weight] * tensors[name][:, None, None, None]
    return scaled


def _unusable(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} {why}: get it again with `pip install --force-reinstall innerloop-photos`."
    )
