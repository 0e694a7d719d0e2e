"""What the networks of this package share: initial weights, and features of the last block."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import numpy as np
from torch import Tensor, nn

from innerloop.networks.batch_norm import BatchNorm2d
from innerloop.settings.fields import between, check

Features = Literal["flatten", "mean"]
"""Of the last block: all positions, or their mean."""
ConvInit = Literal["pytorch", "kaiming", "glorot"]
"""Of a convolution's weights, see `initialise_convolutions`."""
HeadInit = Literal["zero", "glorot"]
"""Of the head's weights, see `initialise_head`."""
KINDS = {
    "downsample": Literal["stride", "max-pool"],
    "features": Features,
    "conv_init": ConvInit,
    "head_init": HeadInit,
    "halvings": Annotated[int, between(0, 4)],
    "ways": Annotated[int, between(1, 1_000_000)],
    "channels": Annotated[int, between(1, 10_000)],
    "image_size": Annotated[int, between(1, 10_000)],
    "filters": Annotated[int, between(1, 100_000)],
    "last_relu": bool,
    "feature_norm": bool,
    "conv_bias": bool,
    "feature_scale": float,
}
"""Of arguments of the networks here: another word would make another network, unsaid."""


def refuse_other_kinds(**values: Any) -> None:
    """Raise `ConfigError` unless arguments, by name, are of their `KINDS`."""
    for name, value in values.items():
        check(name, KINDS[name], value.item() if isinstance(value, np.generic) else value)


def initialise_convolutions(
    modules: Iterable[nn.Module], how: ConvInit, *, slope: float = 0.0
) -> None:
    """Draw the weights of convolutions anew, in their order; their biases are zero.

    Args:
        modules: those that are no convolutions stay as they are.
        how: ``pytorch`` (uniform within 1 / sqrt(fan in), as they were made), ``kaiming`` (He et
            al. 2015, normal, fan in) or ``glorot`` (Glorot and Bengio 2010, uniform).
        slope: of the rectifier after them where it is negative; for ``kaiming``.
    """
    for conv in modules:
        if not isinstance(conv, nn.Conv2d):
            continue
        if how == "kaiming":
            nn.init.kaiming_normal_(conv.weight, a=slope, nonlinearity="leaky_relu")
        elif how == "glorot":
            nn.init.xavier_uniform_(conv.weight)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)


def initialise_head(head: nn.Linear, how: HeadInit) -> None:
    """Make the weights of a linear head zero, or draw them (uniform); its bias is zero."""
    if how == "zero":
        nn.init.zeros_(head.weight)
    else:
        nn.init.xavier_uniform_(head.weight)
    nn.init.zeros_(head.bias)


def features_of(maps: Tensor, how: Features, norm: BatchNorm2d | None, scale: float) -> Tensor:
    """Features (n, features) of the last block's outputs (n, filters, side, side).

    Args:
        maps: the outputs.
        how: whether each position is a feature, or their mean.
        norm: standardises each feature over the batch, if there is one.
        scale: the features are multiplied by this.
    """
    # The mean keeps features small enough for inner steps of 0.4; flattened ones are not.
    x = maps.mean(dim=(2, 3)) if how == "mean" else maps.flatten(1)
    if norm is not None:
        x = norm(x[:, :, None, None]).flatten(1)
    return x if scale == 1.0 else x * scale
