"""Accuracy against the number of adaptation steps, typed."""

from dataclasses import dataclass
from typing import Literal

from innerloop.core.intervals import Difference


@dataclass(frozen=True, kw_only=True)
class StepCurve:
    """Accuracy of a run against the number of adaptation steps.

    Attributes:
        name: of the run.
        adapted: ``own``: as the method does it; ``head``: a new head on frozen features alone.
        rate: of the steps.
        steps: numbers of steps (points,).
        episodes: how many were measured.
        accuracy, ci95: after each number of steps (points,).
    """

    name: str
    adapted: Literal["own", "head"]
    rate: float
    steps: tuple[int, ...]
    episodes: int
    accuracy: tuple[float, ...]
    ci95: tuple[float, ...]

    def __post_init__(self):
        if not len(self.steps) == len(self.accuracy) == len(self.ci95):
            raise ValueError("steps, accuracy and ci95 of a curve must be equally many")


@dataclass(frozen=True, kw_only=True)
class StepDifferences:
    """The runs' own adaptation compared after each number of steps.

    Attributes:
        rate: of the steps.
        steps: numbers of steps (points,).
        own_difference: the first run minus the second at each (points,).
    """

    rate: float
    steps: tuple[int, ...]
    own_difference: tuple[Difference, ...]

    def __post_init__(self):
        if len(self.steps) != len(self.own_difference):
            raise ValueError("steps and own_difference must be equally many")


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Adaptation steps at several rates.

    Attributes:
        curves: two of each run at each rate, at the same numbers of steps.
        differences: of the runs, one for each rate.
    """

    curves: tuple[StepCurve, ...]
    differences: tuple[StepDifferences, ...]

    def __post_init__(self):
        if not self.curves:
            raise ValueError("there is no curve over adaptation steps")
        if any(curve.steps != self.curves[0].steps for curve in self.curves):
            raise ValueError("curves over adaptation steps must have the same steps")
