"""What a hand-in says of its runs, in ``results.json``: packed, and read again when checked."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from innerloop.core.errors import DataError
from innerloop.core.intervals import Covers
from innerloop.runs.results import EvaluationRow, typed


@dataclass(frozen=True, kw_only=True)
class HandInRow:
    """A run of the hand-in and its accuracy; the other attributes are those of its evaluation.

    Attributes:
        run: name of its folder in the archive's ``runs``.
    """

    run: str
    method: str
    training_seed: int
    data: str
    split: str
    part: str
    ways: int
    shots: int
    queries: int
    inner_steps: int
    batch_norm: str
    episodes: int
    episode_seed: int
    query_accuracy: float
    query_accuracy_ci95: float
    covers: Covers = "episodes"

    @classmethod
    def of(cls, run: str, evaluation: EvaluationRow) -> "HandInRow":
        """What is said of a run that was evaluated."""
        names = [attribute.name for attribute in fields(cls) if attribute.name != "run"]
        return cls(run=run, **{name: getattr(evaluation, name) for name in names})

    def agrees_with(self, evaluation: EvaluationRow) -> bool:
        """Whether the evaluation says the same; accuracies may differ by rounding."""
        accuracies = {
            "query_accuracy": self.query_accuracy,
            "query_accuracy_ci95": self.query_accuracy_ci95,
        }
        if replace(HandInRow.of(self.run, evaluation), **accuracies) != self:
            return False
        said = list(accuracies.values())
        measured = [getattr(evaluation, name) for name in accuracies]
        return bool(np.allclose(measured, said, rtol=0, atol=1e-6))


def read_rows(file: Path) -> list[HandInRow]:
    """The rows of a ``results.json``; every run of them is a folder of the archive.

    Raises:
        DataError: if the file holds something else.
    """
    try:
        objects = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file.name} is not JSON: {error}.") from error
    if not isinstance(objects, list) or not all(isinstance(row, dict) for row in objects):
        raise DataError(f"{file.name} does not hold a list of results.")
    rows = [typed(values, HandInRow, f"A row of {file.name}") for values in objects]
    folders = {path.parent.name for path in (file.parent / "runs").glob("*/config.json")}
    for row in rows:
        # Among the names that are there is none that leads out of the archive.
        if row.run not in folders:
            raise DataError(
                f"{file.name} does not name the runs of the archive: it has {row.run!r}, and "
                f"there are {', '.join(sorted(folders)) or 'none'}."
            )
    return rows
