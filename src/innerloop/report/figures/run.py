"""Figures of a run, drawn from its files alone; no torch, no network, no learner."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from innerloop.core.errors import DataError
from innerloop.core.intervals import interval_in_words
from innerloop.report.figures.episode import draw_episode
from innerloop.report.figures.style import (
    AFTER,
    BEFORE,
    GREY,
    SUFFIXES,
    SUPPORT,
    band,
    canvas,
    legend,
    note,
    pictures_of,
)
from innerloop.runs.directory import RunDirectory
from innerloop.settings.method import steps_in_words

STEPS_OF_A_MEAN = 50
"""Outer steps that the running mean of the training loss is over, where there are enough."""
FEWEST_STEPS_OF_A_MEAN = 10


@dataclass(frozen=True)
class Bar:
    """An accuracy that somebody asks for.

    Attributes:
        accuracy: in [0, 1].
        name: what figures and sentences call it: "the bar".
    """

    accuracy: float
    name: str


def figures_of(run: RunDirectory, suffixes: Sequence[str] = SUFFIXES) -> dict[str, bytes]:
    """Every figure that the run's files allow, by the names of their files.

    Raises:
        DataError: if the run holds no validation yet.
    """
    if not run.validations():
        raise DataError(f"{run.path} holds no validation yet, so there is nothing to draw.")
    drawings: dict[str, Callable[[RunDirectory], Figure]] = {
        "validation": draw_validation,
        "loss": draw_loss,
    }
    if run.config.own.adaptation_rate is not None:
        drawings["inner-steps"] = draw_inner_steps
    if (run.path / "episode.npz").is_file():
        drawings["episode"] = draw_validation_episode
    pictures: dict[str, bytes] = {}
    for name, draw in drawings.items():
        pictures |= pictures_of(partial(draw, run), name, suffixes)
    return pictures


def describe(run: RunDirectory) -> str:
    """What a figure says under its title: data, split, episode shape and seed."""
    config = run.config
    adapted = config.own.adaptation_in_words.replace("inner step", "step")  # short, in a title
    return (
        f"{config.method} on {data_name(config.data.name)}, split {config.data.split}, "
        f"{config.episode.ways}-way {config.episode.shots}-shot, {adapted}, "
        f"seed {config.training.seed}"
    )


def file_name(kind: str, run: RunDirectory) -> str:
    """What the files of a run's figure are called: those of no other method are called so."""
    return f"{kind}-{re.sub(r'[^a-z0-9]+', '-', run.config.method.lower())}"


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


def draw_validation(run: RunDirectory, bar: Bar | None = None) -> Figure:
    """Validation accuracy before and after adaptation over the outer steps, with 95 % intervals.

    Args:
        run: validated at least once.
        bar: a line to hold the accuracies against.
    """
    records = run.validations()
    last = records[-1]
    figure, axes = canvas("Validation accuracy", describe(run))
    steps = [record.step for record in records]
    taken = run.config.own.adaptation_rate is not None
    adapted = steps_in_words(last.inner_steps) if taken else "adaptation"
    for key, label, colour in (
        ("query_accuracy", f"after {adapted}", AFTER),
        ("query_accuracy_before", "before adaptation", BEFORE),
    ):
        accuracies = [getattr(record, key) for record in records]
        intervals = [getattr(record, f"{key}_ci95") for record in records]
        band(axes, steps, accuracies, intervals, label, colour)
    _draw_chance(axes, run)
    if bar:
        label = f"{bar.name}, {100 * bar.accuracy:g} %"
        axes.axhline(100 * bar.accuracy, color=GREY, linestyle="--", linewidth=1, label=label)
    axes.set_ylim(0, 100)
    axes.set_xlabel(step_label(run))
    axes.set_ylabel("query accuracy, %")
    note(
        axes,
        f"{last.episodes} fixed episodes, batch norm {last.batch_norm}, "
        f"band: {interval_in_words(last.covers)}",
    )
    legend(axes, loc="center right")
    return figure


def _draw_chance(axes: Axes, run: RunDirectory) -> None:
    chance = 100 / run.config.episode.ways
    axes.axhline(chance, color=GREY, linestyle=":", linewidth=1, label="chance")


def draw_loss(run: RunDirectory) -> Figure:
    """Training loss, with its running mean, and validation loss over the outer steps."""
    validation = run.validations()
    on_images = run.config.own.trains_on == "images"
    pretraining = "Loss of pretraining, and query loss after adaptation"
    title = pretraining if on_images else "Query loss after adaptation"
    figure, axes = canvas(title, describe(run))
    _draw_training_loss(axes, run)
    axes.plot(
        [record.step for record in validation],
        [record.query_loss for record in validation],
        color=BEFORE,
        marker="o",
        markersize=3,
        label="validation, query loss after adaptation",
    )
    axes.set_yscale("log")
    axes.set_xlabel(step_label(run))
    axes.set_ylabel("cross-entropy, nats")
    legend(axes)
    return figure


def _draw_training_loss(axes: Axes, run: RunDirectory) -> None:
    train = run.train_records()
    steps = [record.step for record in train]
    losses = np.array([record.loss for record in train])
    label = "training, each outer step"
    axes.plot(steps, losses, color=GREY, linewidth=0.6, alpha=0.5, label=label)
    if len(losses) < 2 * FEWEST_STEPS_OF_A_MEAN:
        return
    window = min(STEPS_OF_A_MEAN, len(losses) // 2)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    axes.plot(steps[window - 1 :], smooth, color=AFTER, label=f"training, mean of {window} steps")


def draw_inner_steps(run: RunDirectory) -> Figure:
    """Support and query accuracy after each inner step, at the last validation."""
    record = run.validations()[-1]
    figure, axes = canvas("Accuracy at each inner step", describe(run))
    query = record.query_accuracy_per_step
    interval = record.query_accuracy_per_step_ci95
    steps = list(range(len(query)))
    band(axes, steps, query, interval, "query", AFTER)
    support = [100 * value for value in record.support_accuracy_per_step]
    axes.plot(
        steps, support, color=SUPPORT, marker="s", markersize=3, linestyle="--", label="support"
    )
    _draw_chance(axes, run)
    axes.set_xticks(steps)
    axes.set_ylim(0, 102)
    axes.set_xlabel("inner steps taken")
    axes.set_ylabel("accuracy, %")
    note(
        axes,
        f"outer step {record.step}, {record.episodes} episodes, batch norm {record.batch_norm}, "
        f"band: {interval_in_words(record.covers)}",
    )
    legend(axes, loc="center right")
    return figure


def draw_validation_episode(run: RunDirectory) -> Figure:
    """The stored episode of a run: its drawings, and what was predicted."""
    return draw_episode(run, describe(run))
