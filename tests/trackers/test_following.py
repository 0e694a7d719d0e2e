"""Trackers follow a training, are found by name, and can neither stop nor change it."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from innerloop import cli
from innerloop.experiments import training
from innerloop.runs.directory import RunDirectory
from innerloop.runs.trackers import catalogue
from innerloop.runs.trackers.base import Record, read_records
from killing import Nursery, outcome, training_of, wait_for_step
from making import few_strokes

FILE = "events.out.tfevents.innerloop"
calls: list[tuple[str, Any]] = []
"""What `Remembering` was told."""


class Remembering:
    """Remembers what it is told."""

    def start(self, folder: Path, settings: dict[str, Any], records: Sequence[Record]) -> None:
        calls.append(("start", (folder, settings, list(records))))

    def record(self, record: Record) -> None:
        calls.append(("record", record))

    def finish(self, state: str) -> None:
        calls.append(("finish", state))


failing_calls: list[str] = []
"""What `Failing` was told."""


class Failing:
    """Raises at one of its calls."""

    where = "start"
    error: BaseException = OSError(28, "No space left on device")

    def start(self, folder: Path, settings: dict[str, Any], records: Sequence[Record]) -> None:
        self._raise("start")

    def record(self, record: Record) -> None:
        self._raise("record")

    def finish(self, state: str) -> None:
        self._raise("finish")

    def _raise(self, where: str) -> None:
        failing_calls.append(where)
        if where == self.where:
            raise self.error


REMEMBERING = f"{__name__}:Remembering"
FAILING = f"{__name__}:Failing"


@pytest.fixture(scope="module", autouse=True)
def small_data():
    """100 synthetic characters."""
    with few_strokes(drawings=4):
        yield


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    """And no figures."""
    monkeypatch.setattr("innerloop.report.figures_of", lambda run, suffixes: {})
    calls.clear()
    failing_calls.clear()


def train(path: Path, *options: str) -> RunDirectory:
    command = [*training_of("fomaml"), "--run-dir", str(path)]
    assert cli.main([*command, *options]) == 0
    return RunDirectory(path)


@pytest.fixture(scope="module")
def whole(small_data, tmp_path_factory) -> Path:
    """A run without a tracker."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("innerloop.report.figures_of", lambda run, suffixes: {})
        train(path)
    return path


def told() -> list[Record]:
    """All records that `Remembering` was told of since it was started last."""
    last = max(index for index, (what, _) in enumerate(calls) if what == "start")
    _, (_, _, records) = calls[last]
    return records + [record for what, record in calls[last:] if what == "record"]


def test_a_tracker_is_told_of_every_record_and_of_the_end(tmp_path):
    run = train(tmp_path / "run", "--tracker", REMEMBERING)

    what, (folder, settings, records) = calls[0]
    assert (what, folder, settings) == ("start", run.path, run.config.flat())
    assert len(records) == 1
    assert told() == read_records(run)
    assert len(told()) == 24 + 5
    assert calls[-1] == ("finish", "finished")
    assert [what for what, _ in calls].count("start") == 1


def test_a_resumed_run_is_told_from_its_beginning_and_nothing_twice(tmp_path):
    run = train(tmp_path / "run", "--tracker", REMEMBERING, "--max-minutes", "0")
    assert calls[-1] == ("finish", "paused")
    before = len(read_records(run))

    assert cli.main(["resume", str(run.path), "--tracker", REMEMBERING]) == 0

    assert told() == read_records(run)
    assert len(told()) > before > 0
    assert calls[-1] == ("finish", "finished")


def test_a_run_that_lacks_only_its_end_is_told_whole(tmp_path, whole):
    """Killed between its last checkpoint and its weights, there is no step left to be told of."""
    run = train(tmp_path / "run")
    run.weights_path.unlink()
    run.set_status("running", 24)

    assert cli.main(["resume", str(run.path), "--tracker", REMEMBERING]) == 0

    assert told() == read_records(run)
    assert [what for what, _ in calls] == ["start", "finish"]


@pytest.mark.parametrize("trackers", [["tensorboard"], [REMEMBERING], ["tensorboard", FAILING]])
def test_a_tracked_run_has_the_bits_and_the_settings_of_one_that_is_not(tmp_path, whole, trackers):
    run = train(tmp_path / "run", "--tracker", ",".join(trackers))

    assert outcome(run.path) == outcome(whole)
    assert run.config_text == RunDirectory(whole).config_text


@pytest.mark.parametrize(
    ("where", "error", "reason"),
    [
        ("start", OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on "),
        ("record", ConnectionError("server away\nat all"), "ConnectionError: server away."),
        ("record", MemoryError(), "MemoryError."),
        ("record", SystemExit(3), "SystemExit: 3."),
        ("finish", RuntimeError("out of memory"), "RuntimeError: out of memory."),
    ],
)
def test_whatever_a_tracker_raises_is_a_sentence_and_the_training_goes_on(
    tmp_path, whole, capsys, monkeypatch, where, error, reason
):
    monkeypatch.setattr(Failing, "where", where)
    monkeypatch.setattr(Failing, "error", error)

    run = train(tmp_path / "run", "--tracker", f"{FAILING},{REMEMBERING}")

    said = capsys.readouterr().out
    sentence = f"The tracker {FAILING!r} is left out from here on, and the training goes on: "
    assert said.count(sentence + reason) == 1
    assert f"Afterwards: innerloop export-metrics {run.path} --to {FAILING}\n" in said
    assert failing_calls[-1] == where
    assert told() == read_records(run)  # the other one's
    assert calls[-1] == ("finish", "finished")
    assert outcome(run.path) == outcome(whole)


def test_a_tracker_that_raised_is_not_called_again(tmp_path, monkeypatch):
    monkeypatch.setattr(Failing, "where", "record")

    train(tmp_path / "run", "--tracker", FAILING)

    assert failing_calls == ["start", "record"]


@pytest.mark.parametrize(
    ("loss", "state", "code"), [(float("nan"), "failed", 3), (MemoryError(), "interrupted", 6)]
)
def test_a_training_that_fails_ends_its_trackers_with_its_state(
    tmp_path, monkeypatch, loss, state, code
):
    accumulate = training.accumulate_meta_gradient
    steps: list[int] = []

    def failing_at_the_third(*arguments: Any) -> dict[str, float]:
        steps.append(1)
        if len(steps) < 3:
            return accumulate(*arguments)
        if isinstance(loss, Exception):
            raise loss
        return {"loss": loss, "gradient_norm": 1.0}

    monkeypatch.setattr(training, "accumulate_meta_gradient", failing_at_the_third)
    command = [*training_of("fomaml"), "--run-dir", str(tmp_path / "run")]

    assert cli.main([*command, "--tracker", REMEMBERING]) == code

    assert told()[-1].step == 2
    assert calls[-1] == ("finish", state)


def test_a_run_that_another_process_trains_is_tracked_by_that_one_alone(tmp_path, capsys):
    run = train(tmp_path / "run", "--max-minutes", "0")

    with run.locked():
        assert cli.main(["resume", str(run.path), "--tracker", REMEMBERING]) == 2

    assert "is in use by another process" in capsys.readouterr().err
    assert calls == []


def test_an_event_file_that_cannot_be_written_stops_nothing(tmp_path, whole, capsys):
    run = train(tmp_path / "run", "--max-minutes", "0")
    (run.path / FILE).mkdir()

    assert cli.main(["resume", str(run.path), "--tracker", "tensorboard"]) == 0

    assert "The tracker 'tensorboard' is left out from here on" in capsys.readouterr().out
    assert outcome(run.path) == outcome(whole)


@pytest.mark.slow
def test_after_a_kill_the_event_file_is_that_of_the_metrics(tmp_path):
    path = tmp_path / "run"
    with Nursery(tmp_path) as nursery:
        pid = nursery.start(*training_of("fomaml"), "--run-dir", path, "--tracker", "tensorboard")
        wait_for_step(path, 7)
        os.kill(pid, signal.SIGKILL)
        assert nursery.wait(pid) == -signal.SIGKILL
        begun = (path / FILE).stat()
        code = nursery.run("resume", path, "--tracker", "tensorboard")
        assert code == 0, nursery.log()

    written = (path / FILE).read_bytes()
    assert (path / FILE).stat().st_ino == begun.st_ino  # what TensorBoard has open
    assert len(written) > begun.st_size
    assert cli.main(["export-metrics", str(path), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "run" / FILE).read_bytes() == written


def test_an_unknown_tracker_is_refused_with_the_nearest_name_and_nothing_is_written(
    tmp_path, capsys
):
    path = tmp_path / "run"

    for command in (
        [*training_of("fomaml"), "--run-dir", str(path), "--tracker", "tensorbord"],
        ["export-metrics", str(path), "--to", "tensorbord"],
    ):
        assert cli.main(command) == 2
        said = capsys.readouterr().err
        assert "There is no tracker 'tensorbord'. Did you mean 'tensorboard'?" in said
    assert not path.exists()


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(
    tmp_path, capsys, monkeypatch, name
):
    monkeypatch.setitem(sys.modules, name, None)
    for module in [*sys.modules]:
        if module.startswith(f"{name}.") or module == f"innerloop.runs.trackers.{name}":
            monkeypatch.delitem(sys.modules, module)
    path = tmp_path / "run"

    assert cli.main([*training_of("fomaml"), "--run-dir", str(path), "--tracker", name]) == 2

    assert capsys.readouterr().err == (
        f"innerloop: The tracker {name!r} needs a package that is not installed: pip install "
        f"'innerloop[{name}]'.\n"
    )
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("raise RuntimeError('no key')", "cannot be imported from faulty:Own: RuntimeError: no ke"),
        ("import no_such_library", "cannot be imported from faulty:Own: No module named 'no_such_"),
        ("def Own(): raise RuntimeError('no key')", "cannot be made: RuntimeError: no key."),
        ("", "cannot be imported from faulty:Own: module 'faulty' has no attribute 'Own'"),
    ],
)
def test_a_faulty_tracker_of_ones_own_is_one_sentence(
    tmp_path, capsys, monkeypatch, text, sentence
):
    (tmp_path / "faulty.py").write_text(text + "\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "faulty", raising=False)

    assert cli.main([*training_of("fomaml"), "--run-dir", "run", "--tracker", "faulty:Own"]) == 2

    sys.modules.pop("faulty", None)
    said = capsys.readouterr().err
    assert f"The tracker 'faulty:Own' {sentence}" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_what_an_export_raises_is_one_sentence(tmp_path, capsys):
    run = train(tmp_path / "run", "--max-minutes", "0")
    capsys.readouterr()

    assert cli.main(["export-metrics", str(run.path), "--to", FAILING]) == 2

    said = capsys.readouterr().err
    assert f"{FAILING} does not take the metrics of {run.path}: OSError: [Errno 28]" in said
    assert said.count("\n") == 1


def test_this_packages_trackers_win_over_another_packages_of_their_name(monkeypatch):
    class Entry:
        def __init__(self, name: str, value: str):
            self.name, self.value = name, value

    entries = [Entry("own", REMEMBERING), Entry("tensorboard", REMEMBERING)]
    monkeypatch.setattr(catalogue, "entry_points", lambda group: entries)

    assert type(catalogue.new_tracker("own")).__name__ == "Remembering"
    assert set(catalogue.names()) == {"own", "tensorboard", "mlflow"}
    assert catalogue._places()["tensorboard"].endswith("tensorboard:TensorBoard")


@pytest.mark.parametrize(
    "arguments",
    [["train", "--help"], ["train", "fomaml", "--help-all"], ["export-metrics", "--help"]],
)
def test_help_imports_no_trackers_library(arguments):
    code = (
        f"import sys; from innerloop import cli\ntry: cli.main({arguments})\n"
        "except SystemExit: pass\n"
        "print(*({'torch', 'tensorboard', 'mlflow', 'google'} & set(sys.modules)), sep='')"
    )

    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    assert "usage" in printed
    assert printed.splitlines()[-1] == ""
