"""Figures of what a learner records of itself at every validation.

MAML++'s rates, weights and statistics.
"""

from collections.abc import Callable
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure

from innerloop.report.figures.run import AFTER, GREY, canvas, describe, panels, plain_log
from innerloop.runs.directory import RunDirectory


def diagnostic_drawings(run: RunDirectory) -> dict[str, Callable[[RunDirectory], Figure]]:
    """Name of a figure -> how it is drawn, for those that the run's records allow."""
    found: dict[str, Callable[[RunDirectory], Figure]] = {}
    records = run.read_metrics("train")
    if records and "gradient_norm" in records[0]:
        found["gradient-norm"] = draw_gradient_norm
    _, last = _history(run)[-1] if _history(run) else (0, {})
    for key, name, draw in (
        ("learned_rates", "learned-rates", draw_learned_rates),
        ("step_weights", "step-weights", draw_step_weights),
        ("running_var", "running-statistics", draw_running_statistics),
    ):
        if last.get(key):
            found[name] = draw
    return found


def _history(run: RunDirectory) -> list[tuple[int, dict[str, Any]]]:
    """Outer step and diagnostics of every validation that has some."""
    return [
        (r["step"], r["diagnostics"]) for r in run.read_metrics("validation") if "diagnostics" in r
    ]


def draw_gradient_norm(run: RunDirectory) -> Figure:
    """Norm of the outer gradient at every outer step, before clipping."""
    figure, axes = canvas("Norm of the outer gradient", describe(run))
    records = run.read_metrics("train")
    axes.plot(
        [record["step"] for record in records],
        [record["gradient_norm"] for record in records],
        color=AFTER,
        linewidth=0.7,
    )
    if run.config.training.clip_gradient:
        axes.axhline(
            run.config.training.clip_gradient,
            color=GREY,
            linestyle="--",
            linewidth=1,
            label=f"clipped to {run.config.training.clip_gradient:g}",
        )
        axes.legend(frameon=True, framealpha=0.9, edgecolor="none")
    axes.set_yscale("log")
    plain_log(axes.yaxis)
    axes.set_xlabel("outer step")
    axes.set_ylabel("gradient norm, before clipping")
    return figure


def _by_step(run: RunDirectory, key: str, title: str, label: str) -> Figure:
    """A panel for each layer or tensor, a line for each inner step."""
    history = _history(run)
    names = list(history[-1][1][key])
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure, axes = panels(
        title, describe(run), columns, rows=rows, width=3.0 * columns + 1, height=2.3 * rows + 1.2
    )
    steps = [step for step, _ in history]
    for panel, name in zip(axes, names, strict=False):
        count = len(history[-1][1][key][name])
        for index in range(count):
            colour = colormaps["viridis"](index / max(count - 1, 1) * 0.9)
            panel.plot(
                steps,
                [values[key][name][index] for _, values in history],
                color=colour,
                label=f"{index + 1}",
            )
        panel.set_title(name, fontsize=9)
        panel.tick_params(labelsize=8)
    for panel in axes[len(names) :]:
        panel.set_visible(False)
    axes[0].set_ylabel(label, fontsize=8)
    axes[len(names) - 1].legend(
        title="inner step",
        fontsize=7,
        title_fontsize=7,
        frameon=True,
        framealpha=0.9,
        edgecolor="none",
    )
    for panel in axes[max(0, len(names) - columns) : len(names)]:
        panel.set_xlabel("outer step", fontsize=8)
    return figure


def draw_learned_rates(run: RunDirectory) -> Figure:
    """The learnt inner rate of each layer or tensor and inner step, over the training."""
    return _by_step(run, "learned_rates", "Learnt inner rates", "rate")


def draw_running_statistics(run: RunDirectory) -> Figure:
    """Running variance of each batch norm and inner step, mean over channels, over the training."""
    return _by_step(run, "running_var", "Running variance by inner step", "mean over channels")


def draw_step_weights(run: RunDirectory) -> Figure:
    """The weight of the query loss after each inner step, over the training."""
    history = _history(run)
    figure, axes = canvas("Weights of the multi-step loss", describe(run))
    count = len(history[-1][1]["step_weights"])
    for index in range(count):
        colour = colormaps["viridis"](index / max(count - 1, 1) * 0.9)
        axes.plot(
            [step for step, _ in history],
            [values["step_weights"][index] for _, values in history],
            color=colour,
            marker="o",
            markersize=3,
            label=f"after step {index + 1}",
        )
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("outer step")
    axes.set_ylabel("weight of the query loss")
    axes.legend(loc="center right", frameon=True, framealpha=0.9, edgecolor="none")
    return figure
