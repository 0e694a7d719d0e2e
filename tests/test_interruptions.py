"""Signals, kills, limits and rivals, each with real processes; see `killing.py`."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from innerloop.runs.directory import RunDirectory
from killing import Nursery, campaign, outcome, steps_done, training_of, wait_for_step

pytestmark = pytest.mark.slow

KILLS = 5 if os.environ.get("CI") else 20


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("nursery")) as nursery:
        yield nursery


@pytest.fixture(scope="module")
def whole(nursery: Nursery) -> Path:
    """An uninterrupted run."""
    path = nursery.directory / "whole"
    assert nursery.run(*training_of("fomaml"), "--run-dir", path) == 0, nursery.log()
    return path


def start_training(nursery: Nursery, path: Path, *, until: int = 3) -> int:
    pid = nursery.start(*training_of("fomaml"), "--run-dir", path)
    wait_for_step(path, until)
    return pid


def saved_files(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_the_step_end_saves_and_says_how_to_go_on(
    nursery, whole, tmp_path, number, code
):
    path = tmp_path / "run"
    pid = start_training(nursery, path)

    os.kill(pid, number)

    assert nursery.wait(pid) == code
    assert (
        f"Interrupted by {number.name} and saved. Go on with: innerloop resume {path}"
        in nursery.log()
    )
    step = steps_done(path)
    assert RunDirectory(path).status.state == "interrupted"
    assert (path / "checkpoints" / f"step-{step:08d}").is_dir()
    assert step < steps_done(whole)
    assert nursery.run("resume", path) == 0, nursery.log()
    assert outcome(path) == outcome(whole)


def test_max_minutes_pauses_and_saves(nursery, whole, tmp_path):
    path = tmp_path / "run"

    code = nursery.run(*training_of("fomaml"), "--run-dir", path, "--max-minutes", "0")

    assert code == 0
    assert f"Paused after 0 minutes and saved. Go on with: innerloop resume {path}" in nursery.log()
    status = RunDirectory(path).status
    assert (status.state, status.step) == ("paused", 1)
    assert nursery.run("resume", path) == 0
    assert outcome(path) == outcome(whole)


def test_a_second_process_on_a_run_is_refused_and_the_first_is_not_disturbed(
    nursery, whole, tmp_path
):
    path = tmp_path / "run"
    first = start_training(nursery, path)
    os.kill(first, signal.SIGSTOP)
    before = saved_files(path)

    code = nursery.run("resume", path)

    assert code == 2
    assert f"innerloop: {path} is in use by another process" in nursery.log()
    assert saved_files(path) == before
    os.kill(first, signal.SIGCONT)
    assert nursery.wait(first) == 0
    assert outcome(path) == outcome(whole)


def test_a_full_disk_ends_with_4_and_leaves_the_checkpoints_as_they_were(nursery, whole, tmp_path):
    """RLIMIT_FSIZE: like a disk that has room for a part of the next checkpoint."""
    path = tmp_path / "run"
    pid = start_training(nursery, path)
    os.kill(pid, signal.SIGTERM)
    assert nursery.wait(pid) == 143
    before = saved_files(path / "checkpoints")
    size = min(
        len(content) for name, content in before.items() if name.endswith("state.safetensors")
    )

    code = nursery.run("resume", path, largest_file=size - 1)

    assert code == 4
    assert "innerloop: Cannot write " in nursery.log()
    assert "What was saved before is intact" in nursery.log()
    assert saved_files(path / "checkpoints") == before
    assert not (path / "model.safetensors").exists()
    assert nursery.run("resume", path) == 0
    assert outcome(path) == outcome(whole)


@pytest.mark.parametrize("method", ["fomaml", "transfer", "mamlpp"])
def test_killed_runs_end_as_the_uninterrupted_one(method, nursery, tmp_path):
    """SIGKILL at random moments, a third of them into the saving; `resume` needs no help."""
    tally = campaign(tmp_path, KILLS, method=method, nursery=nursery)

    assert tally.failures == []
    assert tally.kills >= KILLS
    assert 3 * tally.into_saving >= tally.kills
    assert tally.resumed == tally.kills
    assert tally.identical == tally.runs
