"""Which way a convolution is computed: measured once for each shape on each device."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from innerloop.fast_weights.fused_gpu.convolution import ByGroups, ByPatches, Convolution
from innerloop.fast_weights.fused_gpu.layers import Grid, given_norm
from innerloop.fast_weights.precision import Precision
from innerloop.networks.batch_norm import Moments

ROUNDS = 5
"""Of which the fastest counts; one more before them, in which the device gets ready."""


@dataclass(frozen=True)
class Shape:
    """Of a convolution of E episodes.

    Attributes:
        episodes, images: E, and n of each.
        sides: height and width of the images.
        inputs, outputs: channels.
        stride: 1 or 2.
        precision: of the products.
        dtype: of the tensors.
        device: on which it is computed.
    """

    episodes: int
    images: int
    sides: tuple[int, int]
    inputs: int
    outputs: int
    stride: int
    precision: Precision
    dtype: torch.dtype
    device: torch.device


measured: dict[Shape, dict[str, float]] = {}
"""Milliseconds of a forward and a backward pass, by each way, of every shape that was met."""


def convolution_for(shape: Shape) -> Convolution:
    """The faster way; patches wherever nothing is measured.

    Nothing is on a CPU, while a CUDA graph is captured, where bfloat16 leaves one way, and where
    PyTorch is to be deterministic: another process might measure otherwise.
    """
    by_patches = ByPatches(shape.stride, shape.precision)
    by_groups = ByGroups(shape.stride, shape.sides, shape.precision)
    if (
        shape.device.type != "cuda"
        or shape.precision == "bfloat16"
        or torch.are_deterministic_algorithms_enabled()
    ):
        return by_patches
    if shape not in measured:
        if torch.cuda.is_current_stream_capturing():
            return by_patches
        measured[shape] = {
            "patches": _milliseconds(lambda: once(by_patches, shape)),
            "groups": _milliseconds(lambda: once(by_groups, shape)),
        }
    times = measured[shape]
    return by_patches if times["patches"] <= times["groups"] else by_groups


@torch.no_grad()
def once(convolution: Convolution, shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """A forward and a backward pass of a convolution on zeros: outputs, and both gradients."""
    kind = {"dtype": shape.dtype, "device": shape.device}
    height, width = shape.sides
    raw = torch.zeros(shape.episodes, shape.images * height * width, shape.inputs, **kind)
    weight = torch.zeros(shape.episodes, 9 * shape.inputs, shape.outputs, **kind)
    level = torch.zeros(shape.episodes, shape.inputs, **kind)
    norm = given_norm(Moments(level, level), None, None, 1.0)
    inputs = convolution.of_block(raw, norm, Grid(shape.sides, pooled=False, relu=True))
    outputs = convolution.forward(inputs, weight)
    of_weights = convolution.of_weights(inputs, outputs)
    return outputs, of_weights, convolution.of_inputs(outputs, weight)


def _milliseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS + 1):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return min(times[1:])
