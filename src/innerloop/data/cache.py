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


def cache_directory() -> Path:
    """Where Omniglot's downloaded archives and decoded images are kept; may not exist yet.

    The folder ``omniglot`` in ``$INNERLOOP_CACHE``, else in the user's cache folder, which each
    system has elsewhere: on Linux ``$XDG_CACHE_HOME/innerloop``, else ``~/.cache/innerloop``.
    """
    if named := os.environ.get("INNERLOOP_CACHE"):
        return expanded(named) / "omniglot"
    # A user without a home gets a place where nothing is found and nothing can be written.
    nowhere = Path(os.devnull, "omniglot")
    try:
        # Without `appauthor` Windows would have the name twice, as author and as program.
        directory = user_cache_path("innerloop", appauthor=False)
    except RuntimeError:
        return nowhere
    # Earlier versions of platformdirs give such a user a "~" that is no home.
    return directory / "omniglot" if directory.is_absolute() else nowhere


def images_path(contents_digest: str, size: int) -> Path:
    """Where decoded images are cached: by contents and size, so that what is read is what is asked.

    Args:
        contents_digest: hexadecimal, of what the archives have to hold.
        size: side of the images in pixels.
    """
    return cache_directory() / f"{contents_digest[:16]}-{size}px-v{CACHE_VERSION}.cache"


def read_images(
    path: Path, shape: tuple[int, ...], made_from: bytes | None = None
) -> np.ndarray | None:
    """The cached images, or None if they are not there, damaged, or made from other archives.

    The file is a SHA-256 over the rest of it, the SHA-256 of the archives it was made from, and the
    pixels.

    Args:
        path: the file.
        shape: of the images.
        made_from: SHA-256 of the archives' bytes; None where any archives will do.

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
    body = made_from + images.tobytes()
    with suppress(OSError, DiskError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, hashlib.sha256(body).digest() + body)
