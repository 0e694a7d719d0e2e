"""How stable a training was: pure functions of outer steps and validation accuracies in [0, 1]."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

DIVERGED_POINTS = 0.10
"""A drawdown of more than this is a divergence, unless it is regained soon enough."""
REGAINED_WITHIN = 0.20
"""Soon enough: within this fraction of the run."""
DIVERGED = (
    "The training diverged: its validation accuracy fell more than 10 points, and more than both "
    "intervals cover, under its best and "
    "had not come back after 20 % of the run, or at its end. Lower --outer-lr, or "
    "--inner-lr where the method has it, or try --clip-gradient 0.3."
)
"""What a person is told of such a run."""


def drawdown(accuracy: Sequence[float], *, above: float = 0.0) -> float:
    """Largest fall from a former best, once that best is above ``above``; 0 if there is none."""
    best = -math.inf
    largest = 0.0
    for value in accuracy:
        best = max(best, value)
        if best > above:
            largest = max(largest, best - value)
    return largest


def roughness(accuracy: Sequence[float]) -> float:
    """RMS of the curve minus its running median of 5, over the last two thirds of validations."""
    values = np.asarray(accuracy, dtype=float)
    # The ends are repeated, so that the first and last validations have a median of five too.
    padded = np.pad(values, 2, mode="edge")
    median = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    residuals = (values - median)[len(values) // 3 :]
    return float(np.sqrt(np.mean(residuals**2)))


def area(steps: Sequence[int], accuracy: Sequence[float]) -> float:
    """Mean height of the curve over outer steps, by trapezoids; of one validation, its height."""
    if len(steps) == 1:
        return float(accuracy[0])
    return float(np.trapezoid(accuracy, steps) / (steps[-1] - steps[0]))


def first_step_at(steps: Sequence[int], accuracy: Sequence[float], level: float) -> int | None:
    """The first validated outer step with at least ``level``; None if there is none."""
    return next((step for step, value in zip(steps, accuracy, strict=True) if value >= level), None)


def diverged(
    steps: Sequence[int],
    accuracy: Sequence[float | None],
    half_widths: Sequence[float] | None = None,
) -> bool:
    """Not finite, or fallen far from a former best and not back soon.

    Far is more than 10 points under it, back is within 10 of it, soon is in 20 % of the run.

    Args:
        steps: outer steps done at each validation.
        accuracy: at each.
        half_widths: of its intervals: a fall that both, added in squares, cover is none.
    """
    values = _finite_or_none(accuracy)
    if values is None:
        return True
    patience = REGAINED_WITHIN * (steps[-1] - steps[0])
    halves = [0.0] * len(values) if half_widths is None else half_widths
    best = (-math.inf, 0.0)
    fallen_since: int | None = None
    for step, value, half in zip(steps, values, halves, strict=True):
        best = max(best, (value, half))
        if best[0] - value <= max(DIVERGED_POINTS, math.hypot(best[1], half)):
            fallen_since = None
        elif fallen_since is None:
            fallen_since = step
        if fallen_since is not None and step - fallen_since >= patience:
            return True
    # A fall close to the end leaves no time to come back, and counts all the same.
    return fallen_since is not None


def measures(
    steps: Sequence[int], accuracy: Sequence[float | None], *, above: float = 0.0
) -> dict[str, Any]:
    """All measures of one validation curve; only that it diverged where a number is not finite.

    Args:
        steps: outer steps done at each validation.
        accuracy: at each.
        above: what a former best must be for a fall from it to be a drawdown.
    """
    values = _finite_or_none(accuracy)
    if values is None:
        return {"diverged": True}
    return {
        "diverged": diverged(steps, values),
        "drawdown": drawdown(values, above=above),
        "roughness": roughness(values),
        "area": area(steps, values),
        "first_step_at_90": first_step_at(steps, values, 0.90),
        "first_step_at_95": first_step_at(steps, values, 0.95),
        "final": values[-1],
    }


def _finite_or_none(accuracy: Sequence[float | None]) -> list[float] | None:
    """The accuracies, or None if any is missing, infinite or NaN."""
    # One number that is not finite is enough: the rest of the curve would look steady without it.
    values = [value for value in accuracy if value is not None and math.isfinite(value)]
    return values if len(values) == len(accuracy) else None
