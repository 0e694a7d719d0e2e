"""Figures and page of a comparison, from ``comparison.json`` alone; no torch."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from innerloop.core.files import disk_errors, json_text, write_atomic
from innerloop.report.figures.run import (
    GREY,
    PALETTE,
    SERIES_OF,
    band,
    data_name,
    panels,
    save_figure,
    zoom,
)


def write_comparison(comparison: dict[str, Any], folder: Path) -> None:
    """Write ``comparison.json``, ``comparison.md`` and ``figures/`` into a folder.

    Raises:
        DiskError: if something cannot be written.
    """
    with disk_errors(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "comparison.json", json_text(comparison, indent=1) + "\n")
    write_atomic(folder / "comparison.md", comparison_page(comparison))
    drawings = {
        "accuracy": draw_accuracy,
        "learning-curves": draw_learning_curves,
        "inner-steps": draw_inner_steps,
    }
    for name, draw in drawings.items():
        save_figure(draw(comparison), folder / "figures", name)


def describe(comparison: dict[str, Any]) -> str:
    """Over which episodes, in one line."""
    row = comparison["rows"][0]
    return (
        f"{data_name(row['data'])}, split {row['split']}, part {row['part']}, {row['ways']}-way "
        f"{row['shots']}-shot, {row['queries']} queries, {row['episodes']} episodes of seed "
        f"{row['episode_seed']}"
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


def cells(row: dict[str, Any]) -> list[str]:
    """What stands under `COLUMNS` for a row of a comparison."""
    each = ", ".join(f"{100 * value:.2f}" for value in row["query_accuracy_of_each_seed"])
    spread = row["query_accuracy_sd_over_seeds"]
    return [
        row["name"],
        row["adaptation"],
        f"{row['inner_steps']}" + _rate(row),
        row["batch_norm"],
        ", ".join(map(str, row["training_seeds"])),
        f"{100 * row['query_accuracy']:.2f} ± {100 * row['query_accuracy_ci95']:.2f}",
        each if spread is None else f"{each} (sd {100 * spread:.2f})",
    ]


def _rate(row: dict[str, Any]) -> str:
    if row["inner_lr"] is None:
        return ""
    return " x learnt rates" if row.get("learned_rates") else f" x {row['inner_lr']:g}"


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows of a comparison as a Markdown table."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *map(cells, rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def comparison_page(comparison: dict[str, Any]) -> str:
    """The text of ``comparison.md``."""
    lines = [
        "# Comparison",
        "",
        f"{describe(comparison)}. ± is the 95 % interval over episodes, of the mean over the "
        "training seeds; sd is the standard deviation over training seeds; steps are inner steps "
        "x their rate.",
        "",
        *table(comparison["rows"]),
        "",
        *(f"- {pair['sentence']}" for pair in comparison["pairs"]),
    ]
    if comparison["differing_fields"]:
        shown = (
            f"{name} ({', '.join(map(repr, found))})"
            for name, found in comparison["differing_fields"].items()
        )
        lines += [
            "",
            f"These evaluations differ in: {'; '.join(shown)}. They are not over the same "
            "episodes.",
        ]
    if comparison["other_rows"]:
        lines += [
            "",
            "## Other adaptations and batch-norm modes",
            "",
            *table(comparison["other_rows"]),
        ]
    return "\n".join(lines) + "\n"


def draw_accuracy(comparison: dict[str, Any]) -> Figure:
    """Accuracy of each row with its interval, and the paired differences."""
    rows, pairs = comparison["rows"], comparison["pairs"]
    height = 1.9 + 0.5 * max(len(rows), len(pairs))
    title, count = "Query accuracy after adaptation", 2 if pairs else 1
    figure, (left, *right) = panels(
        title, describe(comparison), count, width=5 * count, height=height
    )
    for index, row in enumerate(rows):
        colour = PALETTE[index % len(PALETTE)]
        left.errorbar(
            100 * row["query_accuracy"],
            index,
            xerr=100 * row["query_accuracy_ci95"],
            fmt="o",
            capsize=4,
            color=colour,
        )
        each = [100 * value for value in row["query_accuracy_of_each_seed"]]
        if len(each) > 1:
            left.plot(
                each,
                [index + 0.2] * len(each),
                marker="|",
                linestyle="",
                color=colour,
                markersize=8,
            )
    left.set_yticks(
        range(len(rows)), [f"{row['name']}\n{row['batch_norm']}" for row in rows], fontsize=8
    )
    left.set_ylim(len(rows) - 0.5, -0.5)
    left.set_xlabel("query accuracy, %")
    left.set_title(
        "dot: mean, bar: 95 % over episodes, ticks: seeds", fontsize=8, loc="right", color=GREY
    )
    if pairs:
        _draw_differences(right[0], pairs)
    return figure


def _draw_differences(axes: Axes, pairs: list[dict[str, Any]]) -> None:
    for index, pair in enumerate(pairs):
        axes.errorbar(
            100 * pair["mean"], index, xerr=100 * pair["ci95"], fmt="o", capsize=4, color="black"
        )
    axes.axvline(0, color=GREY, linestyle="--", linewidth=1)
    axes.set_yticks(
        range(len(pairs)), [f"{pair['a']}\nminus {pair['b']}" for pair in pairs], fontsize=8
    )
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.set_xlabel("difference, points")
    paired = (
        "paired over episodes"
        if all(pair["paired"] for pair in pairs)
        else "not all of them paired"
    )
    axes.set_title(f"95 % interval, {paired}", fontsize=8, loc="right", color=GREY)


def draw_learning_curves(comparison: dict[str, Any]) -> Figure:
    """Validation accuracy over image passes, and over seconds."""
    curves = comparison["learning_curves"]
    counts = " or ".join(str(count) for count in sorted({curve["episodes"] for curve in curves}))
    row = comparison["rows"][0]
    subtitle = f"{data_name(row['data'])}, split {row['split']}, part val, {counts} fixed episodes"
    figure, axes = panels(
        "Validation accuracy over the training", subtitle, 2, width=10, share_y=True
    )
    names = list(dict.fromkeys(curve["name"] for curve in curves))
    for x, panel in zip(("image_passes", "seconds"), axes, strict=True):
        seen: set[str] = set()
        for curve in curves:
            name = curve["name"]
            label = f"{SERIES_OF if name in seen else ''}{name} ({curve['batch_norm']})"
            seen.add(name)
            values = curve[x] if x == "seconds" else [value / 1000 for value in curve[x]]
            band(
                panel,
                values,
                curve["query_accuracy"],
                curve["query_accuracy_ci95"],
                label,
                PALETTE[names.index(name) % len(PALETTE)],
            )
    zoom(axes[0], [value for curve in curves for value in curve["query_accuracy"][1:]])
    axes[0].set_ylabel("query accuracy, %")
    axes[0].set_xlabel("images sent forward and backward, thousands")
    axes[1].set_xlabel(
        f"seconds of training ({'; or '.join(sorted({curve['machine'] for curve in curves}))})"
    )
    axes[1].set_title("band: 95 % over episodes", fontsize=8, loc="right", color=GREY)
    axes[1].legend(loc="lower right", frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def draw_inner_steps(comparison: dict[str, Any]) -> Figure:
    """Accuracy against the steps of adaptation, each method at its own rate."""
    figure, (axes,) = panels("Accuracy against adaptation steps", describe(comparison), 1)
    for index, row in enumerate(comparison["rows"]):
        curve = [
            np.nan if value is None else 100 * value for value in row["query_accuracy_per_step"]
        ]
        axes.plot(
            range(len(curve)),
            curve,
            marker="o",
            markersize=3,
            color=PALETTE[index % len(PALETTE)],
            label=f"{row['name']}, steps{_rate(row).replace(' x', ' at')} ({row['batch_norm']})",
        )
        axes.axvline(row["inner_steps"], color=GREY, linestyle=":", linewidth=1)
    zoom(
        axes, [value for row in comparison["rows"] for value in row["query_accuracy_per_step"][1:]]
    )
    axes.set_title(
        "accuracy before adaptation is below the panel where it is at chance",
        fontsize=8,
        loc="right",
        color=GREY,
    )
    axes.set_xlabel("inner steps taken")
    axes.set_ylabel("query accuracy, %")
    axes.legend(loc="lower right", frameon=True, framealpha=0.9, edgecolor="none")
    return figure
