"""Which run is free: what one worker sees of a sweep, and by which it takes the next run."""

import time
from collections.abc import Callable, Iterator

from innerloop.runs.sweeps.claims import Attempt, create_claim, own_claim, read_claim
from innerloop.runs.sweeps.directory import SweepDirectory


class Queue:
    """The runs of a sweep as one worker sees them.

    Clocks of machines are never compared: a worker is dead if its claim did not change while this
    process's own clock went on by the limit.

    Args:
        sweep: the sweep.
        clock: this process's own, which only ever rises; in seconds.

    Attributes:
        others: how many runs other workers are at, as `take` saw it last.
    """

    def __init__(self, sweep: SweepDirectory, *, clock: Callable[[], float] = time.monotonic):
        self.sweep = sweep
        self.clock = clock
        self.others = 0
        self._seen: dict[tuple[str, int], tuple[bytes, float]] = {}
        self._given_up: set[str] = set()

    def take(self) -> Attempt | None:
        """Claim the next run that is free; None where there is none now.

        Those with fewer failures come first, so that whatever made one fail has time to pass.

        Raises:
            DiskError: if a claim cannot be written.
        """
        self.others = 0
        for failures, _, name, number in sorted(self._free()):
            # The listing may be older than the claim that says so.
            if self.sweep.run(name).is_dir():
                continue
            claim = own_claim(self.sweep, failures)
            if create_claim(self.sweep.claim(name, number + 1), claim):
                return Attempt(self.sweep, name, number + 1, claim)
            self.others += 1
        return None

    def _free(self) -> Iterator[tuple[int, int, str, int]]:
        """Failures, place in the order, name and newest attempt of each run that is free."""
        newest = self.sweep.attempts()
        # After the claims: a run is done before its claim says so.
        done = self.sweep.done()
        for order, name in enumerate(self.sweep.plan.runs):
            if name in done or name in self._given_up:
                continue
            number = newest.get(name, 0)
            failures = self._failures_if_free(name, number) if number else 0
            if failures is None:
                self.others += 1
            elif failures >= self.sweep.plan.attempts:
                self._give_up(name, number, failures)
            else:
                yield failures, order, name, number

    def _failures_if_free(self, name: str, number: int) -> int | None:
        """Failed attempts at a run so far; None if a worker that lives is at it."""
        content, claim = read_claim(self.sweep.claim(name, number))
        if claim is not None and claim.ended:
            return claim.failures
        now = self.clock()
        before, since = self._seen.setdefault((name, number), (content, now))
        if content != before:
            self._seen[name, number] = (content, now)
            return None
        if now - since < self.sweep.plan.limit_s:
            return None
        return failures_before(self.sweep, name, number) + 1

    def _give_up(self, name: str, number: int, failures: int) -> None:
        """Remember that a run is tried no more; of a dead worker's last attempt, write it down."""
        _, claim = read_claim(self.sweep.claim(name, number))
        self._given_up.add(name)
        if claim is None or not claim.ended:
            # The next claim, made and ended at once: the former worker, should it live, sees it.
            who = f"on {claim.host}, process {claim.pid}," if claim else "that had just begun"
            message = f"The worker {who} died or hung at attempt {number}."
            ended = own_claim(self.sweep, failures, ended="failed", message=message)
            create_claim(self.sweep.claim(name, number + 1), ended)


def failures_before(sweep: SweepDirectory, name: str, number: int) -> int:
    """Failed attempts at a run before one of them; dead workers' count."""
    _, claim = read_claim(sweep.claim(name, number))
    if claim is not None:
        return claim.failures - (claim.ended == "failed")
    if number == 1:
        return 0
    # Of a claim without content only the one before says it, and how that ended.
    _, former = read_claim(sweep.claim(name, number - 1))
    died = former is None or not former.ended
    own = former is not None and former.ended == "failed"
    return failures_before(sweep, name, number - 1) + (died or own)
