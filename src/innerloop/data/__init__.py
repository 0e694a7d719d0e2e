"""Data sets: Omniglot, the built-in strokes, folders of pictures, and how one is found."""

import os
from collections.abc import Callable
from functools import lru_cache
from numbers import Integral
from pathlib import Path

from innerloop.core.errors import ConfigError, nearest
from innerloop.data import folders, omniglot, strokes
from innerloop.data.images import FewShotDataset

DATASETS = ("auto", "omniglot", "strokes")
LARGEST = 1024
"""Side of images in pixels: above it a slip of the keyboard is likelier than a wish."""


def load_dataset(
    name: str | os.PathLike[str],
    *,
    size: int,
    data_dir: Path | None = None,
    folder: str = "",
    fewest_images: int = 0,
    say: Callable[[str], None] = print,
) -> FewShotDataset:
    """The data set of that name, its images ``size`` pixels wide.

    Args:
        name: ``omniglot``, ``strokes``, ``auto`` (Omniglot where it is found or can be downloaded,
            else strokes, said aloud), or the path of a folder of pictures. A folder that holds
            Omniglot, as archives or extracted from them, is Omniglot.
        size: side of the images in pixels, 1 to `LARGEST`.
        data_dir: where Omniglot's two archives are; see `omniglot.load` for the order of places.
            With ``folder``, where the pictures are now.
        folder: where the pictures of a folder are, if ``name`` is no path but what the data set is
            called: as a run's settings have it.
        fewest_images: leave out a folder's classes with fewer pictures.
        say: told in sentences what is passed over, and when ``auto`` falls back to strokes.

    Raises:
        ConfigError: if there is no such data set or size.
        DataError: if it is not to be had, or is damaged.
    """
    name = os.fspath(name)
    if isinstance(size, bool) or not isinstance(size, Integral) or not 1 <= size <= LARGEST:
        raise ConfigError(f"size must be a whole number between 1 and {LARGEST}: got {size!r}.")
    place = _folder(name, data_dir, folder)
    if place is not None and not omniglot.lies_in(place):
        called = name if folder and not _is_path(name) else folders.safe_name(place, DATASETS)
        return folders.load(place, size=size, name=called, fewest_images=fewest_images, say=say)
    if fewest_images:
        raise ConfigError("fewest_images leaves out classes of a folder of pictures: set it to 0.")
    if name == "strokes":
        return _strokes(size)
    try:
        return omniglot.load(place or data_dir, size=size)
    except omniglot.NotFoundError as error:
        if name == "omniglot":
            raise
        say(
            f"{error} Going on with the built-in strokes data set: synthetic drawings, NOT "
            "Omniglot; its numbers cannot be compared with Omniglot's."
        )
        return _strokes(size)


def _folder(name: str, data_dir: Path | None, folder: str) -> Path | None:
    """The folder that is asked for; None where it is a data set with a name."""
    if name in DATASETS:
        return None
    if folder and not _is_path(name):
        return data_dir or Path(folder)
    if not _is_path(name) and not os.path.exists(name):
        hint = nearest(name, DATASETS) or (
            f" There are: {', '.join(DATASETS)}; a folder of pictures is named by its path, such "
            "as ./pictures."
        )
        raise ConfigError(f"There is no data set {name!r}.{hint}")
    if data_dir is not None:
        raise ConfigError(
            f"--data {name} and --data-dir {data_dir} both name a folder: give one of them."
        )
    return Path(name).expanduser()


def _is_path(name: str) -> bool:
    return "/" in name or os.sep in name


@lru_cache(maxsize=1)
def _strokes(size: int) -> FewShotDataset:
    """Generated once in a process, since that takes seconds; read-only, since it is shared."""
    dataset = strokes.generate(size=size)
    dataset.images.setflags(write=False)
    return dataset


__all__ = ["DATASETS", "FewShotDataset", "folders", "load_dataset", "omniglot", "strokes"]
