"""Conv4: the four-block convolutional network of the few-shot literature."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.networks.batch_norm import BatchNorm2d
from innerloop.networks.parts import (
    ConvInit,
    Features,
    HeadInit,
    features_of,
    initialise_convolutions,
    initialise_head,
    refuse_other_kinds,
)


class Conv4(nn.Module):
    """Four blocks of 3x3 convolution, batch norm, ReLU; then features; then one linear layer.

    The network of Vinyals et al. (2016) and Finn et al. (2017, section 5.2). It knows nothing of
    meta-learning: it maps images (n, channels, height, width) to logits (n, ways).

    Args:
        ways: outputs of the linear head.
        channels: channels of an image.
        image_size: side of the square images in pixels; at least 16 with ``max-pool``, if all
            blocks halve it.
        filters: channels of every block.
        downsample: ``stride`` (convolutions of stride 2, as Finn et al. do on Omniglot: 28 -> 14 ->
            7 -> 4 -> 2) or ``max-pool`` (stride 1, then 2x2 max pooling: 28 -> 14 -> 7 -> 3 -> 1).
        halvings: how many blocks, from the first on, halve the image; the others leave it as large
            as it is.
        features: ``flatten`` (filters * side * side) or ``mean`` over the positions (filters).
        last_relu: apply the ReLU of the last block.
        feature_norm: standardise each feature over the batch (batch norm without learnt scale and
            shift).
            Centred features of unit variance let the head learn in a few large steps: no direction
            common to all images dominates, and the size of its curvature is known.
        feature_scale: the features are multiplied by this; it sets the head's effective step size.
        conv_bias: give convolutions a bias. Batch norm cancels it, and Adam turns the round-off of
            its zero gradient into drift; only the course's network has it.
        conv_init: ``pytorch`` (uniform within 1 / sqrt(fan in), what `torch.nn.Conv2d` does),
            ``kaiming`` (He et al. 2015, normal, fan in) or ``glorot`` (Glorot and Bengio 2010,
            uniform). Batch norm makes the network indifferent to the scale of these weights, so
            smaller ones take larger inner steps.
        head_init: ``zero`` or ``glorot`` (uniform); the head's bias is zero.

    Raises:
        ConfigError: if the image is too small for four halvings, or an argument is of another kind.
    """

    def __init__(
        self,
        ways: int,
        *,
        channels: int = 1,
        image_size: int = 28,
        filters: int = 64,
        downsample: Literal["stride", "max-pool"] = "stride",
        halvings: int = 4,
        features: Features = "mean",
        last_relu: bool = True,
        feature_norm: bool = True,
        feature_scale: float = 1.0,
        conv_bias: bool = False,
        conv_init: ConvInit = "pytorch",
        head_init: HeadInit = "zero",
    ):
        super().__init__()
        refuse_other_kinds(
            ways=ways,
            channels=channels,
            image_size=image_size,
            filters=filters,
            last_relu=last_relu,
            feature_norm=feature_norm,
            feature_scale=feature_scale,
            conv_bias=conv_bias,
            downsample=downsample,
            features=features,
            conv_init=conv_init,
            head_init=head_init,
            halvings=halvings,
        )
        self.downsample = downsample
        self.halvings = halvings
        self.features: Features = features
        self.last_relu = last_relu
        self.feature_scale = feature_scale
        side = image_size
        # Layers draw their weights as they are made, also those that are drawn anew later: made
        # in another order, the same seed gives another network.
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        for block in range(4):
            inputs = channels if block == 0 else filters
            halves = block < halvings
            stride = 2 if halves and downsample == "stride" else 1
            self.convs.append(
                nn.Conv2d(inputs, filters, 3, stride=stride, padding=1, bias=conv_bias)
            )
            self.norms.append(BatchNorm2d(filters))
            if halves:
                # A padded convolution rounds up, pooling rounds down.
                side = (side + 1) // 2 if downsample == "stride" else side // 2
        if side < 1:
            raise ConfigError(
                f"Images of {image_size} pixels vanish in four blocks; use 16 or more."
            )
        self.map_shape = (filters, side, side)
        self.feature_size = filters * side * side if features == "flatten" else filters
        self.feature_norm = BatchNorm2d(self.feature_size, affine=False) if feature_norm else None
        self.head = nn.Linear(self.feature_size, ways)
        initialise_convolutions(self.convs, conv_init)
        initialise_head(self.head, head_init)

    @property
    def blocks(self) -> dict[str, tuple[str, ...]]:
        """Names of each block's submodules; the features' own norm comes last, if there is one."""
        convolutional = {
            f"block {number + 1}": (f"convs.{number}", f"norms.{number}")
            for number in range(len(self.convs))
        }
        return convolutional | ({"features": ("feature_norm",)} if self.feature_norm else {})

    def maps(self, images: Tensor) -> Tensor:
        """The last block's output ``(n, *map_shape)`` of images (n, channels, height, width)."""
        x = images
        for block, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            if block < 3 or self.last_relu:
                x = F.relu(x)
            if self.downsample == "max-pool" and block < self.halvings:
                x = F.max_pool2d(x, 2)
        return x

    def embed(self, images: Tensor) -> Tensor:
        """Features (n, feature_size) of images (n, channels, height, width)."""
        return features_of(self.maps(images), self.features, self.feature_norm, self.feature_scale)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, ways) of images (n, channels, height, width)."""
        return self.head(self.embed(images))
