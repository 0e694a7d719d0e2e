"""How steadily the methods trained, by the validation curves of their seeds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from innerloop.core.stability import measures
from innerloop.report import steadiness
from innerloop.report.document import Block, Bullets, Paragraph, Picture, Section, Table
from innerloop.report.figures import run as figures
from innerloop.report.figures.seeds import Curve, draw_seeds, has_median, lower_end
from innerloop.report.figures.style import PALETTE
from innerloop.report.material import Material, named
from innerloop.runs.directory import RunDirectory

Arms = Mapping[str, Sequence[RunDirectory]]
"""Name of a method in tables -> its runs, which differ in the training seed alone."""

SIDE_BY_SIDE = 3
"""Panels in a figure, at most."""
COLUMNS = (
    "method",
    "seed",
    "diverged",
    "drawdown",
    "roughness",
    "area",
    "step at 90 %",
    "step at 95 %",
)


def section(material: Material) -> Section | None:
    """All methods with several seeds side by side; None where there is none."""
    arms = {
        named(method): runs for method in material.methods if len(runs := material.of(method)) > 1
    }
    if not arms:
        return None
    return Section("Stability of the training", [*_pictures(arms), *in_numbers(arms)])


def _pictures(arms: Arms) -> Iterator[Block]:
    """A panel for each method on the same axes, a few in a figure."""
    bottom, _ = axes_of(arms)
    names_of_all = list(arms)
    for first in range(0, len(arms), SIDE_BY_SIDE):
        names = names_of_all[first : first + SIDE_BY_SIDE]
        shown = {name: arms[name] for name in names}
        colours = [PALETTE[(first + index) % len(PALETTE)] for index in range(len(names))]
        methods = ", ".join(names)
        lines = _lines_in_words(shown)
        yield Picture(
            f"stability-{first + 1}",
            lambda shown=shown, colours=colours: _draw(shown, colours, bottom),
            f"Line charts side by side: validation accuracy of {methods} over the "
            "training, a line for each training seed, on the same axes.",
            f"Stability of {methods}: validation accuracy after adaptation, {lines}. All "
            f"panels have the same axes, which begin at {bottom:g} %; what is lower is below them.",
        )


def _lines_in_words(arms: Arms) -> str:
    """What is thin and what is bold: there is no median of curves that are not equally long."""
    with_median = [name for name, runs in arms.items() if has_median(curves(runs))]
    if not with_median:
        return "every seed thin"
    of_some = "" if len(with_median) == len(arms) else f" of {', '.join(with_median)}"
    return f"every seed thin and the median{of_some} bold"


def _title(name: str, runs: Sequence[RunDirectory]) -> str:
    """A method with the batch-norm mode of its validations."""
    modes = sorted({run.validations()[-1].batch_norm for run in runs})
    return f"{name} (batch norm {' or '.join(modes)})"


def _draw(arms: Arms, colours: Sequence[str], bottom: float) -> Figure:
    runs = next(iter(arms.values()))
    last = runs[0].validations()[-1]
    config = runs[0].config
    return draw_seeds(
        {_title(name, runs): [_over_its_part(run) for run in runs] for name, runs in arms.items()},
        "Validation accuracy, every seed",
        f"{figures.data_name(config.data.name)}, split {config.data.split}, "
        f"{config.episode.ways}-way {config.episode.shots}-shot; {last.episodes} fixed episodes",
        x_label="part of the training, %",
        bottom=bottom,
        end=100,
        colours=colours,
    )


def curves(runs: Sequence[RunDirectory]) -> list[Curve]:
    """Outer steps and validation accuracies of each run."""
    return [_curve(run) for run in runs]


def _curve(run: RunDirectory) -> Curve:
    records = run.validations()
    return [record.step for record in records], [record.query_accuracy for record in records]


def _over_its_part(run: RunDirectory) -> Curve:
    """A curve over the part of the training that is done: outer steps are not alike."""
    steps, accuracies = _curve(run)
    return [100 * step / run.config.training.meta_steps for step in steps], accuracies


def axes_of(arms: Arms) -> tuple[float, float]:
    """Where axes that all curves share begin, in percent, and end, in outer steps."""
    bottom = lower_end(curves(runs) for runs in arms.values())
    end = max(steps[-1] for runs in arms.values() for steps, _ in curves(runs))
    return bottom, end


def in_numbers(arms: Arms, *, above: float = 0.0) -> list[Block]:
    """The measures of every training, and what follows from them.

    Args:
        arms: the runs of each method.
        above: falls from a former best are measured once that best is above this.
    """
    measured = {
        name: [measures(*curve, above=above) for curve in curves(runs)]  # type: ignore[arg-type]
        for name, runs in arms.items()
    }
    decays = {name: run.config.training.averaging for name, runs in arms.items() for run in runs}
    return [
        Table(
            "Stability of each training, from its validation curve. Drawdown: the largest fall "
            f"from {steadiness.former_best(above)}, in points. Roughness: root mean square of the "
            "curve minus its running median of 5, over the last two thirds, in points. Area: mean "
            "height of the curve, %.",
            COLUMNS,
            [
                _cells(name, run, row)
                for (name, runs), rows in zip(arms.items(), measured.values(), strict=True)
                for run, row in zip(runs, rows, strict=True)
            ],
        ),
        Bullets(steadiness.stability(measured, above=above)),
        Paragraph(steadiness.smoothing(decays)),
    ]


def _cells(name: str, run: RunDirectory, row: Mapping[str, Any]) -> list[str]:
    return [
        name,
        str(run.config.training.seed),
        "yes" if row["diverged"] else "no",
        *(_points(row, key) for key in ("drawdown", "roughness", "area")),
        *(_step(row, f"first_step_at_{level}") for level in (90, 95)),
    ]


def _step(row: Mapping[str, Any], key: str) -> str:
    """An outer step; "never" only of a curve that was measured to its end."""
    if key not in row:
        return "-"
    return "never" if row[key] is None else str(row[key])


def _points(row: Mapping[str, Any], key: str) -> str:
    return f"{100 * row[key]:.2f}" if key in row else "-"
