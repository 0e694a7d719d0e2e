"""What a tracker is, and what it is told. Imports nothing of any tracker's library."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeGuard

from innerloop.core.errors import DataError
from innerloop.core.texts import whole
from innerloop.runs import results
from innerloop.runs.directory import RunDirectory

LARGEST = 3.4028234e38
"""Of a float32, in which event files hold a number."""
LAST_STEP = 2**63 - 1
"""Of a step, which trackers hold in 64 bits."""
NO_CURVES = {
    "train": {"step", "kind"},
    "validation": {"step", "kind"}
    | {spec.name for kind in (results.Protocol, results.Origin) for spec in fields(kind)},
}
"""What a line says of itself: where it belongs, and of a validation whose it is and over which
episodes, which are the same in every validation of a run."""


@dataclass(frozen=True)
class Record:
    """A line of ``metrics.jsonl``, as a tracker is told of it.

    Attributes:
        step: outer steps done.
        kind: train or validation.
        time: in seconds since 1970: when the run was made, plus its seconds of training. A pause
            is no part of it, so that the same line always has the same time.
        values: its finite numbers but for `NO_CURVES`, by name; those in lists and objects under
            ``name/index`` and ``name/key``.
    """

    step: int
    kind: str
    time: float
    values: dict[str, float]


class Tracker(Protocol):
    """A place for the metrics of one run. It is made without arguments, told, and thrown away.

    Whatever a method raises leaves the tracker out of the rest of a training, which goes on.
    """

    def start(self, folder: Path, settings: dict[str, Any], records: Sequence[Record]) -> None:
        """Begin, or begin anew: afterwards the place holds these records of the run and no others.

        Args:
            folder: which exists, named like the run; for files of the tracker's own, which it finds
                there again when the run is tracked or exported another time.
            settings: all settings of the run, by name.
            records: what is recorded already, in order; of a resumed run, what earlier processes
                did and was not cut off.
        """
        ...

    def record(self, record: Record) -> None:
        """Take in the next record."""
        ...

    def finish(self, state: str) -> None:
        """Nothing more comes: the run is finished, paused, interrupted or failed.

        Of a run that somebody else still trains, or that was killed, the state is running.
        """
        ...


def read_records(run: RunDirectory) -> list[Record]:
    """All that a run has recorded.

    Raises:
        DataError: if a line is damaged; a torn last one is passed over.
    """
    begun = begun_at(run)
    source = f"A line of {run.path / 'metrics.jsonl'}"
    return [record_of(line, begun, source) for line in run.read_metrics()]


def begun_at(run: RunDirectory) -> float:
    """When a run was made, in seconds since 1970.

    Of a run that does not record it, when the file of its settings was written.
    """
    try:
        return datetime.fromisoformat(run.environment.started).timestamp()
    except (ValueError, OverflowError, DataError):
        return (run.path / "config.json").stat().st_mtime


def record_of(line: Mapping[str, Any], begun: float, source: str) -> Record:
    """A line of metrics as a record.

    Args:
        line: the JSON object, or what becomes one.
        begun: when the run was made, in seconds since 1970.
        source: what errors call the line.

    Raises:
        DataError: if its step or its kind is none.
    """
    step = line["step"]
    kind = line.get("kind")
    if not (isinstance(kind, str) and kind and 0 <= step <= LAST_STEP):
        raise DataError(f"{source} has no usable step and kind: {step!r}, {kind!r}.")
    elapsed = line.get("elapsed_s")
    no_curves = NO_CURVES.get(kind, NO_CURVES["train"])
    values = {name: value for name, value in line.items() if name not in no_curves}
    return Record(
        step=step,
        kind=whole(kind),
        time=begun + (elapsed if _is_number(elapsed) else 0.0),
        values=dict(_numbers(values)),
    )


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """The finite numbers in a value of JSON, each with its name."""
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    else:
        if _is_number(value):
            yield name, float(value)
        return
    for key, part in parts:
        yield from _numbers(part, f"{name}/{whole(str(key))}" if name else whole(str(key)))


def _is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a number that a tracker can hold; a truth value is none, and neither is NaN."""
    is_numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return is_numeric and abs(value) <= LARGEST
