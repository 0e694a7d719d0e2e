"""`innerloop reproduce`: every method trained, evaluated, compared, explained and reported.

All of it goes under fixed names.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from innerloop.analysis.explanation.explain import explain_runs
from innerloop.assignment.document import document
from innerloop.assignment.jobs import SHOTS, Evaluation, Explanation, Job, Shots, Training
from innerloop.assignment.plan import Reproduction, budgets, plan_in_words
from innerloop.cli.actions import evaluate_and_save, evaluate_if_needed, run_training
from innerloop.cli.progress import CountProgress, Overall
from innerloop.core.errors import ConfigError
from innerloop.experiments.environment import environment
from innerloop.experiments.experiment import Experiment, open_run
from innerloop.report import write_results
from innerloop.report.explanation import write_explanation
from innerloop.report.report import read_material, write_report
from innerloop.report.words import describe_row
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import QUERIES_OVER_SHOTS, primary_rows
from innerloop.runs.results import EvaluationRow


@dataclass(frozen=True)
class Worker:
    """Does the jobs of a plan.

    Attributes:
        data_dir: where Omniglot's archives are.
        say: told in sentences what happens.
        quiet: show no progress.
        max_minutes: of every training.
    """

    data_dir: Path | None
    say: Callable[[str], None]
    quiet: bool
    max_minutes: float | None

    def do(self, job: Job, overall: Overall) -> int:
        """Make what a job makes; returns an exit code, 0 also where a time limit paused it."""
        match job:
            case Training():
                return self._train(job, overall)
            case Evaluation():
                return self._evaluate(job, overall)
            case Shots():
                return self._evaluate_over_shots(job, overall)
            case Explanation():
                return self._explain(job, overall)
        raise AssertionError(f"Nobody does {job!r}.")

    def _train(self, job: Training, overall: Overall) -> int:
        experiment = job.experiment
        run = job.existing() or RunDirectory.create(
            experiment.config, environment(experiment), job.path
        )
        return run_training(
            experiment,
            run,
            resume=True,
            say=self.say,
            quiet=self.quiet,
            max_minutes=self.max_minutes,
            overall=overall,
            go_on="the same command, typed again.",
        )

    def _evaluate(self, job: Evaluation, overall: Overall) -> int:
        evaluate_if_needed(
            RunDirectory(job.path),
            job.part,
            job.episodes,
            data_dir=self.data_dir,
            say=self.say,
            quiet=self.quiet,
            overall=overall,
        )
        return 0

    def _evaluate_over_shots(self, job: Shots, overall: Overall) -> int:
        run = RunDirectory(job.path)
        experiment, learner = open_run(run, data_dir=self.data_dir, say=self.say)
        total = job.episodes * len(SHOTS)
        count = CountProgress("episodes", total, quiet=self.quiet, overall=overall)
        for index, shots in enumerate(SHOTS):
            evaluate_and_save(
                run,
                experiment,
                learner,
                part="val",
                episodes=job.episodes,
                inner_steps=experiment.config.own.adaptation_steps,
                batch_norms=learner.batch_norm_modes[:1],
                ways=experiment.config.episode.ways,
                shots=shots,
                queries=QUERIES_OVER_SHOTS,
                on_episodes=lambda done, before=index * job.episodes: count(before + done),
            )
        return 0

    def _explain(self, job: Explanation, overall: Overall) -> int:
        self.say(f"{overall.in_words(0)}why {job.first.name} and {job.second.name} differ")
        explanation = explain_runs(
            RunDirectory(job.first),
            RunDirectory(job.second),
            episodes=job.episodes,
            few_episodes=job.few_episodes,
            data_dir=self.data_dir,
            say=self.say,
        )
        write_explanation(explanation, job.folder)
        return 0


def reproduce(
    budget: str,
    data: str,
    out: Path,
    *,
    data_dir: Path | None = None,
    say: Callable[[str], None] = print,
    quiet: bool = False,
    max_minutes: float | None = None,
) -> tuple[int, dict[str, Any]]:
    """Do what is left of a budget's plan, and write the report.

    Args:
        budget: ``quick`` or ``full``.
        data: as in `RunConfig`.
        out: the folder; what is there already is kept, if it is of the same settings and data.
        data_dir: where Omniglot's archives are.
        say: told in sentences what happens.
        quiet: show no progress.
        max_minutes: of every training; then it stops, to go on when it is called again.

    Returns:
        The exit code, and what was made: rows of results, weights, and the report, if it came to
            that.

    Raises:
        ConfigError: if a run of other settings or data has a name of the plan.
    """
    folder = out / budget
    _refuse_file(folder)
    plan = Reproduction(budgets()[budget], data, folder, data_dir, say)
    experiments = plan.experiments()
    jobs = plan.jobs(experiments)
    for line in plan_in_words(plan.budget, jobs):
        say(line)
    code, done = _work(Worker(data_dir, say, quiet, max_minutes), jobs)
    if done < len(jobs):
        return code, {"done": done, "of": len(jobs)}
    return 0, _reported(plan, experiments)


def _refuse_file(folder: Path) -> None:
    """Raise `ConfigError` if there is a file where the folder, or one that it lies in, goes."""
    nearest = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if nearest.is_file():
        raise ConfigError(f"{nearest} is a file, and no folder for the runs.")


def _work(worker: Worker, jobs: Sequence[Job]) -> tuple[int, int]:
    """Do what is left, until all is done or something stops.

    Returns:
        The exit code, and how many jobs are done.
    """
    overall = Overall([job.seconds for job in jobs])
    for number, job in enumerate(jobs):
        overall.begin(number)
        if job.is_done():
            overall.skip()
            worker.say(f"[{number + 1}/{len(jobs)}] {job.what}: done already, and kept.")
            continue
        worker.say(f"{overall.in_words(0)}{job.what}")
        code = worker.do(job, overall)
        if code or not job.is_done():  # stopped, or paused by the time limit
            return code, number
    return 0, len(jobs)


def _reported(plan: Reproduction, experiments: Sequence[Experiment]) -> dict[str, Any]:
    paths = [plan.path(experiment.config) for experiment in experiments]
    runs = [RunDirectory(path) for path in paths]
    for run in runs:
        if not (run.path / "hyperparameters.md").is_file():
            write_results(run)
    folder = plan.folder / "report"
    write_report(document(read_material(paths, plan.folder / "explanation")), folder)
    rows = [row for run in runs for part in ("val", "test") for row in primary_rows(run, part)]
    for row in rows:
        plan.say(describe_row(row))
    return {
        "rows": [_without_episodes(row) for row in rows],
        "weights": [str(path / "model.safetensors") for path in paths],
        "html": str(folder / "report.html"),
        "pdf": str(folder / "report.pdf"),
    }


def _without_episodes(row: EvaluationRow) -> dict[str, Any]:
    values = row.to_json()
    del values["query_accuracy_per_episode"], values["episode_classes"]
    return values
