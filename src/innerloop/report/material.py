"""What a report is made from: run directories and an explanation, read once."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from innerloop.comparison import common_episodes, evaluations, is_primary, results, sentence
from innerloop.explanation.verdict import verdict
from innerloop.intervals import Difference
from innerloop.runs import RunDirectory

NAMES = {"fomaml": "FO-MAML", "maml": "MAML", "mamlpp": "MAML++", "transfer": "Transfer"}
"""How the report calls the methods."""
BAR = 0.80
"""The assignment's bar for validation accuracy."""


@dataclass(frozen=True)
class Material:
    """The files behind a report.

    Attributes:
        runs: the run directories, in the order given.
        explanation: what ``explanation.json`` holds, or None.
        collaborators: named by the author.
        references: named by the author, besides those of the methods.
    """

    runs: tuple[RunDirectory, ...]
    explanation: dict[str, Any] | None = None
    collaborators: Sequence[str] = ()
    references: Sequence[str] = ()

    @cached_property
    def main(self) -> tuple[RunDirectory, ...]:
        """The runs of the first one's data, split and shape of episode: those that are compared."""
        return tuple(run for run in self.runs if setting(run) == setting(self.runs[0]))

    @property
    def others(self) -> tuple[RunDirectory, ...]:
        """The runs of another data set, split or shape of episode."""
        return tuple(run for run in self.runs if run not in self.main)

    def of(self, method: str) -> list[RunDirectory]:
        """The main runs of a method that were validated at least once."""
        return [run for run in self.main if run.config.method == method and run.read_metrics("validation")]

    def first(self, method: str) -> RunDirectory | None:
        """The first of them, or None."""
        return next(iter(self.of(method)), None)

    @cached_property
    def evaluated(self) -> tuple[RunDirectory, ...]:
        """The main runs that were evaluated in their own way on validation episodes."""
        return tuple(run for run in self.main if primary_row(run, "val"))

    @cached_property
    def episodes(self) -> int | None:
        """On how many validation episodes all evaluated runs can be compared."""
        return common_episodes(self.evaluated, "val")

    @cached_property
    def results(self) -> dict[str, Any] | None:
        """Rows and paired differences of the evaluated runs, named as the report names methods."""
        if self.episodes is None:
            return None
        found = results(self.evaluated, "val", self.episodes)
        for row in (*found["rows"], *found["other_rows"], *found["learning_curves"]):
            row["name"] = named(row["name"])
        for pair in found["pairs"]:
            pair["a"], pair["b"] = named(pair["a"]), named(pair["b"])
            pair["sentence"] = sentence(pair["a"], pair["b"], _difference(pair))
        return found

    def row(self, method: str) -> dict[str, Any] | None:
        """The result of a method, over its training seeds."""
        rows = self.results["rows"] if self.results else []
        return next((row for row in rows if row["method"] == method), None)

    def difference(self, a: str, b: str) -> dict[str, Any] | None:
        """Method A minus method B, paired, with its sentence; None if one is missing or has several rows."""
        pairs = self.results["pairs"] if self.results else []
        for pair in pairs:
            difference = _difference(pair)
            if (pair["a"], pair["b"]) == (NAMES[b], NAMES[a]):
                difference = difference.reversed()
            elif (pair["a"], pair["b"]) != (NAMES[a], NAMES[b]):
                continue
            names = {"a": NAMES[a], "b": NAMES[b]}
            return names | difference.to_json() | {"sentence": sentence(NAMES[a], NAMES[b], difference)}
        return None

    @property
    def on_strokes(self) -> bool:
        """Whether the data are synthetic."""
        return self.runs[0].config.data == "strokes"


def _difference(pair: dict[str, Any]) -> Difference:
    return Difference(**{field.name: pair[field.name] for field in dataclasses.fields(Difference)})


def with_names(explanation: dict[str, Any]) -> dict[str, Any]:
    """An explanation whose two subjects are named as the report names methods, and whose verdict says so."""
    names = {subject["name"]: named(subject["name"]) for subject in explanation["subjects"]}

    def rename(value: Any) -> Any:
        if isinstance(value, dict):
            return {names.get(key, key): held if key == "method" else rename(held) for key, held in value.items()}
        if isinstance(value, list):
            return [rename(item) for item in value]
        return names.get(value, value) if isinstance(value, str) else value

    measured = rename({name: held for name, held in explanation.items() if name != "verdict"})
    return {"verdict": verdict(measured)} | measured


def setting(run: RunDirectory) -> tuple[Any, ...]:
    """What runs must share to be compared."""
    config = run.config
    return tuple(getattr(config, name) for name in ("data", "split", "ways", "shots", "queries"))


def primary_row(run: RunDirectory, part: str) -> dict[str, Any] | None:
    """A run's evaluation in its own way on the most episodes of a part, or None."""
    if not run.weights_path.is_file() or not run.read_metrics("validation"):
        return None
    return next((row for row in evaluations(run, part) if is_primary(run, row)), None)


def named(name: str) -> str:
    """A method's name in the report, whatever is said of it behind."""
    method, space, rest = name.partition(" ")
    return NAMES.get(method, method) + space + rest
