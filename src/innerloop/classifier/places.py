"""Where classifiers lie on the disk, and what looks like one. Needs no torch."""

import zipfile
from pathlib import Path

from innerloop.core.errors import ConfigError, DataError

SUMS = "SHA256SUMS"
HEADER = "classifier.json"
SUFFIXES = (".innerloop", ".zip")
"""Of a classifier that is one file."""
EXPORTED = (".onnx", ".html", ".htm")
"""Of what is made from one for other programs."""


def refuse_taken(path: Path, *, replace: bool = True) -> None:
    """Raise `ConfigError` where something lies that is no classifier.

    Args:
        path: where a classifier is to be written.
        replace: whether a classifier that lies there may go.
    """
    single = path.suffix.lower() in SUFFIXES
    free = not path.exists() or (not single and path.is_dir() and not any(path.iterdir()))
    if not free and not is_classifier(path):
        raise ConfigError(f"{path} is there and is no classifier: choose another place.")
    if not free and single != path.is_file():
        raise ConfigError(f"{path} is a folder, and its name is a file's: choose another place.")
    if not (free or replace):
        raise ConfigError(
            f"{path} is a classifier already: choose another --out, or give it up with --replace."
        )


def refuse_file(path: Path, *, replace: bool) -> None:
    """Raise `ConfigError` where a file lies, unless it may be replaced."""
    if path.exists() and not replace:
        raise ConfigError(
            f"{path} is there already: choose another name, or write over it with --replace."
        )


def refuse_other(path: Path) -> None:
    """Raise `DataError` where nothing lies, or what `innerloop export` wrote."""
    if path.suffix.lower() in EXPORTED:
        raise DataError(
            f"{path} is an export, which innerloop does not read back: name the classifier that it "
            "was made from."
        )
    if not path.exists():
        raise DataError(f"There is no classifier {str(path)!r}: innerloop adapt makes one.")


def is_classifier(path: Path) -> bool:
    """Whether a file or folder looks like a classifier; nothing of it is checked."""
    if path.is_dir():
        return (path / HEADER).is_file() and (path / SUMS).is_file()
    try:
        with zipfile.ZipFile(path) as archive:
            return {HEADER, SUMS} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError):
        return False
