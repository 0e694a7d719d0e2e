"""What lies in a folder that somebody else made: listed once, without following a link."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from innerloop.core.errors import DataError

CLUTTER = ("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin")
"""What systems leave in folders, in lower case; what begins with a dot is passed over too."""


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was when it was listed.

    Attributes:
        parts: its path inside the folder, name by name.
        state: size in bytes, and the times of the last change of its content and of its entry.
    """

    parts: tuple[str, ...]
    state: tuple[int, int, int]

    @property
    def name(self) -> str:
        """Its path inside the folder."""
        return "/".join(self.parts)


@dataclass(frozen=True)
class Listing:
    """Everything in a folder, sorted by path; neither clutter nor what is no file or folder.

    Attributes:
        root: the folder.
        folders: paths of the folders inside, name by name.
        files: those inside.
        passed_over: paths of links, which are not followed, and of pipes and devices.
    """

    root: Path
    folders: tuple[tuple[str, ...], ...]
    files: tuple[File, ...]
    passed_over: tuple[str, ...]

    @property
    def digest(self) -> bytes:
        """SHA-256 over names, sizes and times of the files: another one after every change."""
        digest = hashlib.sha256()
        for file in self.files:
            # NUL is in no name.
            digest.update(os.fsencode(file.name) + b"\0" + repr(file.state).encode())
        return digest.digest()

    @contextmanager
    def opened(self, file: File) -> Iterator[BinaryIO]:
        """A listed file, open for reading.

        Raises:
            DataError: if it cannot be opened, or is another one than was listed.
        """
        path = self.root.joinpath(*file.parts)
        try:
            # Not through a link that took the place of the file or of its folder's entry.
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except FileNotFoundError:
            raise DataError(
                f"{str(path)!r} vanished while the folder was read: try again when nothing "
                "changes there."
            ) from None
        except OSError as error:
            raise DataError(
                f"Cannot read {str(path)!r} ({error.strerror}): check its permissions."
            ) from error
        with open(handle, "rb") as opened:
            if _state(os.fstat(handle)) != file.state:
                raise DataError(
                    f"{str(path)!r} changed while the folder was read: try again when nothing "
                    "changes there."
                )
            yield opened


def list_folder(root: Path, *, deepest: int) -> Listing:
    """List a folder.

    Args:
        root: the folder.
        deepest: how deep folders may lie in it; those directly in it are 1 deep.

    Raises:
        DataError: if it or a folder in it cannot be listed, or folders lie deeper.
    """
    folders: list[tuple[str, ...]] = []
    files: list[File] = []
    passed_over: list[str] = []
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        parts = waiting.pop()
        for entry in _entries(root, parts):
            inside = (*parts, entry.name)
            if _is_clutter(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                _refuse_too_deep(root, inside, deepest)
                folders.append(inside)
                waiting.append(inside)
            elif entry.is_file(follow_symlinks=False):
                files.append(_listed(root, inside, entry))
            else:
                passed_over.append("/".join(inside))
    files.sort(key=lambda file: file.parts)
    return Listing(root, tuple(sorted(folders)), tuple(files), tuple(sorted(passed_over)))


def _entries(root: Path, parts: tuple[str, ...]) -> list[os.DirEntry[str]]:
    folder = root.joinpath(*parts)
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    # The latter from NUL in a name.
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise DataError(
            f"Cannot list the folder {str(folder)!r} ({reason}): name a folder that is there and "
            "may be read with --data, or, of a run whose data were moved, with --data-dir."
        ) from error


def _listed(root: Path, inside: tuple[str, ...], entry: os.DirEntry[str]) -> File:
    try:
        return File(inside, _state(entry.stat(follow_symlinks=False)))
    except OSError as error:
        path = str(root.joinpath(*inside))
        raise DataError(
            f"Cannot read {path!r} ({error.strerror}): try again when nothing changes there."
        ) from error


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in CLUTTER


def _refuse_too_deep(root: Path, parts: tuple[str, ...], deepest: int) -> None:
    if len(parts) > deepest:
        raise DataError(
            f"The folder {str(root)!r} has folders in folders too deep, the first is "
            f"{'/'.join(parts)!r}: a data set is FOLDER/<class>/<image> or "
            "FOLDER/<group>/<class>/<image>."
        )
