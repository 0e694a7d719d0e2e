"""The directory of a sweep: what is where. It is plan, queue and result in one.

::

    sweep.json             what holds for all runs, and their names in order
    planned/NAME.json      the settings of each run
    claims/NAME.K          who makes the K-th attempt at a run, and how it ended
    work/NAME.K/           the run directory of that attempt
    runs/NAME/             a run that is done: trained and evaluated
    logs/NAME.K.log        what was said in an attempt
    report/                what `innerloop sweep report` writes
"""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from innerloop.core.errors import ConfigError, DataError
from innerloop.core.files import expanded, read_json
from innerloop.core.version import __version__
from innerloop.methods.catalogue import load_config
from innerloop.settings.run import RunConfig

PLAN = "sweep.json"
FORMAT_VERSION = 1
"""Of ``sweep.json``."""
FOLDERS = ("planned", "claims", "work", "runs", "logs")


@dataclass(frozen=True, kw_only=True)
class PlanRecord:
    """``sweep.json``.

    Attributes:
        format_version: of the file.
        innerloop: the version that planned it; results of one sweep are by one version.
        digest: of all that is planned.
        attempts: how often a failing run is tried.
        episodes: validation episodes of each run's evaluation.
        limit_s: seconds without a sign of life after which a worker counts as dead.
        seeds: of training.
        varied: the settings that differ from run to run.
        runs: names of the runs, in the order in which they are begun.
    """

    format_version: int
    innerloop: str
    digest: str
    attempts: int
    episodes: int
    limit_s: float
    seeds: list[int]
    varied: list[str]
    runs: list[str]


class SweepDirectory:
    """A sweep on the disk, once it is planned.

    Args:
        path: its directory.

    Raises:
        ConfigError: if no sweep is planned there, or by a version that this one does not read.
        DataError: if ``sweep.json`` is damaged.
    """

    def __init__(self, path: Path):
        self.path = expanded(path)
        if not (self.path / PLAN).is_file():
            raise ConfigError(
                f"{self.path} holds no sweep: plan one with innerloop sweep plan GRID.toml DIR."
            )
        values = read_json(self.path / PLAN)
        if values.get("format_version") != FORMAT_VERSION:
            raise ConfigError(
                f"{self.path / PLAN} has format version {values.get('format_version')!r} and this "
                f"innerloop reads {FORMAT_VERSION}: use the innerloop that planned it."
            )
        try:
            self.plan = msgspec.convert(values, PlanRecord)
        except msgspec.ValidationError as error:
            raise DataError(f"{self.path / PLAN} is damaged: {error}. Plan it again.") from error
        if any(name != Path(name).name for name in self.plan.runs):
            raise DataError(f"{self.path / PLAN} names runs that are no names. Plan it again.")

    def refuse_other_version(self) -> None:
        """Raise `ConfigError` if this innerloop is not the one that planned the sweep."""
        if self.plan.innerloop != __version__:
            raise ConfigError(
                f"{self.path} was planned by innerloop {self.plan.innerloop} and this is "
                f"{__version__}: their results may differ. Use that version, or add --any-version."
            )

    def planned(self, name: str) -> Path:
        """The file with the settings of a run."""
        return self.path / "planned" / f"{name}.json"

    def config(self, name: str) -> RunConfig:
        """The settings of a run, as they are planned.

        Raises:
            ConfigError: if they are missing or damaged.
        """
        return load_config(self.planned(name))

    def claim(self, name: str, number: int) -> Path:
        """The claim of an attempt, counted from 1."""
        return self.path / "claims" / f"{name}.{number}"

    def work(self, name: str, number: int) -> Path:
        """The run directory of an attempt."""
        return self.path / "work" / f"{name}.{number}"

    def log(self, name: str, number: int) -> Path:
        """What is said in an attempt."""
        return self.path / "logs" / f"{name}.{number}.log"

    def run(self, name: str) -> Path:
        """The directory of a run that is done."""
        return self.path / "runs" / name

    def done(self) -> set[str]:
        """Names of the runs that are done."""
        return set(_names(self.path / "runs")) & self._planned_names

    def attempts(self) -> dict[str, int]:
        """The number of the newest attempt at each run that was begun."""
        newest: dict[str, int] = {}
        for found in _names(self.path / "claims"):
            name, _, number = found.rpartition(".")
            # What else lies there, as a heartbeat's temporary file, is no attempt.
            if number.isdecimal() and name in self._planned_names:
                newest[name] = max(int(number), newest.get(name, 0))
        return newest

    def work_left(self, name: str) -> list[int]:
        """Numbers of the attempts at a run of which there is a run directory, rising."""
        beginning = f"{name}."
        numbers = (
            found.removeprefix(beginning)
            for found in _names(self.path / "work")
            if found.startswith(beginning)
        )
        return sorted(int(number) for number in numbers if number.isdecimal())

    def left_over(self) -> list[Path]:
        """What attempts have left in ``work/`` of runs that are done; rising.

        A worker that is killed while it makes a run directory leaves a hidden one,
        ``.NAME.K-xxxxxxxx``.
        """
        done = self.done()
        return sorted(
            self.path / "work" / found
            for found in _names(self.path / "work")
            if found.removeprefix(".").rpartition(".")[0] in done
        )

    @cached_property
    def _planned_names(self) -> frozenset[str]:
        return frozenset(self.plan.runs)


def _names(folder: Path) -> list[str]:
    """Names in a folder; none where it is missing: an empty one may be lost in a copy."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
