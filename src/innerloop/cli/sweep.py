"""`innerloop sweep`: many runs, by any number of workers on any number of machines."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from innerloop.cli.command import DataOptions, parse, print_json, sayer
from innerloop.core.errors import ConfigError

if TYPE_CHECKING:
    from innerloop.runs.sweeps.directory import SweepDirectory

Say = Callable[[str], None]
Action = Literal["plan", "work", "status", "report", "templates", "submit"]


@dataclass(frozen=True)
class SweepOptions(DataOptions):
    """Train many runs: methods x settings x seeds. The directory is plan, queue and result."""

    action: tyro.conf.Positional[Action] = field(kw_only=True)
    """plan: the runs of a grid; work: compute runs until none is left, started as often as you
    like; status: where it stands; report: table, figures, best settings; templates: job files for
    SLURM, GNU parallel, Kubernetes; submit: start workers by submitit."""
    paths: tyro.conf.Positional[tuple[Path, ...]] = field(kw_only=True)
    """The sweep's directory; for plan, before it the grid: GRID.toml DIR."""
    any_version: tyro.conf.FlagCreatePairsOff[bool] = False
    """work: also with another version of innerloop than the one that planned it."""
    wait: bool = True
    """work: wait for runs that other workers are at, since one of these may die."""
    max_minutes: float | None = None
    """work: save, release and end after this many minutes; default: no limit."""
    workers: int = 4
    """templates, submit: how many workers."""
    cluster: str | None = None
    """submit: slurm, local or debug, as submitit has them; default: what submitit finds."""


def run(arguments: list[str]) -> int:
    """Do what is asked for."""
    options = parse(SweepOptions, "sweep", arguments)
    expected = ("GRID.toml", "DIR") if options.action == "plan" else ("DIR",)
    if len(options.paths) != len(expected):
        raise ConfigError(
            f"innerloop sweep {options.action} takes {' '.join(expected)}: got "
            f"{len(options.paths)} path{'s' if len(options.paths) != 1 else ''}."
        )
    if not 1 <= options.workers <= 10_000:
        raise ConfigError(f"--workers must be between 1 and 10,000: got {options.workers}.")
    actions = {
        "plan": _plan,
        "work": _work,
        "status": _status,
        "report": _report,
        "templates": _templates,
        "submit": _submit,
    }
    code, outcome = actions[options.action](options, sayer(options))
    print_json(options, outcome)
    return code


def _sweep(options: SweepOptions) -> "SweepDirectory":
    from innerloop.runs.sweeps.directory import SweepDirectory

    return SweepDirectory(options.paths[-1])


def _plan(options: SweepOptions, say: Say) -> tuple[int, dict[str, Any]]:
    from innerloop.runs.sweeps.grid import read_grid
    from innerloop.runs.sweeps.plan import plan_of, write_plan

    grid, directory = options.paths
    planned = plan_of(read_grid(grid), source=str(grid))
    sweep = write_plan(planned, directory, say)
    if planned.drawn_twice:
        say(f"{planned.drawn_twice} points of the sample came again, and are planned once.")
    count = len(sweep.plan.runs)
    say(f"{sweep.path}: {count} runs are planned. Start workers: innerloop sweep work {sweep.path}")
    return 0, {"sweep": str(sweep.path), "runs": count, "digest": sweep.plan.digest}


def _work(options: SweepOptions, say: Say) -> tuple[int, dict[str, Any]]:
    sweep = _sweep(options)
    if not options.any_version:
        sweep.refuse_other_version()
    from innerloop.experiments.monitor import stop_on_signals
    from innerloop.experiments.ranks import take_own_gpu
    from innerloop.experiments.sweep import work
    from innerloop.runs.sweeps.status import status_of, status_page

    take_own_gpu()
    with stop_on_signals(options.max_minutes) as should_stop:
        stop = work(
            sweep,
            data_dir=options.data_dir,
            wait=options.wait,
            should_stop=should_stop,
            say=say,
        )
    status = status_of(sweep)
    say(status_page(status))
    return stop.exit_code if stop else 0, status.to_json()


def _status(options: SweepOptions, say: Say) -> tuple[int, dict[str, Any]]:
    from innerloop.runs.sweeps.status import status_of, status_page

    status = status_of(_sweep(options))
    say(status_page(status))
    return 0, status.to_json()


def _report(options: SweepOptions, say: Say) -> tuple[int, dict[str, Any]]:
    sweep = _sweep(options)
    from innerloop.report.sweep import write_sweep

    tables = write_sweep(sweep)
    folder = sweep.path / "report"
    say((folder / "sweep.md").read_text(encoding="utf-8"))
    say(f"Look at {folder / 'figures'}; the numbers are in {folder / 'sweep.json'}.")
    return 0, {"report": str(folder), "tables": [table.to_json() for table in tables]}


def _templates(options: SweepOptions, say: Say) -> tuple[int, dict[str, Any]]:
    from innerloop.core.files import write_folder
    from innerloop.runs.sweeps.templates import job_files

    sweep = _sweep(options)
    folder = sweep.path / "jobs"
    files = job_files(sweep.path.absolute(), options.workers)
    write_folder(folder, files)
    say(f"{folder}: {', '.join(files)}. Look at their first lines, and change what you need.")
    return 0, {"jobs": [str(folder / name) for name in files]}


def _submit(options: SweepOptions, say: Say) -> tuple[int, dict[str, Any]]:
    from innerloop.runs.sweeps.submission import submit

    sweep = _sweep(options)
    jobs = submit(sweep.path.absolute(), options.workers, options.cluster)
    say(f"Submitted {len(jobs)} workers: {', '.join(jobs)}.")
    return 0, {"jobs": jobs}
