"""Download a file over unreliable lines: mirrors in turn, resumed where cut, checked before use."""

import errno
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

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
    reasons = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if _size(part) > max_bytes:
            part.unlink()
        whole = part.exists() and is_genuine(
            part
        )  # the last call was stopped just before it renamed it
        for url in () if whole else urls:
            reason = _fetch_from(url, part, is_genuine, max_bytes, timeout_s, progress)
            whole = not reason
            if whole:
                break
            reasons.append(f"{urlsplit(url).hostname}: {reason}")
        if whole:
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


def _fetch_from(
    url: str,
    part: Path,
    is_genuine: Callable[[Path], bool],
    max_bytes: int,
    timeout_s: float,
    progress: Progress | None,
) -> str:
    """Complete ``part`` from a mirror; returns why it failed, or nothing if whole and genuine."""
    for _ in range(ATTEMPTS):
        before = _size(part)
        try:
            _transfer(url, part, max_bytes, timeout_s, progress)
        except _WrongFileError as error:
            part.unlink(missing_ok=True)
            return str(error)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != RANGE_NOT_SATISFIABLE or not before:
                return f"{error.code} {error.reason}"
            part.unlink()  # it is longer than the file
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRNOS:
                raise
            if _size(part) <= before:
                return _reason(error)
        else:
            if is_genuine(part):
                return ""
            part.unlink()
            if not before:
                return "its file does not have the expected content"
            # What an earlier call left was not the beginning of this file: once more, from the
            # start.
    return f"the connection was cut {ATTEMPTS} times"


def _transfer(
    url: str, part: Path, max_bytes: int, timeout_s: float, progress: Progress | None
) -> None:
    """Append to ``part`` what it lacks; where the server ignores the range, replace it."""
    have = _size(part)
    headers = {"User-Agent": "innerloop"} | ({"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(
        urllib.request.Request(url, headers=headers), timeout=timeout_s
    ) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        )
        have = have if resumed else 0
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None
        if (total or 0) > max_bytes:
            raise _WrongFileError(f"its file is larger than {max_bytes:,} bytes")
        with part.open("ab" if resumed else "wb") as file:
            while block := response.read(BLOCK_BYTES):
                have += len(block)
                if have > max_bytes:
                    raise _WrongFileError(f"its file is larger than {max_bytes:,} bytes")
                file.write(block)
                if progress:
                    progress(part.stem, have, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and have < total:
        raise ConnectionError("the connection was cut")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    return str(getattr(cause, "strerror", None) or cause)
