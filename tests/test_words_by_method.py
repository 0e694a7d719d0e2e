"""What is said of a method is true of it: of none that takes no inner steps are some told."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from innerloop import cli
from innerloop.analysis.comparison import compare
from innerloop.methods.catalogue import find_card, names, settings_of
from innerloop.report import report
from innerloop.report.comparison import comparison_page
from innerloop.report.document import Bullets, Document, plain
from innerloop.report.figures.run import describe, figures_of
from innerloop.report.findings import before_adaptation
from innerloop.report.hyperparameters import hyperparameters
from innerloop.report.model_card import model_card
from innerloop.report.report import read_material, report_files
from innerloop.report.words import describe_row, table_of_rows
from innerloop.runs.directory import RunDirectory
from innerloop.settings.method import EpisodicFeaturesSettings, EpisodicSettings
from making import make_run

STEPLESS = [name for name in names() if settings_of(name).own.adaptation_rate is None]
"""Methods of this package that take no inner steps."""
UNTRUE = re.compile(r"no rate|\d+ inner steps?\b|plain gradient descent|starts from zero, so")
"""What must not be said of them."""
CURVE = (0.2, 0.6, 0.9, 0.95)


def run_of(method: str, folder: Path, **changes) -> RunDirectory:
    return make_run(
        folder, method, curve=CURVE, name=f"run-{len(list(folder.iterdir()))}", **changes
    )


def document_of(*runs: RunDirectory) -> Document:
    return report.document(read_material([run.path for run in runs]))


def bullets_of(whole: Document, title: str) -> str:
    (section,) = [section for section in whole.sections if section.title == title]
    items = [item for block in section.blocks if isinstance(block, Bullets) for item in block.items]
    return "\n".join(map(plain, items))


@pytest.mark.parametrize("method", STEPLESS)
def test_of_a_method_without_inner_steps_none_are_told(method, tmp_path):
    run = run_of(method, tmp_path)
    page = report_files(document_of(run))["report.html"].decode()
    (row,) = run.evaluations()
    comparison = compare([run, run_of(method, tmp_path, seed=1)], part="val", episodes=8)

    texts = {
        "report": page,
        "model card": model_card(run),
        "hyperparameters": hyperparameters(run),
        "title": describe(run),
        "sentence": describe_row(row),
        "table": table_of_rows([row]),
        "comparison": comparison_page(comparison),
    }
    assert {name: UNTRUE.findall(text) for name, text in texts.items() if UNTRUE.search(text)} == {}
    assert [*figures_of(run, ["png"])] == ["validation.png", "loss.png"]


def test_what_must_not_be_said_is_said_of_a_method_with_inner_steps(tmp_path):
    """Else the test above could not fail."""
    run = run_of("fomaml", tmp_path)

    assert UNTRUE.search(model_card(run)) and UNTRUE.search(describe_row(run.evaluations()[0]))
    assert UNTRUE.search(report_files(document_of(run))["report.html"].decode())


def test_why_all_logits_are_equal_before_adaptation_is_true_of_heads_and_of_prototypes():
    (sentence,) = before_adaptation({"A": (0.2, 0.0), "B": (0.2, 0.0)}, 5, ["A", "B"])

    assert "(A, B): until the support set is seen all 5 logits are equal" in sentence


def test_one_inner_step_is_one(tmp_path):
    run = run_of("fomaml", tmp_path, inner_steps=1)

    assert "after 1 inner step at 0.4, 5-way" in model_card(run)
    assert ", 1 step at 0.4, seed" in describe(run)
    assert "after 1 inner step at 0.4 (" in describe_row(run.evaluations()[0])


def test_the_ways_of_training_are_told_where_they_are_others(tmp_path):
    usual = settings_of("protonet")
    wide = usual.replace(training_ways=20)

    assert isinstance(wide.own, EpisodicFeaturesSettings)
    assert usual.own.task_in_words(usual).startswith("told 5 characters apart")
    assert wide.own.task_in_words(wide).startswith("told 20 characters apart")
    assert (usual.own.batch_in_words, wide.own.batch_in_words) == (
        "4 episodes",
        "4 episodes of 20 classes",
    )
    run = run_of("protonet", tmp_path, training_ways=20)
    assert "30 outer steps of 4 episodes of 20 classes, Adam" in model_card(run)
    lone = run_of("protonet", tmp_path, meta_batch_size=1, shots=1)
    assert "30 outer steps of 1 episode, Adam" in model_card(lone)
    assert "from 1 picture of each" in model_card(lone)


SEEING = replace(
    find_card("protonet"),
    name="seeing",
    title="Seeing",
    settings=EpisodicSettings,
    learner="nowhere:Seeing",
    transductive=True,
    defaults={},
    reason="",
    presets={},
)
"""The card of a method whose predictions see the other query images."""


@pytest.mark.parametrize("transductive", [True, False])
def test_a_transductive_method_is_said_to_be_one(transductive, tmp_path):
    run = run_of(f"{__name__}:SEEING" if transductive else "protonet", tmp_path)
    card = model_card(run)
    limits = bullets_of(document_of(run), "Limits")

    assert ("- It is transductive: every accuracy uses the other query pictures" in card) == (
        transductive
    )
    assert ("- Accuracies under batch norm transductive use" in card) != transductive
    assert ("Seeing (transductive): the query images of an episode" in limits) == transductive


@pytest.mark.parametrize(
    "options",
    [
        ["--adapt", "head"],
        ["--adapt", "all", "--inner-lr", "0.1"],
        ["--adapt", "head+1", "--inner-steps", "5"],
    ],
)
def test_steps_of_a_method_without_are_taken_only_as_asked_for(options, tmp_path, capsys):
    run = run_of("protonet", tmp_path)

    assert cli.main(["evaluate", str(run.path), *options]) == 2
    said = capsys.readouterr().err
    assert f"protonet takes no inner steps: say how many --adapt {options[1]} takes" in said
