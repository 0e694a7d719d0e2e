"""A report's curves, taken from the figures that it draws, against the files of the runs."""

import re

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.lines import Line2D

from innerloop.analysis.comparison import results
from innerloop.assignment.document import document
from innerloop.report import report
from innerloop.report.comparison import draw_accuracy, draw_inner_steps, draw_learning_curves
from innerloop.report.document import Document, Picture
from innerloop.report.figures.run import draw_validation
from innerloop.report.figures.style import SERIES_OF
from innerloop.report.report import read_material
from innerloop.runs.directory import RunDirectory
from making import make_run

CURVES = {
    ("fomaml", 0): (0.60, 0.81, 0.85, 0.88),
    ("fomaml", 1): (0.61, 0.82, 0.86, 0.89),
    ("mamlpp", 0): (0.64, 0.91, 0.95, 0.97),
    ("mamlpp", 1): (0.65, 0.92, 0.96, 0.98),
    ("transfer", 0): (0.70, 0.93, 0.94, 0.99),
}
"""Of each method and seed: no two have a number in common."""
TITLES = {"fomaml": "FO-MAML", "mamlpp": "MAML++", "transfer": "Transfer"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[tuple[str, int], RunDirectory]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        (method, seed): make_run(folder, method, seed, curve=curve, evaluated=curve[-1] - 0.02)
        for (method, seed), curve in CURVES.items()
    }


def picture(made: Document, name: str) -> Picture:
    return next(one for one in made.pictures if one.name == name)


def drawn(axes: Axes) -> list[list[float]]:
    """The fractions of every line, in the order of drawing."""
    return [np.round(np.asarray(line.get_ydata()) / 100, 6).tolist() for line in axes.lines]


def name_of(line: Line2D) -> str:
    """The row that a line's label names."""
    return re.split(r" \(|, steps", str(line.get_label()).removeprefix(SERIES_OF))[0]


def middles(axes: Axes) -> list[float]:
    """Where the dots of the bars of error are."""
    dots = [bars.lines[0] for bars in axes.containers if isinstance(bars, ErrorbarContainer)]
    return [float(np.asarray(dot.get_xdata())[0]) for dot in dots if dot is not None]


@pytest.mark.parametrize("method", ["fomaml", "mamlpp"])
def test_a_stability_plot_has_the_curves_of_the_method_that_it_names(runs, method):
    made = document(read_material([run.path for run in runs.values()], None))

    plot = picture(made, f"stability-{method}")
    (axes,) = plot.draw().axes

    seeds = [list(CURVES[method, seed]) for seed in (0, 1)]
    assert drawn(axes) == [*seeds, np.round(np.median(seeds, axis=0), 6).tolist()]
    assert axes.get_title() == TITLES[method]
    assert f"Stability of {TITLES[method]}:" in plot.caption
    assert f"accuracy of {TITLES[method]} over" in plot.alt


def test_panels_side_by_side_have_the_curves_of_the_methods_above_them(runs):
    made = report.document(read_material([run.path for run in runs.values()], None))

    panels = picture(made, "stability-1").draw().axes

    for axes, method in zip(panels, ("fomaml", "mamlpp"), strict=True):
        assert axes.get_title().startswith(f"{TITLES[method]} (")
        assert drawn(axes)[:2] == [list(CURVES[method, seed]) for seed in (0, 1)]


@pytest.mark.parametrize("method", ["fomaml", "mamlpp", "transfer"])
def test_a_validation_plot_of_the_report_has_the_curve_and_the_name_of_its_method(runs, method):
    made = document(read_material([run.path for run in runs.values()], None))

    figure = picture(made, f"validation-{method}").draw()

    assert drawn(figure.axes[0])[0] == list(CURVES[method, 0])
    assert figure.get_supxlabel().startswith(f"{method} on ")


def test_a_validation_plot_draws_each_field_under_its_label(runs):
    (axes,) = draw_validation(runs["fomaml", 0]).axes

    after, before, chance = axes.lines
    assert (after.get_label(), before.get_label(), chance.get_label()) == (
        "after 5 inner steps",
        "before adaptation",
        "chance",
    )
    assert drawn(axes)[:2] == [list(CURVES["fomaml", 0]), [0.2] * 4]
    assert np.asarray(after.get_xdata()).tolist() == [0, 10, 20, 30]


def test_learning_curves_are_labelled_by_their_own_method(runs):
    compared = results(list(runs.values()), "val", 8)

    passes, seconds = draw_learning_curves(compared).axes

    expected = sorted((method, list(curve)) for (method, _), curve in CURVES.items())
    for axes, end in ((passes, 24.0), (seconds, 30.0)):
        assert sorted(zip(map(name_of, axes.lines), drawn(axes), strict=True)) == expected
        assert {np.asarray(line.get_xdata())[-1] for line in axes.lines} == {end}


def test_accuracies_and_curves_of_steps_stand_beside_the_names_of_their_rows(runs):
    compared = results(list(runs.values()), "val", 8)
    by_name = {row.name: row for row in compared.rows}

    accuracy, differences = draw_accuracy(compared).axes
    (steps,) = draw_inner_steps(compared).axes

    names = [label.get_text().split("\n")[0] for label in accuracy.get_yticklabels()]
    means = middles(accuracy)
    assert means == pytest.approx([100 * by_name[name].query_accuracy for name in names])
    pairs = [tuple(label.get_text().split("\nminus ")) for label in differences.get_yticklabels()]
    gaps = middles(differences)
    assert gaps == pytest.approx(
        [100 * (by_name[a].query_accuracy - by_name[b].query_accuracy) for a, b in pairs], abs=1e-4
    )
    curves = {name_of(line): line for line in steps.lines if ", steps" in str(line.get_label())}
    assert curves.keys() == {"fomaml", "mamlpp", "transfer"}
    for name, line in curves.items():
        assert np.asarray(line.get_ydata()) == pytest.approx(
            [100 * value for value in by_name[name].query_accuracy_per_step]
        )
