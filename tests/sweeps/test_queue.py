"""Whose a run is: claims, deaths and clocks, without a training."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from gridding import claim_at, grid_text, next_attempt, sweep_of
from innerloop.core.errors import DiskError
from innerloop.core.files import json_text
from innerloop.runs.sweeps.claims import End, LostError, create_claim, own_claim
from innerloop.runs.sweeps.directory import SweepDirectory
from innerloop.runs.sweeps.queue import Queue
from innerloop.runs.sweeps.status import status_of, status_page

FIRST, SECOND = "00000-fomaml-s0", "00001-fomaml-s1"


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self, start: float = 0.0):
        self.now = start

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def sweep(tmp_path: Path) -> SweepDirectory:
    """Two runs, at most two attempts each, dead after 60 s."""
    return sweep_of(tmp_path, grid_text(seeds="[0, 1]", attempts=2))


def taken(queue: Queue) -> tuple[str, int, int] | None:
    """Name, attempt and earlier failures of the next run."""
    attempt = queue.take()
    return (attempt.name, attempt.number, attempt.claim.failures) if attempt else None


def test_runs_are_taken_in_the_order_of_the_plan_and_each_once(sweep):
    first, second = Queue(sweep), Queue(sweep)

    assert taken(first) == (FIRST, 1, 0)
    assert taken(second) == (SECOND, 1, 0)
    assert (taken(first), first.others) == (None, 2)


def test_a_claim_says_whose_it_is(sweep):
    attempt = next_attempt(Queue(sweep))

    claim = claim_at(sweep, FIRST, 1)
    assert claim == attempt.claim
    assert (claim.pid, claim.limit_s, claim.beat, claim.ended) == (os.getpid(), 60.0, 0, "")


def test_a_claim_is_renewed_for_as_long_as_the_attempt_goes_on(tmp_path):
    sweep = sweep_of(tmp_path, grid_text(limit_s=0.5))
    attempt = next_attempt(Queue(sweep))
    changed = threading.Event()

    with attempt.renewed():
        for _ in range(200):
            if claim_at(sweep, FIRST, 1).beat > 1:
                break
            changed.wait(0.05)
        attempt.end("done", "", 1.5)
        ended = claim_at(sweep, FIRST, 1)
        # Nobody is left that could write it as it was before.
        assert f"claim of {FIRST}" not in [thread.name for thread in threading.enumerate()]

    assert ended.beat > 1 and (ended.ended, ended.seconds) == ("done", 1.5)
    assert claim_at(sweep, FIRST, 1) == ended


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_worker_is_judged_by_its_claims_changes_and_never_by_its_clock(sweep, hours):
    """Its start and the file's time are an hour off, in either direction."""
    claim = own_claim(sweep, 0)
    path = sweep.claim(FIRST, 1)
    create_claim(path, replace(claim, started=f"2026-01-01T{12 + hours}:00:00+00:00"))
    sweep.run(SECOND).mkdir()
    clock = Clock()
    queue = Queue(sweep, clock=clock)

    for beat in range(1, 4):  # it lives: whatever its clock says, its claim changes
        clock.now += 50.0
        path.write_text(json_text({**vars(claim), "beat": beat}), "utf-8")
        moment = path.stat().st_mtime + 3600 * hours
        os.utime(path, (moment, moment))
        assert taken(queue) is None
    clock.now += 59.0
    assert taken(queue) is None
    clock.now += 2.0
    assert taken(queue) == (FIRST, 2, 1)


def test_a_worker_that_looks_for_the_first_time_waits_the_whole_limit(sweep):
    create_claim(sweep.claim(FIRST, 1), own_claim(sweep, 0))
    create_claim(sweep.claim(SECOND, 1), own_claim(sweep, 0))
    clock = Clock(start=1e6)
    queue = Queue(sweep, clock=clock)

    assert taken(queue) is None
    clock.now += 30
    assert taken(queue) is None


@pytest.mark.parametrize("content", ["", '{"host": "n', "\x00\x00"])
def test_a_worker_that_was_killed_before_its_claim_was_whole_is_dead_too(sweep, content):
    sweep.claim(FIRST, 1).write_text(content, "utf-8")
    clock = Clock()
    queue = Queue(sweep, clock=clock)
    assert taken(queue) == (SECOND, 1, 0)
    assert status_of(sweep).begun[0].worker == "-"

    clock.now += 61
    assert taken(queue) == (FIRST, 2, 1)


def test_who_was_taken_for_dead_sees_that_it_has_lost_the_run(sweep):
    former = next_attempt(Queue(sweep))
    clock = Clock()
    queue = Queue(sweep, clock=clock)
    queue.take()
    former.refuse_lost()

    clock.now += 61
    assert taken(queue) == (FIRST, 2, 1)

    with pytest.raises(LostError, match="was taken over by another worker"):
        former.refuse_lost()


def test_of_many_that_take_over_at_once_one_has_the_run(sweep):
    """All have judged the same dead claim before the first of them makes its own."""
    create_claim(sweep.claim(FIRST, 1), own_claim(sweep, 0))
    create_claim(sweep.claim(SECOND, 1), replace(own_claim(sweep, 2), ended="failed"))
    clocks = [Clock() for _ in range(8)]
    queues = [Queue(sweep, clock=clock) for clock in clocks]
    for queue, clock in zip(queues, clocks, strict=True):
        assert queue.take() is None
        clock.now += 61
    barrier = threading.Barrier(len(queues))
    won: list[tuple[str, int, int]] = []

    def take(queue: Queue) -> None:
        barrier.wait()
        if attempt := taken(queue):
            won.append(attempt)

    threads = [threading.Thread(target=take, args=[queue]) for queue in queues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert won == [(FIRST, 2, 1)]


def end_first(sweep: SweepDirectory, ended: End, message: str = "") -> None:
    attempt = next_attempt(Queue(sweep))
    assert attempt.name == FIRST
    with attempt.renewed():
        attempt.end(ended, message, 1.0)


def test_a_released_run_is_free_at_once_and_no_failure(sweep):
    end_first(sweep, "released")

    assert taken(Queue(sweep)) == (FIRST, 2, 0)


def test_a_failed_run_comes_after_those_that_did_not_fail_and_is_given_up_in_the_end(sweep):
    end_first(sweep, "failed", "Outer step 3: the loss is nan.")
    queue = Queue(sweep)

    assert taken(queue) == (SECOND, 1, 0)
    attempt = next_attempt(queue)
    assert (attempt.name, attempt.number, attempt.claim.failures) == (FIRST, 2, 1)
    with attempt.renewed():
        attempt.end("failed", "Outer step 3: the loss is nan.", 1.0)
    assert (taken(queue), queue.others) == (None, 1)
    (given_up, _) = status_of(sweep).begun
    assert (given_up.state, given_up.failures, given_up.attempt) == ("given up", 2, 2)
    assert "given up  00000-fomaml-s0, attempt 2" in status_page(status_of(sweep))
    assert "Outer step 3: the loss is nan." in status_page(status_of(sweep))


def test_workers_that_die_at_a_run_are_failures_of_it(sweep):
    clock = Clock()
    queue = Queue(sweep, clock=clock)
    for expected in ((FIRST, 1, 0), (SECOND, 1, 0), None):
        assert taken(queue) == expected
    clock.now += 61
    assert [taken(queue), taken(queue), taken(queue)] == [(FIRST, 2, 1), (SECOND, 2, 1), None]
    clock.now += 61
    assert (taken(queue), queue.others) == (None, 0)

    claim = claim_at(sweep, FIRST, 3)
    assert (claim.ended, claim.failures) == ("failed", 2)
    assert "died or hung at attempt 2" in claim.message
    assert [run.state for run in status_of(sweep).begun] == ["given up", "given up"]


def test_failures_are_counted_through_a_claim_without_content(tmp_path):
    sweep = sweep_of(tmp_path, grid_text(attempts=10))
    create_claim(sweep.claim(FIRST, 1), replace(own_claim(sweep, 1), ended="failed"))
    create_claim(sweep.claim(FIRST, 2), replace(own_claim(sweep, 1), ended="released"))
    sweep.claim(FIRST, 3).touch()
    sweep.claim(FIRST, 4).touch()
    clock = Clock()
    queue = Queue(sweep, clock=clock)
    queue.take()

    clock.now += 61
    assert taken(queue) == (FIRST, 5, 3)


def test_a_run_that_is_done_is_not_taken_even_where_its_claim_says_nothing(sweep):
    create_claim(sweep.claim(FIRST, 1), own_claim(sweep, 0))
    sweep.run(FIRST).mkdir()
    clock = Clock()
    queue = Queue(sweep, clock=clock)

    assert [taken(queue), taken(queue)] == [(SECOND, 1, 0), None]
    clock.now += 61
    assert [taken(queue), taken(queue)] == [(SECOND, 2, 1), None]


def test_a_claim_that_cannot_be_written_is_not_left_behind(sweep, monkeypatch):
    def full(_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("innerloop.runs.sweeps.claims._text", full)
    with pytest.raises(DiskError, match="No space left on device"):
        Queue(sweep).take()

    assert list((sweep.path / "claims").iterdir()) == []


def test_status_counts_ten_thousand_runs_and_tells_the_time_left(tmp_path):
    ranges = "[sample]\nsize = 1000\nranges = {outer_lr = {low = 0.001, high = 0.1}}\n"
    sweep = sweep_of(tmp_path, grid_text(ranges, seeds=str(list(range(10)))))
    for number, name in enumerate(sweep.plan.runs[:3000]):
        claim = own_claim(sweep, 0)
        if number < 2500:
            sweep.run(name).mkdir()
            claim = replace(claim, ended="done", seconds=3.0)
        elif number < 2990:
            claim = replace(claim, ended="failed", failures=3, message="It failed.")
        create_claim(sweep.claim(name, 1), claim)

    status = status_of(sweep)

    assert (status.planned, status.done, len(status.begun)) == (10_000, 2500, 500)
    assert status.to_json()["states"] == {
        "given up": 490,
        "failed": 0,
        "silent": 0,
        "at work": 10,
        "released": 0,
    }
    # 7010 runs are left, of 3 s each, to 10 workers.
    assert status.seconds_left == pytest.approx(3.0 * 7010 / 10)
    page = status_page(status).splitlines()
    assert page[0] == "10000 planned, 2500 done, 490 given up, 10 at work, 7000 not begun."
    assert page[1] == "About 35 min left, at 3.0 s a run and 10 at work."
    assert page[2].startswith("given up  02500-fomaml-s2, attempt 1") and "It failed." in page[2]
    assert "given up  and 470 more" in page


def test_a_worker_without_a_sign_of_life_is_shown_as_silent(sweep):
    create_claim(sweep.claim(FIRST, 1), own_claim(sweep, 0))
    long_ago = sweep.claim(FIRST, 1).stat().st_mtime - 300
    os.utime(sweep.claim(FIRST, 1), (long_ago, long_ago))

    status = status_of(sweep)

    assert [run.state for run in status.begun] == ["silent"]
    assert "Nobody is at work" in status_page(status)
