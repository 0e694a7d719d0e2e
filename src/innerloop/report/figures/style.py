"""What all figures look like: colours, panels, axes, bands, legends, and the files they go to."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from innerloop.core.files import write_folder
from innerloop.report.figures.drawing import in_usual_style

# Okabe and Ito's colours, told apart by readers of every colour vision.
AFTER = "#0072B2"
BEFORE = "#E69F00"
SUPPORT = "#009E73"
GREY = "#767676"
WRONG = "#D55E00"
PALETTE = [AFTER, WRONG, SUPPORT, "#CC79A7", BEFORE, "#56B4E9", "#000000"]
"""One colour for each of several methods."""
SUFFIXES = ("png", "svg")
"""Of the files of a figure."""
SERIES_OF = "_series of "
"""What begins the label of a band, or of another line, of a series; for its underscore no legend
shows it."""


def save_figure(draw: Callable[[], Figure], folder: Path, name: str) -> Path:
    """Draw a figure and write it as PNG and SVG into a folder, which is made if need be.

    Args:
        draw: makes the figure; called here, since matplotlib asks for its style when one is made.
        folder: where to.
        name: of both files.

    Returns:
        The PNG.

    Raises:
        DiskError: if it cannot be written.
    """
    write_folder(folder, pictures_of(draw, name))
    return folder / f"{name}.png"


def pictures_of(
    draw: Callable[[], Figure], name: str, suffixes: Sequence[str] = SUFFIXES
) -> dict[str, bytes]:
    """A figure as PNG and SVG, by the names of their files; ``draw`` as in `save_figure`."""
    files = in_usual_style(draw, suffixes)
    return {f"{name}.{suffix}": content for suffix, content in files.items()}


def canvas(title: str, subtitle: str) -> tuple[Figure, Axes]:
    """A figure with one panel."""
    figure, (axes,) = panels(title, subtitle, 1)
    return figure, axes


def panels(
    title: str,
    subtitle: str,
    count: int,
    *,
    rows: int = 1,
    width: float = 7.2,
    height: float = 4.4,
    share_y: bool = False,
) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels side by side in each row.

    Sizes are in inches; the panels come row by row.
    """
    # Not by pyplot, which would keep every figure in memory until it is closed.
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=12)
    figure.supxlabel(subtitle, fontsize=7, color=GREY)
    drawn = list(figure.subplots(rows, count, sharey=share_y, squeeze=False).flat)
    for axes in drawn:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, drawn


def zoom(axes: Axes, fractions: Sequence[float | None]) -> None:
    """Let an axis of percent run from the ten below the smallest of some fractions to 100."""
    known = [value for value in fractions if value is not None]
    axes.set_ylim(10 * math.floor(10 * min(known, default=0.0)), 100.5)


def band(
    axes: Axes,
    x: Sequence[float],
    means: Sequence[float | None],
    intervals: Sequence[float | None],
    label: str,
    colour: str,
) -> None:
    """A line in percent with its interval as a band."""
    centre = 100 * np.array(means, dtype=float)
    half = 100 * np.nan_to_num(np.array(intervals, dtype=float))
    area = axes.fill_between(
        x,
        np.clip(centre - half, 0, 100),
        np.clip(centre + half, 0, 100),
        color=colour,
        alpha=0.2,
        lw=0,
    )
    area.set_label(SERIES_OF + label.removeprefix(SERIES_OF))
    axes.plot(x, centre, color=colour, marker="o", markersize=3, label=label)


def note(axes: Axes, text: str) -> None:
    """A remark at the right end of a panel's upper edge."""
    axes.set_title(text, fontsize=8, loc="right", color=GREY)


def legend(axes: Axes, **kwargs: Any) -> None:
    """The legend of a panel, on a ground that lets curves shine through; none of an empty panel."""
    if not axes.get_legend_handles_labels()[0]:
        return
    axes.legend(**{"frameon": True, "framealpha": 0.9, "edgecolor": "none"} | kwargs)
