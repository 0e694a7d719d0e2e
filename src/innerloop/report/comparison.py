"""Figures and page of a comparison, from ``comparison.json`` alone; no torch."""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from innerloop.analysis.compared import ComparedRow, Comparison, LearningCurve, Pair
from innerloop.core.files import json_text, write_folder
from innerloop.core.intervals import Covers, interval_in_words, intervals_in_words
from innerloop.report.figures.run import data_name
from innerloop.report.figures.style import (
    GREY,
    PALETTE,
    SERIES_OF,
    band,
    legend,
    note,
    panels,
    pictures_of,
    zoom,
)
from innerloop.report.render import markdown
from innerloop.runs.results import Protocol

MARGIN = 1
"""Beyond 100 %, so that a dot there is whole."""


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write ``comparison.json``, ``comparison.md`` and ``figures/`` into a folder.

    Raises:
        DiskError: if something cannot be written.
    """
    drawings = {
        "accuracy": draw_accuracy,
        "learning-curves": draw_learning_curves,
    }
    if any(row.inner_lr is not None for row in comparison.rows):
        drawings["inner-steps"] = draw_inner_steps
    contents: dict[str, bytes | str] = {
        "comparison.json": json_text(comparison.to_json(), indent=1) + "\n",
        "comparison.md": comparison_page(comparison),
    }
    for name, draw in drawings.items():
        contents |= pictures_of(partial(draw, comparison), f"figures/{name}")
    write_folder(folder, contents)


def describe(protocol: Protocol) -> str:
    """Over which episodes, in one line."""
    return (
        f"{data_name(protocol.data)}, split {protocol.split}, part {protocol.part}, "
        f"{protocol.ways}-way {protocol.shots}-shot, {protocol.queries} queries, "
        f"{protocol.episodes} episodes of seed {protocol.episode_seed}"
    )


COLUMNS = [
    "method",
    "adaptation",
    "steps",
    "batch norm",
    "training seeds",
    "query accuracy, %",
    "of each seed, %",
]


def cells(row: ComparedRow) -> list[str]:
    """What stands under `COLUMNS` for a row of a comparison."""
    each = ", ".join(f"{100 * value:.2f}" for value in row.query_accuracy_of_each_seed)
    spread = row.query_accuracy_sd_over_seeds
    return [
        row.name,
        f"{row.adaptation} (transductive)" if row.transductive else row.adaptation,
        "-" if row.inner_lr is None else f"{row.inner_steps}{_rate(row)}",
        row.batch_norm,
        ", ".join(map(str, row.training_seeds)),
        f"{100 * row.query_accuracy:.2f} ± {100 * row.query_accuracy_ci95:.2f}",
        each if spread is None else f"{each} (sd {100 * spread:.2f})",
    ]


def plus_minus(rows: Sequence[ComparedRow]) -> str:
    """What ± and sd are in a table of rows, for its caption."""
    covers = intervals_in_words([(row.name, row.covers) for row in rows])
    return (
        f"± is the {covers}, of the mean over the training seeds; sd is the standard deviation "
        "over training seeds"
    )


def steps_in_words(rows: Sequence[ComparedRow]) -> str:
    """What the column of steps holds, as the end of a caption; nothing where none were taken."""
    taken = any(row.inner_lr is not None for row in rows)
    return "; steps are inner steps x their rate" if taken else ""


def _rate(row: ComparedRow) -> str:
    if row.inner_lr is None:
        return ""
    return " x learnt rates" if row.learned_rates else f" x {row.inner_lr:g}"


def table(rows: Sequence[ComparedRow]) -> list[str]:
    """The rows of a comparison as a Markdown table."""
    return markdown.table(COLUMNS, map(cells, rows))


def comparison_page(comparison: Comparison) -> str:
    """The text of ``comparison.md``."""
    lines = [
        "# Comparison",
        "",
        f"{markdown.text(describe(comparison.rows[0]))}. {plus_minus(comparison.rows)}"
        f"{steps_in_words(comparison.rows)}.",
        "",
        *table(comparison.rows),
        "",
        *(f"- {markdown.text(pair.sentence)}" for pair in comparison.pairs),
    ]
    if comparison.differing_fields:
        shown = (
            f"{name} ({', '.join(map(repr, values))})"
            for name, values in comparison.differing_fields.items()
        )
        lines += [
            "",
            f"These evaluations differ in: {markdown.text('; '.join(shown))}. They are not over "
            "the same episodes.",
        ]
    if comparison.other_rows:
        lines += [
            "",
            "## Other adaptations and batch-norm modes",
            "",
            f"{plus_minus(comparison.other_rows)}.",
            "",
            *table(comparison.other_rows),
        ]
    return "\n".join(lines) + "\n"


def draw_accuracy(comparison: Comparison) -> Figure:
    """Accuracy of each row with its interval, and the paired differences."""
    rows = comparison.rows
    pairs = comparison.pairs
    count = 2 if pairs else 1
    figure, (left, *right) = panels(
        "Query accuracy after adaptation",
        describe(rows[0]),
        count,
        width=5 * count,
        height=1.9 + 0.5 * max(len(rows), len(pairs)),
    )
    draw_rows(left, rows)
    if pairs:
        _draw_differences(right[0], pairs)
    return figure


def draw_rows(axes: Axes, rows: Sequence[ComparedRow]) -> None:
    """Each row's mean as a dot with its interval, and ticks for its training seeds."""
    for index, row in enumerate(rows):
        colour = PALETTE[index % len(PALETTE)]
        interval = 100 * row.query_accuracy_ci95
        mean = 100 * row.query_accuracy
        axes.errorbar(mean, index, xerr=interval, fmt="o", capsize=4, color=colour)
        each = [100 * value for value in row.query_accuracy_of_each_seed]
        if len(each) > 1:
            heights = [index + 0.2] * len(each)
            axes.plot(each, heights, marker="|", linestyle="", color=colour, markersize=8)
    remarks = ["; transductive method" if row.transductive else "" for row in rows]
    labels = [
        f"{row.name}\n{row.batch_norm}{remark}" for row, remark in zip(rows, remarks, strict=True)
    ]
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    # An interval of two seeds may go beyond what an accuracy can be: its bar runs into the frame.
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, 0), min(high, 100 + MARGIN))
    axes.set_xlabel("query accuracy, %")
    note(axes, f"dot: mean, ticks: seeds, bar: {_bars(row.covers for row in rows)}")


def _draw_differences(axes: Axes, pairs: Sequence[Pair]) -> None:
    for index, pair in enumerate(pairs):
        mean = 100 * pair.difference.mean
        interval = 100 * pair.difference.ci95
        axes.errorbar(mean, index, xerr=interval, fmt="o", capsize=4, color="black")
    axes.axvline(0, color=GREY, linestyle="--", linewidth=1)
    labels = [f"{pair.a}\nminus {pair.b}" for pair in pairs]
    axes.set_yticks(range(len(pairs)), labels, fontsize=8)
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.set_xlabel("difference, points")
    all_paired = all(pair.difference.paired for pair in pairs)
    paired = "paired over episodes" if all_paired else "not all of them paired"
    note(axes, f"{_bars(pair.difference.covers for pair in pairs)}, {paired}")


def _bars(covers: Iterable[Covers]) -> str:
    """What the intervals of a panel are; where they are not alike, the page says it of each."""
    different = set(covers)
    return interval_in_words(different.pop()) if len(different) == 1 else "95 % interval"


def draw_learning_curves(comparison: Comparison) -> Figure:
    """Validation accuracy over image passes, and over seconds."""
    curves = comparison.learning_curves
    row = comparison.rows[0]
    counts = " or ".join(str(count) for count in sorted({curve.episodes for curve in curves}))
    figure, axes = panels(
        "Validation accuracy over the training",
        f"{data_name(row.data)}, split {row.split}, part val, {counts} fixed episodes",
        2,
        width=10,
        share_y=True,
    )
    thousands = [[passes / 1000 for passes in curve.image_passes] for curve in curves]
    _draw_curves(axes[0], curves, thousands)
    _draw_curves(axes[1], curves, [curve.seconds for curve in curves])
    zoom(axes[0], _known(value for curve in curves for value in curve.query_accuracy[1:]))
    axes[0].set_ylabel("query accuracy, %")
    axes[0].set_xlabel("images sent forward and backward, thousands")
    machines = "; or ".join(sorted({curve.machine for curve in curves}))
    axes[1].set_xlabel(f"seconds of training ({machines})")
    note(axes[1], f"band: {_bars(curve.covers for curve in curves)}")
    legend(axes[1], loc="lower right")
    return figure


def _draw_curves(
    axes: Axes, curves: Sequence[LearningCurve], places: Sequence[Sequence[float]]
) -> None:
    """Each curve over its places on the axis, in the colour of its row; a row is named once."""
    names = list(dict.fromkeys(curve.name for curve in curves))
    seen: set[str] = set()
    for curve, place in zip(curves, places, strict=True):
        prefix = SERIES_OF if curve.name in seen else ""
        seen.add(curve.name)
        band(
            axes,
            place,
            curve.query_accuracy,
            curve.query_accuracy_ci95,
            f"{prefix}{curve.name} ({curve.batch_norm})",
            PALETTE[names.index(curve.name) % len(PALETTE)],
        )


def draw_inner_steps(comparison: Comparison) -> Figure:
    """Accuracy against the steps of adaptation, each method that takes some at its own rate."""
    figure, (axes,) = panels("Accuracy against adaptation steps", describe(comparison.rows[0]), 1)
    rows = [row for row in comparison.rows if row.inner_lr is not None]
    for row in rows:
        curve = [100 * value for value in row.query_accuracy_per_step]
        rate = _rate(row).replace(" x", " at")
        axes.plot(
            range(len(curve)),
            curve,
            marker="o",
            markersize=3,
            color=PALETTE[comparison.rows.index(row) % len(PALETTE)],
            label=f"{row.name}, steps{rate} ({row.batch_norm})",
        )
        axes.axvline(row.inner_steps, color=GREY, linestyle=":", linewidth=1)
    # Without the first value: chance would press all the others into the top of the panel.
    zoom(axes, _known(value for row in rows for value in row.query_accuracy_per_step[1:]))
    note(axes, "accuracy before adaptation is below the panel where it is at chance")
    axes.set_xlabel("inner steps taken")
    axes.set_ylabel("query accuracy, %")
    legend(axes, loc="lower right")
    return figure


def _known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]
