"""`innerloop reproduce`: every method trained, evaluated, compared, explained and reported.

All of it goes under fixed names.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from innerloop.analysis.explanation.explain import explain_runs
from innerloop.cli.actions import evaluate_and_save, evaluate_if_needed, run_training
from innerloop.cli.progress import CountProgress, Overall
from innerloop.core.errors import ConfigError
from innerloop.experiments.environment import environment
from innerloop.experiments.experiment import Experiment, open_run, prepare
from innerloop.methods.catalogue import settings_of
from innerloop.report import write_results
from innerloop.report.explanation import write_explanation
from innerloop.report.material import explains, read_explanation
from innerloop.report.report import read_material, write_report
from innerloop.report.words import describe_row
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import over_shots, primary_rows
from innerloop.runs.results import EvaluationRow
from innerloop.settings.run import RunConfig

METHODS = ("fomaml", "maml", "mamlpp", "transfer")
QUICK: dict[str, Any] = dict(
    filters=32,
    meta_steps=400,
    validation_every=40,
    validation_episodes=20,
    checkpoint_every=40,
)
"""What the quick budget makes smaller."""
QUICK_EPISODES: dict[str, Any] = dict(meta_batch_size=2)
"""Besides, of methods that train on episodes."""
QUICK_TRANSFER: dict[str, Any] = dict(meta_steps=2000, validation_every=200, checkpoint_every=200)
"""Besides: transfer's outer steps are mini-batches of images."""
SHOTS = tuple(range(1, 11))
"""Support images a class in the table over K."""
SECONDS = {"fomaml": 0.22, "maml": 0.50, "mamlpp": 0.52, "transfer": 0.10, "episode": 0.3}
"""Of a training episode (transfer: a mini-batch) and an evaluated one; 64 filters, two x86_64
cores. For the plan."""


@dataclass(frozen=True)
class Budget:
    """How much of everything.

    Attributes:
        name: ``quick`` or ``full``.
        seeds: training seeds.
        episodes: of every evaluation.
        shots_episodes: of every evaluation at K = 1 ... 10.
        few_episodes: of what adapts whole networks in the explanation.
        settings: of a method, where they differ from its published ones.
        other_split: a split whose test part is evaluated too, with seed 0, or None.
    """

    name: str
    seeds: tuple[int, ...]
    episodes: int
    shots_episodes: int
    few_episodes: int
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    other_split: str | None = None


def budgets() -> dict[str, Budget]:
    """The two budgets by name."""
    smaller = {
        method: QUICK | (QUICK_TRANSFER if method == "transfer" else QUICK_EPISODES)
        for method in METHODS
    }
    return {
        "quick": Budget("quick", (0,), 150, 20, 4, smaller),
        "full": Budget("full", (0, 1, 2), 600, 200, 16, other_split="1100-100-423"),
    }


@dataclass(frozen=True)
class Job:
    """One step of a plan.

    Attributes:
        what: it does, in words.
        seconds: that it is expected to take on two cores.
        is_done: whether what it makes is there already.
        do: makes it; returns an exit code, 0 also where a time limit paused it.
    """

    what: str
    seconds: float
    is_done: Callable[[], bool]
    do: Callable[[Overall], int]


@dataclass(frozen=True)
class Reproduction:
    """What a budget makes, and where.

    Attributes:
        budget: how much.
        data: which data set is asked for.
        folder: where the runs, the explanation and the report go.
        data_dir: where Omniglot's archives are.
        say: told in sentences what happens.
        quiet: show no progress.
        max_minutes: of every training.
    """

    budget: Budget
    data: str
    folder: Path
    data_dir: Path | None
    say: Callable[[str], None]
    quiet: bool
    max_minutes: float | None

    def configs(self) -> list[RunConfig]:
        """The settings of every run, in the order in which they are trained."""
        return [
            settings_of(method).replace(
                data=self.data, seed=seed, **self.budget.settings.get(method, {})
            )
            for seed in self.budget.seeds
            for method in METHODS
        ]

    def experiments(self) -> list[Experiment]:
        """Every run with its data; those of the other split last, where the data have it."""
        first, *others = self.configs()
        found = [prepare(first, data_dir=self.data_dir, say=self.say)]
        if self.budget.other_split and found[0].config.data.name == "omniglot":
            others += [
                config.replace(split=self.budget.other_split)
                for config in (first, *others[: len(METHODS) - 1])
            ]
        return found + [
            prepare(config, dataset=found[0].dataset, say=self.say) for config in others
        ]

    def path(self, config: RunConfig) -> Path:
        """Where a run goes."""
        other = f"-{config.data.split}" if config.data.split == self.budget.other_split else ""
        return self.folder / f"{config.run_name}{other}"

    def jobs(self, experiments: list[Experiment]) -> list[Job]:
        """Everything that is to be done, in order."""
        jobs = []
        for experiment in experiments:
            jobs += [self._training(experiment), self._evaluation(experiment)]
        main = [
            one for one in experiments if one.config.data.split == experiments[0].config.data.split
        ]
        first = {
            one.config.method: self.path(one.config)
            for one in main
            if one.config.training.seed == main[0].config.training.seed
        }
        jobs += [self._shots(first[method]) for method in ("fomaml", "transfer")]
        jobs.append(self._explanation(first["transfer"], first["fomaml"]))
        return jobs

    def _training(self, experiment: Experiment) -> Job:
        config, path = experiment.config, self.path(experiment.config)
        size = 1 if config.method == "transfer" else config.own.batch
        validations = (
            config.training.meta_steps
            / config.training.validation_every
            * config.training.validation_episodes
        )
        units = (
            config.training.meta_steps * size * SECONDS[config.method]
            + validations * SECONDS["episode"] / 2
        )

        def is_done() -> bool:
            run = self.existing(experiment)
            return run is not None and run.weights_path.is_file() and run.status.state == "finished"

        def do(overall: Overall) -> int:
            run = self.existing(experiment) or RunDirectory.create(
                config, environment(experiment), path
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

        what = f"train {config.method}, seed {config.training.seed}: {experiment.describe()}"
        return Job(what, units * config.network.filters / 64, is_done, do)

    def existing(self, experiment: Experiment) -> RunDirectory | None:
        """The run under its fixed name, or None.

        Raises:
            ConfigError: if a run of other settings or data has the name.
        """
        path = self.path(experiment.config)
        if not path.exists():
            return None
        run = RunDirectory(path)
        settings = run.config.flat()
        for name, wanted in experiment.config.flat().items():
            found = settings.get(name)
            if found != wanted:
                raise ConfigError(
                    f"{path} is there with another {name!r} ({found!r}, here {wanted!r}): choose "
                    "another --out, or remove it."
                )
        if run.environment.data_fingerprint != experiment.dataset.fingerprint:
            raise ConfigError(
                f"{path} is there with other data: choose another --out, or remove it."
            )
        return run

    def _evaluation(self, experiment: Experiment) -> Job:
        path, episodes = self.path(experiment.config), self.budget.episodes
        part = "test" if experiment.config.data.split == self.budget.other_split else "val"

        def is_done() -> bool:
            return _is_finished(path) and bool(primary_rows(RunDirectory(path), part, episodes))

        def do(overall: Overall) -> int:
            evaluate_if_needed(
                RunDirectory(path),
                part,
                episodes,
                data_dir=self.data_dir,
                say=self.say,
                quiet=self.quiet,
                overall=overall,
            )
            return 0

        seconds = episodes * SECONDS["episode"] * experiment.config.network.filters / 64
        return Job(f"evaluate {path.name} on {episodes} {part} episodes", seconds, is_done, do)

    def _shots(self, path: Path) -> Job:
        episodes = self.budget.shots_episodes

        def is_done() -> bool:
            if not _is_finished(path):
                return False
            found = [
                row.shots for row in over_shots(RunDirectory(path)) if row.episodes >= episodes
            ]
            return set(found) >= set(SHOTS)

        def do(overall: Overall) -> int:
            run = RunDirectory(path)
            experiment, learner = open_run(run, data_dir=self.data_dir, say=self.say)
            count = CountProgress(
                "episodes", episodes * len(SHOTS), quiet=self.quiet, overall=overall
            )
            for index, shots in enumerate(SHOTS):
                evaluate_and_save(
                    run,
                    experiment,
                    learner,
                    part="val",
                    episodes=episodes,
                    inner_steps=experiment.config.own.adaptation_steps,
                    batch_norms=learner.batch_norm_modes[:1],
                    ways=experiment.config.episode.ways,
                    shots=shots,
                    queries=10,
                    on_episodes=lambda done, before=index * episodes: count(before + done),
                )
            return 0

        return Job(
            f"evaluate {path.name} at K = 1 ... 10, {episodes} episodes each",
            episodes * len(SHOTS) * SECONDS["episode"] / 3,
            is_done,
            do,
        )

    def _explanation(self, first: Path, second: Path) -> Job:
        folder, budget = self.folder / "explanation", self.budget

        def is_done() -> bool:
            file = folder / "explanation.json"
            if not file.is_file():
                return False
            found = read_explanation(file)
            counts = (found.episodes, found.few_episodes)
            both = [RunDirectory(path) for path in (first, second) if _is_finished(path)]
            return (
                counts == (budget.episodes, budget.few_episodes)
                and len(both) == 2
                and explains(found, both)
            )

        def do(overall: Overall) -> int:
            self.say(f"{overall.said(0)}why {first.name} and {second.name} differ")
            found = explain_runs(
                RunDirectory(first),
                RunDirectory(second),
                episodes=budget.episodes,
                few_episodes=budget.few_episodes,
                data_dir=self.data_dir,
                say=self.say,
            )
            write_explanation(found, folder)
            return 0

        seconds = 0.15 * budget.episodes + 20 * budget.few_episodes
        return Job(f"explain {first.name} against {second.name}", seconds, is_done, do)


def _is_finished(path: Path) -> bool:
    return path.exists() and RunDirectory(path).weights_path.is_file()


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
    if (
        file := next((one for one in (out / budget, *(out / budget).parents) if one.exists()), out)
    ).is_file():
        raise ConfigError(f"{file} is a file, and no folder for the runs.")
    chosen = budgets()[budget]
    plan = Reproduction(chosen, data, out / budget, data_dir, say, quiet, max_minutes)
    experiments = plan.experiments()
    jobs = plan.jobs(experiments)
    for line in plan_in_words(chosen, jobs):
        say(line)
    overall = Overall([job.seconds for job in jobs])
    for number, job in enumerate(jobs):
        overall.begin(number)
        if job.is_done():
            overall.skip()
            say(f"[{number + 1}/{len(jobs)}] {job.what}: done already, and kept.")
            continue
        say(f"{overall.said(0)}{job.what}")
        if (code := job.do(overall)) or not job.is_done():  # stopped, or paused by the time limit
            return code, {"done": number, "of": len(jobs)}
    return 0, _reported(plan, experiments)


def plan_in_words(budget: Budget, jobs: list[Job]) -> Iterator[str]:
    """The plan with its times, printed before it starts."""
    left = sum(job.seconds for job in jobs if not job.is_done())
    yield (
        f"Plan ({budget.name} budget): {len(jobs)} jobs and the report, about {_minutes(left)} "
        "to go on two x86_64 cores."
    )
    for number, job in enumerate(jobs, start=1):
        time = "done already" if job.is_done() else f"about {_minutes(job.seconds)}"
        yield f"  {number:2d}. {job.what}: {time}"
    if budget.name == "quick":
        yield (
            "This budget is smaller than the published results, in filters, outer steps, "
            "episodes and seeds, and its accuracies are lower; the report says in what. Those "
            "are BUDGET=full, or --budget full."
        )


def _minutes(seconds: float) -> str:
    if seconds < 60:
        return "1 minute" if seconds > 1 else "no time"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _reported(plan: Reproduction, experiments: list[Experiment]) -> dict[str, Any]:
    runs = [plan.path(experiment.config) for experiment in experiments]
    for path in runs:
        if not (path / "hyperparameters.md").is_file():
            write_results(RunDirectory(path))
    folder = plan.folder / "report"
    write_report(read_material(runs, plan.folder / "explanation"), folder)
    rows = []
    for path in runs:
        run = RunDirectory(path)
        rows += [*primary_rows(run, "val"), *primary_rows(run, "test")]
    for row in rows:
        plan.say(describe_row(row))
    return {
        "rows": [_without_episodes(row) for row in rows],
        "weights": [str(path / "model.safetensors") for path in runs],
        "html": str(folder / "report.html"),
        "pdf": str(folder / "report.pdf"),
    }


def _without_episodes(row: EvaluationRow) -> dict[str, Any]:
    values = row.to_json()
    del values["query_accuracy_per_episode"]
    return values
