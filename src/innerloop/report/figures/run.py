"""Figures of a run, drawn from its files alone; no torch, no network, no learner."""

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from innerloop.core.errors import DataError
from innerloop.core.files import disk_errors, write_atomic
from innerloop.runs.directory import RunDirectory

# Okabe and Ito's colours, told apart by readers of every colour vision.
AFTER, BEFORE, SUPPORT, GREY = "#0072B2", "#E69F00", "#009E73", "#767676"
PALETTE = [AFTER, "#D55E00", SUPPORT, "#CC79A7", BEFORE, "#56B4E9", "#000000"]
"""One colour for each of several methods."""
SERIES_OF = "_series of "
"""What begins the label of a band, or of another line, of a series; for its underscore no legend
shows it."""


def draw_figures(run: RunDirectory) -> list[Path]:
    """Draw every figure that the run's files allow, each as PNG and SVG under ``figures/``.

    Returns:
        The PNG files.

    Raises:
        DataError: if the run holds no validation yet.
        DiskError: if a figure cannot be written.
    """
    if not run.read_metrics("validation"):
        raise DataError(f"{run.path} holds no validation yet, so there is nothing to draw.")
    drawn = []
    drawings: dict[str, Callable[[RunDirectory], Figure]] = {
        "validation": draw_validation,
        "loss": draw_loss,
        "inner-steps": draw_inner_steps,
    }
    if (run.path / "episode.npz").is_file():
        drawings["episode"] = draw_episode
    for name, draw in drawings.items():
        drawn.append(save_figure(draw(run), run.path / "figures", name))
    return drawn


def save_figure(figure: Figure, folder: Path, name: str) -> Path:
    """Write a figure as PNG and SVG into a folder, which is made if need be; returns the PNG.

    Raises:
        DiskError: if it cannot be written.
    """
    with disk_errors(f"the figures in {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in ("png", "svg"):
            picture = io.BytesIO()
            # Without a date and with fixed ids, so that equal runs have equal figures.
            with rc_context({"svg.hashsalt": "innerloop"}):
                figure.savefig(
                    picture,
                    format=suffix,
                    dpi=150,
                    metadata={"Date": None} if suffix == "svg" else None,
                )
            write_atomic(folder / f"{name}.{suffix}", picture.getvalue())
    return folder / f"{name}.png"


def describe(run: RunDirectory) -> str:
    """What a figure says under its title: data, split, episode shape and seed."""
    config = run.config
    return (
        f"{config.method} on {data_name(config.data.name)}, split {config.data.split}, "
        f"{config.episode.ways}-way {config.episode.shots}-shot, {config.own.adaptation_steps} "
        f"steps at {config.own.rate_in_words}, seed {config.training.seed}"
    )


def data_name(data: str) -> str:
    """What figures and pages call a data set."""
    return {"omniglot": "Omniglot", "strokes": "strokes (synthetic drawings, not Omniglot)"}.get(
        data, data
    )


def step_label(run: RunDirectory) -> str:
    """What an outer step of the run is, as the label of an axis."""
    if run.config.own.trains_on == "images":
        return f"mini-batches of {run.config.own.batch} training images"
    return "outer step"


def draw_validation(run: RunDirectory) -> Figure:
    """Validation accuracy before and after adaptation over the outer steps, with 95 % intervals."""
    records = run.read_metrics("validation")
    figure, axes = canvas("Validation accuracy", describe(run))
    steps = [record["step"] for record in records]
    for key, label, colour in (
        ("query_accuracy", f"after {records[-1]['inner_steps']} inner steps", AFTER),
        ("query_accuracy_before", "before adaptation", BEFORE),
    ):
        band(
            axes,
            steps,
            [record[key] for record in records],
            [record[f"{key}_ci95"] for record in records],
            label,
            colour,
        )
    axes.axhline(
        100 / run.config.episode.ways, color=GREY, linestyle=":", linewidth=1, label="chance"
    )
    axes.axhline(80, color=GREY, linestyle="--", linewidth=1, label="the assignment's bar, 80 %")
    axes.set_ylim(0, 100)
    axes.set_xlabel(step_label(run))
    axes.set_ylabel("query accuracy, %")
    axes.set_title(
        f"{records[-1]['episodes']} fixed episodes, batch norm {records[-1]['batch_norm']}, "
        "band: 95 % over episodes",
        fontsize=8,
        loc="right",
        color=GREY,
    )
    axes.legend(loc="center right", frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def draw_loss(run: RunDirectory) -> Figure:
    """Training loss, with its running mean, and validation loss over the outer steps."""
    train, validation = run.read_metrics("train"), run.read_metrics("validation")
    on_images = run.config.own.trains_on == "images"
    title = (
        "Loss of pretraining, and query loss after adaptation"
        if on_images
        else "Query loss after adaptation"
    )
    figure, axes = canvas(title, describe(run))
    steps, losses = (
        [record["step"] for record in train],
        np.array([record["loss"] for record in train]),
    )
    axes.plot(
        steps, losses, color=GREY, linewidth=0.6, alpha=0.5, label="training, each outer step"
    )
    if len(losses) >= 20:
        window = min(50, len(losses) // 2)
        smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
        axes.plot(
            steps[window - 1 :], smooth, color=AFTER, label=f"training, mean of {window} steps"
        )
    axes.plot(
        [record["step"] for record in validation],
        [record["query_loss"] for record in validation],
        color=BEFORE,
        marker="o",
        markersize=3,
        label="validation, query loss after adaptation",
    )
    axes.set_yscale("log")
    plain_log(axes.yaxis)
    axes.set_xlabel(step_label(run))
    axes.set_ylabel("cross-entropy, nats")
    axes.legend(frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def draw_inner_steps(run: RunDirectory) -> Figure:
    """Support and query accuracy after each inner step, at the last validation."""
    record = run.read_metrics("validation")[-1]
    figure, axes = canvas("Accuracy at each inner step", describe(run))
    query, interval = record["query_accuracy_per_step"], record["query_accuracy_per_step_ci95"]
    steps = list(range(len(query)))
    band(axes, steps, query, interval, "query", AFTER)
    support = [100 * value for value in record["support_accuracy_per_step"]]
    axes.plot(
        steps, support, color=SUPPORT, marker="s", markersize=3, linestyle="--", label="support"
    )
    axes.axhline(
        100 / run.config.episode.ways, color=GREY, linestyle=":", linewidth=1, label="chance"
    )
    axes.set_xticks(steps)
    axes.set_ylim(0, 102)
    axes.set_xlabel("inner steps taken")
    axes.set_ylabel("accuracy, %")
    axes.set_title(
        f"outer step {record['step']}, {record['episodes']} episodes, batch norm "
        f"{record['batch_norm']}",
        fontsize=8,
        loc="right",
        color=GREY,
    )
    axes.legend(loc="center right", frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def draw_episode(run: RunDirectory) -> Figure:
    """One validation episode: support and query drawings, predictions, mistakes marked."""
    with np.load(run.path / "episode.npz", allow_pickle=False) as stored:
        episode = {name: stored[name] for name in stored.files}
    ways = len(episode["class_names"])
    shots, queries = len(episode["support"]) // ways, len(episode["query"]) // ways
    figure = Figure(figsize=(0.46 * (shots + queries) + 2.6, 0.62 * ways + 1.3))
    wrong = int((episode["predictions"] != episode["labels"]).sum())
    figure.suptitle(
        f"One validation episode: {wrong} of {len(episode['labels'])} query drawings wrong",
        fontsize=11,
    )
    figure.text(0.5, 0.01, describe(run), ha="center", fontsize=7, color=GREY)
    grid = figure.add_gridspec(
        ways,
        shots + queries + 1,
        left=0.19,
        right=0.99,
        top=0.82,
        bottom=0.08,
        wspace=0.08,
        hspace=0.5,
    )
    for way in range(ways):
        for column in range(shots):
            axes = _drawing(figure, grid[way, column], episode["support"][way * shots + column])
            if column == 0:
                name = str(episode["class_names"][way]).split("/")
                axes.set_ylabel(
                    f"{chr(65 + way)}  " + _short(name[-2]) + "\n" + name[-1],
                    rotation=0,
                    ha="right",
                    va="center",
                    fontsize=7,
                )
            if way == 0 and column == shots // 2:
                axes.set_title("support", fontsize=9)
        for column in range(queries):
            index = way * queries + column
            axes = _drawing(figure, grid[way, shots + 1 + column], episode["query"][index])
            predicted, correct = int(episode["predictions"][index]), episode["labels"][index]
            mistake = predicted != correct
            axes.set_xlabel(
                chr(65 + predicted),
                fontsize=7,
                labelpad=1,
                color="#D55E00" if mistake else GREY,
                fontweight="bold" if mistake else "normal",
            )
            for spine in axes.spines.values():
                spine.set_visible(bool(mistake))
                spine.set_color("#D55E00")
                spine.set_linewidth(1.5)
            if way == 0 and column == queries // 2:
                axes.set_title("query, predicted class below", fontsize=9)
    return figure


def _short(text: str, length: int = 18) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _drawing(figure: Figure, position: Any, image: np.ndarray) -> Axes:
    axes = figure.add_subplot(position)
    picture = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
    axes.imshow(picture, cmap="gray_r", vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


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
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=12)
    figure.supxlabel(subtitle, fontsize=7, color=GREY)
    drawn = list(figure.subplots(rows, count, sharey=share_y, squeeze=False).flat)
    for axes in drawn:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, drawn


def plain_log(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers, 2 and 5 between the tens; nine would overlap."""
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(LogLocator(subs=(2, 5)))
    axis.set_minor_formatter("{x:g}")


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
