"""Reads the files of a run directory: each once for as long as it stays as it is."""

import hashlib
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, TypeVar

from innerloop.core.errors import ConfigError, DataError
from innerloop.core.files import parse_json_object, read_json
from innerloop.methods.catalogue import load_config
from innerloop.runs.results import (
    Environment,
    EvaluationRow,
    Status,
    TrainRecord,
    ValidationRecord,
    typed,
)
from innerloop.settings.run import RunConfig

Content = TypeVar("Content")

FILES_KEPT = 1024
"""Of so many files of each kind the content is kept."""


def _once(read: Callable[..., Content]) -> Callable[..., Content]:
    """Makes a reader of a file that reads again only when the file has changed.

    What it returns is shared and must not be changed.
    """

    @lru_cache(maxsize=FILES_KEPT)
    def remembered(path: Path, state: object, *arguments: object) -> Content:
        return read(path, *arguments)

    @wraps(read)
    def reader(path: Path, *arguments: object) -> Content:
        return remembered(path, _state(path), *arguments)

    return reader


def _state(path: Path) -> object:
    """What is another one after every change of a file; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    # A replaced file has another inode, even where its size and a coarse time are the same.
    return status.st_mtime_ns, status.st_size, status.st_ino


@_once
def config(path: Path) -> RunConfig:
    """The settings in a ``config.json``."""
    return load_config(path)


@_once
def environment(path: Path) -> Environment:
    """The environment in an ``env.json``."""
    return typed(read_json(path), Environment, str(path))


@_once
def status(path: Path) -> Status:
    """The state in a ``status.json``; of a run without one, that it has begun."""
    return typed(read_json(path), Status, str(path)) if path.is_file() else Status()


@_once
def sha256(path: Path) -> str:
    """The checksum of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@_once
def lines(path: Path) -> tuple[tuple[bytes, dict[str, Any]], ...]:
    """The lines of a file of metrics with their records; none where there is no file.

    A torn last line, as a killed process leaves it, is passed over.

    Raises:
        DataError: if another line is damaged.
    """
    if not path.is_file():
        return ()
    whole = []
    # Bytes, since a kill can tear a line in the middle of a character.
    written = path.read_bytes().split(b"\n")
    for number, line in enumerate(written, start=1):
        if not line:
            continue
        try:
            whole.append((line, _record(line, f"{path} line {number}")))
        except ConfigError as error:
            # Behind a whole last line there is an empty piece: a bad last piece is a torn line.
            if number < len(written):
                raise DataError(f"{error} Remove that line to go on without it.") from error
    return tuple(whole)


def _record(line: bytes, source: str) -> dict[str, Any]:
    record = parse_json_object(line.decode("utf-8", errors="replace"), source)
    if not isinstance(record.get("step"), int):
        raise ConfigError(f"{source} names no step.")
    return record


def records(path: Path) -> tuple[dict[str, Any], ...]:
    """The records of a file of metrics as JSON."""
    return tuple(record for _, record in lines(path))


@_once
def validations(path: Path) -> tuple[ValidationRecord, ...]:
    """The validations of a file of metrics."""
    return tuple(
        typed(record, ValidationRecord, f"A validation in {path}")
        for record in records(path)
        if record.get("kind") == "validation"
    )


@_once
def train_records(path: Path) -> tuple[TrainRecord, ...]:
    """The outer steps of a file of metrics."""
    return tuple(
        typed(record, TrainRecord, f"An outer step in {path}")
        for record in records(path)
        if record.get("kind") == "train"
    )


@_once
def evaluation(path: Path, usual_rate: float | None) -> EvaluationRow:
    """The row of an ``evaluation-*.json``.

    Args:
        path: the file.
        usual_rate: the run's inner rate, of rows from before they named theirs.

    Raises:
        DataError: if it is damaged, or is not of as many episodes as it says.
    """
    row = typed({"inner_lr": usual_rate} | read_json(path), EvaluationRow, str(path))
    if len(row.query_accuracy_per_episode) != row.episodes:
        raise DataError(
            f"{path} does not hold the accuracy of each of its {row.episodes} episodes."
        )
    # Comparisons and verdicts stand on these; null or 97 for 0.97 would pass for a result.
    for accuracy in (row.query_accuracy, *row.query_accuracy_per_episode):
        if not 0 <= accuracy <= 1:
            raise DataError(f"{path} holds an accuracy that is no fraction: {accuracy}.")
    _refuse_other_classes(path, row)
    return row


def _refuse_other_classes(path: Path, row: EvaluationRow) -> None:
    """Refuse classes that are not those of so many episodes of so many ways."""
    if row.episode_classes is None:
        return
    distinct = {len(set(classes)) for classes in row.episode_classes}
    lengths = {len(classes) for classes in row.episode_classes}
    if len(row.episode_classes) != row.episodes or lengths | distinct != {row.ways}:
        raise DataError(
            f"{path} does not hold the {row.ways} classes of each of its {row.episodes} episodes."
        )
