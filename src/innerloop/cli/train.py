"""`innerloop train`: meta-train a method."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.cli.command import DataOptions, parse, print_json, sayer
from innerloop.cli.settings import chosen, groups_of
from innerloop.cli.start import list_of_methods, method_of, starting_settings, value_of
from innerloop.core.errors import ConfigError
from innerloop.methods.catalogue import find_card, find_learner
from innerloop.settings.run import remark_on

if TYPE_CHECKING:
    from innerloop.experiments.experiment import Experiment
    from innerloop.runs.directory import RunDirectory
    from innerloop.runs.trackers.base import Tracker
    from innerloop.settings.run import RunConfig


@dataclass(frozen=True)
class TrainOptions(DataOptions):
    """Meta-train a method into a run directory: weights, metrics, figures, settings."""

    preset: str | None = None
    """Start from a named set of settings; options beside it win."""
    config: Path | None = None
    """Start from a saved config.json; options beside it win."""
    run_dir: Path | None = None
    """Where to write; default: a new folder in runs/."""
    max_minutes: float | None = None
    """Pause after this many minutes; default: no limit."""
    tracker: str | None = None
    """Show it in tensorboard or mlflow; default: none."""


def run(arguments: list[str]) -> int:
    """Two sets of options in one command: the run's, and the settings that are saved with it."""
    method, arguments = method_of(arguments)
    if method is None and _asks_for_help(arguments) and value_of("config", arguments) is None:
        print(list_of_methods())
        return 0
    start = starting_settings(method, arguments)
    options = _parse(start, arguments)
    config = chosen(options, start)
    if options.run_dir and options.run_dir.name in ("", ".."):
        raise ConfigError(f"--run-dir must end in a name of its own: got {str(options.run_dir)!r}.")
    # A learner that cannot be imported is refused here, before anything is written.
    find_learner(config.method)
    trackers = trackers_of(options)
    if options.config:
        text = options.config.read_text(encoding="utf-8")
        if remark := remark_on(text, str(options.config)):
            sayer(options)(remark)
    from innerloop.experiments.ranks import joined

    with joined():
        return _train(config, options, trackers)


def _train(config: "RunConfig", options: TrainOptions, trackers: "dict[str, Tracker]") -> int:
    from innerloop.core.processes import starts
    from innerloop.experiments.ranks import gathered

    if max(gathered(starts())):
        directory = _of_this_job(config, options)
        if directory:
            code = resumed(directory, options, trackers)
            print_json(options, outcome(directory))
            return code
    experiment, directory = _prepared(config, options)
    code = run_to_end(experiment, directory, options, trackers, resume=False)
    if directory:
        print_json(options, outcome(directory))
    return code


def _of_this_job(config: "RunConfig", options: TrainOptions) -> "RunDirectory | None":
    """The run that an earlier start of the same job made; None: it came to none."""
    from innerloop.core.processes import job
    from innerloop.experiments.environment import typed
    from innerloop.experiments.ranks import gathered, rank
    from innerloop.runs.directory import run_of_job

    place = options.run_dir or Path("runs") / config.run_name
    found = run_of_job(place.parent, job(), typed()) if rank() == 0 else None
    return gathered(found)[0]


def _asks_for_help(arguments: list[str]) -> bool:
    return not {"-h", "--help", "--help-all"}.isdisjoint(arguments)


def _parse(start: "RunConfig", arguments: list[str]) -> Any:
    """The options, those of a method's settings among them; ``--help-all`` shows all of those."""
    whole = "--help-all" in arguments or not _asks_for_help(arguments)
    known = " or ".join(find_card(start.method).presets)
    preset = f"Start from named settings: {known}; options beside it win."
    if not known:
        preset = "Start from named settings; this method has none."
    try:
        return parse(
            TrainOptions,
            f"train {start.method}",
            ["--help" if argument == "--help-all" else argument for argument in arguments],
            sentences={"preset": preset},
            groups=groups_of(start, seldom=whole),
        )
    except SystemExit as end:
        if end.code == 0 and not whole:
            print("Settings that are seldom used are left out: --help-all shows all of them.")
        raise


def _prepared(
    config: "RunConfig", options: TrainOptions
) -> "tuple[Experiment, RunDirectory | None]":
    """The experiment, with all that can be refused before anything is written; and its run.

    Of several processes the first alone has a run.
    """
    from innerloop.experiments.crew import as_the_first
    from innerloop.experiments.environment import environment
    from innerloop.experiments.experiment import prepare
    from innerloop.experiments.ranks import first, first_before_others
    from innerloop.runs.directory import RunDirectory

    say = sayer(options)
    with first_before_others():
        experiment = prepare(config, data_dir=options.data_dir, say=say)
        experiment.refuse_what_does_not_fit()
    experiment = as_the_first(experiment)
    if not first():
        return experiment, None
    path = options.run_dir or Path("runs") / experiment.config.run_name
    directory = RunDirectory.create(experiment.config, environment(experiment), path)
    say(f"{directory.path}: {experiment.describe()}")
    return experiment, directory


def resumed(
    directory: "RunDirectory",
    options: Any,
    trackers: "dict[str, Tracker]",
    device: str | None = None,
) -> int:
    """Go on where the last checkpoint is; of a finished run, draw the figures again."""
    from innerloop.experiments.crew import as_the_first
    from innerloop.experiments.experiment import prepare
    from innerloop.experiments.machine import device_for
    from innerloop.experiments.ranks import first, first_before_others
    from innerloop.report import write_results
    from innerloop.runs.trackers.following import following

    say = sayer(options)
    if directory.weights_path.is_file() and directory.status.state == "finished":
        if first():
            write_results(directory)
            with following(directory, trackers, say):
                pass  # they may not have been told of its end
        say(f"{directory.path} is finished; nothing is left to do.")
        return 0
    if directory.remark:
        say(directory.remark)
    place = device_for(directory, device, say)
    with first_before_others():
        experiment = prepare(
            directory.config,
            data_dir=options.data_dir,
            device=place,
            engine=getattr(options, "engine", None),
            say=say,
        )
    run = directory if first() else None
    return run_to_end(as_the_first(experiment), run, options, trackers, resume=True)


def trackers_of(options: Any) -> "dict[str, Tracker]":
    """The trackers that the options of either command name, with commas between several.

    Raises:
        ConfigError: if there is no such tracker, before anything is written.
    """
    from innerloop.runs.trackers.catalogue import new_tracker

    names = [] if options.tracker is None else options.tracker.split(",")
    return {name: new_tracker(name) for name in names}


def run_to_end(
    experiment: "Experiment",
    directory: "RunDirectory | None",
    options: Any,
    trackers: "dict[str, Tracker]",
    *,
    resume: bool,
) -> int:
    """Train, or go on with, a run as the options of either command say; returns the exit code.

    Of several processes all but the first have no run, and compute what that one asks for.
    """
    if directory is None:
        from innerloop.experiments.training import train

        train(experiment, None)
        return 0
    from innerloop.cli.actions import run_training

    say = sayer(options)
    code = run_training(
        experiment,
        directory,
        resume=resume,
        say=say,
        quiet=options.json,
        max_minutes=options.max_minutes,
        trackers=trackers,
    )
    if code == 0 and directory.weights_path.is_file():
        from innerloop.report.words import describe_row
        from innerloop.runs.evaluations import last_validation

        say(describe_row(last_validation(directory)))
        say(f"weights {directory.weights_path}, figures {directory.path / 'figures'}")
    return code


def outcome(directory: "RunDirectory") -> dict[str, Any]:
    """What a training says under ``--json``."""
    validations = directory.read_metrics("validation")
    last = validations[-1] if validations else None
    return {"run": str(directory.path), "validation": last} | asdict(directory.status)
