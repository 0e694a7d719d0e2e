"""Unpack a hand-in: nothing is written before every file is what its checksum says."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from innerloop.assignment.pack import SUMS
from innerloop.core.errors import DataError
from innerloop.core.zips import Limits, open_archive

LIMITS = Limits(entries=50_000, file_bytes=2**31, total_bytes=2**31)
"""Beyond which an archive is not unpacked."""


def unpacked(path: Path, folder: Path) -> tuple[Path, dict[str, bytes]]:
    """Unpack an archive, once every file is what its checksum says.

    Returns:
        The archive's one folder, and its files by their names in it, but for the checksums.

    Raises:
        DataError: if it is damaged, holds what no hand-in does, or a file was changed, added or
            taken away.
    """
    root, content = _content(path)
    _verify(path, content)
    try:
        for name, data in content.items():
            target = folder / root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    # ValueError: a name that this system cannot spell.
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(f"{path} cannot be unpacked: {reason}.") from error
    del content[SUMS]
    return folder / root, content


def _content(path: Path) -> tuple[str, dict[str, bytes]]:
    """The name of the archive's one folder, and its files; nothing is written."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    with file, open_archive(file, str(path), LIMITS) as archive:
        root = _root(path, archive.names)
        content = {name.removeprefix(f"{root}/"): archive.read(name) for name in archive.names}
    return root, content


def _root(path: Path, names: list[str]) -> str:
    """The one folder that all files of a hand-in are in."""
    if not any(name.endswith(f"/{SUMS}") for name in names):
        raise DataError(f"{path} is no hand-in: it holds no {SUMS}.")
    for name in names:
        if "/" not in name:
            raise DataError(f"{path} holds {name!r}, which is in no folder.")
    root, *others = {name.partition("/")[0] for name in names}
    if others or f"{root}/{SUMS}" not in names:
        raise DataError(f"{path} is no hand-in: {SUMS} and all the rest are not in one folder.")
    return root


def _verify(path: Path, content: dict[str, bytes]) -> None:
    """Hold every file against its checksum; name the first that was changed, added or removed."""
    wanted = dict(_wanted(path, content[SUMS]))
    for name in sorted(wanted.keys() | content.keys() - {SUMS}):
        if name not in content:
            raise DataError(f"{path}: {name} is missing, which {SUMS} names.")
        if name not in wanted:
            raise DataError(f"{path}: {name} was added; it is not in {SUMS}.")
        if hashlib.sha256(content[name]).hexdigest() != wanted[name]:
            raise DataError(f"{path}: {name} was changed; its checksum is not the one in {SUMS}.")


def _wanted(path: Path, sums: bytes) -> Iterator[tuple[str, str]]:
    for line in sums.decode("utf-8", errors="replace").splitlines():
        if not (parts := re.fullmatch(r"([0-9a-f]{64})  (.+)", line)):
            raise DataError(f"{path}: {SUMS} has a line that is no checksum: {line[:80]!r}.")
        yield parts[2], parts[1]
