"""Read zip archives that somebody else made: in memory, within limits, and nothing that could harm.

An entry's name may lead out of the folder that it is unpacked to; a small archive may inflate to
more than the memory holds; its directory may say another size than its content has. Both readers of
archives, of Omniglot and of hand-ins, go through this one guard.
"""

import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from innerloop.core.errors import DataError

CENTRAL_HEADER = b"PK\x01\x02"
"""Begins each entry of a zip archive's directory."""
BLOCK_BYTES = 2**20
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What zipfile raises at an archive or entry that is damaged, or that it does not understand."""
READ_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The only ones that zipfile inflates no further than it is asked to."""


@dataclass(frozen=True)
class Limits:
    """What an archive may hold at most.

    Attributes:
        entries: how many, folders too.
        file_bytes: of one file that is read.
        total_bytes: of all files together.
    """

    entries: int
    file_bytes: int
    total_bytes: int


class Archive:
    """An archive whose directory was looked through and found harmless; `open_archive` makes it.

    Args:
        archive: the archive.
        source: what errors call it.
        limits: what it may hold.
        advice: ends each error's sentence.
    """

    def __init__(self, archive: zipfile.ZipFile, source: str, limits: Limits, advice: str):
        self._archive = archive
        self._source = source
        self._limits = limits
        self._advice = advice
        self._files = {entry.filename: entry for entry in archive.infolist() if not entry.is_dir()}

    @property
    def names(self) -> list[str]:
        """Names of the files, in the archive's order."""
        return list(self._files)

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            DataError: if it is damaged, or larger than the limit.
        """
        entry = self._files[name]
        size = entry.file_size
        if size > self._limits.file_bytes:
            raise DataError(
                f"{self._source}: {name!r} is {size:,} bytes, above the limit of "
                f"{self._limits.file_bytes:,}{self._advice}."
            )
        try:
            with self._archive.open(entry) as file:
                # One byte more than declared shows a lie; no more is inflated, whatever is there.
                content = file.read(size + 1)
        except UNREADABLE as error:
            raise DataError(
                f"{self._source}: {name!r} is damaged ({error}){self._advice}."
            ) from error
        if len(content) != size:
            raise DataError(
                f"{self._source}: {name!r} is damaged (it has {len(content):,} bytes and declares "
                f"{size:,}){self._advice}."
            )
        return content


@contextmanager
def open_archive(
    file: BinaryIO, source: str, limits: Limits, *, remedy: str = ""
) -> Iterator[Archive]:
    """Open an archive, once all its directory says is harmless. No content is read yet.

    Args:
        file: its bytes.
        source: what errors call it.
        limits: what it may hold.
        remedy: what a user can do about a bad one, to end each error's sentence.

    Raises:
        DataError: if it is no archive, has an entry that no honest archive has, or is too large.
    """
    advice = f": {remedy}" if remedy else ""
    try:
        # Counted in the bytes, since zipfile makes an object of each.
        entries = _count(file, CENTRAL_HEADER)
        if entries > limits.entries:
            raise DataError(f"{source} has more than {limits.entries:,} entries{advice}.")
        archive = zipfile.ZipFile(file)
    except DataError:  # a ValueError too
        raise
    except UNREADABLE as error:
        raise DataError(
            f"{source} is not a zip archive, or only the beginning of one ({error}){advice}."
        ) from error
    with archive:
        if fault := _fault_of_directory(archive.infolist(), limits):
            raise DataError(f"{source}{fault}{advice}.")
        yield Archive(archive, source, limits, advice)


def _count(file: BinaryIO, pattern: bytes) -> int:
    """How often a pattern is in a file, which is read in blocks and not kept."""
    count = 0
    rest = b""
    file.seek(0)
    while block := file.read(BLOCK_BYTES):
        block = rest + block
        count += block.count(pattern)
        # A pattern may lie where two blocks meet.
        rest = block[-len(pattern) + 1 :]
    return count


def _fault_of_directory(entries: list[zipfile.ZipInfo], limits: Limits) -> str:
    """Why an archive is refused, to go on from its name, or nothing."""
    for entry in entries:
        if fault := _fault(entry):
            return f": entry {entry.orig_filename!r} {fault}"
    # By name only one of them can be read, and readers differ in which.
    times_of = Counter(entry.filename for entry in entries)
    for name, times in times_of.most_common(1):
        if times > 1:
            return f" holds {name!r} {times} times"
    # What the directory declares; `Archive.read` holds every entry to it.
    total = sum(entry.file_size for entry in entries)
    if total > limits.total_bytes:
        return f" would unpack to {total:,} bytes, above the limit of {limits.total_bytes:,}"
    return ""


def _fault(entry: zipfile.ZipInfo) -> str:
    """Why an entry is refused whatever it holds, or nothing."""
    if _is_unsafe(entry.orig_filename):  # `filename` is cut at a NUL
        return "has an unsafe name"
    if entry.flag_bits & 0x1:
        return "is encrypted"
    # The high half of these bits is the mode that Unix gives a file.
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "is a symbolic link"
    if entry.compress_type not in READ_COMPRESSIONS:
        return "has a compression other than deflate"
    return ""


def _is_unsafe(name: str) -> bool:
    """Whether a name can lead out of its folder, on any system, or is another name's other form."""
    if any(character in name for character in "\\\0:"):  # a colon: drives, and streams of NTFS
        return True
    *folders, last = name.split("/")
    # An empty last part is a folder's; an empty first one makes the path absolute.
    return any(part in ("", ".", "..") for part in folders) or last in (".", "..") or not name
