"""Read one Omniglot archive in memory, unextracted: refuse hostile ones, verify every pixel.

An archive is ``<folder>.zip`` and holds ``<folder>/<alphabet>/characterNN/XXXX_YY.png``: character
XXXX drawn by drawers 01 to 20, 105 x 105, one bit, black ink on white. What is verified are names
and decoded pixels, not the archive's bytes, so an archive packed anew is as good as the official
one.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from innerloop.core.errors import DataError
from innerloop.core.zips import Limits, open_archive
from innerloop.data.pictures import without_warnings

SIDE = 105
DRAWINGS = 20
# Hexadecimal, of a character's digest: enough to name the place; the archive's own digest is whole.
DIGITS = 16

# The official archives have 9.5 MB and 20,275 entries, their images up to 522 bytes.
MAX_ARCHIVE_BYTES = 32 * 2**20
LIMITS = Limits(entries=50_000, file_bytes=16 * 2**10, total_bytes=64 * 2**20)

REMEDY = "replace it with the official archive (innerloop data download --data-dir FOLDER)"
UNREADABLE_PNG = (
    Image.DecompressionBombError,
    SyntaxError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
)


@dataclass(frozen=True)
class Character:
    """One class of an archive.

    Attributes:
        name: ``<alphabet>/characterNN``.
        number: XXXX of its file names.
        digest: first `DIGITS` of `character_digest`.
    """

    name: str
    number: int
    digest: str

    def files(self, folder: str) -> list[str]:
        """Names of its drawings in the archive, sorted."""
        return [
            f"{folder}/{self.name}/{self.number:04d}_{drawer:02d}.png"
            for drawer in range(1, DRAWINGS + 1)
        ]


@dataclass(frozen=True)
class ArchiveContents:
    """What an archive has to hold, to the pixel.

    Attributes:
        folder: the archive's name without ``.zip``, and its only folder.
        characters: sorted by name.
        digest: `archive_digest` over all of them.
        md5: of the official archive's bytes.
    """

    folder: str
    characters: tuple[Character, ...]
    digest: str
    md5: str

    @cached_property
    def files(self) -> frozenset[str]:
        """Names of all drawings."""
        return frozenset(
            name for character in self.characters for name in character.files(self.folder)
        )


def character_digest(name: str, ink: np.ndarray) -> str:
    """SHA-256 over a character's name and its pixels, eight to a byte.

    Args:
        name: ``<alphabet>/characterNN``.
        ink: (DRAWINGS, SIDE, SIDE) bool.
    """
    # The name is in it, or two characters could change places; NUL, which no name has, ends it.
    return hashlib.sha256(name.encode() + b"\0" + np.packbits(ink).tobytes()).hexdigest()


def archive_digest(character_digests: list[str]) -> str:
    """SHA-256 over the whole digests of an archive's characters, in the order of their names."""
    return hashlib.sha256("\n".join(character_digests).encode()).hexdigest()


def read_bytes(path: Path) -> bytes:
    """An archive's bytes, if it is there and not absurdly large.

    Raises:
        DataError: if it is missing, unreadable or larger than `MAX_ARCHIVE_BYTES`.
    """
    try:
        with path.open("rb") as file:
            # One byte more tells that it is too large, without reading all of whatever is there.
            data = file.read(MAX_ARCHIVE_BYTES + 1)
    except FileNotFoundError:
        raise DataError(
            f"There is no archive {path}: put it there (innerloop data download --data-dir FOLDER)."
        ) from None
    except OSError as error:
        raise DataError(
            f"Cannot read the archive {path} ({error.strerror}): check its permissions."
        ) from error
    if len(data) > MAX_ARCHIVE_BYTES:
        raise DataError(
            f"{path} is larger than {MAX_ARCHIVE_BYTES:,} bytes, no Omniglot archive is: {REMEDY}."
        )
    return data


def read_characters(path: Path, data: bytes, expected: ArchiveContents) -> Iterator[np.ndarray]:
    """The drawings of each character in turn, verified.

    The digest of the archive as a whole is compared after the last character: exhaust the iterator.

    Args:
        path: what errors call the archive.
        data: its bytes, as `read_bytes` returns them.
        expected: what it has to hold.

    Yields:
        (DRAWINGS, SIDE, SIDE) bool, True where there is ink; one array for each of
        ``expected.characters``.

    Raises:
        DataError: naming what is missing, foreign, unsafe, damaged or changed.
    """
    with open_archive(BytesIO(data), str(path), LIMITS, remedy=REMEDY) as archive:
        yield from verified(path, archive.names, archive.read, expected)


def verified(
    path: Path, names: list[str], read: Callable[[str], bytes], expected: ArchiveContents
) -> Iterator[np.ndarray]:
    """The drawings of each character in turn, verified: of an archive, or of what was extracted.

    Args:
        path: what errors call the place.
        names: of all files there, from ``expected.folder`` on.
        read: gives the content of a file by its name.
        expected: what there has to be.

    Yields:
        As `read_characters`.

    Raises:
        DataError: as `read_characters`.
    """
    _refuse_other_files(path, names, expected)
    digests = []
    # Pillow warns of oddities that the checks below refuse, each as an error.
    with without_warnings():
        for character in expected.characters:
            files = character.files(expected.folder)
            ink = np.stack([_read_drawing(path, name, read(name)) for name in files])
            digests.append(character_digest(character.name, ink))
            if digests[-1][:DIGITS] != character.digest:
                place = f"{expected.folder}/{character.name}"
                raise DataError(
                    f"{path}: the drawings in {place} are not those of Omniglot: {REMEDY}."
                )
            yield ink
    if archive_digest(digests) != expected.digest:
        raise DataError(f"{path}: its drawings as a whole are not those of Omniglot: {REMEDY}.")


def _refuse_other_files(path: Path, names: list[str], expected: ArchiveContents) -> None:
    """Raise `DataError` unless an archive's files are exactly those expected, by their names."""
    drawings = {name for name in names if not _is_clutter(name)}
    if foreign := drawings - expected.files:
        raise DataError(
            f"{path} holds {len(foreign):,} files that are not Omniglot's, the first is "
            f"{min(foreign)!r}: {REMEDY}."
        )
    if missing := expected.files - drawings:
        raise DataError(
            f"{path} lacks {len(missing):,} of {len(expected.files):,} drawings, "
            f"the first is {min(missing)!r}: {REMEDY}."
        )


def _is_clutter(name: str) -> bool:
    """What macOS adds to an archive."""
    return name.startswith("__MACOSX/") or PurePosixPath(name).name == ".DS_Store"


def _read_drawing(path: Path, name: str, data: bytes) -> np.ndarray:
    """(SIDE, SIDE) bool, True where there is ink; ``path`` and ``name`` are for errors."""
    try:
        # Of one format: otherwise Pillow offers foreign bytes to each of its decoders.
        image = Image.open(BytesIO(data), formats=["PNG"])
    except UNREADABLE_PNG as error:
        raise DataError(f"{path}: {name!r} is not a PNG image ({error}): {REMEDY}.") from error
    if image.size != (SIDE, SIDE) or image.mode != "1":  # before any pixel is decoded
        width, height = image.size
        raise DataError(
            f"{path}: {name!r} is {width} x {height} of mode {image.mode!r}, "
            f"Omniglot's drawings are {SIDE} x {SIDE} of mode '1': {REMEDY}."
        )
    try:
        return ~np.asarray(image)
    except UNREADABLE_PNG as error:
        raise DataError(f"{path}: the image {name!r} is damaged ({error}): {REMEDY}.") from error
