"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

LINE_EVERY_S = 5.0


class Overall:
    """Where several jobs, one after the other, stand together.

    Args:
        weights: of each job, what it is expected to take; only their ratios count.
    """

    def __init__(self, weights: Sequence[float]):
        self.weights = list(weights)
        self.number = 0
        self._started = time.monotonic()
        self._skipped = 0.0

    def begin(self, number: int) -> None:
        """Go on to a job, counted from 0."""
        self.number = number

    def skip(self) -> None:
        """The job at hand was done before: it says nothing about the pace."""
        self.resume(1.0)

    def resume(self, fraction: float) -> None:
        """So much of the job was done by an earlier process; it says nothing about the pace."""
        self._skipped += fraction * self.weights[self.number]

    def in_words(self, fraction: float) -> str:
        """All that is done, in words, when ``fraction`` of the job at hand is."""
        before = sum(self.weights[: self.number])
        done = before + fraction * self.weights[self.number]
        total = sum(self.weights)
        worked = done - self._skipped
        elapsed = time.monotonic() - self._started
        left = (
            f", about {_duration(elapsed / worked * (total - done))} left"
            if worked > 0.01 * total
            else ""
        )
        return f"[{self.number + 1}/{len(self.weights)}, {100 * done / total:.0f} % of all{left}] "


class TrainingProgress:
    """Shows the outer steps with loss, latest validation accuracy and time left.

    Args:
        total: outer steps of the run.
        quiet: show nothing (``--json``).
        overall: of which jobs the run is one.
    """

    def __init__(self, total: int, *, quiet: bool = False, overall: Overall | None = None):
        self.total = total
        self.quiet = quiet
        self.overall = overall
        self.validation = ""
        self.loss = ""
        self._first: tuple[int, float] | None = None
        self._last_line = 0.0
        self._step = 0
        self._began = False
        self._bar: Any = None

    @contextmanager
    def shown(self) -> Iterator["TrainingProgress"]:
        """Within the context a bar is on the terminal, if standard error is one."""
        if self.quiet or not sys.stderr.isatty():
            yield self
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as self._bar:
            self._task = self._bar.add_task("", total=self.total)
            yield self

    def on_step(self, step: int, record: dict[str, Any]) -> None:
        """Take in a record of the metrics; that of the initial weights comes after step 1."""
        step = self._step = max(step, self._step)
        if not self._began and self.overall:
            self.overall.resume(max(0, step - 1) / self.total)
        self._began = True
        if record["kind"] == "validation":
            accuracy = 100 * record["query_accuracy"]
            half = 100 * record["query_accuracy_ci95"]
            self.validation = f"validation {accuracy:.1f} ± {half:.1f} %"
            if step == 1:  # of the initial weights: as long as many steps, and not one of them
                self._first = None
        else:
            self.loss = f"loss {record['loss']:.3f}  "
        if self._bar:
            overall = self.overall.in_words(step / self.total) if self.overall else ""
            self._bar.update(
                self._task, completed=step, description=f"{overall}{self.loss}{self.validation}"
            )
        elif not self.quiet:
            self._print_line(step, important=record["kind"] == "validation")

    def _print_line(self, step: int, *, important: bool) -> None:
        now = time.monotonic()
        self._first = self._first or (step, now)
        if not important and step < self.total and now - self._last_line < LINE_EVERY_S:
            return
        self._last_line = now
        done = step - self._first[0]
        seconds = now - self._first[1]
        left = (
            f"  about {_duration(seconds / done * (self.total - step))} left"
            if done and step < self.total
            else ""
        )
        left = "" if self.overall else left
        overall = self.overall.in_words(step / self.total) if self.overall else ""
        print(
            f"{overall}step {step}/{self.total}  {self.loss}{self.validation}{left}",
            file=sys.stderr,
            flush=True,
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


class CountProgress:
    """A line every few seconds with how many of a number of things are done."""

    def __init__(
        self, what: str, total: int, *, quiet: bool = False, overall: Overall | None = None
    ):
        self.what = what
        self.total = total
        self.quiet = quiet
        self.overall = overall
        self._last_line = time.monotonic()

    def __call__(self, done: int) -> None:
        """Take in how many are done."""
        now = time.monotonic()
        if not self.quiet and (now - self._last_line >= LINE_EVERY_S):
            self._last_line = now
            overall = self.overall.in_words(done / self.total) if self.overall else ""
            print(f"{overall}{self.what} {done}/{self.total}", file=sys.stderr, flush=True)
