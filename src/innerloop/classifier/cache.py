"""Vectors of pictures on the disk, by the picture's content and the backbone's version."""

import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import NamedTuple

import numpy as np

from innerloop.data.cache import cache_directory

JPEG = b"\xff\xd8"
"""How a file of it begins."""
WAIT_S = 5
"""For another process that writes."""


class Kept(NamedTuple):
    """What is kept of a picture: its vector (F,) float32, and a small JPEG."""

    vector: np.ndarray
    thumbnail: bytes


class FeatureCache:
    """What is not there, damaged or not to be written is computed again, without a word.

    Args:
        version: of the backbone; empty: nothing is kept.
    """

    def __init__(self, version: str):
        self._version = version
        self._path = cache_directory("features") / "pictures.sqlite"

    def get(self, digests: list[str]) -> dict[str, Kept]:
        """What is kept of pictures, by the SHA-256 of their content."""
        found: dict[str, Kept] = {}
        if not (self._version and digests):
            return found
        with suppress(OSError, sqlite3.Error), self._opened() as table:
            for digest in digests:
                row = table.execute(
                    "SELECT vector, thumbnail FROM pictures WHERE key = ?", (self._key(digest),)
                ).fetchone()
                if kept := _checked(row):
                    found[digest] = kept
        return found

    def put(self, kept: dict[str, Kept]) -> None:
        """Keep pictures, by the SHA-256 of their content."""
        if not (self._version and kept):
            return
        rows = [
            (self._key(digest), _packed(of.vector), of.thumbnail) for digest, of in kept.items()
        ]
        with suppress(OSError, sqlite3.Error), self._opened() as table:
            table.executemany("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?)", rows)
            table.commit()

    def _key(self, digest: str) -> str:
        return f"{self._version}/whole/{digest}"  # the small picture is not cut

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=WAIT_S)) as table:
            table.execute(
                "CREATE TABLE IF NOT EXISTS pictures (key TEXT PRIMARY KEY, vector BLOB, "
                "thumbnail BLOB) WITHOUT ROWID"
            )
            yield table


def _packed(vector: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, vector, allow_pickle=False)
    return file.getvalue()


def _checked(row: tuple[bytes, bytes] | None) -> Kept | None:
    """What a row holds, if it is what was put there."""
    if row is None or not all(isinstance(of, bytes) for of in row):
        return None
    try:
        vector = np.load(io.BytesIO(row[0]), allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return None
    sound = vector.ndim == 1 and vector.dtype == np.float32 and bool(np.isfinite(vector).all())
    return Kept(vector, row[1]) if sound and row[1].startswith(JPEG) else None
