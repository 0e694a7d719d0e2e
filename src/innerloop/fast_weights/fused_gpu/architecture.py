"""Which networks the engine computes, and their sizes."""

from dataclasses import dataclass

import torch
from torch import nn

from innerloop.fast_weights.stock import BLOCKS, why_changed
from innerloop.networks.batch_norm import batch_norm_layers
from innerloop.networks.conv4 import Conv4

HEAD = ("head.weight", "head.bias")


@dataclass(frozen=True)
class Architecture:
    """What a `Conv4` is, as far as its computation goes.

    Attributes:
        pooled: whether blocks pool, or their convolutions have stride 2.
        biased: whether convolutions have a bias.
        last_relu: whether the last block has its ReLU.
        flatten: whether features are all positions, or their mean.
        feature_norm: whether features are standardised.
        feature_scale: what they are multiplied by.
        eps: of all batch norms.
    """

    pooled: bool
    biased: bool
    last_relu: bool
    flatten: bool
    feature_norm: bool
    feature_scale: float
    eps: float

    @staticmethod
    def of(model: Conv4) -> "Architecture":
        """That of a network which `why_not` has nothing against."""
        return Architecture(
            model.downsample == "max-pool",
            "convs.0.bias" in dict(model.named_parameters()),
            model.last_relu,
            model.features == "flatten",
            model.feature_norm is not None,
            float(model.feature_scale),
            batch_norm_layers(model)["norms.0"].eps,
        )

    @property
    def stride(self) -> int:
        """Of the convolutions."""
        return 1 if self.pooled else 2

    @property
    def body(self) -> tuple[str, ...]:
        """Names of the parameters before the head: by kind, since not all kinds are adapted."""
        kinds = ["convs.{}.weight", "norms.{}.weight", "norms.{}.bias"]
        kinds += ["convs.{}.bias"] if self.biased else []
        return tuple(kind.format(block) for kind in kinds for block in range(BLOCKS))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parameters, in the order in which the engine takes them."""
        return self.body + HEAD

    def relu(self, block: int) -> bool:
        """Whether a block ends with a ReLU."""
        return block < BLOCKS - 1 or self.last_relu

    def sides(self, height: int, width: int) -> list[tuple[int, int]]:
        """Sides of the images, and of each block's output."""
        sides = [(height, width)]
        for _ in range(BLOCKS):
            sides.append(self.after(*sides[-1]))
        return sides

    def after(self, height: int, width: int) -> tuple[int, int]:
        """Sides of a block's output: pooling rounds down, a padded convolution up."""
        if self.pooled:
            return height // 2, width // 2
        return -(-height // 2), -(-width // 2)


def why_not(model: nn.Module) -> str | None:
    """Why the engine cannot compute a network, to go on after "because"; None if it can."""
    if because := why_changed(model):
        return because
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.dtype not in (torch.float32, torch.float64):
            return f"its weights are {tensor.dtype}"
    return None
