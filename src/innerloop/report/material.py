"""What a report is made from: run directories and an explanation, read once."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from innerloop.analysis.compared import ComparedRow, Comparison, Pair
from innerloop.analysis.comparison import results
from innerloop.analysis.explanation.results import Explanation
from innerloop.analysis.explanation.rows import SubjectRow
from innerloop.analysis.explanation.storage import read_explanation as read_explanation
from innerloop.methods.catalogue import names, title_of
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import common_episodes, method_settings, primary_row


@dataclass(frozen=True)
class Material:
    """The files behind a report.

    Attributes:
        runs: the run directories, in the order given.
        explanation: what ``explanation.json`` holds, or None.
        collaborators: named by the author.
        references: named by the author, besides those of the methods.
        folder: where commands find the runs, if it is not where they are now.
        author: who hands the report in, as its first page has it.
    """

    runs: tuple[RunDirectory, ...]
    explanation: Explanation | None = None
    collaborators: Sequence[str] = ()
    references: Sequence[str] = ()
    folder: str | None = None
    author: str = ""

    def path(self, run: RunDirectory) -> str:
        """A run's path as a command takes it."""
        return shlex.quote(
            str(run.path) if self.folder is None else f"{self.folder}/{run.path.name}"
        )

    @cached_property
    def main(self) -> tuple[RunDirectory, ...]:
        """The runs of the first one's data, split and shape of episode: those that are compared."""
        return tuple(run for run in self.runs if setting(run) == setting(self.runs[0]))

    @property
    def others(self) -> tuple[RunDirectory, ...]:
        """The runs of another data set, split or shape of episode."""
        return tuple(run for run in self.runs if run not in self.main)

    @cached_property
    def methods(self) -> list[str]:
        """The methods of the main runs: those that are installed in their order, then others."""
        found = dict.fromkeys(run.config.method for run in self.main)
        order = names()
        return sorted(
            found, key=lambda method: order.index(method) if method in order else len(order)
        )

    def all_of(self, method: str) -> list[RunDirectory]:
        """The main runs of a method that were validated at least once."""
        return [run for run in self.main if run.config.method == method and run.validations()]

    def of(self, method: str) -> list[RunDirectory]:
        """Those that differ from the first one in the training seed alone."""
        runs = self.all_of(method)
        return [run for run in runs if method_settings(run) == method_settings(runs[0])]

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
    def comparison(self) -> Comparison | None:
        """The evaluated runs compared, named as the report names methods."""
        if self.episodes is None:
            return None
        return results(self.evaluated, "val", self.episodes).renamed(named)

    def row(self, method: str) -> ComparedRow | None:
        """The result of a method with the settings of its first run, over its training seeds."""
        names = {run.path.name for run in self.of(method)}
        rows = self.comparison.rows if self.comparison else ()
        return next((row for row in rows if row.method == method and names & set(row.runs)), None)

    def difference(self, a: str, b: str) -> Pair | None:
        """Method A minus method B, with its sentence; None if one is missing."""
        first = self.row(a)
        second = self.row(b)
        if first is None or second is None or self.comparison is None:
            return None
        return self.comparison.pair(first.name, second.name)

    @property
    def on_strokes(self) -> bool:
        """Whether the data are synthetic."""
        return self.runs[0].config.data.name == "strokes"


def with_names(explanation: Explanation) -> Explanation:
    """An explanation whose subjects are named as the report names methods, in its verdict too."""
    return explanation.renamed({name: named(name) for name in explanation.names})


def setting(run: RunDirectory) -> tuple[Any, ...]:
    """What runs must share to be compared."""
    settings = run.config.flat()
    shared = ("data", "split", "ways", "shots", "queries")
    return (
        *(settings[name] for name in shared),
        run.environment.data_fingerprint,
    )


def explains(explanation: Explanation, runs: Sequence[RunDirectory]) -> bool:
    """Whether an explanation is about two of some runs: method, seed, data, episodes, weights."""

    def is_of(subject: SubjectRow, run: RunDirectory) -> bool:
        config = run.config
        mine = {
            "method": config.method,
            "training_seed": config.training.seed,
            "data": config.data.name,
            "split": config.data.split,
            "ways": config.episode.ways,
            "shots": config.episode.shots,
            "queries": config.episode.queries,
            "inner_lr": config.own.adaptation_rate,
            "data_fingerprint": run.environment.data_fingerprint,
        }
        if any(getattr(subject, name) != value for name, value in mine.items()):
            return False
        # Explanations did not always name the weights.
        return run.weights_path.is_file() and (
            subject.weights_sha256 is None or subject.weights_sha256 == run.weights_sha256()
        )

    return all(any(is_of(subject, run) for run in runs) for subject in explanation.subjects)


def named(name: str) -> str:
    """A method's name in the report, whatever is said of it behind."""
    method, space, rest = name.partition(" ")
    return title_of(method) + space + rest
