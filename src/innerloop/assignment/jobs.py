"""The steps of the course's plan: what each makes, how long it takes, and whether it is there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from innerloop.assignment.asked import SHOTS
from innerloop.core.errors import ConfigError
from innerloop.experiments.experiment import Experiment
from innerloop.report.material import explains, read_explanation
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import over_shots, primary_rows

SECONDS = {"fomaml": 0.022, "maml": 0.042, "mamlpp": 0.042, "transfer": 0.024, "episode": 0.06}
"""Of a training episode (transfer: a mini-batch) and an evaluated one, by the fused engine; 64
filters, two x86_64 cores. For the plan."""
FILTERS = 64
"""Those of `SECONDS`."""
SLOWER = 3.5
"""How many times as long the reference takes."""


class Job(Protocol):
    """One step of a plan."""

    @property
    def what(self) -> str:
        """It does, in words."""
        ...

    @property
    def seconds(self) -> float:
        """That it is expected to take on two cores."""
        ...

    def is_done(self) -> bool:
        """Whether what it makes is there already."""
        ...


@dataclass(frozen=True)
class Training:
    """A run is trained.

    Attributes:
        experiment: its settings with its data.
        path: where it goes.
    """

    experiment: Experiment
    path: Path

    @property
    def what(self) -> str:
        """Method, seed, data."""
        config = self.experiment.config
        return f"train {config.method}, seed {config.training.seed}: {self.experiment.describe()}"

    @property
    def seconds(self) -> float:
        """Of the outer steps, and of the validations between them."""
        config = self.experiment.config
        training = config.training
        own = config.own
        size = 1 if own.trains_on == "images" else own.batch
        validations = training.meta_steps / training.validation_every * training.validation_episodes
        seconds = (
            training.meta_steps * size * SECONDS[config.method]
            + validations * SECONDS["episode"] / 2
        )
        slower = 1.0 if config.machine.engine == "fused" else SLOWER
        return seconds * slower * config.network.filters / FILTERS

    def is_done(self) -> bool:
        """Whether the run is finished."""
        run = self.existing()
        return run is not None and run.weights_path.is_file() and run.status.state == "finished"

    def existing(self) -> RunDirectory | None:
        """The run under its fixed name, or None.

        Raises:
            ConfigError: if a run of other settings or data has the name.
        """
        if not self.path.exists():
            return None
        run = RunDirectory(self.path)
        settings = run.config.flat()
        for name, wanted in self.experiment.config.flat().items():
            value = settings.get(name)
            if value != wanted:
                raise ConfigError(
                    f"{self.path} is there with another {name!r} ({value!r}, here {wanted!r}): "
                    "choose another --out, or remove it."
                )
        if run.environment.data_fingerprint != self.experiment.dataset.fingerprint:
            raise ConfigError(
                f"{self.path} is there with other data: choose another --out, or remove it."
            )
        return run


@dataclass(frozen=True)
class Evaluation:
    """A run is evaluated in its own way.

    Attributes:
        path: of the run.
        part: which classes.
        episodes: how many.
        filters: of its network.
    """

    path: Path
    part: str
    episodes: int
    filters: int

    @property
    def what(self) -> str:
        """Run and episodes."""
        return f"evaluate {self.path.name} on {self.episodes} {self.part} episodes"

    @property
    def seconds(self) -> float:
        """Of all episodes."""
        return self.episodes * SECONDS["episode"] * self.filters / FILTERS

    def is_done(self) -> bool:
        """Whether there is a row of as many episodes."""
        if not _is_finished(self.path):
            return False
        return bool(primary_rows(RunDirectory(self.path), self.part, self.episodes))


@dataclass(frozen=True)
class Shots:
    """A run is evaluated at every K of `SHOTS`.

    Attributes:
        path: of the run.
        episodes: at each K.
    """

    path: Path
    episodes: int

    @property
    def what(self) -> str:
        """Run and episodes."""
        return (
            f"evaluate {self.path.name} at K = {SHOTS[0]} ... {SHOTS[-1]}, {self.episodes} "
            "episodes each"
        )

    @property
    def seconds(self) -> float:
        """Of all episodes; most have fewer images than usual."""
        return self.episodes * len(SHOTS) * SECONDS["episode"] / 3

    def is_done(self) -> bool:
        """Whether there is a row for every K."""
        if not _is_finished(self.path):
            return False
        rows = over_shots(RunDirectory(self.path))
        return {row.shots for row in rows if row.episodes >= self.episodes} >= set(SHOTS)


@dataclass(frozen=True)
class Explanation:
    """Why two runs differ is measured.

    Attributes:
        first, second: paths of the runs.
        folder: where it goes.
        episodes: of what is quick.
        few_episodes: of what is slow.
    """

    first: Path
    second: Path
    folder: Path
    episodes: int
    few_episodes: int

    @property
    def what(self) -> str:
        """The two runs."""
        return f"explain {self.first.name} against {self.second.name}"

    @property
    def seconds(self) -> float:
        """Of both kinds of episodes."""
        return 0.15 * self.episodes + 20 * self.few_episodes

    def is_done(self) -> bool:
        """Whether there is one of these runs on as many episodes."""
        file = self.folder / "explanation.json"
        if not file.is_file():
            return False
        explanation = read_explanation(file)
        counts = (explanation.episodes, explanation.few_episodes)
        runs = [RunDirectory(path) for path in (self.first, self.second) if _is_finished(path)]
        wanted = (self.episodes, self.few_episodes)
        return counts == wanted and len(runs) == 2 and explains(explanation, runs)


def _is_finished(path: Path) -> bool:
    return path.exists() and RunDirectory(path).weights_path.is_file()
