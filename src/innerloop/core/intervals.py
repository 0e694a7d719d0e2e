"""Means over episodes and differences of them, each with its 95 % interval. Needs no torch."""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from innerloop.core.components import (
    Design,
    half_width,
    half_width_of_episodes,
    half_width_of_seeds,
)

Covers = Literal[
    "episodes",
    "episodes and classes",
    "episodes and training seeds",
    "episodes, classes and training seeds",
]
"""Of what an interval says how far others would lie: other episodes of the same classes; of other
classes of the same kind; of networks from other training seeds."""


def what_is_covered(design: Design, *, seeds: bool) -> Covers:
    """What an interval covers, by whether episodes name their classes and there are seeds."""
    if design.covers_classes:
        return "episodes, classes and training seeds" if seeds else "episodes and classes"
    return "episodes and training seeds" if seeds else "episodes"


def covers_seeds(covers: Covers) -> bool:
    """Whether an interval covers training seeds, and so says something of a method."""
    return "seeds" in covers


def interval_in_words(covers: Covers) -> str:
    """What ± is, in the words that every page has for it."""
    return f"95 % interval over {covers}"


def intervals_in_words(rows: Iterable[tuple[str, Covers]]) -> str:
    """What ± is in several rows, by their names and what each covers."""
    names: dict[Covers, dict[str, None]] = {}
    for name, covers in rows:
        names.setdefault(covers, {})[name] = None  # each name once, in their order
    if len(names) == 1:
        (covers,) = names
        return interval_in_words(covers)
    parts = (f"over {covers} ({', '.join(of)})" for covers, of in names.items())
    return f"95 % interval {', '.join(parts)}"


def mean_and_interval(values: np.ndarray, design: Design | None = None) -> tuple[float, float]:
    """Mean and the half-width of its 95 % interval, by `innerloop.core.components`.

    Args:
        values: (episodes,) at least two; or (seeds, episodes), with which the interval covers
            training seeds.
        design: which episodes share classes; without it the interval covers none.
    """
    values = np.atleast_2d(values)
    return float(values.mean()), half_width(values, design or Design(values.shape[1]))


@dataclass(frozen=True)
class Difference:
    """A minus B, in accuracy.

    Attributes:
        mean: mean over the episodes.
        ci95: half-width of its 95 % interval.
        won, lost, tied: episodes in which A is above, below, or equal.
        probability: P(A > B), a tie counted as half.
        effect_size: mean over standard deviation of the episodes' differences (Cohen's d_z); None
            where all differences are equal.
        paired: whether both were measured on the same episodes; if not, ``won`` to ``effect_size``
            are None, and the interval is that of two independent means.
        covers: what the interval covers; in files of long ago, episodes.
    """

    mean: float
    ci95: float
    won: int | None
    lost: int | None
    tied: int | None
    probability: float | None
    effect_size: float | None
    paired: bool = True
    covers: Covers = "episodes"

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, or ``not distinguishable`` where the interval holds zero."""
        if not abs(self.mean) > self.ci95:  # also where a mean is not a number
            return "not distinguishable"
        return "better" if self.mean > 0 else "worse"

    def reversed(self) -> "Difference":
        """B minus A."""
        return dataclasses.replace(
            self,
            mean=-self.mean,
            won=self.lost,
            lost=self.won,
            probability=None if self.probability is None else 1 - self.probability,
            effect_size=None if self.effect_size is None else -self.effect_size,
        )

    def to_json(self) -> dict[str, Any]:
        """The attributes and the verdict."""
        return dataclasses.asdict(self) | {"verdict": self.verdict}


def paired_difference(a: np.ndarray, b: np.ndarray, design: Design | None = None) -> Difference:
    """A minus B over the same episodes.

    Args:
        a: (episodes,) accuracy of A in each; or (seeds, episodes).
        b: of B in the same ones; or (its seeds, episodes). Training seeds are covered where both
            have several. The same seed of both is not taken to have anything in common: of two or
            three differences by seed the interval would be too narrow.
        design: which episodes share classes; without it the interval covers none.
    """
    a = np.atleast_2d(a)
    b = np.atleast_2d(b)
    design = design or Design(a.shape[1])
    # Episode by episode first: how hard an episode is, for A and B alike, then cancels.
    # To the millionth, as accuracies are stored, so that means over seeds tie where they should.
    differences = np.round(a.mean(axis=0) - b.mean(axis=0), 6)
    seeds = min(len(a), len(b)) > 1
    methods = [a, b] if seeds else []
    return Difference(
        mean=float(differences.mean()),
        ci95=math.hypot(
            half_width_of_episodes(differences[None], design), half_width_of_seeds(methods, design)
        ),
        **_episode_by_episode(differences),
        covers=what_is_covered(design, seeds=seeds),
    )


def _episode_by_episode(differences: np.ndarray) -> dict[str, Any]:
    """What is counted of differences (episodes,), by the attributes of `Difference`."""
    won = int((differences > 0).sum())
    lost = int((differences < 0).sum())
    tied = len(differences) - won - lost
    return {
        "won": won,
        "lost": lost,
        "tied": tied,
        "probability": (won + tied / 2) / len(differences),
        # Not `if spread`: the deviation of equal numbers can be a rounding error above zero.
        "effect_size": float(differences.mean() / differences.std(ddof=1))
        if np.ptp(differences)
        else None,
    }


def independent_difference(
    a: np.ndarray,
    b: np.ndarray,
    design_of_a: Design | None = None,
    design_of_b: Design | None = None,
) -> Difference:
    """A minus B over episodes that are not the same; its arguments are `paired_difference`'s."""
    a = np.atleast_2d(a)
    b = np.atleast_2d(b)
    design_of_a = design_of_a or Design(a.shape[1])
    design_of_b = design_of_b or Design(b.shape[1])
    seeds = min(len(a), len(b)) > 1
    of_means = half_width if seeds else half_width_of_episodes
    # What is covered of both is what is covered of the one that covers less.
    least = min((design_of_a, design_of_b), key=lambda design: design.covers_classes)
    return Difference(
        mean=float(a.mean() - b.mean()),
        # Variances of independent means add, and with them the squares of the half-widths.
        ci95=math.hypot(of_means(a, design_of_a), of_means(b, design_of_b)),
        won=None,
        lost=None,
        tied=None,
        probability=None,
        effect_size=None,
        paired=False,
        covers=what_is_covered(least, seeds=seeds),
    )
