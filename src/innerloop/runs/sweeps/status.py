"""Where a sweep stands, from listings and a few small files: of 10,000 runs in well under a second.

No run directory is opened.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from innerloop.core.texts import printable
from innerloop.runs.sweeps.claims import Claim, read_claim
from innerloop.runs.sweeps.directory import SweepDirectory

TIMED = 100
"""Of so many finished runs the seconds are read; more would not tell the time left better."""
SHOWN = 20
"""Rows of each kind in the table; `--json` has all."""


@dataclass(frozen=True)
class BegunRun:
    """A run that was begun and is not done.

    Attributes:
        name: of the run.
        attempt: number of the newest attempt.
        failures: failed attempts so far.
        state: ``given up``; ``failed``, and to be tried again; ``released``; ``at work``; or
            ``silent``, if its worker seems dead and the next is about to take it.
        worker: host and process of that attempt.
        message: why it failed, or nothing.
        log: the file with what was said.
    """

    name: str
    attempt: int
    failures: int
    state: str
    worker: str
    message: str
    log: str


@dataclass(frozen=True)
class SweepStatus:
    """Where a sweep stands.

    Attributes:
        planned: runs of the sweep.
        done: of these, trained and evaluated.
        begun: of these, begun and not done; failures first.
        seconds_per_run: the mean of finished ones, where there is one.
        seconds_left: until the others are done too, if workers stay as many and runs as long; None
            where nobody is at work or no run is done.
    """

    planned: int
    done: int
    begun: tuple[BegunRun, ...]
    seconds_per_run: float | None
    seconds_left: float | None

    def count(self, state: str) -> int:
        """How many runs are in a state of `BegunRun`."""
        return sum(run.state == state for run in self.begun)

    def to_json(self) -> dict[str, Any]:
        """Everything, and how many runs are in each state."""
        return asdict(self) | {
            "not_begun": self.planned - self.done - len(self.begun),
            "states": {state: self.count(state) for state in STATES},
        }


STATES = ("given up", "failed", "silent", "at work", "released")
"""Of runs that were begun and are not done, in the order of the table."""


def status_of(sweep: SweepDirectory) -> SweepStatus:
    """Read where a sweep stands."""
    newest = sweep.attempts()
    done = sweep.done()
    begun = [_begun(sweep, name, newest[name]) for name in newest if name not in done]
    begun.sort(key=lambda run: (STATES.index(run.state), run.name))
    seconds = _seconds(sweep, newest, sorted(done))
    left = len(sweep.plan.runs) - len(done) - sum(run.state == "given up" for run in begun)
    workers = sum(run.state == "at work" for run in begun)
    return SweepStatus(
        planned=len(sweep.plan.runs),
        done=len(done),
        begun=tuple(begun),
        seconds_per_run=seconds,
        seconds_left=seconds * left / workers if seconds is not None and workers else None,
    )


def _begun(sweep: SweepDirectory, name: str, number: int) -> BegunRun:
    path = sweep.claim(name, number)
    _, claim = read_claim(path)
    return BegunRun(
        name=name,
        attempt=number,
        failures=claim.failures if claim else 0,
        state=_state(sweep, path, claim),
        worker=f"{claim.host}, process {claim.pid}" if claim else "-",
        message=printable(claim.message) if claim else "",
        log=str(sweep.log(name, number)),
    )


def _state(sweep: SweepDirectory, path: Path, claim: Claim | None) -> str:
    if claim is not None and claim.ended == "failed":
        return "given up" if claim.failures >= sweep.plan.attempts else "failed"
    if claim is not None and claim.ended:
        return "released"
    # By the clocks of this machine and of the disk, which may differ: it is shown, and no more.
    return "silent" if time.time() - _changed(path) > sweep.plan.limit_s else "at work"


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # on its way to being renewed, on a disk that is far away
        return time.time()


def _seconds(sweep: SweepDirectory, newest: dict[str, int], done: Sequence[str]) -> float | None:
    """The mean seconds of some finished runs, spread over all of them."""
    some = done[:: max(1, len(done) // TIMED)]
    claims = (read_claim(sweep.claim(name, newest.get(name, 0)))[1] for name in some)
    times = [claim.seconds for claim in claims if claim is not None and claim.ended == "done"]
    return sum(times) / len(times) if times else None


def status_page(status: SweepStatus) -> str:
    """The table that `innerloop sweep status` prints."""
    counts = [f"{status.planned} planned", f"{status.done} done"]
    counts += [f"{count} {state}" for state in STATES if (count := status.count(state))]
    waiting = status.planned - status.done - len(status.begun)
    lines = [f"{', '.join(counts)}, {waiting} not begun."]
    if status.seconds_left is not None:
        lines.append(
            f"About {_duration(status.seconds_left)} left, at {status.seconds_per_run:.1f} s a "
            f"run and {status.count('at work')} at work."
        )
    elif status.done + status.count("given up") < status.planned and not status.count("at work"):
        lines.append("Nobody is at work: start innerloop sweep work DIR.")
    for state in STATES:
        runs = [run for run in status.begun if run.state == state]
        lines += [_line(run) for run in runs[:SHOWN]]
        if len(runs) > SHOWN:
            lines.append(f"{state:9s} and {len(runs) - SHOWN} more")
    return "\n".join(lines)


def _line(run: BegunRun) -> str:
    words = f"{run.state:9s} {run.name}, attempt {run.attempt}, {run.worker}"
    return f"{words}: {run.message} ({run.log})" if run.message else words


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
