"""Real processes that work at one sweep, and are killed, told to end, or hang."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridding import grid_text, sweep_of
from innerloop.core.seeding import stream
from innerloop.runs.sweeps.claims import read_claim
from innerloop.runs.sweeps.directory import SweepDirectory
from innerloop.runs.sweeps.status import status_of
from killing import Nursery, outcome, patiently, steps_done

pytestmark = pytest.mark.slow

WORKERS = 4
KILLS = 12
LIMIT_S = 2.0


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("nursery")) as nursery:
        yield nursery


GRID = grid_text(
    "[grid]\nouter_lr = [0.001, 0.003, 0.01]\n",
    methods='["fomaml", "transfer"]',
    seeds="[0, 1, 2, 3]",
    limit_s=LIMIT_S,
    attempts=100,
)
"""24 runs."""


def results(sweep: SweepDirectory) -> dict[str, tuple]:
    """Weights, last checkpoint, metrics and evaluation of every run that is done."""
    return {
        name: (
            *outcome(sweep.run(name)),
            [path.read_bytes() for path in sorted(sweep.run(name).glob("evaluation-*.json"))],
        )
        for name in sorted(sweep.done())
    }


@pytest.fixture(scope="module")
def sequential(nursery, tmp_path_factory) -> dict[str, tuple]:
    """The results of one worker that nothing happens to."""
    sweep = sweep_of(tmp_path_factory.mktemp("sequential"), GRID)
    assert nursery.run("sweep", "work", sweep.path) == 0, nursery.log()
    return results(sweep)


def claims_of(sweep: SweepDirectory) -> dict[str, list[str]]:
    """How each attempt at each run ended; nothing of those whose worker was killed."""
    ends: dict[str, list[str]] = {}
    for name, newest in sweep.attempts().items():
        claims = [read_claim(sweep.claim(name, k))[1] for k in range(1, newest + 1)]
        ends[name] = [claim.ended if claim else "" for claim in claims]
    return ends


def test_workers_that_are_killed_at_random_do_every_run_once_and_to_the_same_bits(
    nursery, sequential, tmp_path
):
    sweep = sweep_of(tmp_path, GRID)
    random = stream(0, "kills of workers")
    workers = [nursery.start("sweep", "work", sweep.path) for _ in range(WORKERS)]

    for number in range(KILLS):
        # Spread over the sweep, whatever the machine: after so many runs are done, and a moment.
        for _ in patiently():
            if len(sweep.done()) >= 24 * number // (KILLS + 6):
                break
        time.sleep(random.uniform(0, 0.4))
        victim = int(random.integers(WORKERS))
        os.kill(workers[victim], signal.SIGKILL)
        assert nursery.wait(workers[victim]) == -signal.SIGKILL
        workers[victim] = nursery.start("sweep", "work", sweep.path)
    codes = [nursery.wait(worker) for worker in workers]

    assert codes == [0] * WORKERS, nursery.log()
    assert list(sequential) == sorted(sweep.plan.runs)
    assert results(sweep) == sequential
    assert list((sweep.path / "work").iterdir()) == []
    ends = claims_of(sweep)
    assert all(of_run.count("done") <= 1 for of_run in ends.values())
    # Of those that were killed between the end of a run and its claim's, the claim says nothing.
    died = sum(end == "" for of_run in ends.values() for end in of_run)
    assert 0 < died and sum(of_run.count("failed") for of_run in ends.values()) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_releases_the_run_so_that_another_goes_on_at_once(
    nursery, tmp_path, number, code
):
    """The limit is an hour: nobody could take the run over but for the release."""
    text = grid_text(limit_s=3600).replace("meta_steps = 3", "meta_steps = 60")
    sweep = sweep_of(tmp_path, text)
    (name,) = sweep.plan.runs
    worker = nursery.start("sweep", "work", sweep.path)
    for _ in patiently():
        if steps_done(sweep.work(name, 1)) >= 3:
            break

    os.kill(worker, number)

    assert nursery.wait(worker) == code
    assert f"{name}: Interrupted by {number.name} and saved." in nursery.log()
    (row,) = status_of(sweep).begun
    assert (row.state, row.failures) == ("released", 0)
    step = steps_done(sweep.work(name, 1))
    assert (sweep.work(name, 1) / "checkpoints" / f"step-{step:08d}").is_dir()
    assert nursery.run("sweep", "work", sweep.path) == 0
    assert sweep.done() == {name}


def test_a_worker_that_hangs_and_wakes_up_disturbs_nothing(nursery, sequential, tmp_path):
    """It is stopped within a run, which another takes over and finishes; then it goes on."""
    sweep = sweep_of(tmp_path, GRID)
    first = sweep.plan.runs[0]
    hanging = nursery.start("sweep", "work", sweep.path)
    for _ in patiently():
        if steps_done(sweep.work(first, 1)) >= 1:
            break
    os.kill(hanging, signal.SIGSTOP)
    assert status_of(sweep).begun[0].name == first

    assert nursery.run("sweep", "work", sweep.path) == 0, nursery.log()
    finished = files_of(sweep.path / "runs")
    assert sweep.attempts()[first] == 2
    os.kill(hanging, signal.SIGCONT)

    assert nursery.wait(hanging) == 0
    assert results(sweep) == sequential
    assert files_of(sweep.path / "runs") == finished


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
