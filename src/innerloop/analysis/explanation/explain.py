"""An explanation from two run directories."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from innerloop.analysis.explanation.measurements import explain
from innerloop.analysis.explanation.results import Explanation
from innerloop.analysis.explanation.subjects import Subject
from innerloop.core.errors import ConfigError
from innerloop.experiments.experiment import open_run
from innerloop.fast_weights.engine import Engine
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import primary_rows


def explain_runs(
    a: RunDirectory,
    b: RunDirectory,
    *,
    episodes: int = 600,
    few_episodes: int = 16,
    data_dir: Path | None = None,
    device: str | None = None,
    engine: Engine | None = None,
    say: Callable[[str], None] = print,
) -> Explanation:
    """Why two runs differ.

    Args:
        a: a finished run, evaluated on ``episodes`` validation episodes.
        b: another, of the same data, split, ways, shots and queries.
        episodes: of what is quick to measure.
        few_episodes: of what adapts whole networks, hundreds of steps long.
        data_dir: where Omniglot's archives are.
        device: where to compute, see `experiments.machine.device_for`.
        engine: what computes; None: as ``auto``.
        say: told in sentences what is being done.

    Raises:
        ConfigError: if a run was not evaluated, or its network is not `innerloop.Conv4`.
    """
    first, second = (_subject(run, episodes, data_dir, device, engine, say) for run in (a, b))
    if first.name == second.name:
        first, second = (
            subject.renamed(name)
            for subject, name in zip((first, second), _names_apart(a, b), strict=True)
        )
    explanation = explain((first, second), episodes=episodes, few_episodes=few_episodes, say=say)
    row_a, row_b = (
        replace(row, weights_sha256=run.weights_sha256())
        for row, run in zip(explanation.subjects, (a, b), strict=True)
    )
    return replace(explanation, subjects=(row_a, row_b))


def _names_apart(a: RunDirectory, b: RunDirectory) -> tuple[str, str]:
    """Two runs of one method are called by their folders, or by their paths if need be."""
    if a.path.name == b.path.name:
        return str(a.path), str(b.path)
    return a.path.name, b.path.name


def _subject(
    run: RunDirectory,
    episodes: int,
    data_dir: Path | None,
    device: str | None,
    engine: Engine | None,
    say: Callable[[str], None],
) -> Subject:
    rows = primary_rows(run, "val", episodes)
    if not rows:
        raise ConfigError(f"{run.path} was not evaluated on {episodes} episodes of part val.")
    experiment, learner = open_run(
        run, data_dir=data_dir, device=device, engine=engine or "auto", say=say
    )
    return Subject(
        run.config.method, experiment, learner, np.array(rows[0].query_accuracy_per_episode)
    )
