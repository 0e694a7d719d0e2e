"""Frozen networks of other libraries, where a person has them: timm, open_clip, torchvision.

Each is given pictures as that library prepares them for the weights in question, and its last layer
is left out. Weights that are not on the disk are downloaded by the library itself.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from innerloop.classifier.backbones import Backbone, of_module, version_of_module
from innerloop.core.errors import ConfigError, did_you_mean, first_line

SAID = 200
"""Letters of what a library says that are quoted; one of them lists all its networks."""

Prepare = Callable[[Any], Tensor]
"""A picture of Pillow, in RGB -> (channels, height, width)."""


def load(library: str, name: str, *, pretrained: bool = True) -> Backbone:
    """A network of another library.

    Args:
        library: ``timm``, ``open_clip`` or ``torchvision``.
        name: of the network there; for open_clip ``NETWORK/WEIGHTS``, as ``ViT-B-32/openai``.
        pretrained: with its weights; else random ones, for tests.

    Raises:
        ConfigError: if the library is not installed, or has no such network or weights.
    """
    if library not in LIBRARIES:
        raise ConfigError(
            f"There is no library {library!r} of backbones.{did_you_mean(library, list(LIBRARIES))}"
        )
    package, loader = LIBRARIES[library]
    try:
        module = import_module(library)
    # Beside another PyTorch than it was built for, a library raises anything.
    except Exception as error:
        said = first_line(error)[:SAID]
        if find_spec(library) is None:
            advice = f"needs {package} ({said}): pip install {package}"
        else:
            advice = (
                f"cannot be loaded, since {library} is installed and does not import ({said}): "
                "install versions of it, torch and torchvision that go together"
            )
        raise ConfigError(f"The backbone {library}:{name} {advice}.") from error
    try:
        network, prepare = loader(module, name, pretrained)
    # Whatever a library raises at a name, or without a network.
    except Exception as error:
        raise ConfigError(
            f"The backbone {library}:{name} cannot be loaded ({first_line(error)[:SAID]}): check "
            "its name, and that its weights are on the disk or a network is there."
        ) from error
    network.requires_grad_(False).eval()

    def prepared(pixels: np.ndarray) -> np.ndarray:
        return prepare(Image.fromarray(pixels).convert("RGB")).numpy()

    return of_module(f"{library}:{name}", version_of_module(network), network, prepared)


def _timm(timm: Any, name: str, pretrained: bool) -> tuple[nn.Module, Prepare]:
    network = timm.create_model(name, pretrained=pretrained, num_classes=0)
    settings = timm.data.resolve_model_data_config(network)
    return network, timm.data.create_transform(**settings, is_training=False)


def _open_clip(open_clip: Any, name: str, pretrained: bool) -> tuple[nn.Module, Prepare]:
    network, _, weights = name.partition("/")
    if pretrained and not weights:
        raise ConfigError("name its weights too, as ViT-B-32/openai")
    model, _, prepare = open_clip.create_model_and_transforms(
        network, pretrained=weights if pretrained else None
    )
    return model.visual, prepare


def _torchvision(torchvision: Any, name: str, pretrained: bool) -> tuple[nn.Module, Prepare]:
    models = import_module("torchvision.models")
    weights = models.get_model_weights(name).DEFAULT
    network = models.get_model(name, weights=weights if pretrained else None)
    return _without_last_layer(network), weights.transforms()


def _without_last_layer(network: nn.Module) -> nn.Module:
    """The network with the last linear layer as the identity."""
    names = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    parent, _, last = names[-1].rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity())
    return network


LIBRARIES: dict[str, tuple[str, Callable[[Any, str, bool], tuple[nn.Module, Prepare]]]] = {
    "timm": ("timm", _timm),
    "open_clip": ("open_clip_torch", _open_clip),
    "torchvision": ("torchvision", _torchvision),
}
"""How a library is imported -> the package that has it, and how it is asked for a network."""
