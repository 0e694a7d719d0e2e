"""Images in memory: the data set every sampler draws from, and the one resize function."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from innerloop.core.errors import ConfigError, DataError, described

if TYPE_CHECKING:
    from torch import Tensor

MOST_CHANNELS = 4
"""That a picture has; more of them, with pixels in so few columns, are rows of pixels."""


@dataclass(frozen=True)
class LabelledImages:
    """Images and their labels, as a network takes them; usually with a leading episode dimension E.

    Attributes:
        images: (E, n, channels, height, width) float32 in [0, 1]; ink is 1, background 0. Or other
            inputs, (E, n, ...) as the network takes them.
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
        parts: of the split that it came with -> class names; empty if it has none.
    """

    name: str
    images: np.ndarray
    class_names: tuple[str, ...]
    source: str = field(default="", repr=False)
    folder: str = field(default="", repr=False)
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def __init__(
        self,
        name: str,
        images: np.ndarray | Sequence[np.ndarray],
        class_names: Sequence[str],
        source: str = "",
        folder: str = "",
        parts: Mapping[str, tuple[str, ...]] | None = None,
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
            "parts": dict(parts or {}),
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
        """Examples of each class, (classes,) int64."""
        return np.array([len(examples) for examples in self.images], dtype=np.int64)

    @cached_property
    def all_images(self) -> np.ndarray:
        """All examples, class by class, (examples, channels, height, width) uint8."""
        if self.images.dtype == object:
            return np.concatenate(list(self.images))
        return self.images.reshape(-1, *self.image_shape)

    @cached_property
    def first(self) -> np.ndarray:
        """Where the examples of each class begin among all images, (classes,) int64."""
        return np.cumsum(self.counts) - self.counts

    def pixels(self, classes: np.ndarray, examples: np.ndarray) -> np.ndarray:
        """A copy of some images.

        Args:
            classes: (...) int64, positions of classes.
            examples: (...) int64, which example of each.

        Returns:
            (..., channels, height, width) uint8.
        """
        return self.all_images[self.first[classes] + examples]

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
        digest.update(np.ascontiguousarray(self.all_images).data)
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


def refuse_no_dataset(dataset: Any) -> None:
    """Raise `ConfigError` unless it is a data set."""
    if not isinstance(dataset, FewShotDataset):
        raise ConfigError(
            f"Samplers draw from a FewShotDataset: got {described(dataset)}. "
            "innerloop.load_dataset reads one; FewShotDataset(name, images, class_names) makes one."
        )


def refuse_no_flags(**flags: Any) -> None:
    """Raise `ConfigError` unless all are True or False: any text would pass for True."""
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise ConfigError(f"{name} is True or False: got {value!r}.")


def refuse_wrong_range(start: int, count: int) -> None:
    """Raise `ConfigError` unless a batch of a stream begins at 0 or later and is not empty."""
    for number in (start, count):
        if isinstance(number, bool) or not isinstance(number, Integral):
            raise ConfigError(
                f"A batch is asked for by whole numbers, (start, count): got {number!r}."
            )
    if start < 0 or count < 1:
        raise ConfigError(
            f"A batch has at least one example and begins at number 0 or later: got {count} from "
            f"number {start} on."
        )


def _by_class(name: str, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Images as `FewShotDataset.images` has them."""
    classes = list(images) if isinstance(images, Iterable) else []
    if strange := [type(one).__name__ for one in classes if not isinstance(one, np.ndarray)]:
        raise DataError(
            f"Data set {name!r} needs numpy arrays of uint8 images, one for each class or one of "
            f"all classes: got {strange[0]}. Convert them with numpy.asarray(..., dtype='uint8')."
        )
    shapes = {one.shape[1:] for one in classes}
    kinds = {str(one.dtype) for one in classes}
    if kinds != {"uint8"} or len(shapes) != 1 or {one.ndim for one in classes} != {4}:
        found = ", ".join(sorted({f"{one.dtype} of shape {one.shape}" for one in classes})[:2])
        raise DataError(
            f"Data set {name!r} needs uint8 images of shape (classes, examples, channels, height, "
            "width), or such an array without its first dimension for each class, all of one "
            f"image size; got {found or 'no class'}."
        )
    (shape,) = shapes
    if shape[0] > MOST_CHANNELS >= shape[2]:
        raise DataError(
            f"Data set {name!r} has images of {shape[0]} channels that are {shape[1]} x {shape[2]} "
            "pixels: the channels come before height and width, numpy.moveaxis(images, -1, -3) "
            "puts them there."
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
    for one in class_names:
        if not isinstance(one, str):
            raise DataError(f"Data set {name!r} has a class called {one!r}: names are texts.")
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
