"""Download a file over unreliable lines: mirrors in turn, resumed where cut, checked before use."""

import errno
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from innerloop.core.claims import claim
from innerloop.core.errors import DataError, DiskError

Progress = Callable[[str, int, int | None], None]
"""Told the file's name, the bytes that are here, and how many there will be (None where the server
keeps it)."""

TIMEOUT_S = 10.0  # of silence, not of the whole download
ATTEMPTS = 20  # at one mirror, as long as each brings something
BLOCK_BYTES = 2**16
RANGE_NOT_SATISFIABLE = 416
DISK_ERRNOS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EFBIG,
    errno.EISDIR,
}


class _WrongFileError(Exception):
    """What a mirror sends is not the file; more of it would not help."""


def fetch(
    urls: Sequence[str],
    target: Path,
    *,
    is_genuine: Callable[[Path], bool],
    max_bytes: int,
    otherwise: str,
    timeout_s: float = TIMEOUT_S,
    progress: Progress | None = None,
) -> None:
    """Download a file to ``target``, from the first URL that delivers it.

    What has arrived is kept in ``<target>.part``: the next attempt, URL or call asks for the rest
    only.

    Args:
        urls: tried in turn; each again for as long as it delivers some bytes before it breaks off.
        target: appears only once it is whole and genuine.
        is_genuine: whether a file is the wanted one.
        max_bytes: no more than this is ever stored.
        otherwise: what the user can do where no URL delivers, to end that error's sentence.
        timeout_s: how long a server may be silent.
        progress: called after each block.

    Raises:
        DataError: if no URL delivers the file; each one's reason is named.
        DiskError: if the file cannot be written.
    """
    part = target.with_name(target.name + ".part")
    download = _Download(part, is_genuine, max_bytes, timeout_s, progress)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            if target.exists() and is_genuine(target):  # another process has brought it meanwhile
                return
            reasons = download.from_any(urls)
            if reasons is None:
                os.replace(part, target)
                return
    except OSError as error:
        raise DiskError(
            f"Cannot write {target} ({error.strerror or error}): free some space, or choose "
            "another folder (for the cache: $INNERLOOP_CACHE)."
        ) from error
    raise DataError(
        f"No mirror delivers {target.name} ({'; '.join(reasons)}): if this machine is offline, "
        f"{otherwise}."
    )


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Wait until no other process downloads the same file: two would spoil what has arrived."""
    lock = target.with_name(f".{target.name}.lock")
    with claim(lock, wait=True):
        try:
            yield
        finally:
            # While it is ours: who waits for it sees that it is gone, and makes another.
            with suppress(OSError):
                lock.unlink()


@dataclass(frozen=True)
class _Download:
    """A file that is being downloaded; see `fetch`."""

    part: Path
    is_genuine: Callable[[Path], bool]
    max_bytes: int
    timeout_s: float
    progress: Progress | None

    @property
    def bytes_here(self) -> int:
        """How much has arrived."""
        return self.part.stat().st_size if self.part.exists() else 0

    def is_whole(self) -> bool:
        """Whether all has arrived, and is the wanted file."""
        return self.part.exists() and self.is_genuine(self.part)

    def from_any(self, urls: Sequence[str]) -> list[str] | None:
        """Complete the file from the first URL that can; why each failed, if all did."""
        reasons = []
        if self.bytes_here > self.max_bytes:
            self.part.unlink()
        if self.is_whole():  # the last call was stopped just before it renamed it
            return None
        for url in urls:
            reason = self.from_one(url)
            if not reason:
                return None
            reasons.append(f"{urlsplit(url).hostname}: {reason}")
        return reasons

    def from_one(self, url: str) -> str:
        """Complete the file from a mirror; why it failed, or nothing if whole and genuine."""
        for _ in range(ATTEMPTS):
            before = self.bytes_here
            try:
                self.transfer(url)
            except _WrongFileError as error:
                self.part.unlink(missing_ok=True)
                return str(error)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code != RANGE_NOT_SATISFIABLE or not before:
                    return f"{error.code} {error.reason}"
                # An answer to a range; where none was asked for, it is the server's fault.
                self.part.unlink()  # it is longer than the file
            except (OSError, http.client.HTTPException) as error:
                # A dead line is an OSError too: only its number tells a full disk from it.
                if isinstance(error, OSError) and error.errno in DISK_ERRNOS:
                    raise
                if self.bytes_here <= before:
                    return _reason(error)
            else:
                if self.is_whole():
                    return ""
                self.part.unlink()
                if not before:
                    return "its file does not have the expected content"
                # What an earlier call left was not the beginning of this file: once more, from the
                # start.
        return f"the connection was cut {ATTEMPTS} times"

    def transfer(self, url: str) -> None:
        """Append what is lacking; where the server ignores the range, replace what is here."""
        have = self.bytes_here
        headers = {"User-Agent": "innerloop"}
        if have:
            headers["Range"] = f"bytes={have}-"
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
            content_range = response.headers.get("Content-Range", "")
            # A server may send all, or another part: appended, either would spoil the file.
            resumed = response.status == 206 and content_range.startswith(f"bytes {have}-")
            if not resumed:
                have = 0
            length = response.headers.get("Content-Length", "")
            total = have + int(length) if length.isdecimal() else None
            # Before a byte is stored; below once more, since more may come than is declared.
            self._refuse_above_limit(total or 0)
            with self.part.open("ab" if resumed else "wb") as file:
                while block := response.read(BLOCK_BYTES):
                    have += len(block)
                    self._refuse_above_limit(have)
                    file.write(block)
                    if self.progress:
                        self.progress(self.part.stem, have, total)
                file.flush()
                os.fsync(file.fileno())
        # A cut connection ends `read` as the end of a file does, without an error.
        if total is not None and have < total:
            raise ConnectionError("the connection was cut")

    def _refuse_above_limit(self, size: int) -> None:
        if size > self.max_bytes:
            raise _WrongFileError(f"its file is larger than {self.max_bytes:,} bytes")


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    return str(getattr(cause, "strerror", None) or cause)
