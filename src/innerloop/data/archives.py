"""Read one Omniglot archive in memory, unextracted: refuse hostile ones, verify every pixel.

An archive is ``<folder>.zip`` and holds ``<folder>/<alphabet>/characterNN/XXXX_YY.png``: character
XXXX drawn by drawers 01 to 20, 105 x 105, one bit, black ink on white. What is verified are names
and decoded pixels, not the archive's bytes, so an archive packed anew is as good as the official
one.
"""

import hashlib
import stat
import struct
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from innerloop.core.errors import DataError

SIDE = 105
DRAWINGS = 20
# Hexadecimal, of a character's digest: enough to name the place; the archive's own digest is whole.
DIGITS = 16

# The official archives have 9.5 MB and 20,275 entries, their images up to 522 bytes.
MAX_ARCHIVE_BYTES = 32 * 2**20
MAX_ENTRIES = 50_000
MAX_IMAGE_BYTES = 16 * 2**10

REMEDY = "replace it with the official archive (innerloop data download --data-dir FOLDER)"
CENTRAL_HEADER = b"PK\x01\x02"  # begins each entry of a zip file's directory
UNREADABLE_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)
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
    if (
        data.count(CENTRAL_HEADER) > MAX_ENTRIES
    ):  # counted in the bytes: zipfile makes an object of each
        raise DataError(
            f"{path} has more than {MAX_ENTRIES:,} entries, no Omniglot archive has: {REMEDY}."
        )
    try:
        archive = zipfile.ZipFile(BytesIO(data))
    except UNREADABLE_ZIP as error:
        raise DataError(
            f"{path} is not a zip file, or only the beginning of one ({error}): {REMEDY}."
        ) from error
    with archive, warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Pillow warns of oddities that the checks below refuse, each as an error
        entries = _check_entries(path, archive.infolist(), expected)
        digests = []
        for character in expected.characters:
            names = character.files(expected.folder)
            ink = np.stack([_read_drawing(path, archive, entries[name]) for name in names])
            digests.append(character_digest(character.name, ink))
            if digests[-1][:DIGITS] != character.digest:
                place = f"{expected.folder}/{character.name}"
                raise DataError(
                    f"{path}: the drawings in {place} are not those of Omniglot: {REMEDY}."
                )
            yield ink
        if archive_digest(digests) != expected.digest:
            raise DataError(f"{path}: its drawings as a whole are not those of Omniglot: {REMEDY}.")


def _check_entries(
    path: Path, infos: list[zipfile.ZipInfo], expected: ArchiveContents
) -> dict[str, zipfile.ZipInfo]:
    """The drawings by name, once what no honest archive holds is refused; reads no content."""
    for info in infos:
        if fault := _fault(info):
            raise DataError(f"{path}: entry {info.orig_filename!r} {fault}: {REMEDY}.")
    infos = [info for info in infos if not _is_clutter(info.filename)]
    name, times = Counter(info.filename for info in infos).most_common(1)[0] if infos else ("", 0)
    if times > 1:
        raise DataError(f"{path} holds {name!r} {times} times: {REMEDY}.")
    entries = {info.filename: info for info in infos}
    if foreign := entries.keys() - expected.files:
        raise DataError(
            f"{path} holds {len(foreign):,} files that are not Omniglot's, the first is "
            f"{min(foreign)!r}: {REMEDY}."
        )
    if missing := expected.files - entries.keys():
        raise DataError(
            f"{path} lacks {len(missing):,} of {len(expected.files):,} drawings, "
            f"the first is {min(missing)!r}: {REMEDY}."
        )
    for info in infos:
        if info.file_size > MAX_IMAGE_BYTES:
            raise DataError(
                f"{path}: {info.filename!r} is {info.file_size:,} bytes, "
                f"no drawing is above {MAX_IMAGE_BYTES:,}: {REMEDY}."
            )
    return entries


def _fault(info: zipfile.ZipInfo) -> str:
    """Why an entry is refused whatever it holds, or nothing."""
    name = info.orig_filename  # `filename` is cut at a NUL
    parts = name.split("/")
    if "\\" in name or "\0" in name or ":" in name or not parts[0] or ".." in parts:
        return "has an unsafe name"
    if info.flag_bits & 0x1:
        return "is encrypted"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a symbolic link"
    return ""


def _is_clutter(name: str) -> bool:
    """Folders, and what macOS adds to an archive."""
    return (
        name.endswith("/")
        or name.startswith("__MACOSX/")
        or PurePosixPath(name).name == ".DS_Store"
    )


def _read_drawing(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """(SIDE, SIDE) bool, True where there is ink."""
    try:
        with archive.open(info) as file:
            data = file.read(MAX_IMAGE_BYTES + 1)  # inflates no further, whatever size is declared
    except UNREADABLE_ZIP as error:
        raise DataError(f"{path}: {info.filename!r} is damaged ({error}): {REMEDY}.") from error
    try:
        image = Image.open(BytesIO(data), formats=["PNG"])
    except UNREADABLE_PNG as error:
        raise DataError(
            f"{path}: {info.filename!r} is not a PNG image ({error}): {REMEDY}."
        ) from error
    if image.size != (SIDE, SIDE) or image.mode != "1":  # before any pixel is decoded
        width, height = image.size
        raise DataError(
            f"{path}: {info.filename!r} is {width} x {height} of mode {image.mode!r}, "
            f"Omniglot's drawings are {SIDE} x {SIDE} of mode '1': {REMEDY}."
        )
    try:
        return ~np.asarray(image)
    except UNREADABLE_PNG as error:
        raise DataError(
            f"{path}: the image {info.filename!r} is damaged ({error}): {REMEDY}."
        ) from error
