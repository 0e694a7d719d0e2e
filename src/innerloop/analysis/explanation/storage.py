"""``explanation.json``: read once and checked, written once."""

import dataclasses
import math
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from innerloop.analysis.explanation.head_rows import GAP_WORDS, Gap
from innerloop.analysis.explanation.results import Explanation
from innerloop.analysis.explanation.rows import ShiftRow
from innerloop.analysis.explanation.step_rows import Steps
from innerloop.core.errors import DataError
from innerloop.core.files import read_json
from innerloop.core.intervals import Difference


def read_explanation(file: Path) -> Explanation:
    """Read an ``explanation.json``.

    Raises:
        DataError: if it is damaged, or is none.
    """
    return explanation_from_json(read_json(file), str(file))


def explanation_from_json(values: dict[str, Any], source: str) -> Explanation:
    """An explanation from the JSON object that holds it.

    The sentences of the object are passed over: they follow from its numbers.

    Args:
        values: the object.
        source: what an error calls it.

    Raises:
        DataError: if something is missing or of another type.
    """
    missing = {field.name for field in dataclasses.fields(Explanation)} - values.keys()
    if missing:
        raise DataError(f"{source} is no explanation: it lacks {', '.join(sorted(missing))}.")
    shaped = values | {
        "table": _table_from_json(values["table"], source),
        "steps": _steps_from_json(values["steps"]),
        "shift": _shift_from_json(values["shift"]),
    }
    try:
        return msgspec.convert(_with_nan(shaped, Explanation), Explanation, strict=True)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise DataError(f"{source} does not hold what it should: {error}.") from error


def _table_from_json(table: Any, source: str) -> Any:
    """The parts of the gap under the names of their attributes."""
    if not isinstance(table, dict) or not isinstance(table.get("gap"), dict):
        return table
    gap = table["gap"]
    if missing := [words for words in GAP_WORDS.values() if words not in gap]:
        raise DataError(f"{source} is no explanation: its gap lacks {'; '.join(missing)}.")
    return table | {"gap": {name: gap[words] for name, words in GAP_WORDS.items()}}


def _steps_from_json(rows: Any) -> Any:
    """Curves and differences, which are rows of one list in the file."""
    if not isinstance(rows, list):
        return rows
    split: dict[str, list[Any]] = {"curves": [], "differences": []}
    for row in rows:
        is_difference = isinstance(row, dict) and "own_difference" in row
        split["differences" if is_difference else "curves"].append(row)
    return split


def _shift_from_json(rows: Any) -> Any:
    """Runs in a mapping of their own; they once lay beside the row's other keys."""
    if not isinstance(rows, list):
        return rows
    fixed = {field.name for field in dataclasses.fields(ShiftRow)}
    return [
        row
        if not isinstance(row, dict) or "runs" in row
        else row | {"runs": {name: row[name] for name in row.keys() - fixed}}
        for row in rows
    ]


def _with_nan(value: Any, kind: Any) -> Any:
    """A JSON value of some type with NaN instead of null where that is a number."""
    if kind is float and value is None:
        return math.nan
    if isinstance(kind, UnionType):  # of a row and None
        kind = next((row for row in get_args(kind) if dataclasses.is_dataclass(row)), None)
    if isinstance(value, dict) and dataclasses.is_dataclass(kind):
        kinds = get_type_hints(kind)
        return {name: _with_nan(item, kinds.get(name)) for name, item in value.items()}
    if isinstance(value, dict) and get_origin(kind) is dict:
        return {name: _with_nan(item, get_args(kind)[1]) for name, item in value.items()}
    if isinstance(value, list) and get_origin(kind) is tuple:
        return [_with_nan(item, get_args(kind)[0]) for item in value]
    return value


def explanation_to_json(explanation: Explanation) -> dict[str, Any]:
    """The JSON object that ``explanation.json`` holds: the sentences, and every number."""
    return {"verdict": list(explanation.verdict)} | _to_json(explanation)


def _to_json(value: Any) -> Any:
    if isinstance(value, Difference):
        values = value.to_json()
        # Explanations did not always say what intervals cover: it was episodes alone.
        return values if value.covers != "episodes" else _without(values, "covers")
    if isinstance(value, Gap):
        return _to_json(value.in_words())
    if isinstance(value, Steps):
        return _to_json(_in_order(value))
    if dataclasses.is_dataclass(value):
        return {
            field.name: _to_json(getattr(value, field.name))
            for field in dataclasses.fields(value)
            # What an old file lacks is read as None, and left out when it is written again.
            if field.default is not None or getattr(value, field.name) is not None
        }
    if isinstance(value, dict):
        return {name: _to_json(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    return value


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def _in_order(steps: Steps) -> tuple[Any, ...]:
    """The curves of each rate, and behind them the runs' differences at it."""
    rates = dict.fromkeys(row.rate for row in (*steps.curves, *steps.differences))
    return tuple(
        row for rate in rates for row in (*steps.curves, *steps.differences) if row.rate == rate
    )
