"""What README and docs publish is what the report derives from the committed results."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from innerloop.core.intervals import mean_and_interval
from innerloop.methods.catalogue import names
from innerloop.report.material import Material
from innerloop.report.report import document, read_material
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import evaluations
from innerloop.runs.results import EvaluationRow

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from name_classes import name_classes  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
METHODS = {
    "FO-MAML": "fomaml",
    "MAML, second order": "maml",
    "MAML++": "mamlpp",
    "transfer": "transfer",
}
ROW = re.compile(
    r"^\| (?P<method>[^|]+) \| Omniglot, (?P<split>[^,|]+), (?P<part>\w+) \| (?P<seed>\d+) \| "
    r"(?P<mode>\w+) \| "
    r"(?P<episodes>\d+) \| (?P<accuracy>[\d.]+ ± [\d.]+) \|",
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[RunDirectory]:
    """The committed results as run directories; their weights are not committed, and a report needs
    only to know."""
    folder = tmp_path_factory.mktemp("published")
    for path in (RESULTS / "accuracy").iterdir():
        copy = Path(shutil.copytree(path, folder / path.name))
        if (copy / "validation.jsonl").is_file():
            (copy / "validation.jsonl").rename(copy / "metrics.jsonl")
        # Rows of before they named the classes of their episodes, which are counted.
        name_classes(copy)
        (copy / "model.safetensors").write_bytes(save({"weights": np.zeros(1)}))
    return [RunDirectory(path) for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def material(runs) -> Material:
    first = [run.path for run in runs if run.config.data.split == "assignment"]
    others = [run.path for run in runs if run.config.data.split != "assignment"]
    return read_material([*first, *others], RESULTS / "explanation")


def shown(mean: float, half: float) -> str:
    return f"{100 * mean:.2f} ± {100 * half:.2f}"


def of_one(row: EvaluationRow) -> str:
    """An evaluation's accuracy with its interval over episodes and classes."""
    assert row.design.covers_classes
    return shown(*mean_and_interval(np.array(row.query_accuracy_per_episode), row.design))


def test_every_published_row_is_an_evaluation(runs):
    rows = list(ROW.finditer((ROOT / "benchmarks" / "README.md").read_text("utf-8")))
    published = {run.path.name for run in runs}

    assert len(rows) >= 10
    seen = set()
    for row in rows:
        (run,) = [
            run
            for run in runs
            if run.config.method == METHODS[row["method"]]
            and run.config.data.split == row["split"]
            and run.config.training.seed == int(row["seed"])
        ]
        (found,) = [
            evaluation
            for evaluation in evaluations(run, row["part"], int(row["episodes"]))
            if evaluation.batch_norm == row["mode"]
            and evaluation.adaptation == "own"
            and evaluation.inner_steps == 5
            and evaluation.inner_lr == 0.4
        ]
        assert row["accuracy"] == of_one(found), row[0]
        seen.add(run.path.name)
    assert seen == published, "a published run is in the table"


def test_the_table_of_the_readme_is_what_the_report_derives(material, runs):
    page = (ROOT / "README.md").read_text("utf-8")
    rows = re.findall(
        r"^\| ([^|]+) \| ([\d.]+ ± [\d.]+) \| ([\d, ]+) \| ([^|]+) \| ([\d-]+) \| `innerloop",
        page,
        re.M,
    )

    assert {METHODS[method] for method, *_ in rows} == {
        row.method for row in material.comparison.rows
    }
    for method, accuracy, seeds, on_test, seed_on_test in rows:
        row = material.row(METHODS[method])
        assert row and accuracy == shown(row.query_accuracy, row.query_accuracy_ci95)
        assert seeds == ", ".join(map(str, row.training_seeds))
        tested = [
            run
            for run in runs
            if run.config.method == METHODS[method] and run.config.data.split == "1100-100-423"
        ]
        found = [
            evaluation
            for run in tested
            for evaluation in evaluations(run, "test", 600)
            if (evaluation.batch_norm, evaluation.adaptation, evaluation.inner_steps)
            == (row.batch_norm, "own", 5)
        ]
        assert [on_test] == ([of_one(evaluation) for evaluation in found] or ["-"])
        assert [seed_on_test] == ([str(run.config.training.seed) for run in tested] or ["-"])


def test_the_comparison_page_says_what_the_report_derives(material):
    page = (ROOT / "docs" / "comparison.md").read_text("utf-8")
    for method in ("transfer", "fomaml"):
        row = material.row(method)
        assert row and shown(row.query_accuracy, row.query_accuracy_ci95) in page
        assert ", ".join(f"{100 * value:.2f}" for value in row.query_accuracy_of_each_seed) in page
    pair = material.difference("transfer", "fomaml")
    assert pair and pair.difference.covers == "episodes, classes and training seeds"
    assert f"by **{shown(pair.difference.mean, pair.difference.ci95)} points**" in page


def test_the_committed_comparison_is_what_the_files_give(material):
    committed = json.loads((RESULTS / "comparison" / "comparison.json").read_text())
    derived = {row.method: row for row in material.comparison.rows}

    for row in committed["rows"]:
        assert derived[row["method"]].query_accuracy == pytest.approx(
            row["query_accuracy"], abs=1e-9
        )
        assert derived[row["method"]].query_accuracy_ci95 == pytest.approx(
            row["query_accuracy_ci95"], abs=1e-9
        )


def test_a_report_of_the_published_runs_says_their_numbers(material):
    made = document(material)
    words = json.dumps(
        [vars(block) for section in made.sections for block in section.blocks],
        default=str,
        ensure_ascii=False,
    )

    for method in names():
        if row := material.row(method):
            assert shown(row.query_accuracy, row.query_accuracy_ci95) in words
    assert "1100-100-423" in words
