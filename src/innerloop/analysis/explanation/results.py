"""Why two runs differ: every number of an explanation, and the sentences that follow from them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from innerloop.analysis.explanation import verdict as sentences
from innerloop.analysis.explanation.head_rows import GAP_WORDS, HeadTable
from innerloop.analysis.explanation.rows import (
    Change,
    DisjointMeans,
    PairedMeans,
    PartRow,
    ShiftRow,
    ShotsRow,
    SubjectRow,
)
from innerloop.analysis.explanation.step_rows import Steps
from innerloop.core.intervals import Difference

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What ``explanation.json`` holds; keys of the mappings are the runs' names.

    Attributes:
        subjects: the two runs; differences are the first minus the second.
        episodes: how many what is quick was measured on.
        few_episodes: how many what adapts whole networks was measured on.
        own: each run by its own adaptation.
        table: frozen features under each head, and the gap taken apart.
        disjoint: each run on episodes that share no character.
        steps: accuracy against adaptation steps.
        safe_rates: rate below which the head's steps cannot overshoot, of each episode (episodes,).
        parts: accuracy by what is adapted and at which rate.
        shots: accuracy by shots, 10 queries a class.
        change: what adaptation changes in each network.
        shift: the ladder of shift, from the usual validation episodes outwards.
    """

    subjects: tuple[SubjectRow, SubjectRow]
    episodes: int
    few_episodes: int
    own: PairedMeans
    table: HeadTable
    disjoint: DisjointMeans
    steps: Steps
    safe_rates: dict[str, tuple[float, ...]]
    parts: dict[str, tuple[PartRow, ...]]
    shots: dict[str, tuple[ShotsRow, ...]]
    change: dict[str, Change]
    shift: tuple[ShiftRow, ...]

    def __post_init__(self):
        for quantity in ("safe_rates", "parts", "shots", "change"):
            self._refuse_missing(quantity, getattr(self, quantity))
        for row in self.shift:
            self._refuse_missing(f"shift, {row.shift},", row.runs)
        if not self.shift:
            raise ValueError("shift has no row")
        if not all(self.safe_rates.values()):
            raise ValueError("safe_rates of a run are of no episode")

    def _refuse_missing(self, quantity: str, by_run: Collection[str]) -> None:
        for name in self.names:
            if name not in by_run:
                raise ValueError(f"{quantity} lacks the run {name}")

    @property
    def names(self) -> tuple[str, str]:
        """What tables call the two runs."""
        first, second = self.subjects
        return first.name, second.name

    @property
    def take_steps(self) -> bool:
        """Whether both runs take inner steps, at a rate."""
        return all(subject.inner_lr is not None for subject in self.subjects)

    @property
    def head(self) -> str:
        """What the part of the gap is called that is of the runs' heads."""
        return GAP_WORDS["head_steps"] if self.take_steps else "the run's own head"

    def gap_in_words(self) -> dict[str, Difference]:
        """The parts of the gap by what pages call them."""
        words = GAP_WORDS | {"head_steps": self.head}
        return {words[name]: getattr(self.table.gap, name) for name in GAP_WORDS}

    @cached_property
    def verdict(self) -> tuple[str, ...]:
        """The sentences that follow from the numbers."""
        a, b = self.names
        return (
            sentences.which_is_better(self.subjects, self.own, self.disjoint, self.episodes),
            *sentences.without_steps(self.subjects),
            sentences.why(self.table.gap, a, b, self.head),
            *sentences.features(self.table.gap, a, b),
            *sentences.budget(self.steps.differences, self.few_episodes, a, b),
            *sentences.safe_rate(self.subjects, self.safe_rates),
            sentences.shift(self.shift, self.own, a, b),
        )

    def renamed(self, names: Mapping[str, str]) -> "Explanation":
        """The same numbers under other names of the runs.

        Args:
            names: what a run is called -> what it is called in the result; others keep their name.
        """
        first, second = self.subjects
        cells = (_renamed(cell, "features", names) for cell in self.table.cells)
        curves = (_renamed(curve, "name", names) for curve in self.steps.curves)
        return replace(
            self,
            subjects=(_renamed(first, "name", names), _renamed(second, "name", names)),
            table=replace(self.table, cells=tuple(cells)),
            steps=replace(self.steps, curves=tuple(curves)),
            safe_rates=_rekeyed(self.safe_rates, names),
            parts=_rekeyed(self.parts, names),
            shots=_rekeyed(self.shots, names),
            change=_rekeyed(self.change, names),
            shift=tuple(replace(row, runs=_rekeyed(row.runs, names)) for row in self.shift),
        )


def _renamed(row: Value, attribute: str, names: Mapping[str, str]) -> Value:
    """A row whose attribute is a run's name, under the new one."""
    name = getattr(row, attribute)
    return replace(row, **{attribute: names.get(name, name)})  # type: ignore[type-var]


def _rekeyed(values: Mapping[str, Value], names: Mapping[str, str]) -> dict[str, Value]:
    """Values by run under the new names."""
    return {names.get(name, name): value for name, value in values.items()}
