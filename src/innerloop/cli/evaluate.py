"""`innerloop evaluate`: the accuracy of a finished run on fixed episodes."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from innerloop.cli.command import DeviceOptions, parse, print_json, sayer
from innerloop.core.errors import ConfigError
from innerloop.core.processes import this_process

if TYPE_CHECKING:
    from innerloop.experiments.experiment import Experiment
    from innerloop.methods.base import Learner
    from innerloop.runs.directory import RunDirectory
    from innerloop.runs.results import EvaluationRow
    from innerloop.settings.run import RunConfig


@dataclass(frozen=True)
class EvaluateOptions(DeviceOptions):
    """Evaluate a finished run on fixed episodes; writes the accuracies, never the weights.

    Or a classifier on pictures: innerloop evaluate CLASSIFIER FOLDER.
    """

    run: tyro.conf.Positional[Path] = field(kw_only=True)
    """The run directory; or pretrained:NAME, a network that innerloop brings along, of which
    nothing is written."""
    part: Literal["val", "test"] = "val"
    """Which classes of the split; training sees none of these, and choices are by val."""
    episodes: int = 600
    """How many of the part's fixed episodes, at least 2."""
    ways: int | None = None
    """Classes in an episode; default: as trained."""
    shots: tuple[int, ...] = ()
    """Support images per class; several make one table; default: as trained."""
    queries: int | None = None
    """Query images per class; default: as trained, or 10 where several shots are compared."""
    inner_steps: int | None = None
    """Gradient steps K; default: as trained. Accuracies are measured from 0 to 2K."""
    batch_norm: Literal["all", "transductive", "support", "running"] = "all"
    """Whose statistics normalise the query images: their own batch's, the support set's, or those
    stored in training, where a method stores some; all is every mode that the method has."""
    adapt: Literal["own", "head", "head+1", "head+2", "head+3", "all", "body"] = "own"
    """What takes inner steps: what the method itself adapts; a new head on frozen features; it and
    the last 1, 2 or 3 blocks; everything; or everything but a fixed random head."""
    head: Literal["gradient", "logistic", "cosine"] = "gradient"
    """With --adapt head, how the head is found: inner steps, logistic regression to convergence, or
    cosine prototypes."""
    head_init: Literal["zero", "glorot", "prototypes"] | None = None
    """Where the new head starts; default: as the method does. From prototypes, take steps of
    0.02."""
    inner_lr: float | None = None
    """Rate of the inner steps; default: as trained."""
    penalty: float | None = None
    """L2 penalty of the logistic head; default: 0.1."""
    untrained: tyro.conf.FlagCreatePairsOff[bool] = False
    """Evaluate the run's initial weights, to see what training gives."""


def run(arguments: list[str]) -> int:
    """Evaluate under each batch norm and with each number of shots that were asked for.

    Of a classifier, on a folder of pictures: `innerloop.cli.held_out`.
    """
    from innerloop.cli.held_out import is_of_a_classifier
    from innerloop.cli.held_out import run as on_pictures

    if is_of_a_classifier(arguments):
        return 0 if this_process().rank else on_pictures(arguments)
    options = parse(EvaluateOptions, "evaluate", arguments)
    from innerloop.experiments.ranks import joined

    with joined():
        return _evaluate(options)


def _evaluate(options: EvaluateOptions) -> int:
    from innerloop.experiments.experiment import open_run
    from innerloop.experiments.ranks import first_before_others
    from innerloop.methods.variants import PENALTY, Variant
    from innerloop.report.words import describe_row, table_of_rows

    directory, save = _opened(str(options.run))
    say = sayer(options)
    variant = Variant(
        options.adapt,
        options.head,
        options.head_init,
        options.inner_lr,
        PENALTY if options.penalty is None else options.penalty,
        options.untrained,
    )
    _refuse_unsaid_steps(options, directory.config)
    with first_before_others():
        experiment, learner = open_run(
            directory,
            data_dir=options.data_dir,
            device=options.device,
            engine=options.engine or "auto",
            untrained=options.untrained,
            say=say,
        )
    how = {
        "variant": variant,
        "inner_steps": _inner_steps(options, experiment),
        "batch_norms": _batch_norms(options, experiment, learner),
    }
    rows = _evaluated(options, directory if save else None, experiment, learner, how)
    for row in rows:
        say(describe_row(row))
    say(table_of_rows(rows))
    for row in rows:
        # A loss that is not a number in one episode makes the mean so.
        if math.isnan(row.query_loss):
            say(
                f"{row.shots}-shot {row.batch_norm}: adaptation ended in no numbers in some of the "
                "episodes; none of their images counts as right. Adapt at a lower rate, or by "
                "fewer steps."
            )
    print_json(options, {"run": str(directory.path), "rows": [row.to_json() for row in rows]})
    return 0


def _opened(run: str) -> "tuple[RunDirectory, bool]":
    """The run, and whether its rows are to be saved."""
    from innerloop.experiments.pretrained import PREFIX, pretrained_run
    from innerloop.runs.directory import RunDirectory

    if run.startswith(PREFIX):
        return pretrained_run(run.removeprefix(PREFIX)), False
    return RunDirectory(Path(run)), True


def _refuse_unsaid_steps(options: EvaluateOptions, config: "RunConfig") -> None:
    """Raise `ConfigError` for steps of a method without, where nothing says how many, or takes any.

    Adapted in its own way it takes none, nor does a head in closed form.
    """
    if options.penalty is not None and options.head != "logistic":
        raise ConfigError("--penalty is of a logistic head: add --adapt head --head logistic.")
    takes_none = config.own.adaptation_rate is None and options.adapt == "own"
    if takes_none and options.inner_steps is not None:
        raise ConfigError(
            f"{config.method} takes no inner steps: leave --inner-steps out, or say what takes "
            "them, by --adapt."
        )
    if options.head != "gradient" and options.inner_steps is not None:
        raise ConfigError(f"A {options.head} head takes no inner steps: leave --inner-steps out.")
    unsaid = options.inner_steps is None or options.inner_lr is None
    takes_steps = options.adapt != "own" and options.head == "gradient"
    if takes_steps and unsaid and config.own.adaptation_rate is None:
        raise ConfigError(
            f"{config.method} takes no inner steps: say how many --adapt "
            f"{options.adapt} takes and at which rate, by --inner-steps and --inner-lr."
        )


def _inner_steps(options: EvaluateOptions, experiment: "Experiment") -> int:
    # A head in closed form is there after one step.
    own = experiment.config.own.adaptation_steps if options.head == "gradient" else 1
    steps = own if options.inner_steps is None else options.inner_steps
    if not 0 <= steps <= 1000:
        raise ConfigError(f"--inner-steps must be between 0 and 1000: got {steps}.")
    return steps


def _batch_norms(
    options: EvaluateOptions, experiment: "Experiment", learner: "Learner"
) -> tuple[Any, ...]:
    """The batch-norm modes to predict under."""
    known = learner.batch_norm_modes
    if options.batch_norm == "all":
        return known
    if options.batch_norm not in known:
        raise ConfigError(
            f"{experiment.config.method} predicts under batch norm {' or '.join(known)}, "
            f"not {options.batch_norm}."
        )
    return (options.batch_norm,)


def _evaluated(
    options: EvaluateOptions,
    directory: "RunDirectory | None",
    experiment: "Experiment",
    learner: "Learner",
    how: dict[str, Any],
) -> "list[EvaluationRow]":
    """The rows of all numbers of shots; these are checked before the first one is written.

    Nothing is written without a directory.
    """
    from innerloop.cli.actions import evaluate_and_save, evaluated
    from innerloop.cli.progress import CountProgress

    trained = experiment.config.episode
    shots = options.shots or (trained.shots,)
    ways = trained.ways if options.ways is None else options.ways
    usual = 10 if len(shots) > 1 else trained.queries
    queries = usual if options.queries is None else options.queries
    if ways < 2:
        raise ConfigError(
            f"--ways must be at least 2, or there is nothing to tell apart: got {ways}."
        )
    for count in shots:
        experiment.evaluation_sampler(options.part, ways=ways, shots=count, queries=queries)
    rows = []
    for count in shots:
        progress = CountProgress(f"{count}-shot episodes", options.episodes, quiet=options.json)
        asked = how | {
            "part": options.part,
            "episodes": options.episodes,
            "ways": ways,
            "shots": count,
            "queries": queries,
            "on_episodes": progress,
        }
        if directory:
            rows += evaluate_and_save(directory, experiment, learner, **asked)
        else:
            rows += evaluated(experiment, learner, **asked)
    return rows
