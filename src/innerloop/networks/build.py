"""The network of a run, from its settings."""

import dataclasses

from torch import nn

from innerloop.networks.conv4 import Conv4
from innerloop.settings.sections import NetworkSettings


def build_network(
    settings: NetworkSettings, outputs: int, *, channels: int, image_size: int
) -> nn.Module:
    """A network with fresh weights from PyTorch's global generator.

    Args:
        settings: which network.
        outputs: of its head.
        channels: of an image.
        image_size: side of the square images in pixels.
    """
    return Conv4(outputs, channels=channels, image_size=image_size, **dataclasses.asdict(settings))
