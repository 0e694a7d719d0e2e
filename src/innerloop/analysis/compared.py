"""What a comparison holds: rows, differences with their sentences, and learning curves."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from innerloop.core.intervals import Covers, Difference, covers_seeds, interval_in_words
from innerloop.runs.results import Protocol


@dataclass(frozen=True, kw_only=True)
class ComparedRow(Protocol):
    """One row of a comparison: a method, adapted in one way, under one batch-norm mode.

    Attributes:
        name: what tables and figures call it.
        runs: names of its runs, one for each training seed.
        training_seeds: of these runs.
        method, adaptation, learned_rates, transductive, inner_steps, inner_lr, batch_norm: as
            evaluations have them.
        query_accuracy, query_accuracy_ci95: mean over seeds and episodes, and the half-width of its
            95 % interval.
        covers: what the interval covers.
        query_accuracy_of_each_seed: the mean of each run.
        query_accuracy_sd_over_seeds: their standard deviation; None of one run.
        query_accuracy_per_step: the mean over the seeds at φ_0, φ_1, ...
    """

    name: str
    runs: tuple[str, ...]
    training_seeds: tuple[int, ...]
    method: str
    adaptation: str
    learned_rates: bool
    transductive: bool
    inner_steps: int
    inner_lr: float | None
    batch_norm: str
    query_accuracy: float
    query_accuracy_ci95: float
    covers: Covers
    query_accuracy_of_each_seed: tuple[float, ...]
    query_accuracy_sd_over_seeds: float | None
    query_accuracy_per_step: tuple[float, ...]


@dataclass(frozen=True)
class Pair:
    """Row A minus row B, in query accuracy.

    Attributes:
        a, b: names of the rows.
        difference: of their episodes.
    """

    a: str
    b: str
    difference: Difference

    @property
    def sentence(self) -> str:
        """What the difference says, in words."""
        return sentence(self.a, self.b, self.difference)

    def reversed(self) -> "Pair":
        """Row B minus row A."""
        return Pair(self.b, self.a, self.difference.reversed())

    def to_json(self) -> dict[str, Any]:
        """The names, the difference and the sentence, as one flat object."""
        names = {"a": self.a, "b": self.b}
        return names | self.difference.to_json() | {"sentence": self.sentence}


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """Validation over the training of a run.

    Attributes:
        name: of the row that the run is in.
        run, method, training_seed: which run it is.
        step: outer steps done at each validation.
        image_passes: images sent forward and backward in training until then.
        seconds: of training until then.
        machine: what computed it: seconds compare between equal machines alone.
        query_accuracy, query_accuracy_ci95: at each validation.
        episodes, batch_norm, covers: of the last validation.
    """

    name: str
    run: str
    method: str
    training_seed: int
    step: tuple[int, ...]
    image_passes: tuple[int, ...]
    seconds: tuple[float, ...]
    machine: str
    query_accuracy: tuple[float, ...]
    query_accuracy_ci95: tuple[float, ...]
    episodes: int
    batch_norm: str
    covers: Covers


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that ``comparison.json`` holds.

    Attributes:
        rows: each method in its own way and batch-norm mode.
        other_rows: other adaptations and batch-norm modes.
        pairs: the difference of every two rows.
        learning_curves: of every run in the rows.
        differing_fields: in what the protocols differ, with the value of each run.
    """

    rows: tuple[ComparedRow, ...]
    other_rows: tuple[ComparedRow, ...]
    pairs: tuple[Pair, ...]
    learning_curves: tuple[LearningCurve, ...]
    differing_fields: dict[str, list[Any]] = field(default_factory=dict)

    def pair(self, a: str, b: str) -> Pair | None:
        """Row A minus row B, whichever way it was measured; None if one is missing."""
        for pair in self.pairs:
            if (pair.a, pair.b) == (a, b):
                return pair
            if (pair.a, pair.b) == (b, a):
                return pair.reversed()
        return None

    def renamed(self, name_of: Callable[[str], str]) -> "Comparison":
        """The same with other names of the rows, in the sentences too."""
        return replace(
            self,
            rows=tuple(replace(row, name=name_of(row.name)) for row in self.rows),
            other_rows=tuple(replace(row, name=name_of(row.name)) for row in self.other_rows),
            pairs=tuple(replace(pair, a=name_of(pair.a), b=name_of(pair.b)) for pair in self.pairs),
            learning_curves=tuple(
                replace(curve, name=name_of(curve.name)) for curve in self.learning_curves
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """What ``comparison.json`` holds."""
        return {
            "differing_fields": self.differing_fields,
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "other_rows": [dataclasses.asdict(row) for row in self.other_rows],
            "pairs": [pair.to_json() for pair in self.pairs],
            "learning_curves": [dataclasses.asdict(curve) for curve in self.learning_curves],
        }


def sentence(a: str, b: str, difference: Difference, subject: str = "query accuracy") -> str:
    """What a difference says, in words that follow from its interval and what that covers."""
    points = (
        f"{100 * difference.mean:+.2f} ± {100 * difference.ci95:.2f} points of {subject}, "
        f"{interval_in_words(difference.covers)}"
    )
    # Without other training seeds nothing is known of other networks of the same methods.
    about = "" if covers_seeds(difference.covers) else "Of these networks alone: "
    verdict = (
        about
        + {
            "better": f"{a} is better than {b}: {points}",
            "worse": f"{a} is worse than {b}: {points}",
            "not distinguishable": f"{a} and {b} are not distinguishable: {points}",
        }[difference.verdict]
    )
    won = difference.won
    lost = difference.lost
    tied = difference.tied
    if not difference.paired or won is None or lost is None or tied is None:
        return f"{verdict} (not the same episodes, so not paired)."
    effect = "none" if difference.effect_size is None else f"{difference.effect_size:.2f}"
    return (
        f"{verdict}; over the same {won + lost + tied} episodes ({won} won, {lost} lost, {tied} "
        f"tied; P({a} > {b}) = {difference.probability:.2f}, effect size "
        f"{effect}){_wins_against_mean(a, b, won, lost, difference.verdict)}."
    )


def _wins_against_mean(a: str, b: str, won: int, lost: int, verdict: str) -> str:
    """A clause where one run wins clearly more episodes, and the mean does not show it.

    Clearly: by more than 1.96 standard deviations of a fair coin thrown for every episode that is
    not tied.
    """
    lead = won - lost
    if abs(lead) <= 1.96 * math.sqrt(won + lost):
        return ""
    ahead, behind = (a, b) if lead > 0 else (b, a)
    if verdict == ("better" if lead > 0 else "worse"):
        return ""
    return f"; {ahead} wins clearly more episodes than {behind}, which the mean does not show"
