"""Data sets: Omniglot, the built-in strokes, and how the one asked for is found."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from innerloop.core.errors import ConfigError, did_you_mean
from innerloop.data import omniglot, strokes
from innerloop.data.images import FewShotDataset

DATASETS = ("auto", "omniglot", "strokes")


def load_dataset(
    name: str, *, size: int, data_dir: Path | None = None, say: Callable[[str], None] = print
) -> FewShotDataset:
    """The data set of that name, its images ``size`` pixels wide.

    Args:
        name: ``omniglot``, ``strokes``, or ``auto``: Omniglot where it is found or can be
            downloaded, else strokes, said aloud.
        size: side of the images in pixels.
        data_dir: where Omniglot's two archives are; see `omniglot.load` for the order of places.
        say: told in a sentence when ``auto`` falls back to strokes.

    Raises:
        ConfigError: if there is no such data set.
        DataError: if Omniglot was asked for and is not to be had, or is damaged.
    """
    if name not in DATASETS:
        raise ConfigError(f"There is no data set {name!r}.{did_you_mean(name, list(DATASETS))}")
    if name == "strokes":
        return _strokes(size)
    try:
        return omniglot.load(data_dir, size=size)
    except omniglot.NotFoundError as error:
        if name == "omniglot":
            raise
        say(
            f"{error} Going on with the built-in strokes data set: synthetic drawings, NOT "
            "Omniglot; its numbers cannot be compared with Omniglot's."
        )
        return _strokes(size)


@lru_cache(maxsize=1)
def _strokes(size: int) -> FewShotDataset:
    """Generated once in a process, since that takes seconds; read-only, since it is shared."""
    dataset = strokes.generate(size=size)
    dataset.images.setflags(write=False)
    return dataset


__all__ = ["DATASETS", "FewShotDataset", "load_dataset", "omniglot", "strokes"]
