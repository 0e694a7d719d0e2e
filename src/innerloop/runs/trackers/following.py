"""Trackers at work: told of a training as it goes, or of what a run has recorded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from innerloop.core.errors import ConfigError, InnerloopError, first_line
from innerloop.runs.directory import RunDirectory
from innerloop.runs.trackers.base import Record, Tracker, begun_at, read_records, record_of


class Following:
    """Tells trackers of a training. What they raise is said in a sentence, and goes no further.

    Args:
        run: what is trained, held by this process whenever it is told of a step.
        trackers: by name.
        say: told of every tracker that is left out.
    """

    def __init__(
        self, run: RunDirectory, trackers: Mapping[str, Tracker], say: Callable[[str], None]
    ):
        self._run = run
        self._trackers = dict(trackers)
        self._say = say
        self._begun: float | None = None

    def on_step(self, step: int, line: dict[str, Any]) -> None:
        """Take in a line that was just added to the metrics."""
        if self._begun is None:
            self.start()
            return
        begun = self._begun
        self._tell(lambda tracker: tracker.record(record_of(line, begun, "A record")))

    def start(self) -> None:
        """Begin with all that the run has recorded, by earlier processes too."""
        # Only now, after a resumed run has cut what came after its checkpoint.
        if self._begun is None and self._trackers:
            self._begun = begun_at(self._run)
            settings = self._run.config.flat()
            self._tell(
                lambda tracker: tracker.start(self._run.path, settings, read_records(self._run))
            )

    def finish(self) -> None:
        """Say how the training ended, if anything was recorded."""
        if self._begun is not None:
            state = self._run.status.state
            # Of a training that an error ended, and that can be resumed.
            ended = "interrupted" if state == "running" else state
            self._tell(lambda tracker: tracker.finish(ended))

    def _tell(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            # Whatever somebody else's code, disk or server does, the training is worth more.
            except (Exception, SystemExit) as error:
                del self._trackers[name]
                self._say(
                    f"The tracker {name!r} is left out from here on, and the training goes on: "
                    f"{_reason(error)} Afterwards: innerloop export-metrics {self._run.path} --to "
                    f"{name}"
                )


@contextmanager
def following(
    run: RunDirectory, trackers: Mapping[str, Tracker], say: Callable[[str], None]
) -> Iterator[Following]:
    """Trackers that follow the training within the context; see `Following`."""
    followers = Following(run, trackers, say)
    try:
        yield followers
        # Where no step was left to train, nobody was told of what earlier processes recorded.
        followers.start()
    finally:
        followers.finish()


def export(
    run: RunDirectory, name: str, tracker: Tracker, folder: Path, records: Sequence[Record]
) -> None:
    """Tell a tracker of all that a run has recorded.

    Args:
        run: the run.
        name: of the tracker.
        tracker: a new one.
        folder: for its files; it exists.
        records: of the run, from `read_records`.

    Raises:
        ConfigError: whatever the tracker raises, as a sentence, but for errors of this package.
    """
    try:
        tracker.start(folder, run.config.flat(), records)
        tracker.finish(run.status.state)
    except InnerloopError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{name} does not take the metrics of {run.path}: {_reason(error)}"
        ) from (error)


def _reason(error: BaseException) -> str:
    if isinstance(error, InnerloopError):
        return str(error)
    kind = type(error).__name__
    said = first_line(error)
    return f"{kind}." if said == kind else f"{kind}: {said}."
