"""How stable a training was: pure functions of outer steps and validation accuracies in [0, 1]."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

DIVERGED_POINTS = 0.10
"""A drawdown of more than this is a divergence, unless it is regained soon enough."""
REGAINED_WITHIN = 0.20
"""Soon enough: within this fraction of the run."""
DIVERGED = (
    "The training diverged: its validation accuracy fell more than 10 points under its best and "
    "had not come back after 20 % of the run, or at its end. Lower --inner-lr or --outer-lr, or "
    "try --clip-gradient 0.3."
)
"""What a person is told of such a run."""


def drawdown(accuracy: Sequence[float], *, above: float = 0.80) -> float:
    """Largest fall from a former best, once that best is above ``above``; 0 if there is none."""
    best, largest = -math.inf, 0.0
    for value in accuracy:
        best = max(best, value)
        if best > above:
            largest = max(largest, best - value)
    return largest


def roughness(accuracy: Sequence[float]) -> float:
    """RMS of the curve minus its running median of 5, over the last two thirds of validations."""
    values = np.asarray(accuracy, dtype=float)
    padded = np.pad(values, 2, mode="edge")
    median = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    rest = (values - median)[len(values) // 3 :]
    return float(np.sqrt(np.mean(rest**2)))


def area(steps: Sequence[int], accuracy: Sequence[float]) -> float:
    """Mean height of the curve over outer steps, by trapezoids; of one validation, its height."""
    return (
        float(np.trapezoid(accuracy, steps) / (steps[-1] - steps[0]))
        if len(steps) > 1
        else float(accuracy[0])
    )


def first_step_at(steps: Sequence[int], accuracy: Sequence[float], level: float) -> int | None:
    """The first validated outer step with at least ``level``; None if there is none."""
    return next((step for step, value in zip(steps, accuracy, strict=True) if value >= level), None)


def diverged(steps: Sequence[int], accuracy: Sequence[float | None]) -> bool:
    """Not finite, or fallen far from a former best and not back soon.

    Far is more than 10 points under it, back is within 10 of it, soon is in 20 % of the run.
    """
    if any(value is None or not math.isfinite(value) for value in accuracy):
        return True
    values = [value for value in accuracy if value is not None]
    patience, best = REGAINED_WITHIN * (steps[-1] - steps[0]), -math.inf
    fallen_since: int | None = None
    for step, value in zip(steps, values, strict=True):
        best = max(best, value)
        if value >= best - DIVERGED_POINTS:
            fallen_since = None
        elif fallen_since is None:
            fallen_since = step
        if fallen_since is not None and step - fallen_since >= patience:
            return True
    return fallen_since is not None


def wilson_interval(count: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson, 1927)."""
    share, spread = count / of, z * z / of
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def sign_flip_test(differences: Sequence[float]) -> float:
    """Exact two-sided p of paired differences: the share of sign patterns as far from zero."""
    values = np.asarray(differences, dtype=float)
    observed = abs(values.sum())
    patterns = np.array(list(product((1.0, -1.0), repeat=len(values))))
    return float(np.mean(np.abs(patterns @ values) >= observed - 1e-12))


def measures(steps: Sequence[int], accuracy: Sequence[float | None]) -> dict[str, Any]:
    """All measures of one validation curve; only that it diverged where a number is not finite."""
    if any(value is None or not math.isfinite(value) for value in accuracy):
        return {"diverged": True}
    values = [value for value in accuracy if value is not None]
    return {
        "diverged": diverged(steps, values),
        "drawdown": drawdown(values),
        "roughness": roughness(values),
        "area": area(steps, values),
        "first_step_at_90": first_step_at(steps, values, 0.90),
        "first_step_at_95": first_step_at(steps, values, 0.95),
        "final": values[-1],
    }
