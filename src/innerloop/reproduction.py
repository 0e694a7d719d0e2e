"""The plan of `innerloop reproduce`: which runs, in which order, under fixed names."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from innerloop.config import RunConfig
from innerloop.errors import ConfigError
from innerloop.experiments import Experiment, environment, evaluate_run, open_run, save_evaluation
from innerloop.runs import RunDirectory

QUICK = {"meta_batch_size": 2, "validation_episodes": 25}
"""What the quick budget makes smaller."""
EVALUATION_EPISODES = {"quick": 200, "full": 600}


@dataclass(frozen=True)
class Plan:
    """What a budget runs.

    Attributes:
        config: settings of the run.
        evaluation_episodes: fixed episodes of the evaluation after it.
        sentences: the plan in words, printed before it starts.
    """

    config: RunConfig
    evaluation_episodes: int
    sentences: tuple[str, ...]


def plan(budget: str, data: str = "auto") -> Plan:
    """What a budget runs: FO-MAML with the assignment's settings, and its evaluation.

    Args:
        budget: ``quick`` or ``full``.
        data: as in `RunConfig`.
    """
    published = RunConfig(method="fomaml", data=data)
    config = published.replace(**(QUICK if budget == "quick" else {}))
    episodes = EVALUATION_EPISODES[budget]
    sentences = [
        f"Plan ({budget} budget): FO-MAML, {config.ways}-way {config.shots}-shot, {config.inner_steps} inner steps at "
        f"{config.inner_lr:g}, {config.meta_steps} outer steps of {config.meta_batch_size} episodes; then its "
        f"evaluation on {episodes} episodes, and figures."
    ]
    if budget == "quick":
        sentences.append(
            f"This budget is smaller than the published run, which has {published.meta_batch_size} episodes an outer "
            f"step and {EVALUATION_EPISODES['full']} in its evaluation: that is BUDGET=full, or --budget full."
        )
    return Plan(config, episodes, tuple(sentences))


def find_or_create(experiment: Experiment, out: Path, budget: str) -> RunDirectory:
    """The run under its fixed name: the one that is there, if it is the same, else a new one.

    Raises:
        ConfigError: if a run of other settings or data has the name.
    """
    path = out / budget / experiment.config.run_name
    if not path.exists():
        return RunDirectory.create(experiment.config, environment(experiment), path)
    run = RunDirectory(path)
    for name in experiment.config.__dataclass_fields__:
        if getattr(run.config, name) != getattr(experiment.config, name):
            raise ConfigError(
                f"{path} is there with another {name!r} ({getattr(run.config, name)!r}, here "
                f"{getattr(experiment.config, name)!r}): choose another --out, or remove it."
            )
    if run.environment.get("data_fingerprint") != experiment.dataset.fingerprint:
        raise ConfigError(f"{path} is there with other data: choose another --out, or remove it.")
    return run


def evaluate_finished(
    run: RunDirectory,
    episodes: int,
    *,
    data_dir: Path | None,
    say: Callable[[str], None],
    on_episodes: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Evaluate a finished run under both batch-norm modes, and write the rows into its directory."""
    experiment, learner = open_run(run, data_dir=data_dir, say=say)
    steps = experiment.config.inner_steps
    evaluations = evaluate_run(
        experiment, learner, part="val", episodes=episodes, inner_steps=steps,
        batch_norms=learner.batch_norm_modes, on_episodes=on_episodes,
    )  # fmt: skip
    for evaluation in evaluations:
        save_evaluation(run, evaluation, inner_steps=steps)
    return [evaluation.to_json(step=steps) for evaluation in evaluations]
