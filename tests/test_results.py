"""Typed rows: what is read from a run's files, and what is refused."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

from innerloop.core.errors import DataError
from innerloop.core.files import read_json
from innerloop.methods import catalogue
from innerloop.runs import reading
from innerloop.runs.directory import RunDirectory
from innerloop.runs.results import Environment, EvaluationRow, Status, TrainRecord, typed
from making import evaluate, make_run


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return make_run(tmp_path, "fomaml")


@pytest.fixture
def row(run: RunDirectory) -> dict[str, Any]:
    return evaluate(run, 0.9)


def test_a_row_is_read_as_it_was_written(row):
    read = typed(row, EvaluationRow, "x.json")

    written = read.to_json()
    assert {name: written[name] for name in row} == row


def test_null_is_nan_where_a_number_stands_and_none_where_it_may(row):
    curve = [None, 0.5, None]
    changed = row | {"query_loss": None, "query_accuracy_per_step": curve, "inner_lr": None}

    read = typed(changed, EvaluationRow, "x.json")

    assert math.isnan(read.query_loss)
    assert [None if math.isnan(value) else value for value in read.query_accuracy_per_step] == curve
    assert read.inner_lr is None


def test_what_a_row_does_not_have_is_passed_over():
    record = typed({"step": 3, "loss": 0.5, "note": [1, "x"]}, TrainRecord, "metrics")

    assert (record.step, record.loss) == (3, 0.5)
    assert math.isnan(record.gradient_norm)


@pytest.mark.parametrize("name", ["method", "batch_norm", "episodes", "query_accuracy_per_episode"])
def test_a_missing_field_is_named(row, name):
    del row[name]

    with pytest.raises(DataError, match=rf"^x\.json does not hold what it should: .*`{name}`"):
        typed(row, EvaluationRow, "x.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ways", "5"),
        ("ways", 5.5),
        ("shots", None),
        ("rotations", 0),
        ("query_accuracy", "0.9"),
        ("query_accuracy_per_episode", 0.9),
        ("query_accuracy_per_episode", [0.9, "x"]),
        ("split", 3),
    ],
)
def test_a_value_of_another_type_is_named(row, name, value):
    with pytest.raises(DataError, match=rf"^x\.json does not hold what it should: .*\.{name}"):
        typed(row | {name: value}, EvaluationRow, "x.json")


def test_an_old_row_was_adapted_in_its_own_way_at_the_rate_of_the_run(run, row):
    for name in ("adaptation", "inner_lr"):
        del row[name]
    (file,) = run.path.glob("evaluation-*.json")
    file.write_text(json.dumps(row))

    (read,) = run.evaluations()

    assert (read.adaptation, read.inner_lr) == ("own", run.config.own.adaptation_rate)


def test_an_evaluation_of_fewer_episodes_than_it_says_is_refused(run, row):
    evaluate(run, 0.9, episodes=9)

    with pytest.raises(DataError, match=r"does not hold the accuracy of each of its 9 episodes\."):
        run.evaluations()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"ways": 5}'])
def test_a_damaged_evaluation_is_named(run, text):
    (run.path / "evaluation-x.json").write_text(text)

    with pytest.raises(DataError, match=r"evaluation-x\.json"):
        run.evaluations()


def test_a_damaged_status_is_named(run):
    (run.path / "status.json").write_text('{"state": "finished", "step": "thirty"}')

    with pytest.raises(DataError, match=r"status\.json does not hold what it should: .*\.step"):
        _ = run.status


def test_an_environment_of_long_ago_is_read(run):
    (run.path / "env.json").write_text('{"torch": "2.9", "gpu": "none"}')

    assert run.environment == Environment(torch="2.9")
    assert run.environment.recorded() == {"torch": "2.9"}


def test_records_are_typed_in_their_order(run):
    assert [record.step for record in run.validations()] == [0, 10, 20, 30]
    assert [record.step for record in run.train_records()] == list(range(1, 41))
    assert run.validations()[-1].query_accuracy == 0.98


def test_a_file_is_read_once_until_it_changes(run, monkeypatch):
    reads = []

    def counting(path: Path):
        reads.append(path)
        return catalogue.load_config(path)

    monkeypatch.setattr(reading, "load_config", counting)
    changed = run.config.replace(seed=run.config.training.seed + 1)
    (run.path / "config.json").write_text(changed.to_json())

    assert [run.config, RunDirectory(run.path).config, run.config] == [changed] * 3
    assert reads == [run.path / "config.json"]


def test_a_state_and_a_checksum_are_read_once_until_they_change(run, monkeypatch):
    reads = []

    def counting(path: Path):
        reads.append(path.name)
        return read_json(path)

    monkeypatch.setattr(reading, "read_json", counting)
    run.set_status("paused", 7)
    assert [run.status, RunDirectory(run.path).status] == [Status("paused", 7)] * 2
    assert reads == ["status.json"]

    run.set_status("failed", 8, "no disk")
    assert run.status == Status("failed", 8, "no disk")
    (run.path / "status.json").unlink()
    assert run.status == Status()

    for content in (b"some weights", b"other weights"):
        run.weights_path.write_bytes(content)
        with monkeypatch.context() as patch:
            opened = []
            patch.setattr(Path, "read_bytes", lambda path: opened.append(path) or content)  # noqa: B023
            again = [run.weights_sha256(), RunDirectory(run.path).weights_sha256()]
        assert again == [hashlib.sha256(content).hexdigest()] * 2
        assert opened == [run.weights_path]


def test_metrics_that_grow_are_read_again(run):
    before = run.train_records()
    record = {"step": 99, "kind": "train", "loss": 0.5, "gradient_norm": 2.0, "elapsed_s": 1.0}

    run.append_metrics(record)

    assert run.train_records() == (
        *before,
        TrainRecord(step=99, loss=0.5, gradient_norm=2.0, elapsed_s=1.0),
    )


def test_cutting_keeps_the_text_of_the_lines(run):
    """Also what no type has, and the way in which numbers were written."""
    line = '{"step":1,  "kind": "train", "loss": 5.0e-1, "own": {"é": null}}'
    (run.path / "metrics.jsonl").write_text(f'{line}\n{{"step": 2}}\n{{"st', encoding="utf-8")

    run.cut_metrics(1)

    assert (run.path / "metrics.jsonl").read_text(encoding="utf-8") == line + "\n"


def test_a_status_is_running_until_it_is_written(run):
    (run.path / "status.json").unlink()

    assert run.status == Status("running", 0, "")


@pytest.mark.parametrize("accuracy", [None, 97.0, -0.1])
def test_an_accuracy_that_is_no_fraction_is_refused(run, row, accuracy):
    each = [accuracy, *row["query_accuracy_per_episode"][1:]]
    evaluate(run, 0.9, query_accuracy_per_episode=each)

    with pytest.raises(DataError, match="holds an accuracy that is no fraction"):
        run.evaluations()
