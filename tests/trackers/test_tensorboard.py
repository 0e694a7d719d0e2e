"""An event file holds the numbers of the metrics, once each, as TensorBoard itself reads them."""

import json
import struct
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,  # pyright: ignore[reportAttributeAccessIssue]
)

from innerloop import cli
from innerloop.core.claims import claim
from innerloop.runs.directory import RunDirectory
from innerloop.runs.trackers.tensorboard import TensorBoard
from making import make_run

FILE = "events.out.tfevents.innerloop"
STARTED = "2026-02-03T04:05:06+00:00"
OF_THE_PROTOCOL = {"ways", "shots", "queries", "episodes", "episode_seed", "query_batches"}
Points = dict[str, list[tuple[int, float, float]]]
"""Tag -> step, time and value of each point, in order."""


def points_of(folder: Path) -> Points:
    """What TensorBoard shows of a folder."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        tag: [(event.step, event.wall_time, event.value) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }


def points_in(metrics: Path) -> Points:
    """The same, from the lines of the metrics, by a walk of its own."""
    begun = datetime.fromisoformat(STARTED).timestamp()
    points: Points = {}
    for line in metrics.read_text("utf-8").splitlines():
        record = json.loads(line)
        stack: list[tuple[str, Any]] = [(record["kind"], record)]
        while stack:
            name, value = stack.pop()
            if isinstance(value, dict):
                hidden = {"step", "kind"} | OF_THE_PROTOCOL if value is record else set()
                stack += [(f"{name}/{key}", value[key]) for key in value.keys() - hidden]
            elif isinstance(value, list):
                stack += [(f"{name}/{index}", part) for index, part in enumerate(value)]
            elif type(value) in (int, float):
                time = begun + record["elapsed_s"]
                points.setdefault(name, []).append((record["step"], time, float(np.float32(value))))
    return points


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    """A finished run of 40 outer steps and 4 validations, with diagnostics."""
    run = make_run(tmp_path, "mamlpp", name="run")
    _start(run, STARTED)
    return run


def _start(run: RunDirectory, started: str) -> None:
    recorded = json.loads((run.path / "env.json").read_text("utf-8"))
    (run.path / "env.json").write_text(json.dumps(recorded | {"started": started}), "utf-8")


def exported(*arguments: str | Path) -> int:
    return cli.main(["export-metrics", *map(str, arguments)])


def test_every_number_is_there_once_with_its_step_and_its_time(run):
    assert exported(run.path) == 0

    shown = points_of(run.path)
    assert shown == points_in(run.path / "metrics.jsonl")
    assert len(shown["train/loss"]) == 40
    assert len(shown["validation/diagnostics/learned_rates/blocks.0/4"]) == 4


def test_the_file_is_whole_by_the_libraries_own_loader(run):
    exported(run.path)

    events = list(LegacyEventFileLoader(str(run.path / FILE)).Load())

    assert events[0].file_version == "brain.Event:2"
    assert len(events) == 2 + len(run.read_metrics())


def test_the_settings_are_there_for_the_table_of_runs(run):
    exported(run.path)

    accumulator = EventAccumulator(str(run.path))
    accumulator.Reload()
    content = accumulator.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    plugin = HParamsPluginData.FromString(content)
    table = plugin.session_start_info.hparams
    shown = {name: getattr(row, row.WhichOneof("kind")) for name, row in table.items()}
    assert shown == run.config.flat()


def test_exporting_again_gives_the_same_bytes_in_another_process_too(run, tmp_path):
    exported(run.path)
    first = (run.path / FILE).read_bytes()

    exported(run.path)
    command = [sys.executable, "-m", "innerloop", "export-metrics", run.path, "--out", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    again = (run.path / FILE).read_bytes()
    exported(run.path, "--out", tmp_path / "out")

    assert again == first
    assert (run.path / FILE).read_bytes() == first
    assert (tmp_path / "out" / "run" / FILE).read_bytes() == first


def test_what_a_resumed_run_has_cut_is_gone_and_what_came_instead_is_there(run, tmp_path):
    exported(run.path)
    run.cut_metrics(12)
    run.append_metrics({"step": 13, "kind": "train", "loss": 7.5, "elapsed_s": 99.0})

    exported(run.path)

    shown = points_of(run.path)
    assert shown == points_in(run.path / "metrics.jsonl")
    assert shown["train/loss"][-1][::2] == (13, 7.5)
    assert len(shown["train/loss"]) == 13
    exported(run.path, "--out", tmp_path / "out")
    assert (run.path / FILE).read_bytes() == (tmp_path / "out" / "run" / FILE).read_bytes()


def test_an_event_file_that_a_kill_has_torn_is_whole_again(run):
    exported(run.path)
    content = (run.path / FILE).read_bytes()
    (run.path / FILE).write_bytes(content[:-5])

    exported(run.path)

    assert (run.path / FILE).read_bytes() == content


def test_of_a_running_run_there_is_what_it_has_recorded(tmp_path, capsys):
    run = make_run(tmp_path, "fomaml", curve=[0.6], evaluated=None, finished=False)
    _start(run, STARTED)
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 11, "ki')  # which the training is just writing

    with run.locked():
        assert exported(run.path) == 0

    shown = points_of(run.path)
    assert [step for step, _, _ in shown["train/loss"]] == list(range(1, 11))
    assert "11 records up to step 10" in capsys.readouterr().out


def test_a_run_that_has_recorded_nothing_is_said_to(run, capsys):
    run.cut_metrics(-1)

    assert exported(run.path) == 0

    assert points_of(run.path) == {}
    assert "nothing is recorded yet" in capsys.readouterr().out


def test_a_number_that_was_not_finite_has_no_point(run):
    run.append_metrics({"step": 41, "kind": "train", "loss": float("nan"), "gradient_norm": 2.0})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 42, "kind": "train", "loss": 1e400, "a": 1e39, "b": true}\n')

    exported(run.path)

    shown = points_of(run.path)
    assert shown["train/loss"][-1][0] == 40
    assert shown["train/gradient_norm"][-1] == (41, datetime.fromisoformat(STARTED).timestamp(), 2)
    assert "train/a" not in shown
    assert "train/b" not in shown


def test_a_run_that_does_not_say_when_it_was_made_has_the_time_of_its_settings(run):
    _start(run, "some day")
    written = (run.path / "config.json").stat().st_mtime

    exported(run.path)

    assert points_of(run.path)["train/loss"][2][1] == written + 3.0


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"step": 3', "is not JSON"),
        ('{"step": 3}', "has no usable step and kind: 3, None"),
        ('{"step": -3, "kind": "train"}', "has no usable step and kind: -3, 'train'"),
        ('{"step": 9223372036854775808, "kind": "train"}', "has no usable step and kind"),
    ],
)
def test_a_damaged_line_is_one_sentence_and_no_run_is_exported(
    run, tmp_path, capsys, line, sentence
):
    other = make_run(tmp_path, "fomaml", name="other")
    with open(other.path / "metrics.jsonl", "a") as file:
        file.write(f"{line}\n{line}\n")

    assert exported(run.path, other.path) == 5

    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert sentence in said
    assert not (run.path / FILE).exists()


def test_a_file_that_a_training_writes_is_left_to_it(run, capsys):
    exported(run.path)
    before = (run.path / FILE).read_bytes()

    with claim(run.path / "events.lock") as ours:
        assert ours
        assert exported(run.path) == 2

    assert "is being written by another process, which keeps it up to date." in (
        capsys.readouterr().err
    )
    assert (run.path / FILE).read_bytes() == before
    assert exported(run.path) == 0


def test_the_file_is_its_trackers_until_that_is_finished(tmp_path):
    tracker = TensorBoard()

    tracker.start(tmp_path, {}, [])
    with claim(tmp_path / "events.lock") as ours:
        assert not ours
    tracker.finish("finished")

    with claim(tmp_path / "events.lock") as ours:
        assert ours


def test_a_place_that_cannot_be_written_is_one_sentence(run, tmp_path, capsys):
    (run.path / FILE).mkdir()
    (tmp_path / "file").touch()

    assert exported(run.path) == 4
    assert exported(run.path, "--out", tmp_path / "file") == 4

    assert capsys.readouterr().err.count("innerloop: Cannot write ") == 2


def test_two_runs_of_one_name_do_not_share_a_folder(run, tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    other = make_run(tmp_path / "elsewhere", "fomaml", name="run")

    assert exported(run.path, other.path, "--out", tmp_path / "out") == 2

    assert "2 of the runs would be exported into" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_many_runs_are_exported_at_once_and_told_as_json(run, tmp_path, capsys):
    other = make_run(tmp_path, "fomaml", name="other", curve=[0.6, 0.7])
    out = tmp_path / "out"

    assert exported(run.path, other.path, "--out", out, "--json") == 0

    assert json.loads(capsys.readouterr().out) == {
        "to": "tensorboard",
        "runs": [
            {"run": str(run.path), "folder": str(out / "run"), "records": 44, "step": 40},
            {"run": str(other.path), "folder": str(out / "other"), "records": 22, "step": 20},
        ],
    }
    assert points_of(out / "run") == points_in(run.path / "metrics.jsonl")
    assert len(points_of(out / "other")["validation/query_accuracy"]) == 2


def test_no_run_at_all_is_refused(capsys):
    assert exported() == 2
    assert "Name at least one run directory" in capsys.readouterr().err


def test_the_oracle_holds_numbers_as_event_files_do():
    """Else a number could be lost between float64 and float32 without a test that sees it."""
    assert float(np.float32(0.1)) == struct.unpack("f", struct.pack("f", 0.1))[0] != 0.1
