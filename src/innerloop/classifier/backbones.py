"""Networks that turn a picture into a vector, one picture at a time.

So a picture has the same vector, to the last bit, alone or among others: how a product is rounded
can depend on how many rows it has.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from innerloop.classifier.squares import drawing, photo
from innerloop.core.errors import ConfigError, DataError, did_you_mean
from innerloop.core.version import __version__
from innerloop.methods.base import Learner
from innerloop.networks.plain import plain_network

PREPARED_PHOTO, PREPARED_DRAWING, PREPARED_BY_OTHERS = 2, 1, 1
"""Another number when what a network is given of a picture changes."""
PHOTO_SIDE = 224
DRAWING_SIDE = 28
DRAWINGS = "omniglot"
TRAINED = ("omniglot", "transfer-omniglot")
"""The pretrained networks that `DRAWINGS` was, the newest first: a classifier keeps its own."""
PHOTOS = "photos"


@dataclass(frozen=True)
class Backbone:
    """A frozen network.

    Attributes:
        name: as it was asked for.
        version: equal where the same picture gets the same vector; empty where nobody knows.
        prepare: a picture's pixels, (height, width) or (height, width, 3) uint8 -> what the network
            takes of it.
        network: of that, the vector.
        module: the network as a module, where it is one, and is given (n, *prepared).
    """

    name: str
    version: str
    prepare: Callable[[np.ndarray], Any]
    network: Callable[[Any], Any]
    module: nn.Module | None = None

    def vector(self, pixels: np.ndarray, name: str) -> np.ndarray:
        """(features,) float32 of a picture, which errors call ``name``.

        Raises:
            DataError: if the network gives no finite vector.
        """
        try:
            prepared = self.prepare(pixels)
        except DataError as error:
            raise DataError(f"The picture {name!r} cannot be used: {error}.") from error
        with torch.inference_mode():
            values = self.network(prepared)
        if isinstance(values, Tensor):
            values = values.detach().cpu().numpy()
        vector = np.asarray(values)
        if vector.ndim == 2 and len(vector) == 1:
            vector = vector[0]
        if vector.ndim != 1 or not len(vector) or vector.dtype.kind not in "fiu":
            raise DataError(
                f"The backbone {self.name} gives {vector.dtype} of shape {vector.shape} for "
                f"{name!r}: it must give one vector of numbers."
            )
        vector = vector.astype(np.float32)
        if not np.isfinite(vector).all():
            raise DataError(
                f"The backbone {self.name} gives a vector with NaN or infinity for {name!r}: its "
                "weights are broken, or it is given numbers that it was not trained on."
            )
        return vector


def find_backbone(wanted: Any, version: str = "") -> Backbone:
    """The network that is asked for.

    Args:
        wanted: ``photos``; ``omniglot``; ``timm:NAME``, ``open_clip:NETWORK/WEIGHTS`` or
            ``torchvision:NAME``; or a function from an array (height, width[, 3]) uint8 to a
            vector.
        version: of several networks that had one name, that of this version; where there is none,
            the newest.

    Raises:
        ConfigError: if there is none, or what it needs is not installed.
    """
    if isinstance(wanted, str):
        library, colon, name = wanted.partition(":")
        if colon:
            from innerloop.classifier.libraries import load

            return load(library, name)
        return _photos() if wanted == PHOTOS else _drawings(wanted, version)
    if callable(wanted):
        name = getattr(wanted, "__name__", type(wanted).__name__)
        return Backbone(name, "", lambda pixels: pixels, wanted)
    raise ConfigError(
        "backbone is a name, a function from a picture to a vector, or None for vectors: got "
        f"{type(wanted).__name__}."
    )


def of_module(
    name: str, version: str, module: nn.Module, prepare: Callable[[np.ndarray], np.ndarray]
) -> Backbone:
    """A backbone of a module that takes (n, channels, height, width)."""
    module = module.eval()

    def network(prepared: np.ndarray) -> Tensor:
        return module(torch.from_numpy(np.ascontiguousarray(prepared))[None])[0]

    return Backbone(name, version, prepare, network, module)


def has_photos() -> bool:
    """Whether the photo backbone is installed."""
    from importlib.util import find_spec

    return find_spec("innerloop_photos") is not None


def _photos() -> Backbone:
    from innerloop.networks.lite0 import load_lite0

    try:
        import innerloop_photos
    except ImportError:
        raise ConfigError(
            "The photo backbone is not installed: pip install 'innerloop[photos]'."
        ) from None
    network = load_lite0(innerloop_photos.WEIGHTS, innerloop_photos.SHA256)
    version = _version(innerloop_photos.SHA256, PREPARED_PHOTO)
    return of_module(PHOTOS, version, network, lambda pixels: photo(pixels, PHOTO_SIDE))


def _drawings(name: str, version: str) -> Backbone:
    from innerloop.experiments.pretrained import pretrained, pretrained_run

    if name != DRAWINGS:
        raise ConfigError(
            f"There is no backbone {name!r}.{did_you_mean(name, [PHOTOS, DRAWINGS])} Or name one "
            "of another library: timm:NAME, open_clip:NETWORK/WEIGHTS, torchvision:NAME."
        )
    versions = {
        trained: _version(pretrained_run(trained).weights_sha256(), PREPARED_DRAWING)
        for trained in TRAINED
    }
    trained = next((of for of in TRAINED if versions[of] == version), TRAINED[0])
    return of_module(
        name,
        versions[trained],
        _body(pretrained(trained)),
        lambda pixels: drawing(pixels, DRAWING_SIDE),
    )


class Body(nn.Module):
    """A network up to its features."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Features (n, features) of images (n, channels, height, width)."""
        return self.network.embed(images)  # pyright: ignore[reportCallIssue]


def _body(learner: Learner) -> Body:
    """A trained network's body, normalised by its stored statistics, in PyTorch's own layers.

    The fused engine would have to be compiled first.
    """
    model = learner.get_submodule("model")
    return Body(plain_network(model, {}, "stored", {"head": nn.Identity()}))


def _version(digest: str, preparation: int) -> str:
    return f"{digest[:32]}-{preparation}"


def version_of_module(module: nn.Module) -> str:
    """Of a network's weights and of the innerloop that prepares its pictures."""
    digest = hashlib.sha256(__version__.encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return _version(digest.hexdigest(), PREPARED_BY_OTHERS)
