"""The cache: where downloads and decoded images are kept from one process to the next."""

import hashlib
import math
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from innerloop.core.errors import DiskError
from innerloop.core.files import expanded, write_atomic

CACHE_VERSION = 1
"""Another number when the layout of a file of images, or the resizing, changes."""
DIGEST_BYTES = 32


def cache_directory(kind: str = "omniglot") -> Path:
    """Where Omniglot's downloaded archives and decoded images are kept; may not exist yet.

    The folder ``omniglot`` in ``$INNERLOOP_CACHE``, else in the user's cache folder, which each
    system has elsewhere: on Linux ``$XDG_CACHE_HOME/innerloop``, else ``~/.cache/innerloop``.

    Args:
        kind: another folder than ``omniglot``, for what is of other data.
    """
    if named := os.environ.get("INNERLOOP_CACHE"):
        return expanded(named) / kind
    # A user without a home gets a place where nothing is found and nothing can be written.
    nowhere = Path(os.devnull, kind)
    try:
        # Without `appauthor` Windows would have the name twice, as author and as program.
        directory = user_cache_path("innerloop", appauthor=False)
    except RuntimeError:
        return nowhere
    # Earlier versions of platformdirs give such a user a "~" that is no home.
    return directory / kind if directory.is_absolute() else nowhere


def images_path(digest: str, size: int, kind: str = "omniglot") -> Path:
    """Where decoded images are cached: by contents and size, so that what is read is what is asked.

    Args:
        digest: hexadecimal, of what the archives have to hold, or of a folder's path.
        size: side of the images in pixels.
        kind: as in `cache_directory`.
    """
    return cache_directory(kind) / f"{digest[:16]}-{size}px-v{CACHE_VERSION}.cache"


def read_images(
    path: Path, shape: tuple[int, ...], made_from: bytes | None = None
) -> np.ndarray | None:
    """The cached images, or None if they are not there, damaged, or made from other files.

    The file is a SHA-256 over the rest of it, the SHA-256 of what it was made from, and the pixels.

    Args:
        path: the file.
        shape: of the images.
        made_from: SHA-256 of the archives' bytes, or of a folder's listing; None where any archives
            will do.

    Returns:
        ``shape`` uint8, writeable.
    """
    try:
        if path.stat().st_size != 2 * DIGEST_BYTES + math.prod(shape):
            return None
        # Not `np.frombuffer`: images made of bytes could not be written to.
        stored = np.fromfile(path, np.uint8)
    except OSError:
        return None
    checksum = stored[:DIGEST_BYTES].tobytes()
    origin = stored[DIGEST_BYTES : 2 * DIGEST_BYTES].tobytes()
    if hashlib.sha256(stored[DIGEST_BYTES:].data).digest() != checksum:
        return None
    if made_from is not None and origin != made_from:
        return None
    return stored[2 * DIGEST_BYTES :].reshape(shape)


def write_images(path: Path, images: np.ndarray, made_from: bytes) -> None:
    """Keep images for the next time, whole or not at all; if impossible, do without."""
    pixels = np.ascontiguousarray(images).data.cast("B")
    checksum = hashlib.sha256(made_from)
    checksum.update(pixels)
    with suppress(OSError, DiskError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, b"".join([checksum.digest(), made_from, pixels]))
