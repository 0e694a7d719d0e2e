"""Figures of what a learner records of itself, as its method's card names them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from innerloop.core.errors import DataError
from innerloop.methods.card import DiagnosticFigure
from innerloop.methods.catalogue import find_card
from innerloop.report.figures.run import describe
from innerloop.report.figures.style import AFTER, GREY, canvas, legend, panels
from innerloop.runs.directory import RunDirectory

COLUMNS = 4
"""Panels in a row, at most."""
LIGHTEST = 0.9
"""How far the colours of a series go; what comes after is too light to be seen on white."""


@dataclass(frozen=True)
class Diagnostic:
    """A figure that a run's records allow.

    Attributes:
        name: of its files.
        words: what it shows, in a clause.
        draw: makes it.
    """

    name: str
    words: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class History:
    """What was recorded under one key over a training.

    Attributes:
        steps: outer steps of the validations that recorded it.
        values: what each of them recorded.
    """

    steps: Sequence[int]
    values: Sequence[Any]

    def curve(self, index: int, name: str | None = None) -> list[float]:
        """One number of the lists over the training; NaN where it was not recorded.

        Args:
            index: in the list, from 0.
            name: of the list, where there are several.
        """
        lists = (value if name is None else value.get(name) for value in self.values)
        return [_number_at(numbers, index) for numbers in lists]


def diagnostics_of(run: RunDirectory) -> list[Diagnostic]:
    """The norm of the outer gradient, and the figures of the method's card, as far as recorded."""
    drawings = []
    records = run.train_records()
    if records and not math.isnan(records[0].gradient_norm):
        words = "the norm of the outer gradient at every outer step"
        drawings.append(Diagnostic("gradient-norm", words, lambda: draw_gradient_norm(run)))
    for figure in find_card(run.config.method).figures:
        history = _history(run, figure.key)
        _refuse_another_shape(run, figure.key, history)
        if history.values and history.values[-1] not in ([], {}):
            drawings.append(
                Diagnostic(
                    figure.name,
                    figure.words,
                    # Bound as defaults: the loop has gone on by the time that it is drawn.
                    lambda figure=figure, history=history: draw_diagnostic(run, figure, history),
                )
            )
    return drawings


def _history(run: RunDirectory, key: str) -> History:
    records = [record for record in run.validations() if record.diagnostics.get(key) is not None]
    return History(
        [record.step for record in records],
        [record.diagnostics[key] for record in records],
    )


def _refuse_another_shape(run: RunDirectory, key: str, history: History) -> None:
    """Raise `DataError` for what cannot be drawn: not always a number, a list, or lists by name."""
    for is_shape in (_is_number, _is_list, _is_lists_by_name):
        if all(map(is_shape, history.values)):
            return
    raise DataError(
        f"The diagnostics of {run.config.method} hold under {key!r} what cannot be drawn: a figure "
        "needs the same at every validation, a number, a list of numbers, or such lists by name."
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(item is None or _is_number(item) for item in value)


def _is_lists_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_list, value.values()))


def _number_at(numbers: Sequence[float | None] | None, index: int) -> float:
    if numbers is None or index >= len(numbers):
        return np.nan
    number = numbers[index]
    return np.nan if number is None else number


def draw_gradient_norm(run: RunDirectory) -> Figure:
    """Norm of the outer gradient at every outer step, before clipping."""
    figure, axes = canvas("Norm of the outer gradient", describe(run))
    records = run.train_records()
    axes.plot(
        [record.step for record in records],
        [record.gradient_norm for record in records],
        color=AFTER,
        linewidth=0.7,
    )
    if most := run.config.training.clip_gradient:
        axes.axhline(most, color=GREY, linestyle="--", linewidth=1, label=f"clipped to {most:g}")
        legend(axes)
    # Of images without a pixel of ink no gradient is above zero, and no number has a logarithm.
    if any(record.gradient_norm for record in records):
        axes.set_yscale("log")
    axes.set_xlabel("outer step")
    axes.set_ylabel("gradient norm, before clipping")
    return figure


def draw_diagnostic(run: RunDirectory, figure: DiagnosticFigure, history: History) -> Figure:
    """A panel by name, or one panel, with a line for each of a list; a single line of numbers.

    Args:
        run: that recorded it.
        figure: what the method's card says of it.
        history: what was recorded.
    """
    if isinstance(history.values[-1], dict):
        return _draw_by_name(run, figure, history)
    if _is_number(history.values[-1]):
        return _draw_numbers(run, figure, history)
    return _draw_list(run, figure, history)


def _draw_by_name(run: RunDirectory, figure: DiagnosticFigure, history: History) -> Figure:
    """A panel for each name, a line for each of its list."""
    last = history.values[-1]
    columns = min(COLUMNS, len(last))
    rows = -(-len(last) // columns)
    width = 3.0 * columns + 1
    height = 2.3 * rows + 1.2
    drawing, axes = panels(
        figure.title, describe(run), columns, rows=rows, width=width, height=height
    )
    for panel, (name, numbers) in zip(axes, last.items(), strict=False):
        for index, colour in enumerate(_colours(len(numbers))):
            curve = history.curve(index, name)
            panel.plot(history.steps, curve, color=colour, label=f"{index + 1}")
        panel.set_title(name, fontsize=9)
        panel.tick_params(labelsize=8)
    _label_grid(axes, len(last), columns, figure)
    return drawing


def _label_grid(axes: Sequence[Axes], count: int, columns: int, figure: DiagnosticFigure) -> None:
    """Words where they say something: at the left, below the lowest panels, a legend in the last.

    Args:
        axes: row by row.
        count: how many of them are used.
        columns: panels in a row.
        figure: names the vertical axes, and the lines.
    """
    for panel in axes[count:]:
        panel.set_visible(False)
    axes[0].set_ylabel(figure.axis, fontsize=8)
    legend(axes[count - 1], title=figure.series, fontsize=7, title_fontsize=7)
    for panel in axes[max(0, count - columns) : count]:
        panel.set_xlabel("outer step", fontsize=8)


def _draw_list(run: RunDirectory, figure: DiagnosticFigure, history: History) -> Figure:
    """One panel, a line for each of the list."""
    drawing, axes = canvas(figure.title, describe(run))
    curves = [history.curve(index) for index in range(len(history.values[-1]))]
    for index, (curve, colour) in enumerate(zip(curves, _colours(len(curves)), strict=True)):
        label = f"{figure.series} {index + 1}"
        axes.plot(history.steps, curve, color=colour, marker="o", markersize=3, label=label)
    _label_panel(axes, figure, curves)
    legend(axes, loc="center right")
    return drawing


def _draw_numbers(run: RunDirectory, figure: DiagnosticFigure, history: History) -> Figure:
    """One panel, one line."""
    drawing, axes = canvas(figure.title, describe(run))
    axes.plot(history.steps, history.values, color=AFTER, marker="o", markersize=3)
    _label_panel(axes, figure, [history.values])
    return drawing


def _label_panel(axes: Axes, figure: DiagnosticFigure, curves: Sequence[Sequence[float]]) -> None:
    if np.nanmin(curves) >= 0 and np.nanmax(curves) <= 1:
        axes.set_ylim(-0.02, 1.02)  # fractions, on the whole of their range
    axes.set_xlabel("outer step")
    axes.set_ylabel(figure.axis)


def _colours(count: int) -> list[Any]:
    """A colour for each of a series, from dark to light."""
    return [colormaps["viridis"](index / max(count - 1, 1) * LIGHTEST) for index in range(count)]
