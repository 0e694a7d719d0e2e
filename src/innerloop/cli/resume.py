"""`innerloop resume`: go on with an interrupted run."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from innerloop.cli.command import DeviceOptions, parse, print_json
from innerloop.cli.train import outcome, resumed, trackers_of


@dataclass(frozen=True)
class ResumeOptions(DeviceOptions):
    """Go on with an interrupted run; on a CPU to the same bits as without the interruption."""

    run: tyro.conf.Positional[Path] = field(kw_only=True)
    """The run directory."""
    max_minutes: float | None = None
    """Stop and save after this many minutes; default: no limit."""
    tracker: str | None = None
    """Show the metrics elsewhere, too, those before the interruption among them: tensorboard,
    mlflow, or one of your own by entry point or as module:Class; default: none."""


def run(arguments: list[str]) -> int:
    """Go on where the last checkpoint is; of a finished run, draw the figures again."""
    options = parse(ResumeOptions, "resume", arguments)
    from innerloop.experiments.ranks import joined
    from innerloop.runs.directory import RunDirectory

    directory = RunDirectory(options.run)
    trackers = trackers_of(options)
    with joined():
        code = resumed(directory, options, trackers, options.device)
    print_json(options, outcome(directory))
    return code
