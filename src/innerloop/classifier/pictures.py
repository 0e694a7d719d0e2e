"""What a person gives as pictures: paths, folders, pictures in memory; one at a time, by name."""

import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from innerloop.core.errors import ConfigError, DataError
from innerloop.core.files import expanded
from innerloop.data.folders import class_folders
from innerloop.data.listing import File, Listing, list_folder
from innerloop.data.pictures import FORMATS, decoded, is_picture, pixels_of, unreadable

LARGE_PIXELS = 16_000_000
"""From so many on no two pictures are decoded at once."""
_LARGE = threading.Lock()
MAX_BYTES = 256 * 2**20
"""Of a file that is read."""
FOREIGN = {
    (".heic", ".heif", ".avif"): "save it as JPEG; a phone does so when its camera is set to "
    "the most compatible format",
    (".svg", ".pdf", ".eps", ".ai"): "it is a drawing, not pixels: export it as PNG",
    (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf"): "it is a camera's raw data: save "
    "it as JPEG",
}
"""What people have, and what they can do about it."""


@dataclass(frozen=True)
class Picture:
    """One picture, where it was given.

    Attributes:
        name: what messages and results call it: its path, or its place in a list.
        source: a file; a file of a listing; pixels; or what Pillow has opened.
    """

    name: str
    source: Path | tuple[Listing, File] | np.ndarray | Image.Image

    def read(self) -> "Read":
        """Its content, not decoded yet.

        Raises:
            DataError: if its file cannot be read.
        """
        if isinstance(self.source, np.ndarray | Image.Image):
            return Read(self.name, self.source)
        _refuse_foreign(self.name)
        if isinstance(self.source, tuple):
            listing, file = self.source
            with listing.opened(file) as opened:
                return Read(self.name, _limited(opened.read(MAX_BYTES + 1), self.name))
        try:
            with open(self.source, "rb") as opened:
                return Read(self.name, _limited(opened.read(MAX_BYTES + 1), self.name))
        except OSError as error:
            raise DataError(
                f"Cannot read the picture {self.name!r} ({error.strerror}): check its name and "
                "permissions."
            ) from error


@dataclass(frozen=True)
class Read:
    """A picture's content: the bytes of a file, pixels, or what Pillow has opened."""

    name: str
    content: bytes | np.ndarray | Image.Image

    @property
    def digest(self) -> str:
        """SHA-256 of the content; equal for equal files, or equal pixels."""
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        pixels = self.pixels()
        return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()

    def pixels(self) -> np.ndarray:
        """(height, width) or (height, width, 3) uint8, see `innerloop.data.pictures.decoded`.

        Raises:
            DataError: if it is no picture, is damaged, or is too large.
        """
        # Pillow's warnings are not kept from anyone: filters of warnings are the process's, and
        # pictures are decoded by several threads.
        if isinstance(self.content, bytes):
            # Of large ones one at a time: memory would be their number's.
            with _LARGE if _may_be_large(self.content) else nullcontext():
                return decoded(io.BytesIO(self.content), self.name)
        if isinstance(self.content, np.ndarray):
            return _pixels_of_array(self.content, self.name)
        try:
            return pixels_of(self.content, self.name)
        except DataError:
            raise
        # What Pillow opened is decoded only now.
        except Exception as error:
            raise unreadable(error, self.name) from error


def short_name(name: str) -> str:
    """A picture's folder and file, without what leads there."""
    return "/".join(Path(name).parts[-2:])


def path_of(given: Any) -> Path:
    """A path as a person gave it; ``~`` is the home folder where there is no such file.

    Raises:
        ConfigError: if it holds a NUL, or is of bytes.
    """
    text = os.fspath(given)
    if not isinstance(text, str) or "\0" in text:
        raise ConfigError(f"{text!r} cannot be the path of a file.")
    path = Path(text)
    return path if path.exists() else expanded(path)


def pictures_of(given: Any) -> list[Picture]:
    """The pictures of a folder, a file, an array, or of a list of files, arrays and pictures.

    Args:
        given: a path of a picture, or of a folder, whose pictures are taken wherever they lie; an
            array of pictures (n, height, width) or (n, height, width, 3 or 4); or a list of paths,
            `PIL.Image.Image` and arrays (height, width, ...).

    Raises:
        ConfigError: if it is nothing of these.
        DataError: if a folder cannot be listed, or holds no picture.
    """
    if isinstance(given, str | os.PathLike):
        path = path_of(given)
        return _of_folder(path) if path.is_dir() else [Picture(str(path), path)]
    if isinstance(given, Image.Image):
        return [Picture("picture 1", given)]
    if isinstance(given, np.ndarray) and given.dtype.kind in "UO" and given.ndim == 1:
        given = given.tolist()
    if isinstance(given, np.ndarray):
        if given.ndim not in (3, 4) or (given.ndim == 3 and given.shape[2] in (3, 4)):
            raise ConfigError(
                "An array of pictures is (n, height, width) or (n, height, width, 3): got "
                f"{given.shape}. Give one picture as a list with it."
            )
        given = list(given)
    if not isinstance(given, Sequence):
        raise ConfigError(
            "Pictures are a folder, or a list of paths, PIL images or arrays: got "
            f"{type(given).__name__}."
        )
    return [_single(one, place) for place, one in enumerate(given, start=1)]


def _single(given: Any, place: int) -> Picture:
    if isinstance(given, str | os.PathLike):
        path = path_of(given)
        return Picture(str(path), path)
    if isinstance(given, np.ndarray | Image.Image):
        return Picture(f"picture {place}", given)
    raise ConfigError(
        f"Picture {place} is of type {type(given).__name__}: give a path, a PIL image, or an "
        "array (height, width) or (height, width, 3) of bytes."
    )


def labelled_folder(
    folder: Path, say: Callable[[str], None]
) -> tuple[list[Picture], list[str], tuple[str, ...]]:
    """The pictures of FOLDER/<class>/<picture>, or FOLDER/<group>/<class>/<picture>.

    What is named as no picture is passed over, in a sentence.

    Returns:
        Pictures, class by class; the class of each; and all classes, also those without pictures.

    Raises:
        DataError: if the folder is no such thing.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {str(folder)!r}.")
    listing = list_folder(Path(os.path.abspath(folder)), deepest=2)
    inside = {file.parts for file in listing.files}
    classes = {
        parts: name
        for parts, name in class_folders(listing).items()
        # A classifier that lies among its pictures is no class.
        if not {(*parts, "classifier.json"), (*parts, "SHA256SUMS")} <= inside
    }
    pictures: list[Picture] = []
    labels: list[str] = []
    others = list(listing.passed_over)
    for file in listing.files:
        name = classes.get(file.parts[:-1])
        known = is_picture(file.parts[-1]) or _is_foreign(file.parts[-1])
        if name is None or not known:
            others.append(file.name)
            continue
        pictures.append(Picture(str(listing.root.joinpath(*file.parts)), (listing, file)))
        labels.append(name)
    if others:
        say(
            f"Of {folder} {len(others)} entries are no pictures of a class and are passed over, "
            f"the first is {others[0]!r}."
        )
    order = sorted(range(len(labels)), key=lambda place: (labels[place], pictures[place].name))
    return (
        [pictures[place] for place in order],
        [labels[place] for place in order],
        tuple(sorted(classes.values())),
    )


def _of_folder(folder: Path) -> list[Picture]:
    listing = list_folder(Path(os.path.abspath(folder)), deepest=16)
    pictures = [
        Picture(str(listing.root.joinpath(*file.parts)), (listing, file))
        for file in listing.files
        if is_picture(file.parts[-1]) or _is_foreign(file.parts[-1])
    ]
    if not pictures:
        raise DataError(f"The folder {str(folder)!r} holds no pictures.")
    return pictures


def _advice(name: str) -> Iterator[str]:
    suffix = Path(name).suffix.lower()
    for suffixes, advice in FOREIGN.items():
        if suffix in suffixes:
            yield advice


def _is_foreign(name: str) -> bool:
    return any(_advice(name))


def _refuse_foreign(name: str) -> None:
    for advice in _advice(name):
        raise DataError(f"The picture {name!r} cannot be read: {advice}.")


def _may_be_large(content: bytes) -> bool:
    """Whether a file's head promises many pixels; what cannot be read is refused later."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return image.width * image.height > LARGE_PIXELS
    except Exception:  # a decoder may raise anything
        return False


def _limited(content: bytes, name: str) -> bytes:
    if len(content) > MAX_BYTES:
        raise DataError(f"The file {name!r} is larger than {MAX_BYTES:,} bytes: make it smaller.")
    return content


def _pixels_of_array(values: np.ndarray, name: str) -> np.ndarray:
    """Bytes, or numbers from 0 to 1; transparency is laid on white.

    Whole numbers from 0 to 255 are bytes, whatever their type. Where all are 0 or 1 they are black
    and white, but for bytes proper (uint8), which are what a file would hold.
    """
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    colours = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))
    if not colours or 0 in values.shape:
        raise DataError(
            f"{name} is an array of shape {values.shape}: a picture is (height, width), or "
            "(height, width, 3 or 4)."
        )
    if values.dtype.kind not in "buif":
        raise DataError(f"{name} is an array of {values.dtype}: give bytes or numbers from 0 to 1.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{name} holds NaN or infinity: give numbers from 0 to 1, or bytes.")
    if values.dtype != np.uint8:
        times = _to_bytes(values, name)
        numbers = values if values.dtype.kind == "f" else values.astype(np.int64)
        values = np.round(numbers * times).astype(np.uint8)
    return pixels_of(Image.fromarray(values), name)


def _to_bytes(values: np.ndarray, name: str) -> int:
    """By what numbers are multiplied to be bytes."""
    low, high = values.min(), values.max()
    if low >= 0 and high <= 1:
        return 255
    if low >= 0 and high <= 255 and values.dtype.kind in "ui":
        return 1
    whole = ", or whole numbers from 0 to 255 (array.astype(np.uint8))"
    raise DataError(
        f"{name} is an array of {values.dtype} from {low:g} to {high:g}: give numbers from 0 to 1 "
        f"(array / largest value){whole}."
    )
