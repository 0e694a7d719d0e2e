"""Files that are whole or not there, and JSON that other programs can read."""

import errno
import json
import math
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from innerloop.core.errors import ConfigError, DataError, DiskError
from innerloop.core.texts import whole


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn an `OSError` within the context into a `DiskError` that says what was not written."""
    try:
        yield
    except OSError as error:
        # Where something is in the way of the path, the advice to free space would mislead.
        in_the_way = isinstance(
            error, (FileExistsError, NotADirectoryError, FileNotFoundError, IsADirectoryError)
        )
        advice = (
            ""
            if in_the_way
            else " What was saved before is intact; free some space or permissions and go on."
        )
        raise DiskError(f"Cannot write {what}: {error.strerror or error}.{advice}") from error


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file under its final name only once it is complete and on the disk.

    See `write_together`.
    """
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes | str]) -> None:
    """Write files that belong together; none has its final name before all are on the disk.

    Until then each is ``.<name>.<random>.tmp`` beside it: several processes may write the same file
    at once, and the last of them wins. A killed process leaves such files behind; nothing reads
    them.

    Raises:
        DiskError: if one cannot be written; all that were there before are then intact.
    """
    written: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            with disk_errors(str(path)):
                # Beside the target: a rename is atomic within one file system only.
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                written[path] = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
                _write(written[path], content.encode() if isinstance(content, str) else content)
        for path, temporary in written.items():
            with disk_errors(str(path)):
                os.replace(temporary, path)
    # Ctrl-C too must leave no half-written file behind.
    except BaseException:
        for temporary in written.values():
            with suppress(OSError):
                temporary.unlink()
        raise


def write_folder(folder: Path, contents: Mapping[str, bytes | str]) -> None:
    """Write files that belong together into a folder, which is made; see `write_together`.

    Args:
        folder: where they go.
        contents: by name, which may have folders of its own.
    """
    paths = {folder / name: content for name, content in contents.items()}
    with disk_errors(str(folder)):
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
    write_together(paths)


def refuse_unwritable(path: Path) -> None:
    """Raise `DiskError` where no file or folder of a name could be written, before it is computed.

    Tried with an empty file, which is gone at once: permissions alone do not tell on every system.
    """
    place = path if path.is_dir() else path.parent
    while not place.exists() and place != place.parent:
        place = place.parent
    trial = place / f".{secrets.token_hex(8)}.tmp"
    try:
        open(trial, "xb").close()
        trial.unlink()
    except OSError as error:
        raise DiskError(
            f"Cannot write {path} ({place}: {error.strerror}): choose another place."
        ) from error


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that goes with the context, for what other programs want as files.

    Raises:
        DiskError: if something in it cannot be written.
    """
    with disk_errors("temporary files"), tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _write(path: Path, content: bytes) -> None:
    # Opened by ourselves, not by `tempfile`: its files are for their owner's eyes alone.
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        # Bytes before the name, or a power cut could leave the name of an empty file.
        os.fsync(file.fileno())


def expanded(path: str | Path) -> Path:
    """A path, ``~`` and ``~name`` at its beginning as that user's home folder.

    Raises:
        ConfigError: if there is no such home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{str(path)!r} begins with a home folder that there is not: write the path in full."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        DataError: if it is missing or not one.
    """
    try:
        return parse_json_object(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read {path}: {error}.") from error
    # The parser's sentence, but this is a file of data, whose errors have another exit code.
    except ConfigError as error:
        raise DataError(str(error)) from error


def parse_json_object(text: str, source: str) -> dict[str, Any]:
    """Parse a JSON object, refusing anything else with a sentence.

    Args:
        text: the JSON.
        source: what errors call it.

    Raises:
        ConfigError: if it is not JSON, or not an object.
    """
    try:
        values = json.loads(text)
    # Brackets nested thousands deep exhaust the stack of Python's parser.
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source} is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must hold one JSON object, not a {type(values).__name__}.")
    return values


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON as others read it: a number that is not finite becomes null, a name is UTF-8."""
    # By itself json writes NaN and Infinity, which are no JSON.
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, str):
        return whole(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
