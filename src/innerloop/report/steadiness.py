"""The sentences of a report that judge how steadily methods train; each follows by a rule."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from innerloop.report.findings import counted

Measures = Mapping[str, Any]
"""What `innerloop.core.stability.measures` says of a training."""


def stability(arms: Mapping[str, Sequence[Measures]], *, above: float = 0.0) -> list[str]:
    """Which of several methods trains more steadily, by each seed's validation curve.

    Args:
        arms: name of a method -> the measures of each of its trainings, by seed.
        above: what a former best was for a fall from it to be measured.
    """
    fallen = [_fallen(name, rows, above) for name, rows in arms.items()]
    return [*fallen, *_smoothest(arms)]


def former_best(above: float) -> str:
    """From what a curve fell, in words."""
    return f"a former best above {100 * above:g} %" if above else "a former best"


def _fallen(name: str, rows: Sequence[Measures], above: float) -> str:
    """How many trainings of a method diverged, and how far the others fell."""
    diverged = sum(bool(row["diverged"]) for row in rows)
    whole = [row for row in rows if "drawdown" in row]
    sentence = f"{name}: {diverged} of {counted(len(rows), 'seed')} diverged"
    if not whole:
        return f"{sentence}."
    fall = 100 * max(row["drawdown"] for row in whole)
    roughness = 100 * float(np.mean([row["roughness"] for row in whole]))
    return (
        f"{sentence}; its largest fall from {former_best(above)} is {fall:.1f} points, its "
        f"roughness {roughness:.2f} points."
    )


def _smoothest(arms: Mapping[str, Sequence[Measures]]) -> Iterator[str]:
    """Which methods are the smoothest and the roughest, where they are not level."""
    known = {
        name: round(float(np.mean([row["roughness"] for row in rows])), 4)  # as the table shows it
        for name, rows in arms.items()
        if rows and all("roughness" in row for row in rows)
    }
    if len(set(known.values())) < 2:
        return
    least = min(known.values())
    most = max(known.values())
    calm = [name for name, value in known.items() if value == least]
    rough = [name for name, value in known.items() if value == most]
    seeds = ", ".join(f"{name} {counted(len(rows), 'seed')}" for name, rows in arms.items())
    zero = " A curve that never falls has a roughness of zero." if least == 0 else ""
    yield (
        f"By roughness, {' and '.join(calm)} {'is' if len(calm) == 1 else 'are'} the "
        f"smoothest and {' and '.join(rough)} the roughest.{zero} This describes these "
        f"trainings ({seeds}) and tests nothing about the methods."
    )


def smoothing(decays: Mapping[str, float]) -> str:
    """What the moving average of the validated weights does to curves that are compared."""
    if len(set(decays.values())) > 1:
        shown = ", ".join(f"{name} {decay:g}" for name, decay in decays.items())
        return (
            "The curves do not compare: their moving averages of the weights have different "
            f"decays ({shown})."
        )
    decay = next(iter(decays.values()))
    if decay:
        return (
            f"The validated weights are a moving average of decay {decay:g} over the outer "
            "steps, which smooths every curve here; the study of stability in the documentation "
            "is without it."
        )
    return "The validated weights are those of the optimiser, without a moving average."
