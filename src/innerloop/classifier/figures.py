"""Figures of a classifier: its pictures, its mistakes, its learning curve, what it mixes up."""

import io
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageOps

from innerloop.classifier.calibration import bins_of
from innerloop.classifier.quality import AHEAD, DRAWS, Quality
from innerloop.classifier.state import State
from innerloop.classifier.words import shortened
from innerloop.data.pictures import padded_square
from innerloop.report.figures.style import AFTER, GREY, WRONG, canvas

SHOWN = 10
"""Pictures of a class on a sheet, at most."""
ROWS = 40
"""Classes on a sheet, at most."""
CELL = 68
"""Pixels of a place on a sheet, with a margin of 2 around the picture."""
INCH = 0.72
"""The same in inches."""
NAME = 18
"""Letters of a name that there is room for beside a row."""
CAPTION = 12
"""The same under a picture."""
CELLS = 12
"""Classes up to which a confusion is written out in numbers."""


def short(name: object) -> str:
    """A name as there is room for beside a row."""
    return shortened(str(name), NAME)


def sheet(state: State) -> Figure:
    """The first pictures of each class, a row for each."""
    places = [np.flatnonzero(state.kept.labels == row)[:SHOWN] for row in range(len(state.classes))]
    rows = [(short(state.classes[row]), of) for row, of in enumerate(places[:ROWS])]
    return _rows_of_pictures(
        "The pictures that it was made from",
        [(name, [(state.kept.thumbnails[place], "") for place in of]) for name, of in rows],
    )


def mistakes_sheet(state: State, report: Quality) -> Figure:
    """Pictures that are taken for another class when they are left out, the surest first."""
    place_of = {name: place for place, name in enumerate(state.kept.names)}
    shown = [
        (
            state.kept.thumbnails[place_of[mistake.name]],
            f"{shortened(str(mistake.label), CAPTION)},\ntaken for\n"
            f"{shortened(str(mistake.predicted), CAPTION)}\n{100 * mistake.probability:.0f} %",
        )
        for mistake in report.mistakes[: 3 * SHOWN]
    ]
    rows = [("", shown[first : first + SHOWN]) for first in range(0, len(shown), SHOWN)]
    return _rows_of_pictures("What it takes for something else when it is left out", rows)


def _rows_of_pictures(
    title: str, rows: Sequence[tuple[str, Sequence[tuple[bytes, str]]]]
) -> Figure:
    """Small pictures in rows that may have names, each with a text of up to four lines or none.

    As one image, since a panel for each takes a second for every fifty.
    """
    columns = max(6, *(len(pictures) for _, pictures in rows))
    captioned = any(text for _, pictures in rows for _, text in pictures)
    tall = round((1.75 if captioned else 1.0) * CELL)
    image = np.full((tall * len(rows), CELL * columns, 3), 255, np.uint8)
    named = 1.3 if any(name for name, _ in rows) else 0.1
    width, height = named + INCH * columns, INCH * image.shape[0] / CELL
    figure = Figure(figsize=(width + 0.1, height + 0.5))
    figure.suptitle(title, fontsize=11, y=1 - 0.12 / (height + 0.5), va="top")
    axes = figure.add_axes(
        (
            named / (width + 0.1),
            0.05 / (height + 0.5),
            INCH * columns / (width + 0.1),
            height / (height + 0.5),
        )
    )
    for number, (name, pictures) in enumerate(rows):
        top = number * tall
        axes.text(-6, top + CELL / 2, name, ha="right", va="center", fontsize=8)
        for column, (content, text) in enumerate(pictures):
            left = column * CELL
            image[top + 2 : top + CELL - 2, left + 2 : left + CELL - 2] = _cell(content)
            axes.text(left + CELL / 2, top + CELL, text, ha="center", va="top", fontsize=5.5)
    axes.imshow(image, interpolation="antialiased")
    axes.set_axis_off()
    return figure


def _cell(content: bytes) -> np.ndarray:
    """A small JPEG, whole, in the middle of (side, side, 3) bytes."""
    with Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
        fitted = ImageOps.contain(picture.convert("RGB"), (CELL - 4, CELL - 4))
    return padded_square(np.asarray(fitted), 255)


def confusion(report: Quality) -> Figure:
    """Rows are the classes, columns what they are taken for when left out."""
    ways = len(report.classes)
    side = min(9.0, 2.2 + 0.42 * ways)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    shares = report.confusion / np.maximum(1, report.confusion.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [short(name) for name in report.classes]
    size = 8 if ways <= 20 else 5
    if ways <= ROWS:
        axes.set_xticks(range(ways), names, rotation=60, ha="right", fontsize=size)
        axes.set_yticks(range(ways), names, fontsize=size)
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    if ways <= CELLS:
        for row, column in np.argwhere(report.confusion):
            axes.text(
                column,
                row,
                str(report.confusion[row, column]),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if shares[row, column] > 0.5 else "black",
            )
    axes.set_title("What is taken for what, pictures left out", fontsize=11)
    return figure


def curve(report: Quality) -> Figure:
    """Accuracy against examples a class, with its spread over random choices of them."""
    figure, axes = canvas("How much more pictures would help", "")
    shots = [point.shots for point in report.curve]
    means = np.array([100 * point.mean for point in report.curve])
    spread = np.array([100 * point.spread for point in report.curve])
    axes.fill_between(
        shots,
        np.maximum(0, means - spread),
        np.minimum(100, means + spread),
        alpha=0.2,
        lw=0,
        color=AFTER,
    )
    axes.plot(shots, means, "o-", color=AFTER, label=f"mean, and its spread over {DRAWS} choices")
    if report.outlook is not None:
        ahead = float(np.median(report.counts)) + AHEAD
        axes.plot(
            [shots[-1], ahead],
            [means[-1], 100 * report.outlook],
            "o--",
            color=GREY,
            markevery=[1],
            label="if errors go on falling as they did",
        )
    axes.set_xlabel("pictures a class")
    axes.set_ylabel("right, of the pictures that were not chosen, %")
    axes.set_ylim(max(0, 10 * math.floor(min(means - spread) / 10)), 101)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=8)
    return figure


def reliability(p: np.ndarray, right: np.ndarray, title: str) -> Figure:
    """How often it is right when it says so and so sure, over bins of equal counts.

    Args:
        p: (n,) probability of the class that was predicted.
        right: (n,) bool.
        title: of the figure.
    """
    figure, axes = canvas(title, f"{len(p)} pictures, in up to ten groups of equal size")
    parts = bins_of(p)
    confidence = [100 * p[part].mean() for part in parts]
    accuracy = np.array([100 * right[part].mean() for part in parts])
    half = np.array(
        [
            100 * 1.96 * math.sqrt(max(0.25 / len(part) ** 2, right[part].var()) / len(part))
            for part in parts
        ]
    )
    axes.plot([0, 100], [0, 100], color=GREY, lw=1, label="as sure as right")
    axes.errorbar(
        confidence,
        accuracy,
        yerr=[np.minimum(half, accuracy), np.minimum(half, 100 - accuracy)],
        fmt="o",
        color=WRONG,
        capsize=2,
        label="a group of pictures, with its 95 % interval",
    )
    axes.set_xlim(0, 101)
    axes.set_ylim(0, 101)
    axes.set_xlabel("probability of the predicted class, %")
    axes.set_ylabel("right, %")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure
