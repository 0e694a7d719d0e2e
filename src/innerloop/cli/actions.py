"""What several commands do: train with progress and figures; evaluate what was not evaluated."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from innerloop.cli.progress import CountProgress, Overall, TrainingProgress
from innerloop.experiments import ranks
from innerloop.experiments.evaluation import evaluate_run, save_evaluation
from innerloop.experiments.experiment import Experiment, open_run
from innerloop.experiments.monitor import stop_on_signals
from innerloop.experiments.training import train
from innerloop.fast_weights.engine import Engine
from innerloop.methods.base import Learner
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import primary_rows
from innerloop.runs.results import EvaluationRow
from innerloop.runs.trackers.base import Tracker
from innerloop.runs.trackers.following import following


def run_training(
    experiment: Experiment,
    run: RunDirectory,
    *,
    resume: bool,
    say: Callable[[str], None],
    quiet: bool = False,
    max_minutes: float | None = None,
    overall: Overall | None = None,
    go_on: str = "",
    trackers: Mapping[str, Tracker] = MappingProxyType({}),
) -> int:
    """Train, or go on with, a run, and draw its figures; signals and the time limit stop it.

    Trackers are told of all that is recorded; see `Following`.

    After a stop it says ``go_on``, or the command that resumes the run.

    Returns:
        The exit code: 0 if it is finished, or paused by the time limit.
    """
    progress = TrainingProgress(experiment.config.training.meta_steps, quiet=quiet, overall=overall)

    def on_step(step: int, record: dict[str, Any]) -> None:
        progress.on_step(step, record)
        followers.on_step(step, record)

    with (
        stop_on_signals(max_minutes) as should_stop,
        progress.shown(),
        following(run, trackers, say) as followers,
    ):
        stop = train(
            experiment,
            run,
            resume=resume,
            say=say,
            should_stop=should_stop,
            on_step=on_step,
        )
    if stop:
        say(f"{stop.reason} Go on with: {go_on or f'innerloop resume {run.path}'}")
        return stop.exit_code
    # Only now: the library that draws takes a second to import, before which the training began.
    from innerloop.report import write_results

    write_results(run)
    if run.status.message:
        say(run.status.message)
    return 0


def evaluate_if_needed(
    run: RunDirectory,
    part: str,
    episodes: int,
    *,
    data_dir: Path | None,
    device: str | None = None,
    engine: Engine | None = None,
    say: Callable[[str], None],
    quiet: bool = False,
    overall: Overall | None = None,
) -> None:
    """Evaluate a run in its own way, unless that was done on the same episodes."""
    if ranks.gathered(bool(primary_rows(run, part, episodes)))[0]:
        return
    say(f"{run.path} is evaluated on {episodes} episodes.")
    experiment, learner = open_run(
        run, data_dir=data_dir, device=device, engine=engine or "auto", say=say
    )
    evaluate_and_save(
        run,
        experiment,
        learner,
        part=part,
        episodes=episodes,
        inner_steps=experiment.config.own.adaptation_steps,
        batch_norms=learner.batch_norm_modes,
        on_episodes=CountProgress("episodes", episodes, quiet=quiet, overall=overall),
    )


def evaluated(
    experiment: Experiment, learner: Learner, *, inner_steps: int, **how: Any
) -> Iterator[EvaluationRow]:
    """Evaluate as `evaluate_run` does; a row for each batch-norm mode, as soon as it is there."""
    for evaluation in evaluate_run(experiment, learner, inner_steps=inner_steps, **how):
        yield evaluation.row(step=inner_steps)


def evaluate_and_save(
    run: RunDirectory, experiment: Experiment, learner: Learner, **how: Any
) -> list[EvaluationRow]:
    """`evaluated`; rows and model card go into the run directory.

    Of several processes the first alone writes; the others go on when all is there.
    """
    from innerloop.report.model_card import write_model_card

    rows = []
    for row in evaluated(experiment, learner, **how):
        if ranks.first():
            save_evaluation(run, row)
        rows.append(row)
    if ranks.first():
        write_model_card(run)
    ranks.wait()
    return rows
