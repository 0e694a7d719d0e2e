"""Images in memory: the data set every sampler draws from, and the one resize function."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from innerloop.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LabelledImages:
    """Images and their labels, as a network takes them; usually with a leading episode dimension E.

    Attributes:
        images: (E, n, channels, height, width) float32 in [0, 1]; ink is 1, background 0.
        labels: (E, n) int64 in [0, ways); or the targets of a regression, (E, n, ...) floating.

    Raises:
        DataError: if there is not one label for each image.
    """

    images: "Tensor"
    labels: "Tensor"

    def __post_init__(self):
        for name, value in (("images", self.images), ("labels", self.labels)):
            if not (hasattr(value, "shape") and hasattr(value, "dtype")):
                raise DataError(f"{name} are of type {type(value).__name__}: give a torch.Tensor.")
        # Of a target, dimensions after (E, n) are its own.
        floating = getattr(self.labels.dtype, "is_floating_point", False)
        ndim = min(self.labels.ndim, 2) if floating else self.labels.ndim
        if ndim == 0 or self.images.shape[:ndim] != self.labels.shape[:ndim]:
            raise DataError(
                f"images and labels must pair up: got images of shape {tuple(self.images.shape)} "
                f"and labels of shape {tuple(self.labels.shape)}."
            )

    def __len__(self) -> int:
        """Number of episodes, E."""
        return len(self.labels)

    def __getitem__(self, episodes: slice) -> "LabelledImages":
        """The episodes of a slice; one episode is a batch of one, so an integer is refused."""
        return LabelledImages(self.images[episodes], self.labels[episodes])

    def to(self, device: str) -> "LabelledImages":
        """Move both tensors to a device."""
        return LabelledImages(self.images.to(device), self.labels.to(device))


# Without `eq`: two arrays do not compare to one truth value.
@dataclass(frozen=True, eq=False)
class FewShotDataset:
    """Every class of a data set with the same number of examples, as bytes.

    Attributes:
        name: what figures, tables and run names call it, for instance ``omniglot``.
        images: (classes, examples, channels, height, width) uint8; ink is 255, background 0.
        class_names: one per class, sorted; ``<part>/<alphabet>/<character>`` for Omniglot,
            ``<alphabet>/<character>`` for strokes.
        source: where it came from, for the environment record; not part of the fingerprint.
    """

    name: str
    images: np.ndarray
    class_names: tuple[str, ...]
    source: str = field(default="", repr=False)

    def __post_init__(self):
        if self.images.ndim != 5 or self.images.dtype != np.uint8:
            raise DataError(
                f"Data set {self.name!r} needs uint8 images of shape (classes, examples, "
                f"channels, height, width); got {self.images.dtype} of shape {self.images.shape}."
            )
        if len(self.images) != len(self.class_names):
            raise DataError(
                f"Data set {self.name!r} has {len(self.images)} classes of images "
                f"and {len(self.class_names)} class names."
            )
        if len(names := set(self.class_names)) < len(self.class_names):
            twice = next(name for name in names if self.class_names.count(name) > 1)
            raise DataError(
                f"Data set {self.name!r} has more than one class {twice!r}: give every class a "
                "name of its own."
            )

    @property
    def examples(self) -> int:
        """Drawings of each class."""
        return self.images.shape[1]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        return self.images.shape[2], self.images.shape[3], self.images.shape[4]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over class names and pixels: equal if and only if two runs saw the same data."""
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        # The same bytes in another shape are other images.
        digest.update(repr(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        return digest.hexdigest()

    def class_indices(self, names: tuple[str, ...] | list[str]) -> np.ndarray:
        """Positions of the named classes.

        Raises:
            DataError: if a class is not in this data set; the first few are named.
        """
        position = {name: index for index, name in enumerate(self.class_names)}
        missing = [name for name in names if name not in position]
        if missing:
            raise DataError(
                f"{len(missing)} classes of the split are not in data set {self.name!r}, for "
                f"instance {missing[0]!r}. The split belongs to another data set: choose another "
                "--split or --data."
            )
        return np.array([position[name] for name in names], dtype=np.int64)


def refuse_wrong_classes(dataset: FewShotDataset, classes: Any) -> np.ndarray:
    """The classes that a sampler is to draw from, as int64.

    Raises:
        ConfigError: if there is none, one comes twice, or one is not of the data set.
    """
    indices = np.asarray(classes)
    if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer) or not len(indices):
        raise ConfigError(
            "classes are a row of at least one index, as class_indices gives them: got "
            f"{indices.dtype} of shape {indices.shape}."
        )
    if indices.min() < 0 or indices.max() >= len(dataset.class_names):
        raise ConfigError(
            f"Data set {dataset.name!r} has classes 0 to {len(dataset.class_names) - 1}: got "
            f"{indices.min()} to {indices.max()}."
        )
    if len(np.unique(indices)) < len(indices):
        # An episode with it could call one class by two labels.
        raise ConfigError(f"A class comes more than once among {len(indices)}: name each once.")
    return indices.astype(np.int64)


def refuse_wrong_range(start: int, count: int) -> None:
    """Raise `ConfigError` unless a batch of a stream begins at 0 or later and is not empty."""
    if start < 0 or count < 1:
        raise ConfigError(
            f"A batch has at least one example and begins at number 0 or later: got {count} from "
            f"number {start} on."
        )


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Shrink or grow an image to ``size`` x ``size`` pixels, each the mean of the area it covers.

    The one resize function: training, image folders and predictions all pass through it, so that a
    drawing looks the same to the network wherever it comes from.

    Args:
        image: (height, width) or (height, width, channels) uint8.
        size: side of the result in pixels.

    Returns:
        (size, size) or (size, size, channels) uint8.
    """
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))
