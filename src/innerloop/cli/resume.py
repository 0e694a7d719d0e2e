"""`innerloop resume`: go on with an interrupted run."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from innerloop.cli.command import DeviceOptions, parse, print_json, sayer
from innerloop.cli.train import outcome, run_to_end, trackers_of


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
    from innerloop.experiments.experiment import prepare
    from innerloop.experiments.machine import device_for
    from innerloop.report import write_results
    from innerloop.runs.directory import RunDirectory

    directory = RunDirectory(options.run)
    say = sayer(options)
    trackers = trackers_of(options)
    if directory.weights_path.is_file() and directory.status.state == "finished":
        write_results(directory)
        say(f"{directory.path} is finished; nothing is left to do.")
        code = 0
    else:
        if directory.remark:
            say(directory.remark)
        place = device_for(directory, options.device, say)
        experiment = prepare(
            directory.config,
            data_dir=options.data_dir,
            device=place,
            engine=options.engine,
            say=say,
        )
        code = run_to_end(experiment, directory, options, trackers, resume=True)
    print_json(options, outcome(directory))
    return code
