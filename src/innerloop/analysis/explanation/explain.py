"""An explanation from two run directories."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from innerloop.analysis.explanation.measurements import Subject, explain
from innerloop.analysis.explanation.verdict import verdict
from innerloop.core.errors import ConfigError
from innerloop.experiments.experiment import open_run
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import primary_rows


def explain_runs(
    a: RunDirectory,
    b: RunDirectory,
    *,
    episodes: int = 600,
    few_episodes: int = 16,
    threads: int = 0,
    data_dir: Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Everything that ``explanation.json`` holds, the verdict included.

    Args:
        a: a finished run, evaluated on ``episodes`` validation episodes.
        b: another, of the same data, split, ways, shots and queries.
        episodes: of what is quick to measure.
        few_episodes: of what adapts whole networks, hundreds of steps long.
        threads: CPU threads; 0 takes those of the second run's training.
        data_dir: where Omniglot's archives are.
        say: told in sentences what is being done.

    Raises:
        ConfigError: if a run was not evaluated, or its network is not `innerloop.Conv4`.
    """
    one, other = (_subject(run, episodes, data_dir, say) for run in (a, b))
    if threads:  # opening a run sets those of its training, which matter for its bits alone
        torch.set_num_threads(threads)
    if one.name == other.name:
        same = a.path.name == b.path.name
        one, other = (
            subject.renamed(str(run.path) if same else run.path.name)
            for subject, run in ((one, a), (other, b))
        )
    measured = explain((one, other), episodes=episodes, few_episodes=few_episodes, say=say)
    for subject, run in zip(measured["subjects"], (a, b), strict=True):
        subject["weights_sha256"] = run.weights_sha256()
    return {"verdict": verdict(measured)} | measured


def _subject(
    run: RunDirectory, episodes: int, data_dir: Path | None, say: Callable[[str], None]
) -> Subject:
    rows = primary_rows(run, "val", episodes)
    if not rows:
        raise ConfigError(f"{run.path} was not evaluated on {episodes} episodes of part val.")
    experiment, learner = open_run(run, data_dir=data_dir, say=say)
    return Subject(
        run.config.method, experiment, learner, np.array(rows[0].query_accuracy_per_episode)
    )
