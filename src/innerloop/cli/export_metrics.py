"""`innerloop export-metrics`: what runs have recorded, for TensorBoard and other trackers."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from innerloop.cli.command import Common, parse, print_json, sayer
from innerloop.core.errors import ConfigError
from innerloop.core.files import disk_errors

if TYPE_CHECKING:
    from innerloop.runs.directory import RunDirectory


@dataclass(frozen=True)
class ExportMetricsOptions(Common):
    """Give the metrics of runs, running ones too, to a tracker; a second time adds nothing."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = field(kw_only=True)
    """The run directories."""
    to: str = "tensorboard"
    """The tracker: tensorboard, mlflow, or one of your own by entry point or as module:Class."""
    out: Path | None = None
    """Folder for the tracker's files, with a folder for each run; default: the run directories."""


def run(arguments: list[str]) -> int:
    """Read all runs, and only then export the first one."""
    options = parse(ExportMetricsOptions, "export-metrics", arguments)
    from innerloop.runs.directory import RunDirectory
    from innerloop.runs.trackers.base import read_records
    from innerloop.runs.trackers.catalogue import new_tracker
    from innerloop.runs.trackers.following import export

    if not options.runs:
        raise ConfigError("Name at least one run directory: innerloop export-metrics RUN.")
    trackers = [new_tracker(options.to) for _ in options.runs]
    runs = [RunDirectory(path) for path in options.runs]
    folders = _folders(runs, options.out)
    records = [read_records(directory) for directory in runs]
    say = sayer(options)
    exported = []
    for directory, folder, tracker, rows in zip(runs, folders, trackers, records, strict=True):
        with disk_errors(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
        export(directory, options.to, tracker, folder, rows)
        last = max((row.step for row in rows), default=0)
        upto = f"{len(rows)} records up to step {last}" if rows else "nothing is recorded yet"
        say(f"{directory.path}: {upto}; {options.to}, {folder}")
        exported.append(
            {"run": str(directory.path), "folder": str(folder), "records": len(rows), "step": last}
        )
    print_json(options, {"to": options.to, "runs": exported})
    return 0


def _folders(runs: "list[RunDirectory]", out: Path | None) -> list[Path]:
    """Where the tracker's files of each run go: its own folder, or one of its name in ``out``.

    Raises:
        ConfigError: if two would get the same one.
    """
    paths = [directory.path.resolve() for directory in runs]
    folders = paths if out is None else [out / path.name for path in paths]
    folder, times = Counter(folders).most_common(1)[0]
    if times > 1:
        raise ConfigError(
            f"{times} of the runs would be exported into {folder}: name each run once, and runs of "
            "one name in two commands with an --out each."
        )
    return folders
