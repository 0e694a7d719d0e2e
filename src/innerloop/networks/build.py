"""The network of a run, from its settings."""

import dataclasses
from typing import Any

from torch import nn

from innerloop.core.errors import ConfigError, InnerloopError, first_line
from innerloop.core.imports import load
from innerloop.networks.conv4 import Conv4
from innerloop.networks.resnet12 import ResNet12
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

    Raises:
        ConfigError: if images are too small for it; or of one's own, if its factory cannot be
            imported, raises, or returns no module.
    """
    own = _own(settings)
    if settings.name == "conv4":
        return Conv4(outputs, channels=channels, image_size=image_size, **own)
    if settings.name == "resnet12":
        own["filters"] = settings.channels_of_blocks
        del own["widths"]
        return ResNet12(outputs, channels=channels, image_size=image_size, **own)
    return _made_by(settings.name, outputs=outputs, channels=channels, image_size=image_size)


def _own(settings: NetworkSettings) -> dict[str, Any]:
    """The settings that the network has, but for its name."""
    foreign = {field.name for field in settings.foreign(settings.name)}
    return {
        name: value
        for name, value in dataclasses.asdict(settings).items()
        if name not in foreign and name != "name"
    }


def _made_by(place: str, **sizes: int) -> nn.Module:
    """What the factory at ``module:factory`` makes."""
    factory = load(place, "The network")
    if not callable(factory):
        raise ConfigError(
            f"{place} is of type {type(factory).__name__}: name a function or class that takes "
            "outputs, channels and image_size, and returns a torch.nn.Module."
        )
    try:
        network = factory(**sizes)
    except InnerloopError:
        raise
    except Exception as error:  # whatever somebody else's code raises
        given = ", ".join(f"{name}={value}" for name, value in sizes.items())
        raise ConfigError(
            f"{place} makes no network of {given}: {type(error).__name__}: {first_line(error)}."
        ) from error
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"{place} returned {type(network).__name__}: it is to return a torch.nn.Module."
        )
    return network
