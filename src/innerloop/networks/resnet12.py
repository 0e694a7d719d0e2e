"""ResNet-12: the residual network of the few-shot literature."""

from collections.abc import Sequence

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

SLOPE = 0.1
"""Of the leaky ReLU where its input is negative."""


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions beside a 1x1 convolution, then 2x2 max pooling if it is to halve.

    With c, n a convolution without bias and its batch norm, and r the leaky ReLU::

        y = pool(r(n3(c3(r(n2(c2(r(n1(c1(x)))))))) + n0(c0(x))))

    Args:
        inputs: channels of what comes in.
        outputs: channels of what goes out.
        halves: whether the side of what goes out is half of what comes in, rounded down.
    """

    def __init__(self, inputs: int, outputs: int, *, halves: bool = True):
        super().__init__()
        self.halves = halves
        channels = (inputs, outputs, outputs)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, outputs, 3, padding=1, bias=False) for before in channels
        )
        self.norms = nn.ModuleList(BatchNorm2d(outputs) for _ in channels)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.shortcut_norm = BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (n, outputs, side, side), or half the side, of inputs (n, inputs, side, side)."""
        beside = self.shortcut_norm(self.shortcut(x))
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            if number == 2:
                x = x + beside
            x = F.leaky_relu(x, SLOPE)
        return F.max_pool2d(x, 2) if self.halves else x


class ResNet12(nn.Module):
    """Four residual blocks; then features; then one linear layer.

    The network of TADAM (Oreshkin et al. 2018, arXiv 1805.10123), MetaOptNet (Lee et al. 2019,
    arXiv 1904.03758) and RFS (Tian et al. 2020, arXiv 2003.11539). It knows nothing of
    meta-learning: it maps images (n, channels, height, width) to logits (n, ways).

    Deviations:
        There is no DropBlock (Ghiasi et al. 2018, arXiv 1810.12890), which MetaOptNet and RFS have
        in their last two blocks. It draws a mask in every forward pass, and a forward pass is a
        function of images and weights here: the passes of an inner loop, of the support and of the
        query set would be of different networks, and a resumed run would not end with the same
        bits. Their published accuracies are with it.

        MetaOptNet's head sees all positions of the last block (``features="flatten"``), that of
        TADAM and RFS their mean. TADAM's rectifier is a swish, here it is MetaOptNet's.

    Args:
        ways: outputs of the linear head.
        channels: channels of an image.
        image_size: side of the square images in pixels, at least 16.
        filters: channels of the four blocks: 64, 160, 320, 640 in MetaOptNet and RFS, 64, 128, 256,
            512 in TADAM.
        halvings: how many blocks, from the first on, halve the image: all four in the papers.
        features: ``flatten`` or ``mean``, as for `innerloop.Conv4`.
        feature_norm: standardise each feature over the batch, as for `innerloop.Conv4`.
        feature_scale: the features are multiplied by this.
        conv_init: ``pytorch``, ``kaiming`` or ``glorot``, as for `innerloop.Conv4`; ``kaiming``
            takes the rectifier's slope into account.
        head_init: ``zero`` or ``glorot`` (uniform); the head's bias is zero.

    Raises:
        ConfigError: if the image is too small for its halvings, or there are not four blocks.
    """

    def __init__(
        self,
        ways: int,
        *,
        channels: int = 3,
        image_size: int = 84,
        filters: Sequence[int] = (64, 160, 320, 640),
        halvings: int = 4,
        features: Features = "mean",
        feature_norm: bool = True,
        feature_scale: float = 1.0,
        conv_init: ConvInit = "pytorch",
        head_init: HeadInit = "zero",
    ):
        super().__init__()
        refuse_other_kinds(
            ways=ways,
            channels=channels,
            image_size=image_size,
            feature_norm=feature_norm,
            feature_scale=feature_scale,
            features=features,
            conv_init=conv_init,
            head_init=head_init,
            halvings=halvings,
        )
        if not isinstance(filters, Sequence) or len(filters) != 4:
            raise ConfigError(
                f"ResNet12 has four blocks, and filters are four numbers: got {filters!r}."
            )
        for of_block in filters:
            refuse_other_kinds(filters=of_block)
        side = image_size // 2**halvings
        if side < 1:
            raise ConfigError(
                f"Images of {image_size} pixels vanish in {halvings} halvings; use {2**halvings} "
                "or more."
            )
        self.features: Features = features
        self.feature_scale = feature_scale
        self.residual = nn.ModuleList(
            ResidualBlock(inputs, outputs, halves=block < halvings)
            for block, (inputs, outputs) in enumerate(
                zip((channels, *filters[:-1]), filters, strict=True)
            )
        )
        self.map_shape = (filters[-1], side, side)
        self.feature_size = filters[-1] * side * side if features == "flatten" else filters[-1]
        self.feature_norm = BatchNorm2d(self.feature_size, affine=False) if feature_norm else None
        self.head = nn.Linear(self.feature_size, ways)
        initialise_convolutions(self.modules(), conv_init, slope=SLOPE)
        initialise_head(self.head, head_init)

    @property
    def blocks(self) -> dict[str, tuple[str, ...]]:
        """Names of each block's submodule; the features' own norm comes last, if there is one."""
        residual = {
            f"block {number + 1}": (f"residual.{number}",) for number in range(len(self.residual))
        }
        return residual | ({"features": ("feature_norm",)} if self.feature_norm else {})

    def maps(self, images: Tensor) -> Tensor:
        """The last block's output ``(n, *map_shape)`` of images (n, channels, height, width)."""
        x = images
        for block in self.residual:
            x = block(x)
        return x

    def embed(self, images: Tensor) -> Tensor:
        """Features (n, feature_size) of images (n, channels, height, width)."""
        return features_of(self.maps(images), self.features, self.feature_norm, self.feature_scale)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, ways) of images (n, channels, height, width)."""
        return self.head(self.embed(images))
