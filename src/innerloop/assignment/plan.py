"""What the course asks for: which runs, how much of everything, and what is left to do."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from innerloop.assignment.asked import PAIR
from innerloop.assignment.jobs import Evaluation, Explanation, Job, Shots, Training
from innerloop.experiments.experiment import Experiment, prepare
from innerloop.methods.catalogue import settings_of
from innerloop.settings.run import RunConfig

METHODS = ("fomaml", "maml", "mamlpp", "transfer")
LONG_MINUTES = 90
"""From here on a plan counts in hours."""


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
    return {
        "quick": Budget("quick", (0,), 150, 20, 4),
        "full": Budget("full", (0, 1, 2), 600, 200, 16, other_split="1100-100-423"),
    }


@dataclass(frozen=True)
class Reproduction:
    """What a budget makes, and where.

    Attributes:
        budget: how much.
        data: which data set is asked for.
        folder: where the runs, the explanation and the report go.
        data_dir: where Omniglot's archives are.
        say: told in sentences what happens to the data.
    """

    budget: Budget
    data: str
    folder: Path
    data_dir: Path | None
    say: Callable[[str], None]

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
        configs = self.configs()
        first = prepare(configs[0], data_dir=self.data_dir, say=self.say)
        others = configs[1:]
        if self.budget.other_split and first.config.data.name == "omniglot":
            of_one_seed = configs[: len(METHODS)]
            others += [config.replace(split=self.budget.other_split) for config in of_one_seed]
        prepared = (prepare(config, dataset=first.dataset, say=self.say) for config in others)
        return [first, *prepared]

    def path(self, config: RunConfig) -> Path:
        """Where a run goes."""
        other = f"-{config.data.split}" if config.data.split == self.budget.other_split else ""
        return self.folder / f"{config.run_name}{other}"

    def jobs(self, experiments: Sequence[Experiment]) -> list[Job]:
        """Everything that is to be done, in order.

        Args:
            experiments: as `experiments` makes them.
        """
        jobs: list[Job] = []
        for experiment in experiments:
            jobs += [self._training(experiment), self._evaluation(experiment)]
        firsts = {
            experiment.config.method: self.path(experiment.config)
            for experiment in experiments[: len(METHODS)]
        }
        budget = self.budget
        jobs += [Shots(firsts[method], budget.shots_episodes) for method in reversed(PAIR)]
        first, second = (firsts[method] for method in PAIR)
        folder = self.folder / "explanation"
        jobs.append(Explanation(first, second, folder, budget.episodes, budget.few_episodes))
        return jobs

    def _training(self, experiment: Experiment) -> Training:
        return Training(experiment, self.path(experiment.config))

    def _evaluation(self, experiment: Experiment) -> Evaluation:
        config = experiment.config
        part = "test" if config.data.split == self.budget.other_split else "val"
        return Evaluation(self.path(config), part, self.budget.episodes, config.network.filters)


def plan_in_words(budget: Budget, jobs: Sequence[Job]) -> Iterator[str]:
    """The plan with its times, said before it starts."""
    left = sum(job.seconds for job in jobs if not job.is_done())
    yield (
        f"Plan ({budget.name} budget): {len(jobs)} jobs and the report, about {_duration(left)} "
        "to go on two x86_64 cores."
    )
    for number, job in enumerate(jobs, start=1):
        time = "done already" if job.is_done() else f"about {_duration(job.seconds)}"
        yield f"  {number:2d}. {job.what}: {time}"
    if budget.name == "quick":
        yield (
            "Trainings are the published ones, of one seed; evaluations and the explanation are "
            "over fewer episodes, so intervals are wider. The published results are BUDGET=full, "
            "or --budget full."
        )


def _duration(seconds: float) -> str:
    if seconds <= 1:
        return "no time"
    minutes = seconds / 60
    if minutes < 1:
        return "1 minute"
    return f"{minutes:.0f} minutes" if minutes < LONG_MINUTES else f"{minutes / 60:.1f} hours"
