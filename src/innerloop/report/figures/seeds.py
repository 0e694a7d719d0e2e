"""Validation curves of several seeds, side by side: how stable trainings are, as pictures."""

from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from innerloop.report.figures.style import PALETTE, SERIES_OF, legend, panels

Curve = tuple[Sequence[float], Sequence[float]]
"""Where a training was validated (outer steps, or seconds), and its accuracies in [0, 1]."""


def draw_seeds(
    arms: Mapping[str, Sequence[Curve]],
    title: str,
    subtitle: str,
    *,
    x_label: str = "outer step",
    bottom: float | None = None,
    end: float | None = None,
    colours: Sequence[str] = PALETTE,
) -> Figure:
    """A panel for each arm, on the same axes: every seed's curve thin, their median bold.

    Args:
        arms: name of an arm -> the curves of its seeds.
        title: above the figure.
        subtitle: below it.
        x_label: what the curves run over.
        bottom: accuracy in percent where the axis begins; None: below what there is to see after
            the first tenth.
        end: where the curves' axis ends; None: at the last validation.
        colours: one for each arm.
    """
    width = 1.4 + 3.6 * max(len(arms), 1.6)
    figure, axes = panels(
        title, fill(subtitle, round(15 * width)), len(arms), width=width, share_y=True
    )
    end = end or max(where[-1] for curves in arms.values() for where, _ in curves)
    for panel, (name, curves), colour in zip(axes, arms.items(), colours, strict=False):
        _draw_arm(panel, curves, colour)
        panel.set_title(name, fontsize=10)
        panel.set_xlabel(x_label)
        panel.set_xlim(-0.02 * end, 1.02 * end)
    axes[0].set_ylabel("validation query accuracy after adaptation, %")
    axes[0].set_ylim(lower_end(arms.values()) if bottom is None else bottom, 100.5)
    return figure


def lower_end(arms: Iterable[Sequence[Curve]]) -> float:
    """The ten, in percent, under the lowest accuracy of any curve after its first tenth."""
    lowest = min(
        (np.nanmin(accuracy[len(accuracy) // 10 :]) for curves in arms for _, accuracy in curves),
        default=0.0,
    )
    return float(10 * np.floor(10 * lowest))


def has_median(curves: Sequence[Curve]) -> bool:
    """Whether there are several curves, and none breaks off: that has no median with the others."""
    return len(curves) > 1 and len({len(accuracy) for _, accuracy in curves}) == 1


def _draw_arm(axes: Axes, curves: Sequence[Curve], colour: str) -> None:
    alone = len(curves) == 1
    label = "one seed" if alone else "each seed"
    for where, accuracy in curves:
        axes.plot(
            where,
            100 * np.array(accuracy),
            color=colour,
            linewidth=2 if alone else 0.8,
            alpha=1 if alone else 0.45,
            label=label,
        )
        label = f"{SERIES_OF}each seed"  # named once
    if has_median(curves):
        median = np.median([accuracy for _, accuracy in curves], axis=0)
        middle = np.median([where for where, _ in curves], axis=0)
        label = f"median of {len(curves)} seeds"
        axes.plot(middle, 100 * median, color=colour, linewidth=2.2, label=label)
    legend(axes, loc="lower right", fontsize=8)
