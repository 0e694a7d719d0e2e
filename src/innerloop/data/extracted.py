"""Omniglot as somebody extracted it from its archives: the same names, held to the same digests."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from innerloop.core.errors import DataError
from innerloop.data.archives import LIMITS, REMEDY, ArchiveContents, verified
from innerloop.data.listing import list_folder


def is_extracted(directory: Path, archive: ArchiveContents) -> bool:
    """Whether there is a folder named like an archive."""
    return os.path.isdir(directory / archive.folder)


def read_extracted(
    directory: Path, archive: ArchiveContents
) -> tuple[bytes, Callable[[], Iterator[np.ndarray]]]:
    """A digest of what is in the folder of an archive; and what reads its drawings as `verified`.

    Raises:
        DataError: if the folder cannot be listed.
    """
    listing = list_folder(directory / archive.folder, deepest=2)
    files = {f"{archive.folder}/{file.name}": file for file in listing.files}

    def read(name: str) -> bytes:
        size = files[name].state[0]
        if size > LIMITS.file_bytes:
            raise DataError(f"{directory}: {name!r} has {size:,} bytes, no drawing has: {REMEDY}.")
        with listing.opened(files[name]) as opened:
            return opened.read()

    return listing.digest, partial(verified, directory, list(files), read, archive)
