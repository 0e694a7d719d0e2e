import dataclasses
import io
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from innerloop.core.errors import DataError
from innerloop.methods.card import DiagnosticFigure
from innerloop.methods.catalogue import find_card, names, settings_of
from innerloop.report import results_of, write_results
from innerloop.report.figures.diagnostics import diagnostics_of
from innerloop.report.figures.run import figures_of
from innerloop.report.figures.seeds import draw_seeds
from innerloop.report.hyperparameters import hyperparameters
from innerloop.report.render.markdown import table
from innerloop.runs.directory import RunDirectory
from innerloop.runs.results import Environment

CONFIG = settings_of("fomaml", data="strokes", split="alphabets", meta_steps=4)


def validation(step: int, accuracy: float) -> dict:
    return {
        "step": step,
        "kind": "validation",
        "query_accuracy": accuracy,
        "query_accuracy_ci95": 0.01,
        "query_accuracy_before": 0.2,
        "query_accuracy_before_ci95": 0.02,
        "query_loss": 0.4,
        "inner_steps": 5,
        "episodes": 30,
        "batch_norm": "transductive",
        "query_accuracy_per_step": [0.2, 0.5, 0.6, 0.7, 0.75, accuracy],
        "query_accuracy_per_step_ci95": [0.01] * 6,
        "support_accuracy_per_step": [0.2, 0.9, 1.0, 1.0, 1.0, 1.0],
    }


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory.create(CONFIG, Environment(torch="2.13.0", threads=1), tmp_path / "run")
    run.append_metrics(validation(0, 0.6))
    for step in range(1, 5):
        run.append_metrics({"step": step, "kind": "train", "loss": 1 / step})
    run.append_metrics(validation(4, 0.8))
    return run


def test_figures_are_drawn_from_the_metrics_alone(run):
    drawn = figures_of(run)

    names = ["validation", "loss", "inner-steps"]
    assert [*drawn] == [f"{name}.{suffix}" for name in names for suffix in ("png", "svg")]
    for name in names:
        with Image.open(io.BytesIO(drawn[f"{name}.png"])) as picture:
            assert picture.size == (1080, 660)
        assert ElementTree.fromstring(drawn[f"{name}.svg"]).tag.endswith("svg")


def test_figures_say_which_data_it_was(run):
    # Matplotlib draws letters as outlines and keeps the text in comments beside them.
    assert "not Omniglot" in figures_of(run, ["svg"])["validation.svg"].decode()


def test_an_episode_is_drawn_where_there_is_one(run):
    np.savez(
        run.path / "episode.npz",
        support=np.zeros((5 * 5, 1, 8, 8), dtype=np.uint8),
        query=np.zeros((5 * 15, 1, 8, 8), dtype=np.uint8),
        labels=np.repeat(np.arange(5), 15),
        predictions=np.zeros(75, dtype=np.int64),
        class_names=np.array([f"alphabet/{i}" for i in range(5)]),
    )

    drawn = figures_of(run)
    assert "episode.png" in drawn
    assert "60 of 75 query images wrong" in drawn["episode.svg"].decode()


def test_a_run_without_a_validation_is_refused(tmp_path):
    run = RunDirectory.create(CONFIG, Environment(), tmp_path / "run")

    with pytest.raises(DataError, match="holds no validation yet"):
        figures_of(run)


def test_hyperparameters_name_every_setting_with_its_value_and_meaning(run):
    text = hyperparameters(run)

    for name in CONFIG.in_use():
        assert f"| `{name}` |" in text
    assert "| `inner_lr` | 0.4 | Learning rate of the inner steps" in text
    assert "- torch: 2.13.0" in text


@pytest.mark.parametrize("method", names())
def test_every_setting_is_described(method):
    config = settings_of(method)

    assert config.descriptions().keys() == config.flat().keys()
    assert all(sentence.endswith((".", ")")) for sentence in config.descriptions().values())


def test_results_are_written_beside_the_run(run):
    write_results(run)

    assert (run.path / "hyperparameters.md").is_file()
    assert not (run.path / "MODEL_CARD.md").exists()
    assert (run.path / "figures" / "loss.svg").is_file()
    assert [*results_of(run, ["png"])] == [
        *("figures/validation.png", "figures/loss.png", "figures/inner-steps.png"),
        "hyperparameters.md",
    ]


def test_hyperparameters_say_how_the_training_ended(run):
    run.set_status("finished", 40, "The training diverged: it fell.")

    assert (
        f"Finished at outer step 40 of {CONFIG.training.meta_steps}. The training diverged: it "
        "fell." in hyperparameters(run)
    )


def test_a_curve_with_a_gap_does_not_take_the_axis_away():
    gap = ([0, 10, 20], [0.2, 0.85, float("nan")])

    (axes,) = draw_seeds({"MAML": [gap]}, "title", "subtitle").axes

    assert axes.get_ylim() == (20.0, 100.5)


def test_a_table_keeps_the_bars_in_its_cells():
    assert table(["a", "b|c"], [["1", "2"], ["x|y", ""]]) == [
        "| a | b\\|c |",
        "|---|---|",
        "| 1 | 2 |",
        "| x\\|y |  |",
    ]


OBSERVED = dataclasses.replace(
    find_card("fomaml"),
    name="observed",
    figures=(
        DiagnosticFigure("by_layer", "layers", "Layers", "height", "the height of each layer"),
        DiagnosticFigure("each_step", "steps", "Steps", "length", "the length of each step"),
        DiagnosticFigure("nothing", "nothing", "Nothing", "size", "what is never recorded"),
        DiagnosticFigure("number", "number", "Number", "height", "how high it is"),
        DiagnosticFigure("by_class", "classes", "Classes", "size", "the size of each", "class"),
    ),
)
"""The card of a method whose learner records what no other does."""


@pytest.fixture
def observed(run: RunDirectory) -> RunDirectory:
    """A run of that method, which has recorded nothing yet."""
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps(config | {"method": f"{__name__}:OBSERVED"}))
    return run


def record(run: RunDirectory, *values: object, key: str) -> RunDirectory:
    for step, value in enumerate(values, start=5):
        run.append_metrics(validation(step, 0.8) | {"diagnostics": {key: value}})
    return RunDirectory(run.path)


def test_numbers_are_one_line_without_a_legend(observed):
    (figure,) = diagnostics_of(record(observed, 2.0, None, 0.0, key="number"))
    (axes,) = figure.draw().axes
    (line,) = axes.get_lines()

    assert (figure.name, axes.get_ylabel(), axes.get_legend()) == ("number", "height", None)
    assert np.asarray(line.get_xydata()).tolist() == [[5, 2.0], [7, 0.0]]


def test_a_list_is_labelled_by_what_the_card_calls_its_series(observed):
    (figure,) = diagnostics_of(record(observed, [0.1, 0.2], key="by_class"))
    (axes,) = figure.draw().axes

    assert [line.get_label() for line in axes.get_lines()] == ["class 1", "class 2"]


@pytest.mark.parametrize("values", [["a word"], [[[1.0]]], [{"a": 1.0}], [1.0, [1.0]]])
def test_what_cannot_be_drawn_is_refused_with_method_and_key(values, observed):
    with pytest.raises(DataError, match=r"diagnostics of .*OBSERVED hold under 'number' what"):
        diagnostics_of(record(observed, *values, key="number"))


def test_diagnostics_are_drawn_as_the_card_names_them(observed):
    run = observed
    for step, height in ((5, 1.0), (6, 3.0)):
        recorded = {
            "by_layer": {"first": [height, 2.0], "second": [height, None]},
            "each_step": [height, 5.0],
            "nothing": {},
            "unnamed": [1.0],
        }
        run.append_metrics(validation(step, 0.8) | {"diagnostics": recorded})

    layers, steps = diagnostics_of(RunDirectory(run.path))
    panels, (axes,) = layers.draw().axes, steps.draw().axes

    assert (layers.name, layers.words) == ("layers", "the height of each layer")
    assert [panel.get_title() for panel in panels] == ["first", "second"]
    assert panels[0].get_ylabel() == "height" and axes.get_ylabel() == "length"
    assert [np.asarray(line.get_ydata()).tolist() for line in panels[0].get_lines()] == [
        [1.0, 3.0],
        [2.0, 2.0],
    ]
    assert np.asarray(axes.get_lines()[0].get_xdata()).tolist() == [5, 6]
    assert axes.get_ylim()[1] > 5, "what is no fraction is not cut"
