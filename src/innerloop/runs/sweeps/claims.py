"""Claims of a sweep: files that one worker alone creates, and renews for as long as it lives.

Attempts at a run are counted. The claim of the K-th is the file ``claims/NAME.K``; who creates it
exclusively makes that attempt, and it is never removed. A run is taken over from a dead worker by
creating the claim of the next number: of two that try, one succeeds, and the former worker, should
it be alive after all, sees that it has lost the run. So nobody's claim is ever taken away by a
worker that judged an older one.
"""

import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from innerloop.core.errors import DiskError
from innerloop.core.files import disk_errors, json_text, write_atomic
from innerloop.core.version import __version__
from innerloop.runs.sweeps.directory import SweepDirectory

BEATS_IN_LIMIT = 6
"""A claim is renewed so often within the limit, so that a few late beats are not a death."""

End = Literal["", "released", "failed", "done"]
"""How an attempt ended; without an end somebody is at it, or its worker died."""


class LostError(Exception):
    """Another worker has taken the run over, or has finished it: this one leaves it alone."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a claim file holds.

    Attributes:
        host, pid: whose it is.
        innerloop: version of that.
        started: when, by that host's clock; nothing is decided by it.
        limit_s: without a renewal for so long its worker counts as dead.
        beat: counts the renewals: others see by it that the worker lives, whatever their clocks.
        ended: how the attempt ended.
        failures: failed attempts at the run so far, this one included once it has failed.
        message: why it failed or was released.
        seconds: that it took.
    """

    host: str
    pid: int
    innerloop: str
    started: str
    limit_s: float
    beat: int = 0
    ended: End = ""
    failures: int = 0
    message: str = ""
    seconds: float = 0.0


def read_claim(path: Path) -> tuple[bytes, Claim | None]:
    """A claim file's bytes, and what they say; None of one that is not whole.

    A worker may be killed between the creation of the file and its first byte.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return b"", None
    try:
        return content, msgspec.json.decode(content, type=Claim)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return content, None


def own_claim(sweep: SweepDirectory, failures: int, *, ended: End = "", message: str = "") -> Claim:
    """A claim of this process, to be made now; or one that is ended when it is made."""
    return Claim(
        host=platform.node(),
        pid=os.getpid(),
        innerloop=__version__,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        limit_s=sweep.plan.limit_s,
        failures=failures,
        ended=ended,
        message=message,
    )


def create_claim(path: Path, claim: Claim) -> bool:
    """Create a claim file; whether it was this process that did, and no other before.

    Raises:
        DiskError: if it cannot be written; then it is not there.
    """
    with disk_errors(str(path)):
        try:
            file = open(path, "x", encoding="utf-8")
        except FileExistsError:
            return False
        try:
            with file:
                file.write(_text(claim))
        except OSError:
            # A full disk is not the run's fault: left there, the claim would count as an attempt.
            with suppress(OSError):
                path.unlink()
            raise
    return True


def _text(claim: Claim) -> str:
    return json_text(asdict(claim)) + "\n"


class Attempt:
    """An attempt at a run by this process, whose claim it has created.

    Args:
        sweep: which sweep.
        name: of the run.
        number: of the attempt, counted from 1.
        claim: as it was created.
    """

    def __init__(self, sweep: SweepDirectory, name: str, number: int, claim: Claim):
        self.sweep = sweep
        self.name = name
        self.number = number
        self.claim = claim
        self._over = threading.Event()

    def is_lost(self) -> bool:
        """Whether another worker has the run by now."""
        return os.path.lexists(self.sweep.claim(self.name, self.number + 1))

    def refuse_lost(self) -> None:
        """Raise `LostError` if another worker has the run by now."""
        if self.is_lost():
            raise LostError(f"{self.name} was taken over by another worker.")

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Within the context a thread renews the claim; after `end` it does so no more."""
        thread = threading.Thread(target=self._beat, name=f"claim of {self.name}", daemon=True)
        self._thread = thread
        thread.start()
        try:
            yield
        finally:
            self._stop_beating()

    def _beat(self) -> None:
        while not self._over.wait(self.claim.limit_s / BEATS_IN_LIMIT):
            self.claim = replace(self.claim, beat=self.claim.beat + 1)
            # Of a disk that is full for a while; if for long, the run goes to another worker.
            with suppress(DiskError):
                self._write()

    def _stop_beating(self) -> None:
        self._over.set()
        self._thread.join()

    def end(self, ended: End, message: str, seconds: float) -> None:
        """Write how the attempt ended, so that others need not wait for the limit.

        Raises:
            DiskError: if it cannot be written; the attempt then counts as a dead worker's.
        """
        self._stop_beating()
        self.claim = replace(
            self.claim,
            ended=ended,
            failures=self.claim.failures + (ended == "failed"),
            message=message,
            seconds=round(seconds, 3),
        )
        self._write()

    def _write(self) -> None:
        write_atomic(self.sweep.claim(self.name, self.number), _text(self.claim))
