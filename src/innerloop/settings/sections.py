"""The settings that every method has, in sections; their docstrings are the help texts."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from innerloop.core.errors import ConfigError, did_you_mean
from innerloop.settings.fields import Rate, Section, Steps, between, setting

DEVICES = r"cpu|mps|cuda(:\d+)?"
"""What names a device, beside ``auto``."""
NETWORKS = ("conv4", "resnet12")
"""Those with a name; any other is ``module:factory``, a callable that takes ``outputs``,
``channels`` and ``image_size`` and returns a ``torch.nn.Module``."""


@dataclass(frozen=True)
class DataSettings(Section):
    """Which images, and how they come."""

    name: str = setting("auto", flag="data")
    """omniglot, strokes (synthetic), auto, or the path of a folder of pictures."""
    split: str = "auto"
    """assignment, background-heldout, 1100-100-423; alphabets; given, groups, classes (folders)."""
    fewest_images: Annotated[int, between(0, 1_000_000)] = setting(0, seldom=True, formerly=0)
    """Leave out classes of a folder with fewer images than this; 0 keeps all."""
    folder: str = setting("", formerly="", place=True)
    """Where the pictures of a folder lie; its data set is called by the folder's name."""
    rotations: bool = True
    """Turn training images by multiples of 90 degrees; never at validation."""
    warps: Annotated[float, between(0.0, 3.0)] = setting(0.0, seldom=True, formerly=0.0)
    """Warp training images by small turns, shears, scales and shifts, each time others: 1 for those
    of Koch et al. (2015), 0 for none."""
    within_groups: bool = setting(False, seldom=True, formerly=False)
    """Take all classes of a training episode from one group, such as an alphabet: classes that are
    like one another; never at validation."""
    image_size: Annotated[int, between(16, 256)] = setting(28, seldom=True)
    """Side of the images in pixels."""

    @property
    def asked_for(self) -> str:
        """What ``--data`` takes for these images."""
        return self.folder or self.name

    @property
    def are_drawings(self) -> bool:
        """Whether images are ink on paper; those of a folder are shown as they are."""
        return self.name in ("omniglot", "strokes")

    def __post_init__(self):
        super().__post_init__()
        refuse_empty(data=self.name, split=self.split)


@dataclass(frozen=True)
class EpisodeSettings(Section):
    """What an episode consists of."""

    ways: Annotated[int, between(2, 1000)] = 5
    """Classes in an episode."""
    shots: Annotated[int, between(1, 1000)] = 5
    """Support images per class."""
    queries: Annotated[int, between(1, 1000)] = 15
    """Query images per class."""


@dataclass(frozen=True)
class NetworkSettings(Section):
    """The network: its body and a head.

    A setting that the chosen network does not have keeps its default (`foreign`).
    """

    name: str = setting("conv4", flag="network", formerly="conv4")
    """conv4, resnet12, or module:factory."""
    filters: Annotated[int, between(1, 1024)] = setting(64, networks=NETWORKS)
    """Channels (conv4; resnet12's first block)."""
    widths: Literal["wide", "doubling"] = setting(
        "wide", seldom=True, formerly="wide", networks=("resnet12",)
    )
    """Channels of resnet12's blocks as multiples of the first one's: wide is 1, 2.5, 5, 10 (64,
    160, 320, 640), doubling 1, 2, 4, 8."""
    downsample: Literal["stride", "max-pool"] = setting("stride", seldom=True, networks=("conv4",))
    """How a block of conv4 halves the image: convolutions of stride 2, or 2x2 max pooling."""
    halvings: Annotated[int, between(1, 4)] = setting(4, seldom=True, formerly=4, networks=NETWORKS)
    """How many blocks of conv4 and resnet12, from the first on, halve the image."""
    features: Literal["flatten", "mean"] = setting("mean", seldom=True, networks=NETWORKS)
    """What the head of conv4 and resnet12 sees of the last block: all positions, or their mean."""
    last_relu: bool = setting(True, seldom=True, networks=("conv4",))
    """Apply the ReLU of conv4's last block."""
    feature_norm: bool = setting(True, seldom=True, networks=NETWORKS)
    """Standardise each feature of conv4 and resnet12 over the batch before the head, so that large
    inner steps suit it."""
    feature_scale: Annotated[float, between(1e-6, 1e6)] = setting(
        1.0, seldom=True, networks=NETWORKS
    )
    """Factor on the features of conv4 and resnet12 before the head."""
    conv_bias: bool = setting(False, seldom=True, networks=("conv4",))
    """Give conv4's convolutions a bias (batch norm cancels it)."""
    conv_init: Literal["pytorch", "kaiming", "glorot"] = setting(
        "pytorch", seldom=True, networks=NETWORKS
    )
    """Initial convolution weights of conv4 and resnet12: pytorch (uniform, 1 / sqrt(fan in)),
    kaiming (normal) or glorot (uniform)."""
    head_init: Literal["zero", "glorot"] = setting("zero", seldom=True)
    """Initial weights of the linear head of conv4 and resnet12; also of a new head beside learnt
    features, whatever the network."""

    def __post_init__(self):
        super().__post_init__()
        refuse_empty(network=self.name)
        if self.name not in NETWORKS and ":" not in self.name:
            raise ConfigError(
                f"There is no network {self.name!r}.{did_you_mean(self.name, NETWORKS)} One of "
                "your own is module:factory."
            )
        for field in self.foreign(self.name):
            if getattr(self, field.name) != field.default:
                raise ConfigError(
                    f"{field.name} is a setting of {' and '.join(field.metadata['networks'])}, and "
                    f"the network is {self.name}: leave it out."
                )

    @classmethod
    def foreign(cls, network: str) -> list[dataclasses.Field]:
        """The settings that a network of that name does not have."""
        return [
            field
            for field in dataclasses.fields(cls)
            if (networks := field.metadata.get("networks")) and network not in networks
        ]

    def replaced(self, **changes: Any) -> "NetworkSettings":
        """A copy with some attributes changed; what only the former network has is left behind.

        Raises:
            ConfigError: if the new network does not have a setting that is among the changes.
        """
        left_behind = {
            field.name: field.default
            for field in self.foreign(changes.get("name", self.name))
            if changes.get(field.name, getattr(self, field.name)) == getattr(self, field.name)
        }
        return super().replaced(**changes | left_behind)

    @property
    def in_words(self) -> str:
        """The network, as tables of settings say it."""
        if self.name not in NETWORKS:
            return f"{self.name}, a network of its user's own"
        where = "" if self.halvings == 4 else f" in the first {self.halvings}"
        body = f"4 blocks of {self.filters} filters, {self.downsample}{where}"
        if self.name != "conv4":
            body = f"{self.blocks_in_words}{where and f', pooled{where}'}"
        scale = "" if self.feature_scale == 1 else f" times {self.feature_scale:g}"
        return f"{body}, features: {self.features}{scale}, initial weights: {self.conv_init}"

    @property
    def blocks_in_words(self) -> str:
        """The four blocks of a network with a name."""
        if self.name == "conv4":
            return f"4 convolutional blocks of {self.filters} filters"
        return f"4 residual blocks of {', '.join(map(str, self.channels_of_blocks))} filters"

    @property
    def channels_of_blocks(self) -> tuple[int, ...]:
        """Channels of the four blocks of a network with a name."""
        if self.name == "conv4":
            return (self.filters,) * 4
        factors = (1, 2.5, 5, 10) if self.widths == "wide" else (1, 2, 4, 8)
        return tuple(int(self.filters * factor) for factor in factors)


@dataclass(frozen=True)
class TrainingSettings(Section):
    """The outer loop: optimiser, length, validation."""

    meta_steps: Steps = 1000
    """Steps of the outer optimiser."""
    outer_lr: Rate = 0.001
    """Rate of the outer optimiser, Adam."""
    seed: Annotated[int, between(0, 2**31 - 1)] = 0
    """Seed of initial weights and training episodes."""
    clip_gradient: Annotated[float, between(0.0, 1e6)] = setting(0.0, seldom=True)
    """Largest norm of the outer gradient; a longer one is scaled down to it; 0 is off. Steadies
    second order."""
    averaging: Annotated[float, between(0.0, 0.99999)] = setting(0.98, seldom=True)
    """Decay per outer step of the moving average of the weights that is validated and saved; 0 is
    off."""
    validation_every: Steps = setting(50, seldom=True)
    """Outer steps between validations."""
    validation_episodes: Annotated[int, between(2, 100_000)] = setting(30, seldom=True)
    """Fixed episodes of each validation during training."""
    checkpoint_every: Steps = setting(50, seldom=True)
    """Outer steps between checkpoints."""


@dataclass(frozen=True)
class MachineSettings(Section):
    """Where and how it is computed."""

    device: str = setting("auto", seldom=True)
    """Where to compute: cpu, cuda, mps, or auto (cuda where there is one, else cpu)."""
    engine: Literal["auto", "reference", "fused"] = setting(
        "auto", seldom=True, formerly="reference"
    )
    """What computes the network: PyTorch's operations (reference), code of our own, several times
    faster, for the usual network on a CPU or a GPU (fused), or this where it applies (auto)."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = setting(
        "auto", seldom=True, formerly="float32"
    )
    """Of the factors in products of matrices, on a GPU: float32, tf32 (10 bits) or bfloat16 (7
    bits, by the fused engine alone); auto is float32."""
    threads: Annotated[int, between(0, 1024)] = 0
    """CPU threads; 0 takes what PyTorch chooses. The reference engine's bits depend on them."""
    cuda_graph: bool = setting(True, seldom=True, formerly=False)
    """On a GPU, record an outer step once as a CUDA graph and replay it."""
    deterministic: bool = setting(False, seldom=True, formerly=False)
    """On a GPU, take the same operations in the same order every time, so that a resumed run ends
    with the same bits; slower. On a CPU it is so without it."""
    episodes_per_chunk: Annotated[int, between(0, 10_000)] = setting(0, seldom=True)
    """Episodes computed at once; 0 chooses (1 on a CPU, or up to 8 by the fused engine; on a GPU
    as many as its memory holds)."""

    def __post_init__(self):
        super().__post_init__()
        refuse_empty(device=self.device)


def refuse_empty(**texts: str) -> None:
    """Raise `ConfigError` for the first of some settings that is an empty text."""
    for name, text in texts.items():
        if not text.strip():
            raise ConfigError(f"{name} must not be empty.")
