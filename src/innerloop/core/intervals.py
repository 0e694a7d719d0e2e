"""Means over episodes and differences of them, each with its 95 % interval. Needs no torch."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np


def mean_and_interval(values: np.ndarray) -> tuple[float, float]:
    """Mean over episodes and the half-width of its 95 % interval (normal: 1.96 s / sqrt(n)).

    Args:
        values: (episodes,) at least two.
    """
    # The unbiased variance: the episodes are a sample of all that could have been drawn.
    return float(values.mean()), float(1.96 * values.std(ddof=1) / math.sqrt(len(values)))


@dataclass(frozen=True)
class Difference:
    """A minus B, in accuracy.

    Attributes:
        mean: mean over the episodes.
        ci95: half-width of its 95 % interval over the episodes.
        won, lost, tied: episodes in which A is above, below, or equal.
        probability: P(A > B), a tie counted as half.
        effect_size: mean over standard deviation of the episodes' differences (Cohen's d_z); None
            where all differences are equal.
        paired: whether both were measured on the same episodes; if not, ``won`` to ``effect_size``
            are None, and the interval is that of two independent means.
    """

    mean: float
    ci95: float
    won: int | None
    lost: int | None
    tied: int | None
    probability: float | None
    effect_size: float | None
    paired: bool = True

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, or ``not distinguishable`` where the interval holds zero."""
        if not abs(self.mean) > self.ci95:  # also where a mean is not a number
            return "not distinguishable"
        return "better" if self.mean > 0 else "worse"

    def reversed(self) -> "Difference":
        """B minus A."""
        return Difference(
            mean=-self.mean,
            ci95=self.ci95,
            won=self.lost,
            lost=self.won,
            tied=self.tied,
            probability=None if self.probability is None else 1 - self.probability,
            effect_size=None if self.effect_size is None else -self.effect_size,
            paired=self.paired,
        )

    def to_json(self) -> dict[str, Any]:
        """The attributes and the verdict."""
        return dataclasses.asdict(self) | {"verdict": self.verdict}


def paired_difference(a: np.ndarray, b: np.ndarray) -> Difference:
    """A minus B over the same episodes.

    Args:
        a: (episodes,) accuracy of A in each.
        b: (episodes,) accuracy of B in the same ones.
    """
    # Episode by episode first: how hard an episode is, for A and B alike, then cancels.
    # To the millionth, as accuracies are stored, so that means over seeds tie where they should.
    differences = np.round(np.asarray(a) - np.asarray(b), 6)
    mean, half_width = mean_and_interval(differences)
    won = int((differences > 0).sum())
    lost = int((differences < 0).sum())
    tied = len(differences) - won - lost
    spread = float(differences.std(ddof=1))
    return Difference(
        mean=mean,
        ci95=half_width,
        won=won,
        lost=lost,
        tied=tied,
        probability=(won + tied / 2) / len(differences),
        # Not `if spread`: the deviation of equal numbers can be a rounding error above zero.
        effect_size=mean / spread if np.ptp(differences) else None,
    )


def independent_difference(a: np.ndarray, b: np.ndarray) -> Difference:
    """A minus B over episodes that are not the same."""
    mean_of_a, half_width_of_a = mean_and_interval(a)
    mean_of_b, half_width_of_b = mean_and_interval(b)
    return Difference(
        mean=mean_of_a - mean_of_b,
        # Variances of independent means add, and with them the squares of the half-widths.
        ci95=math.hypot(half_width_of_a, half_width_of_b),
        won=None,
        lost=None,
        tied=None,
        probability=None,
        effect_size=None,
        paired=False,
    )
