"""Where classifiers lie on the disk, and what looks like one. Needs no torch."""

import zipfile
from pathlib import Path

from innerloop.core.errors import ConfigError

SUMS = "SHA256SUMS"
HEADER = "classifier.json"
SUFFIXES = (".innerloop", ".zip")
"""Of a classifier that is one file."""


def refuse_taken(path: Path) -> None:
    """Raise `ConfigError` where something lies that is no classifier.

    Args:
        path: where a classifier is to be written.
    """
    single = path.suffix.lower() in SUFFIXES
    free = not path.exists() or (not single and path.is_dir() and not any(path.iterdir()))
    if not free and not is_classifier(path):
        raise ConfigError(f"{path} is there and is no classifier: choose another place.")
    if not free and single != path.is_file():
        raise ConfigError(f"{path} is a folder, and its name is a file's: choose another place.")


def is_classifier(path: Path) -> bool:
    """Whether a file or folder looks like a classifier; nothing of it is checked."""
    if path.is_dir():
        return (path / HEADER).is_file() and (path / SUMS).is_file()
    try:
        with zipfile.ZipFile(path) as archive:
            return {HEADER, SUMS} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError):
        return False
