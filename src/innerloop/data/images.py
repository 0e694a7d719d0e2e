"""Images in memory: the data set every sampler draws from, and the one resize function."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from innerloop.core.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LabelledImages:
    """Images and their labels, as a network takes them; usually with a leading episode dimension E.

    Attributes:
        images: (E, n, channels, height, width) float32 in [0, 1]; ink is 1, background 0.
        labels: (E, n) int64 in [0, ways).
    """

    images: "Tensor"
    labels: "Tensor"

    def __post_init__(self):
        if self.images.shape[: self.labels.ndim] != self.labels.shape:
            raise ValueError(
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
@dataclass(frozen=True, eq=False, init=False)
class FewShotDataset:
    """Classes of images as bytes; of some classes there may be more examples than of others.

    Attributes:
        name: what figures, tables and run names call it, for instance ``omniglot``.
        images: (classes, examples, channels, height, width) uint8; of drawings, ink is 255 and
            background 0. Where classes have different numbers of examples it is an array
            (classes,) of arrays (examples, channels, height, width).
        class_names: one per class, each another, sorted; ``<part>/<alphabet>/<character>`` for
            Omniglot, ``<alphabet>/<character>`` for strokes, ``<group>/<class>`` or ``<class>`` for
            a folder.
        source: where it came from, for the environment record; not part of the fingerprint.
        folder: the folder that it was read from, if it was and is not Omniglot.
    """

    name: str
    images: np.ndarray
    class_names: tuple[str, ...]
    source: str = field(default="", repr=False)
    folder: str = field(default="", repr=False)

    def __init__(
        self,
        name: str,
        images: np.ndarray | Sequence[np.ndarray],
        class_names: Sequence[str],
        source: str = "",
        folder: str = "",
    ):
        """Take images as one array, or as a list with an array for each class.

        Raises:
            DataError: if the images are no bytes of one shape, or do not fit the names.
        """
        values = {
            "name": name,
            "images": _by_class(name, images),
            "class_names": tuple(class_names),
            "source": source,
            "folder": folder,
        }
        for attribute, value in values.items():
            object.__setattr__(self, attribute, value)
        if len(self.images) != len(self.class_names):
            raise DataError(
                f"Data set {name!r} has {len(self.images)} classes of images "
                f"and {len(self.class_names)} class names."
            )
        _refuse_class_names(name, self.class_names)

    @cached_property
    def counts(self) -> np.ndarray:
        """(classes,) int64: examples of each class."""
        return np.array([len(examples) for examples in self.images], dtype=np.int64)

    @cached_property
    def _all(self) -> np.ndarray:
        """(all examples, channels, height, width), class by class."""
        if self.images.dtype == object:
            return np.concatenate(list(self.images))
        return self.images.reshape(-1, *self.image_shape)

    @cached_property
    def _first(self) -> np.ndarray:
        """(classes,) int64: where the examples of each class begin among all."""
        return np.cumsum(self.counts) - self.counts

    def pixels(self, classes: np.ndarray, examples: np.ndarray) -> np.ndarray:
        """A copy of some images.

        Args:
            classes: (...) int64, positions of classes.
            examples: (...) int64, which example of each.

        Returns:
            (..., channels, height, width) uint8.
        """
        return self._all[self._first[classes] + examples]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        channels, height, width = self.images[0].shape[1:]
        return channels, height, width

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over class names and pixels: equal if and only if two runs saw the same data."""
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        # The same bytes in another shape are other images.
        ragged = self.images.dtype == object
        shape = (self.counts.tolist(), self.image_shape) if ragged else self.images.shape
        digest.update(repr(shape).encode())
        digest.update(np.ascontiguousarray(self._all).data)
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


def _by_class(name: str, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Images as `FewShotDataset.images` has them."""
    classes = list(images)
    shapes = {one.shape[1:] for one in classes}
    kinds = {str(one.dtype) for one in classes}
    if kinds != {"uint8"} or len(shapes) != 1 or {one.ndim for one in classes} != {4}:
        found = ", ".join(sorted({f"{one.dtype} of shape {one.shape}" for one in classes})[:2])
        raise DataError(
            f"Data set {name!r} needs uint8 images of shape (classes, examples, channels, height, "
            "width), or such an array without its first dimension for each class, all of one "
            f"image size; got {found or 'no class'}."
        )
    if isinstance(images, np.ndarray) and images.dtype != object:
        return images
    if len({len(one) for one in classes}) == 1:
        return np.stack(classes)
    # One by one: from a list numpy would try to make one array of all numbers.
    ragged = np.empty(len(classes), dtype=object)
    for position, one in enumerate(classes):
        ragged[position] = one
    return ragged


def _refuse_class_names(name: str, class_names: tuple[str, ...]) -> None:
    """Raise `DataError` for a name that two classes have, or that no list could show."""
    twice = [one for one, count in Counter(class_names).items() if count > 1]
    if twice:
        raise DataError(f"Data set {name!r} has two classes called {twice[0]!r}: rename one.")
    for one in class_names:
        # Control characters, a line break among them, and bytes that are no text.
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in one) or not one:
            raise DataError(
                f"Data set {name!r} has a class called {one!r}: rename it, without control "
                "characters and in Unicode."
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
