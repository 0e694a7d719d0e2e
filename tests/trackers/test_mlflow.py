"""MLflow holds the numbers of the metrics, once each, as its own client reads them."""

import json
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from innerloop import cli
from innerloop.runs.directory import RunDirectory
from innerloop.runs.trackers import mlflow as tracker
from innerloop.runs.trackers.base import Record, read_records
from making import make_run

# MLflow's own database uses what the library of databases calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> str:
    """A database of MLflow's on the disk, which takes seconds to make."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow').as_posix()}/mlflow.db"


@pytest.fixture
def client(place, request, monkeypatch):
    """Of an experiment for the test alone."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", request.node.name)
    return MlflowClient()


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return make_run(tmp_path, "fomaml", name="run", curve=[0.6, 0.9])


@pytest.fixture
def sizes(monkeypatch) -> list[int]:
    """How many metrics each call to MLflow has.

    Its database would take more than a server does, and passes over points that come twice.
    """
    sizes: list[int] = []
    log_batch = MlflowClient.log_batch

    def counting(self: MlflowClient, run_id: str, metrics=(), params=()) -> None:
        sizes.append(len(metrics))
        log_batch(self, run_id, metrics=metrics, params=params)

    monkeypatch.setattr(MlflowClient, "log_batch", counting)
    return sizes


def runs_of(client, experiment: str):
    found = client.get_experiment_by_name(experiment)
    return client.search_runs([found.experiment_id])


def history(client, run_id: str, key: str) -> list[tuple[int, int, float]]:
    """Step, milliseconds since 1970 and value of each point, in order."""
    points = client.get_metric_history(run_id, key)
    return sorted((point.step, point.timestamp, point.value) for point in points)


def expected(run: RunDirectory, key: str) -> list[tuple[int, int, float]]:
    kind, _, name = key.partition("/")
    return [
        (record.step, round(1000 * record.time), record.values[name])
        for record in read_records(run)
        if record.kind == kind and name in record.values
    ]


def export(path: Path) -> int:
    return cli.main(["export-metrics", str(path), "--to", "mlflow"])


def test_every_number_is_there_once_with_the_settings_and_the_state(client, request, run):
    assert export(run.path) == 0

    (shown,) = runs_of(client, request.node.name)
    assert (shown.info.run_name, shown.info.status) == ("run", "FINISHED")
    assert shown.data.params == {name: str(value) for name, value in run.config.flat().items()}
    keys = {f"{record.kind}/{name}" for record in read_records(run) for name in record.values}
    assert set(shown.data.metrics) == keys
    for key in keys:
        assert history(client, shown.info.run_id, key) == expected(run, key)
    assert len(expected(run, "train/loss")) == 20


def test_exporting_again_leaves_one_run(client, request, run):
    export(run.path)
    run.cut_metrics(12)

    export(run.path)

    (shown,) = runs_of(client, request.node.name)
    assert json.loads((run.path / "mlflow.json").read_text())["run_id"] == shown.info.run_id
    assert history(client, shown.info.run_id, "train/loss") == expected(run, "train/loss")
    assert len(expected(run, "train/loss")) == 12


def test_a_run_that_is_gone_from_the_server_is_logged_again(client, request, run):
    (run.path / "mlflow.json").write_text('{"run_id": "of another server"}')

    assert export(run.path) == 0

    (shown,) = runs_of(client, request.node.name)
    assert history(client, shown.info.run_id, "train/loss") == expected(run, "train/loss")


def test_records_are_sent_after_some_seconds_and_at_the_end(
    client, request, run, monkeypatch, sizes
):
    following = tracker.MLflow()
    (run.path / "folder").mkdir()
    following.start(run.path / "folder", {}, [Record(1, "train", 5.0, {"loss": 3.0})])
    (shown,) = runs_of(client, request.node.name)

    def losses() -> list[float]:
        return [value for _, _, value in history(client, shown.info.run_id, "train/loss")]

    following.record(Record(2, "train", 6.0, {"loss": 2.0}))
    assert losses() == [3.0]
    monkeypatch.setattr(tracker, "SEND_EVERY_S", 0.0)
    following.record(Record(3, "train", 7.0, {"loss": 1.0}))
    assert losses() == [3.0, 2.0, 1.0]
    monkeypatch.setattr(tracker, "SEND_EVERY_S", 1e9)
    following.record(Record(4, "train", 8.0, {"loss": 0.5, "a:b[c]": 1.0}))
    following.finish("paused")
    assert losses() == [3.0, 2.0, 1.0, 0.5]
    assert sizes == [0, 1, 2, 2]
    (shown,) = runs_of(client, request.node.name)
    assert shown.info.status == "KILLED"
    assert shown.data.metrics["train/a_b_c_"] == 1.0


def test_more_numbers_than_a_call_may_have_are_sent_in_several(client, request, tmp_path, sizes):
    following = tracker.MLflow()
    records = [Record(step, "train", step, {"loss": float(step)}) for step in range(2500)]

    following.start(tmp_path, {}, records)

    (shown,) = runs_of(client, request.node.name)
    assert len(history(client, shown.info.run_id, "train/loss")) == 2500
    assert sizes == [0, 1000, 1000, 500]


def test_a_place_that_mlflow_does_not_know_is_one_sentence(client, run, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://at-all")

    assert export(run.path) == 2

    said = capsys.readouterr().err
    assert f"mlflow does not take the metrics of {run.path}: " in said
    assert said.count("\n") == 1
