import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from innerloop.core.errors import ConfigError, DataError, DiskError
from innerloop.methods.catalogue import settings_of
from innerloop.runs.directory import RunDirectory
from innerloop.runs.results import Environment, Status


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(
        settings_of("fomaml", seed=3), Environment(python="3.11"), tmp_path / "runs" / "name"
    )


def record(step: int, kind: str = "train") -> dict:
    return {"step": step, "kind": kind, "loss": step / 3}


# Creating and opening


def test_a_new_run_holds_its_settings_and_environment(run):
    assert run.config == settings_of("fomaml", seed=3)
    assert run.environment == Environment(python="3.11")
    assert run.read_metrics() == []
    assert run.status == Status("running", 0, "")
    assert sorted(path.name for path in run.path.iterdir()) == [
        "checkpoints",
        "config.json",
        "env.json",
        "metrics.jsonl",
    ]


def test_an_opened_run_is_the_one_created(run):
    assert RunDirectory(run.path).config == run.config


def test_a_run_is_never_overwritten_but_numbered(run):
    names = [
        RunDirectory.create(settings_of("fomaml"), Environment(), run.path).path.name
        for _ in range(3)
    ]

    assert names == ["name-2", "name-3", "name-4"]
    assert run.config == settings_of("fomaml", seed=3)


CREATOR = (
    "import pathlib, sys\n"
    "from innerloop.methods.catalogue import settings_of\n"
    "from innerloop.runs.directory import RunDirectory\n"
    "from innerloop.runs.results import Environment\n"
    "config = settings_of('fomaml')\n"
    "print('ready', flush=True)\n"
    "sys.stdin.read()\n"
    "for _ in range(20):\n"
    "    print(RunDirectory.create(config, Environment(), pathlib.Path(sys.argv[1])).path.name)\n"
)


def test_eight_processes_that_create_at_once_get_directories_of_their_own(tmp_path):
    command = [sys.executable, "-c", CREATOR, str(tmp_path / "name")]
    pipe = subprocess.PIPE
    creators = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(8)
    ]
    for creator in creators:
        assert creator.stdout and creator.stdout.readline() == "ready\n"
    for creator in creators:  # all are let go before the first is waited for
        assert creator.stdin
        creator.stdin.close()
        creator.stdin = None
    answers = [creator.communicate() for creator in creators]

    assert [error for _, error in answers] == [""] * 8
    names = [name for out, _ in answers for name in out.split()]
    assert sorted(names) == sorted(["name", *(f"name-{number}" for number in range(2, 161))])
    assert {path.name for path in tmp_path.iterdir()} == set(names)


def test_a_name_that_another_process_takes_meanwhile_is_passed_over(run, monkeypatch):
    """It looked free, and at the renaming it is not."""
    seen = os.path.lexists
    answers = iter([False])
    monkeypatch.setattr(os.path, "lexists", lambda path: next(answers, seen(path)))

    created = RunDirectory.create(settings_of("fomaml"), Environment(), run.path)

    assert created.path.name == "name-2"
    assert run.config == settings_of("fomaml", seed=3)


def test_a_file_in_the_way_is_not_overwritten_either(tmp_path):
    (tmp_path / "name").write_text("mine")

    assert (
        RunDirectory.create(settings_of("fomaml"), Environment(), tmp_path / "name").path.name
        == "name-2"
    )
    assert (tmp_path / "name").read_text() == "mine"


def test_others_may_read_a_run(run):
    """A temporary directory is private; the run that it becomes is as any directory."""
    assert run.path.stat().st_mode & 0o777 == 0o755


def test_a_directory_without_a_configuration_is_no_run(tmp_path):
    with pytest.raises(ConfigError, match=r"is not a run directory: it holds no config\.json\."):
        RunDirectory(tmp_path)


def test_a_run_that_cannot_be_made_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        DiskError,
        match=r"Cannot write .*: No space left on device\. What was saved before is intact",
    ):
        RunDirectory.create(settings_of("fomaml"), Environment(), tmp_path / "name")

    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_is_a_file_is_a_sentence(tmp_path):
    (tmp_path / "runs").write_text("")

    with pytest.raises(
        DiskError, match=r"Cannot write the run directory .*name: File exists|Not a directory"
    ):
        RunDirectory.create(settings_of("fomaml"), Environment(), tmp_path / "runs" / "name")


# Metrics


def test_metrics_are_read_back_in_order_all_or_of_one_kind(run):
    records = [record(0, "validation"), record(1), record(2), record(2, "validation")]
    for each in records:
        run.append_metrics(each)

    assert run.read_metrics() == records
    assert run.read_metrics("validation") == [records[0], records[3]]


def test_a_line_torn_anywhere_is_passed_over_and_cut_off(run):
    """As a killed process leaves it, also in the middle of a character."""
    run.append_metrics(record(1))
    whole = (run.path / "metrics.jsonl").read_bytes()
    line = json.dumps(record(2) | {"note": "ü"}, ensure_ascii=False).encode()

    for length in range(len(line)):
        (run.path / "metrics.jsonl").write_bytes(whole + line[:length])
        assert run.read_metrics() == [record(1)]

    run.cut_metrics(5)
    run.append_metrics(record(2))
    assert run.read_metrics() == [record(1), record(2)]


def test_a_last_line_that_lacks_only_its_end_of_line_counts(run):
    (run.path / "metrics.jsonl").write_text(json.dumps(record(1)))

    run.cut_metrics(1)
    run.append_metrics(record(2))

    assert run.read_metrics() == [record(1), record(2)]


@pytest.mark.parametrize("line", ["{", "nonsense", "[1, 2]", '{"step": 1, "kind": "tr'])
def test_a_damaged_line_in_the_middle_is_named(run, line):
    (run.path / "metrics.jsonl").write_text(
        f"{json.dumps(record(0))}\n{line}\n{json.dumps(record(1))}\n"
    )

    with pytest.raises(
        DataError, match=r"metrics.jsonl line 2 .*Remove that line to go on without it\."
    ):
        run.read_metrics()


def test_cutting_drops_what_was_recorded_after_a_step(run):
    for step in range(5):
        run.append_metrics(record(step))
        run.append_metrics(record(step, "validation"))

    run.cut_metrics(2)
    assert [each["step"] for each in run.read_metrics()] == [0, 0, 1, 1, 2, 2]

    run.cut_metrics(-1)
    assert run.read_metrics() == []


def test_metrics_that_cannot_be_written_are_a_disk_error(run):
    (run.path / "metrics.jsonl").unlink()
    (run.path / "metrics.jsonl").mkdir()

    with pytest.raises(DiskError, match=r"Cannot write .*metrics.jsonl: Is a directory"):
        run.append_metrics(record(1))


# Status and lock


def test_the_status_is_read_back(run):
    run.set_status("interrupted", 7, "Interrupted by SIGINT and saved.")

    assert run.status == Status("interrupted", 7, "Interrupted by SIGINT and saved.")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff"])
def test_a_damaged_file_of_the_run_is_named(run, text):
    (run.path / "env.json").write_text(text, encoding="latin-1")

    with pytest.raises(DataError, match=r"env\.json"):
        _ = run.environment


def test_a_run_in_use_is_refused_and_free_again_afterwards(run):
    with run.locked():
        with pytest.raises(
            ConfigError,
            match=r"is in use by another process; wait for it, or choose another --run-dir",
        ):
            with RunDirectory(run.path).locked():
                pass

    with run.locked():
        pass


def test_a_lock_dies_with_its_process(run):
    holder = (
        "import os, pathlib, sys\n"
        "from innerloop.runs.directory import RunDirectory\n"
        "with RunDirectory(pathlib.Path(sys.argv[1])).locked():\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="is in use by another process"), run.locked():
            pass
        process.kill()

    with run.locked():
        pass


@pytest.mark.parametrize("line", ["{}", '{"step": "3"}', '{"step": null, "kind": "train"}'])
def test_a_record_without_a_step_is_refused_with_its_line(run, line):
    (run.path / "metrics.jsonl").write_text(line + "\n" + json.dumps({"step": 1}) + "\n")

    with pytest.raises(DataError, match=r"metrics\.jsonl line 1 names no step.*Remove that line"):
        run.cut_metrics(1)


def test_a_number_that_is_not_finite_is_null_for_other_programs(run):
    run.append_metrics({"step": 1, "loss": float("nan"), "rows": [float("inf"), 0.5]})

    assert json.loads((run.path / "metrics.jsonl").read_text(), parse_constant=pytest.fail) == {
        "step": 1,
        "loss": None,
        "rows": [None, 0.5],
    }


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (Environment(processor="x86_64, AVX2", threads=1), "x86_64, AVX2, 1 CPU thread"),
        (
            Environment(processor="arm64", threads=4, device="mps"),
            "mps beside arm64, 4 CPU threads",
        ),
        (Environment(), "an unknown processor, an unknown number of CPU threads"),
    ],
)
def test_a_run_names_the_machine_that_its_seconds_are_of(environment, words, tmp_path):
    run = RunDirectory.create(settings_of("fomaml"), environment, tmp_path / "run")

    assert run.machine == words
