"""The command line: parses, calls, prints. What takes time is imported only when needed."""

import dataclasses
import math
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from innerloop.cli.options import (
    BundleOptions,
    Common,
    CompareOptions,
    DataCommandOptions,
    DoctorOptions,
    EvaluateOptions,
    ExplainOptions,
    ReportOptions,
    ReproduceOptions,
    ResumeOptions,
    TrainOptions,
)
from innerloop.cli.settings import chosen, options_of
from innerloop.core.errors import ConfigError, InnerloopError, did_you_mean
from innerloop.core.files import json_text
from innerloop.methods.catalogue import cards, load_config, names, settings_of
from innerloop.settings.run import COMMON, RunConfig


def _parse(options: type[Any], command: str, arguments: list[str]) -> Any:
    """Parse a command's own options with tyro, which reports what is wrong and exits with 2."""
    config = (tyro.conf.AvoidSubcommands, tyro.conf.DisallowNone)
    parsed = tyro.cli(options, prog=f"innerloop {command}", args=arguments, config=config)
    minutes = getattr(parsed, "max_minutes", None)
    if minutes is not None and not (math.isfinite(minutes) and minutes >= 0):
        raise ConfigError(f"--max-minutes must be a number of minutes, at least 0: got {minutes}.")
    return parsed


def _train(arguments: list[str]) -> int:
    """Two sets of options in one command: the run's, and the settings that are saved with it."""
    method, arguments = _method(arguments)
    wants_help = bool({"--help", "-h", "--help-all"} & set(arguments))
    config_path = _option(arguments, "config")
    if method is None and config_path is None:
        if not wants_help:
            known = " or ".join(f"innerloop train {name}" for name in names())
            raise ConfigError(f"Say which method, before the options: {known}.")
        return _train_help()
    start = _base_settings(method, config_path, _option(arguments, "preset"))
    options_type = options_of(start, seldom="--help-all" in arguments or not wants_help)

    @dataclass(frozen=True)
    class Train(TrainOptions):
        __doc__ = TrainOptions.__doc__
        settings: tyro.conf.OmitArgPrefixes[options_type] = field(  # type: ignore[valid-type]
            default_factory=options_type
        )

    typed = ["--help" if argument == "--help-all" else argument for argument in arguments]
    options = _parse(Train, f"train {start.method}", typed)
    from innerloop.experiments.environment import environment
    from innerloop.experiments.experiment import prepare
    from innerloop.methods.catalogue import find_learner
    from innerloop.runs.directory import RunDirectory

    config = chosen(options.settings, start)
    say = _sayer(options)
    if options.run_dir and options.run_dir.name in ("", ".."):
        raise ConfigError(f"--run-dir must end in a name of its own: got {str(options.run_dir)!r}.")
    find_learner(config.method)
    experiment = prepare(config, data_dir=options.data_dir, say=say)
    experiment.refuse_what_does_not_fit()
    path = options.run_dir or Path("runs") / experiment.config.run_name
    run = RunDirectory.create(experiment.config, environment(experiment), path)
    say(f"{run.path}: {experiment.describe()}")
    code = _run_training(experiment, run, options, resume=False)
    _print_json(options, _outcome(run))
    return code


def _method(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The method that is asked for, by its place or as ``--method``, and the other arguments."""
    named = _option(arguments, "method")
    if not arguments or arguments[0].startswith("-"):
        return named, _without(arguments, "method")
    if named is not None:
        raise ConfigError(f"Give one method: here are {arguments[0]!r} and --method {named!r}.")
    return arguments[0], arguments[1:]


def _train_help() -> int:
    """The methods there are; each has a page of its own."""
    whole, faults = cards()
    print("usage: innerloop train METHOD [OPTIONS]\n\nMeta-train a method. There are:\n")
    for card in whole:
        print(f"  {card.name:10s} {card.title}: {card.papers[0] if card.papers else card.idea}")
    for fault in faults:
        print(f"  {fault}")
    print("\ninnerloop train METHOD --help tells a method's options, --help-all all of them.")
    return 0


def _without(arguments: list[str], name: str) -> list[str]:
    """The arguments without an option and its value."""
    rest = [argument for argument in arguments if not argument.startswith(f"--{name}=")]
    if f"--{name}" in rest:
        index = rest.index(f"--{name}")
        del rest[index : index + 2]
    return rest


def _option(arguments: list[str], name: str) -> str | None:
    """The value of an option that decides the defaults of the others."""
    for index, argument in enumerate(arguments):
        if argument.startswith(f"--{name}="):
            return argument.partition("=")[2]
        if argument == f"--{name}" and index + 1 < len(arguments):
            return arguments[index + 1]
    return None


def _base_settings(method: str | None, path: str | None, preset: str | None) -> RunConfig:
    """The settings that the options change: a method's own, a preset's, or those of a file."""
    if path is not None and preset is not None:
        raise ConfigError(
            "--config and --preset are each a complete set of settings: give one of them."
        )
    if path is None:
        assert method is not None
        return settings_of(method, preset)
    config = load_config(Path(path))
    if method in (None, config.method):
        return config
    # Another method takes what the file says but for settings in which the two differ by nature.
    usual = settings_of(config.method).flat()
    other = settings_of(method)
    same = {
        name: value
        for name, value in config.flat().items()
        if name in other.own.flat() and usual[name] == other.flat()[name]
    }
    common = {name: getattr(config, name) for name in COMMON}
    return dataclasses.replace(other, **common).replace(**same)


def _run_training(experiment: Any, run: Any, options: Any, *, resume: bool) -> int:
    from innerloop.cli.actions import run_training
    from innerloop.report.words import describe_row
    from innerloop.runs.evaluations import last_validation

    say = _sayer(options)
    code = run_training(
        experiment, run, resume=resume, say=say, quiet=options.json, max_minutes=options.max_minutes
    )
    if code == 0 and run.weights_path.is_file():
        say(describe_row(last_validation(run)))
        say(f"weights {run.weights_path}, figures {run.path / 'figures'}")
    return code


def _outcome(run: Any) -> dict[str, Any]:
    """What a training says under ``--json``."""
    validations = run.read_metrics("validation")
    return {
        "run": str(run.path),
        "validation": validations[-1] if validations else None,
    } | dataclasses.asdict(run.status)


def _resume(arguments: list[str]) -> int:
    options = _parse(ResumeOptions, "resume", arguments)
    from innerloop.experiments.experiment import prepare
    from innerloop.runs.directory import RunDirectory

    run = RunDirectory(options.run)
    if run.weights_path.is_file() and run.status.state == "finished":
        from innerloop.report import write_results

        write_results(run)
        _sayer(options)(f"{run.path} is finished; nothing is left to do.")
        _print_json(options, _outcome(run))
        return 0
    experiment = prepare(run.config, data_dir=options.data_dir, say=_sayer(options))
    code = _run_training(experiment, run, options, resume=True)
    _print_json(options, _outcome(run))
    return code


def _evaluate(arguments: list[str]) -> int:
    options = _parse(EvaluateOptions, "evaluate", arguments)
    from innerloop.cli.actions import evaluate_and_save
    from innerloop.cli.progress import CountProgress
    from innerloop.experiments.experiment import open_run
    from innerloop.methods.variants import Variant
    from innerloop.report.words import describe_row, table_of_rows
    from innerloop.runs.directory import RunDirectory

    run, say = RunDirectory(options.run), _sayer(options)
    variant = Variant(
        options.adapt,
        options.head,
        options.head_init,
        options.inner_lr,
        options.penalty,
        options.untrained,
    )
    experiment, learner = open_run(
        run, data_dir=options.data_dir, untrained=options.untrained, say=say
    )
    config = experiment.config
    # A head in closed form is there after one step.
    own_steps = config.own.adaptation_steps if options.head == "gradient" else 1
    steps = own_steps if options.inner_steps is None else options.inner_steps
    if not 0 <= steps <= 1000:
        raise ConfigError(f"--inner-steps must be between 0 and 1000: got {steps}.")
    modes: tuple[Any, ...] = (
        learner.batch_norm_modes if options.batch_norm == "all" else (options.batch_norm,)
    )
    if options.untrained and options.batch_norm == "all" and config.own.trains_on == "episodes":
        modes = tuple(
            mode for mode in learner.batch_norm_modes if mode != "running"
        )  # nothing has gathered those
    if modes[0] not in learner.batch_norm_modes:
        raise ConfigError(
            f"{config.method} predicts under batch norm {' or '.join(learner.batch_norm_modes)}, "
            f"not {modes[0]}."
        )
    shots = options.shots or (config.episode.shots,)
    ways = config.episode.ways if options.ways is None else options.ways
    queries = (
        (10 if len(shots) > 1 else config.episode.queries)
        if options.queries is None
        else options.queries
    )
    if ways < 2:
        raise ConfigError(
            f"--ways must be at least 2, or there is nothing to tell apart: got {ways}."
        )
    for count in shots:  # all of them are checked before the first evaluation is written
        experiment.evaluation_sampler(options.part, ways=ways, shots=count, queries=queries)
    rows = []
    for count in shots:
        rows += evaluate_and_save(
            run,
            experiment,
            learner,
            part=options.part,
            episodes=options.episodes,
            inner_steps=steps,
            batch_norms=modes,
            variant=variant,
            ways=ways,
            shots=count,
            queries=queries,
            on_episodes=CountProgress(
                f"{count}-shot episodes", options.episodes, quiet=options.json
            ),
        )
    for row in rows:
        say(describe_row(row))
    say(table_of_rows(rows))
    _print_json(options, {"run": str(run.path), "rows": [row.to_json() for row in rows]})
    return 0


def _compare(arguments: list[str]) -> int:
    options = _parse(CompareOptions, "compare", arguments)
    from innerloop.analysis.comparison import check_runs, compare, refuse_differences
    from innerloop.cli.actions import evaluate_if_needed
    from innerloop.report.comparison import comparison_page, write_comparison
    from innerloop.runs.directory import RunDirectory

    runs, say = [RunDirectory(path) for path in options.runs], _sayer(options)
    check_runs(runs, options.episodes)
    if not options.allow_different:
        refuse_differences(runs, options.part, options.episodes)
    for run in runs:
        evaluate_if_needed(
            run,
            options.part,
            options.episodes,
            data_dir=options.data_dir,
            say=say,
            quiet=options.json,
        )
    comparison = compare(
        runs, part=options.part, episodes=options.episodes, allow_different=options.allow_different
    )
    out = options.out or runs[0].path.parent / "comparison"
    write_comparison(comparison, out)
    say(comparison_page(comparison))
    say(f"Look at {out / 'figures'}; the numbers are in {out / 'comparison.json'}.")
    _print_json(options, comparison.to_json())
    return 0


def _explain(arguments: list[str]) -> int:
    options = _parse(ExplainOptions, "explain", arguments)
    if options.few_episodes < 2:
        raise ConfigError(f"--few-episodes must be at least 2: got {options.few_episodes}.")
    import torch

    from innerloop.analysis.comparison import check_runs, refuse_differences
    from innerloop.analysis.explanation.explain import explain_runs
    from innerloop.analysis.explanation.storage import explanation_to_json
    from innerloop.cli.actions import evaluate_if_needed
    from innerloop.report.explanation import explanation_page, write_explanation
    from innerloop.runs.directory import RunDirectory

    runs, say, threads = (
        [RunDirectory(path) for path in options.runs],
        _sayer(options),
        torch.get_num_threads(),
    )
    check_runs(runs, options.episodes)
    refuse_differences(runs, "val", options.episodes)
    for run in runs:
        evaluate_if_needed(
            run, "val", options.episodes, data_dir=options.data_dir, say=say, quiet=options.json
        )
    explanation = explain_runs(
        *runs,
        episodes=options.episodes,
        few_episodes=options.few_episodes,
        threads=threads,
        data_dir=options.data_dir,
        say=say,
    )
    out = options.out or runs[0].path.parent / "explanation"
    write_explanation(explanation, out)
    say(explanation_page(explanation))
    say(f"Look at {out / 'figures'}; the numbers are in {out / 'explanation.json'}.")
    _print_json(options, explanation_to_json(explanation))
    return 0


def _report(arguments: list[str]) -> int:
    options = _parse(ReportOptions, "report", arguments)
    from innerloop.report.report import read_material, write_report

    material = read_material(
        options.runs,
        options.explanation,
        collaborators=options.collaborators,
        references=options.references,
    )
    written = write_report(material, options.out)
    say, missing = _sayer(options), list(dict.fromkeys(written.missing))
    for what in missing:
        say(f"Missing: {what}")
    _say_boxes(say, [*options.collaborators, *options.references])
    say(f"{options.out / 'report.html'}\n{options.out / 'report.pdf'}")
    _print_json(
        options,
        {
            "html": str(options.out / "report.html"),
            "pdf": str(options.out / "report.pdf"),
            "figures": [picture.name for picture in written.pictures],
            "missing": missing,
        },
    )
    return 0


def _say_boxes(say: Callable[[str], None], texts: Sequence[str]) -> None:
    """Warn of characters that the PDF cannot show on this machine."""
    from innerloop.report.render.pages import boxes

    if found := boxes(" ".join(texts)):
        say(
            f"report.pdf shows boxes for {found}: no font of this machine has them; install one "
            "that does, and make it again. report.html needs none."
        )


def _data(arguments: list[str]) -> int:
    options = _parse(DataCommandOptions, "data", arguments)
    from innerloop.cli.data import run_data_command

    return run_data_command(options, _sayer(options), lambda value: _print_json(options, value))


def _doctor(arguments: list[str]) -> int:
    options = _parse(DoctorOptions, "doctor", arguments)
    from innerloop.cli.doctor import diagnose

    findings = diagnose(options.data_dir)
    for name, value in findings.items():
        _sayer(options)(f"{name:14s} {value}")
    _print_json(options, findings)
    return 0


def _reproduce(arguments: list[str]) -> int:
    options = _parse(ReproduceOptions, "reproduce", arguments)
    from innerloop.cli.reproduce import reproduce

    say = _sayer(options)
    code, made = reproduce(
        options.budget,
        options.data,
        options.out,
        data_dir=options.data_dir,
        say=say,
        quiet=options.json,
        max_minutes=options.max_minutes,
    )
    if "html" in made:
        say("weights:\n  " + "\n  ".join(made["weights"]))
        say(f"report:\n  {made['html']}\n  {made['pdf']}")
    _print_json(options, made)
    return code


def _bundle(arguments: list[str]) -> int:
    options = _parse(BundleOptions, "bundle", arguments)
    say = _sayer(options)
    if (options.folder is None) == (options.check is None):
        raise ConfigError("Give the folder to pack, or --check and an archive: one of the two.")
    if options.check:
        from innerloop.assignment.check import check

        found = check(options.check, data_dir=options.data_dir, say=say)
        say(f"{options.check}: checksums, weights and report agree.")
        _print_json(options, {"archive": str(options.check), "runs": found})
        return 0
    from innerloop.assignment.pack import bundle

    if options.name is None or options.student_number is None:
        raise ConfigError("An archive is named after --name and --student-number: give both.")
    path = bundle(
        options.folder,
        name=options.name,
        student_number=options.student_number,
        assignment=options.assignment,
        out=options.out,
        collaborators=options.collaborators,
        references=options.references,
    )
    _say_boxes(say, [options.name, *options.collaborators, *options.references])
    say(f"{path}\nCheck it with: innerloop bundle --check {shlex.quote(str(path))}")
    _print_json(options, {"archive": str(path), "size_bytes": path.stat().st_size})
    return 0


COMMANDS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "train": (_train, "meta-train a method: innerloop train fomaml"),
    "resume": (_resume, "go on with an interrupted run"),
    "evaluate": (_evaluate, "accuracy of a finished run on fixed episodes, with interval"),
    "compare": (_compare, "which of several runs is better, by how much, and how sure"),
    "explain": (_explain, "why two runs differ: features, heads, steps, rates, shift"),
    "report": (
        _report,
        "runs into a page and a PDF: plots, weights, settings, which is better and why",
    ),
    "data": (_data, "show, verify, download, info"),
    "doctor": (_doctor, "what this installation can do"),
    "reproduce": (_reproduce, "train, evaluate, compare, explain and report all methods"),
    "bundle": (_bundle, "pack the hand-in: report, plots, weights, settings, code; or check one"),
}


def _usage() -> str:
    rows = "\n".join(f"  {name:10s} {text}" for name, (_, text) in COMMANDS.items())
    return (
        f"usage: innerloop COMMAND [OPTIONS]\n\n{rows}\n\ninnerloop COMMAND --help tells its "
        "options."
    )


def _sayer(options: Common) -> Callable[[str], None]:
    """Prints for people: on standard output, or on standard error where that is for ``--json``."""
    stream = sys.stderr if options.json else sys.stdout
    return lambda sentence: print(sentence, file=stream, flush=True)


def _print_json(options: Common, value: dict[str, Any]) -> None:
    if options.json:
        print(json_text(value))


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code.

    0 done, 2 usage, 3 non-finite, 4 disk, 5 data, 130 or 143 interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from innerloop.core.version import __version__

        print(f"innerloop {__version__}")
        return 0
    try:
        if arguments[0] not in COMMANDS:
            raise ConfigError(
                f"There is no command {arguments[0]!r}.{did_you_mean(arguments[0], list(COMMANDS))}"
            )
        return COMMANDS[arguments[0]][0](arguments[1:])
    except InnerloopError as error:
        if "--debug" in arguments:
            traceback.print_exc()
        print(f"innerloop: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("innerloop: Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
