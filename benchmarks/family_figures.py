"""Figures of the benchmark of all methods, from `results/family/` alone, into `docs/figures/`.

python benchmarks/family_figures.py
"""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np
from family_tables import (
    KINDS,
    RESULTS,
    compared,
    difference,
    has_costs,
    leaders,
    named,
    ranked,
    rows,
    seconds,
    settled,
    shifts,
    titled,
)
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from innerloop.core.errors import DataError
from innerloop.core.files import read_json, write_atomic
from innerloop.methods.catalogue import find_card
from innerloop.report.figures.style import (
    AFTER,
    GREY,
    PALETTE,
    legend,
    note,
    panels,
    pictures_of,
)

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
PROTOCOL = (
    "Omniglot, split 1100-100-423, part test, 15 queries a class, 600 episodes, 800,000 image "
    "passes of training; *: transductive"
)
SATURATED = 4.0
"""Points of difference at which the colours of the pairs end."""
BESIDE = 0.62
"""From this part of the range of colours on, numbers on them are white."""


def titles(methods: Sequence[str]) -> list[str]:
    """What figures call them; transductive ones are marked by an asterisk."""
    return [
        f"{find_card(method).title}*" if find_card(method).transductive else titled(method)
        for method in methods
    ]


def draw_accuracy() -> Figure:
    """Every method's accuracy in each setting, and what its training costs."""
    methods = ranked()
    count = len(settled()) + has_costs()
    figure, axes = panels(
        "All methods on the same episodes",
        PROTOCOL,
        count,
        width=4 + 2 * max(2, count),
        height=6.2,
        share_y=True,
    )
    places = range(len(methods))
    for panel, shape in zip(axes, settled(), strict=False):
        for place, method in enumerate(methods):
            row = rows(shape)[method]
            colour = AFTER if method in leaders(shape) else GREY
            value, half = 100 * row["query_accuracy"], 100 * row["query_accuracy_ci95"]
            panel.errorbar(value, place, xerr=half, fmt="o", markersize=4, capsize=2, color=colour)
        low, high = panel.get_xlim()
        panel.set_xlim(low, min(high, 100.2))
        panel.set_title(named(shape), fontsize=10)
        panel.set_xlabel("query accuracy, %")
    if has_costs():
        took = [seconds("5w5s", method) / 60 for method in methods]
        axes[-1].barh(places, took, color=GREY, height=0.6)
        axes[-1].set_title("cost, 5-way 5-shot", fontsize=10)
        axes[-1].set_xlabel("minutes of one core")
    axes[0].set_yticks(places, titles(methods), fontsize=9)
    axes[0].set_ylim(len(methods) - 0.5, -0.5)
    note(axes[0], "")
    return figure


def draw_pairs() -> Figure:
    """Every difference between two methods that are told apart, in each setting."""
    columns = min(2, len(settled()))
    in_rows = math.ceil(len(settled()) / columns)
    figure, axes = panels(
        "Row minus column, in points of accuracy",
        f"{PROTOCOL}\nwhite: not told apart by the 95 % interval of the paired difference",
        columns,
        rows=in_rows,
        width=max(8.5, 6.5 * columns),
        height=7 * in_rows,
    )
    for panel in axes[len(settled()) :]:
        panel.set_visible(False)
    image = None
    for panel, shape in zip(axes, settled(), strict=False):
        found = rows(shape)
        methods = sorted(found, key=lambda name: -found[name]["query_accuracy"])
        points = np.zeros((len(methods), len(methods)))
        for i, a in enumerate(methods):
            for j, b in enumerate(methods):
                pair = difference(shape, a, b) if a != b else None
                points[i, j] = 100 * pair["mean"] if pair and pair["apart"] else 0
        image = panel.imshow(points, cmap="PuOr", vmin=-SATURATED, vmax=SATURATED)
        _write_numbers(panel, points)
        labels = titles(methods)
        panel.set_xticks(range(len(methods)), labels, rotation=60, ha="right", fontsize=8)
        panel.set_yticks(range(len(methods)), labels, fontsize=8)
        panel.set_title(named(shape), fontsize=10)
        panel.grid(visible=False)
    assert image is not None
    figure.colorbar(image, ax=axes, shrink=0.4, extend="both", label="points")
    return figure


def _write_numbers(panel: Axes, points: np.ndarray) -> None:
    for (i, j), value in np.ndenumerate(points):
        if value:
            colour = "white" if abs(value) > BESIDE * SATURATED else "black"
            text = f"{value:.1f}" if abs(value) < 10 else f"{value:.0f}"
            panel.text(j, i, text, ha="center", va="center", fontsize=6, color=colour)


def draw_curves() -> Figure:
    """Validation over the training, each kind in a row: over episodes, image passes, seconds."""
    curves = compared("5w5s")["learning_curves"]
    figure, axes = panels(
        "Validation accuracy over the training, 5-way 5-shot, mean over the training seeds",
        "Omniglot, split 1100-100-423, part val, 30 fixed episodes; minutes of an idle machine, "
        "without validations",
        3,
        rows=len(KINDS),
        width=13,
        height=3.3 * len(KINDS),
        share_y=True,
    )
    grid = np.array(axes, dtype=object).reshape(len(KINDS), 3)
    for panels_of_kind, (kind, methods) in zip(grid, KINDS.items(), strict=True):
        for method, colour in zip(methods, PALETTE, strict=False):
            own = [curve for curve in curves if curve["method"] == method]
            steps = np.array(own[0]["step"])
            accuracy = 100 * np.mean([curve["query_accuracy"] for curve in own], axis=0)
            config = read_json(RESULTS / "5w5s" / own[0]["run"] / "config.json")
            batches = config["own"].get("meta_batch_size", 1)
            places = (
                steps * batches,
                np.array(own[0]["image_passes"]) / 1000,
                steps / steps[-1] * seconds("5w5s", method) / 60,
            )
            (label,) = titles([method])
            for panel, place in zip(panels_of_kind, places, strict=True):
                panel.plot(place, accuracy, color=colour, marker="o", markersize=2.5, label=label)
        panels_of_kind[0].set_title(kind, fontsize=10, loc="left")
        panels_of_kind[0].set_ylabel("query accuracy, %")
        on_images = find_card(methods[0]).trains_on == "images"
        panels_of_kind[0].set_xlabel("mini-batches" if on_images else "training episodes")
        panels_of_kind[1].set_xlabel("image passes, thousands")
        panels_of_kind[2].set_xlabel("minutes of one core")
        legend(panels_of_kind[2], loc="lower right", fontsize=8)
    lowest = min(100 * mean(curve["query_accuracy"][len(curve["step"]) // 3 :]) for curve in curves)
    axes[0].set_ylim(10 * np.floor(lowest / 10), 100.5)
    return figure


def draw_shifts() -> Figure:
    """Accuracy of every method in every domain, as a map of numbers."""
    domains = shifts()
    methods = ranked()
    values = np.array(
        [[100 * of[method].mean() for _, of in domains.values()] for method in methods]
    )
    figure, (panel,) = panels(
        "Networks of Omniglot on other pictures",
        "5-way 5-shot, 15 queries a class, 300 episodes each; mean over the training seeds",
        1,
        width=9,
        height=7.5,
    )
    below = values.max(axis=0) - values
    panel.imshow(-below, cmap="viridis", vmin=-20, vmax=0, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        colour = "black" if below[i, j] < 20 * (1 - BESIDE) else "white"
        panel.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=9, color=colour)
    panel.set_xticks(range(len(domains)), [textwrap.fill(name, 17) for name in domains])
    panel.set_yticks(range(len(methods)), titles(methods))
    panel.tick_params(labelsize=9)
    panel.grid(visible=False)
    note(panel, "query accuracy, %; the lighter, the nearer to the best of its column")
    return figure


def main() -> None:
    """Draw what there is data for."""
    drawings = {
        "family-accuracy": draw_accuracy,
        "family-pairs": draw_pairs,
        "family-curves": draw_curves,
        "family-shifts": draw_shifts,
    }
    for name, draw in drawings.items():
        try:
            write_atomic(FIGURES / f"{name}.png", pictures_of(draw, name)[f"{name}.png"])
        except DataError as error:
            print(f"{name} is left out: {error}")


if __name__ == "__main__":
    main()
