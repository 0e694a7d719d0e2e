"""Compare runs over the same episodes: paired differences, intervals, and sentences from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from innerloop.core.errors import ConfigError, DataError
from innerloop.core.files import read_json
from innerloop.core.intervals import (
    Difference,
    independent_difference,
    mean_and_interval,
    paired_difference,
)
from innerloop.core.seeding import EVALUATION_SEED
from innerloop.runs.directory import RunDirectory

MUST_AGREE = (
    "data",
    "data_fingerprint",
    "split",
    "part",
    "ways",
    "shots",
    "queries",
    "query_batches",
    "rotations",
    "stream",
    "episode_seed",
    "episodes",
)
"""What two evaluations must have in common to be over the same episodes."""

NEEDED = {
    "method",
    "training_seed",
    "inner_steps",
    "batch_norm",
    "query_accuracy",
    "query_accuracy_per_step",
}
"""What an evaluation must hold besides."""

NOT_THE_METHOD = (
    "seed",
    "threads",
    "device",
    "validation_every",
    "validation_episodes",
    "checkpoint_every",
    "episodes_per_chunk",
    "data",
    "split",
)
"""Settings that two runs of one method may differ in."""


@dataclass(frozen=True)
class Arm:
    """One row of a comparison: a method, adapted in one way, under one batch-norm mode.

    Attributes:
        name: what tables and figures call it.
        runs: its runs, one for each training seed.
        rows: an evaluation of each run, as ``evaluation-*.json`` holds it.
    """

    name: str
    runs: tuple[RunDirectory, ...]
    rows: tuple[dict[str, Any], ...]

    @property
    def accuracies(self) -> np.ndarray:
        """(episodes,) query accuracy of each episode, the mean over the training seeds."""
        return np.mean([row["query_accuracy_per_episode"] for row in self.rows], axis=0)

    def summary(self) -> dict[str, Any]:
        """The row: mean, its interval over episodes and, apart, the spread over training seeds."""
        mean, half = mean_and_interval(self.accuracies)
        seeds = np.array([row["query_accuracy"] for row in self.rows])
        first = self.rows[0]
        return {
            "name": self.name,
            "runs": [run.path.name for run in self.runs],
            "training_seeds": [row["training_seed"] for row in self.rows],
            "learned_rates": self.runs[0].config.own.learns_rates and first["adaptation"] == "own",
            **{
                field: first[field]
                for field in ("method", "adaptation", "inner_steps", "inner_lr", "batch_norm")
            },
            **{field: first[field] for field in MUST_AGREE},
            "query_accuracy": mean,
            "query_accuracy_ci95": half,
            "query_accuracy_of_each_seed": seeds.tolist(),
            "query_accuracy_sd_over_seeds": float(seeds.std(ddof=1)) if len(seeds) > 1 else None,
            "query_accuracy_per_step": _mean_per_step(
                [row["query_accuracy_per_step"] for row in self.rows]
            ),
        }


def _mean_per_step(curves: Sequence[Sequence[float | None]]) -> list[float | None]:
    return [
        None if any(value is None for value in column) else float(np.mean(column))  # type: ignore[arg-type]
        for column in zip(*curves, strict=True)
    ]


def sentence(a: str, b: str, difference: Difference, subject: str = "query accuracy") -> str:
    """What a difference says, in words that follow from its interval."""
    points = f"{100 * difference.mean:+.2f} ± {100 * difference.ci95:.2f} points of {subject}"
    said = {
        "better": f"{a} is better than {b}: {points}",
        "worse": f"{a} is worse than {b}: {points}",
        "not distinguishable": f"{a} and {b} are not distinguishable: {points}",
    }[difference.verdict]
    if not difference.paired:
        return f"{said} (not the same episodes, so not paired)."
    assert difference.probability is not None
    won, lost, tied = difference.won, difference.lost, difference.tied
    assert won is not None and lost is not None and tied is not None
    effect = "none" if difference.effect_size is None else f"{difference.effect_size:.2f}"
    return (
        f"{said} over the same {won + lost + tied} episodes ({won} won, {lost} lost, {tied} "
        f"tied; P({a} > {b}) = {difference.probability:.2f}, effect size "
        f"{effect}){_wins_against_mean(a, b, difference)}."
    )


def _wins_against_mean(a: str, b: str, difference: Difference) -> str:
    """A clause where one run wins clearly more episodes, and the mean does not show it.

    Clearly: by more than 1.96 standard deviations of a fair coin thrown for every episode that is
    not tied.
    """
    assert difference.won is not None and difference.lost is not None
    lead = difference.won - difference.lost
    if abs(lead) <= 1.96 * math.sqrt(difference.won + difference.lost):
        return ""
    ahead, behind = (a, b) if lead > 0 else (b, a)
    if difference.verdict == ("better" if lead > 0 else "worse"):
        return ""
    return f"; {ahead} wins clearly more episodes than {behind}, which the mean does not show"


def protocol(run: RunDirectory, part: str, episodes: int | None) -> dict[str, Any]:
    """What an evaluation of a run has under `MUST_AGREE`, known before it is made."""
    config = run.config
    return {
        "data": config.data.name,
        "data_fingerprint": run.environment.data_fingerprint,
        "split": config.data.split,
        "part": part,
        "ways": config.episode.ways,
        "shots": config.episode.shots,
        "queries": config.episode.queries,
        "query_batches": 1,
        "rotations": False,
        "stream": f"episodes/{part}",
        "episode_seed": EVALUATION_SEED,
        "episodes": episodes,
    }


def differing_fields(protocols: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Fields of `MUST_AGREE` in which protocols differ, each with the values there are."""
    values = {name: [protocol[name] for protocol in protocols] for name in MUST_AGREE}
    return {
        name: found for name, found in values.items() if any(value != found[0] for value in found)
    }


def refuse_differences(runs: Sequence[RunDirectory], part: str, episodes: int) -> None:
    """Raise `ConfigError` naming the first field in which the runs' evaluations would differ."""
    for name, values in differing_fields([protocol(run, part, episodes) for run in runs]).items():
        shown = ", ".join(f"{run.path} {value!r}" for run, value in zip(runs, values, strict=True))
        raise ConfigError(
            f"These runs cannot be compared: {name} differs ({shown}). To see them side by side "
            "all the same, add --allow-different."
        )


def check_runs(runs: Sequence[RunDirectory], episodes: int) -> None:
    """Refuse fewer than two runs or episodes, a run twice, and a run that is not finished."""
    if episodes < 2:
        raise ConfigError(f"An interval needs at least 2 episodes: got {episodes}.")
    if len(runs) < 2:
        raise ConfigError("A comparison needs at least two runs.")
    paths = [run.path.resolve() for run in runs]
    for path, run in zip(paths, runs, strict=True):
        if paths.count(path) > 1:
            raise ConfigError(f"{run.path} is given twice.")
        run.refuse_unfinished()


def evaluations(run: RunDirectory, part: str, episodes: int | None = None) -> list[dict[str, Any]]:
    """A run's evaluations of its own protocol, whatever the adaptation, those of its own way first.

    Args:
        run: finished.
        part: which classes.
        episodes: how many; None: however many there are, the most first.

    Raises:
        DataError: if one of the files is damaged.
    """
    rows = []
    for path in sorted(run.path.glob("evaluation-*.json")):
        row = {"adaptation": "own", "inner_lr": run.config.own.adaptation_rate} | read_json(path)
        count = row.get("episodes") if episodes is None else episodes
        if any(row.get(name) != value for name, value in protocol(run, part, count).items()):
            continue
        accuracies = row.get("query_accuracy_per_episode")
        if not isinstance(accuracies, list) or len(accuracies) != count or not row.keys() >= NEEDED:
            raise DataError(f"{path} does not hold the accuracy of each of its {count} episodes.")
        rows.append(row)
    return sorted(rows, key=lambda row: (not is_own(run, row), -row["episodes"]))


def common_episodes(runs: Sequence[RunDirectory], part: str) -> int | None:
    """The most episodes on which each of some runs was evaluated in its own way, or None."""
    counts = [
        {row["episodes"] for row in evaluations(run, part) if is_primary(run, row)} for run in runs
    ]
    return max(set.intersection(*counts), default=None) if counts else None


def is_own(run: RunDirectory, row: dict[str, Any]) -> bool:
    """Whether an evaluation adapts in the method's own way, as trained."""
    config = run.config
    return (row["adaptation"], row["inner_lr"], row["inner_steps"]) == (
        "own",
        config.own.adaptation_rate,
        config.own.adaptation_steps,
    )


def is_primary(run: RunDirectory, row: dict[str, Any]) -> bool:
    """Whether an evaluation is what a method is judged by: its own way and batch-norm mode."""
    return is_own(run, row) and row["batch_norm"] == _validations(run)[-1]["batch_norm"]


def _validations(run: RunDirectory) -> list[dict[str, Any]]:
    if not (records := run.read_metrics("validation")):
        raise DataError(f"{run.path / 'metrics.jsonl'} holds no validation.")
    return records


def arms(runs: Sequence[RunDirectory], part: str, episodes: int) -> tuple[list[Arm], list[Arm]]:
    """Group evaluations into rows: runs that differ in nothing but the training seed are one.

    Returns:
        The primary rows, and the others: other batch-norm modes, other adaptations.

    Raises:
        ConfigError: if two runs of a method have the same training seed.
    """
    groups: dict[tuple[Any, ...], list[tuple[RunDirectory, dict[str, Any]]]] = {}
    for run in runs:
        for row in evaluations(run, part, episodes):
            setting = tuple(
                row[name] for name in ("adaptation", "inner_steps", "inner_lr", "batch_norm")
            )
            method = (*method_settings(run), tuple(row[name] for name in MUST_AGREE))
            groups.setdefault((method, setting), []).append((run, row))
    settings = {method for method, _ in groups}
    same_names = len({run.path.name for run in runs}) < len(runs)
    primary, others = [], []
    for (method, _), members in groups.items():
        run, row = members[0]
        seeds = [row["training_seed"] for _, row in members]
        if len(set(seeds)) < len(seeds):
            raise ConfigError(
                f"{' and '.join(str(run.path) for run, _ in members)} are one method with "
                f"training seeds {', '.join(map(str, seeds))}: the same seed twice is no second "
                "seed."
            )
        alone = sum(other[0] == method[0] for other in settings) == 1
        name = (
            row["method"]
            if alone
            else f"{row['method']} ({run.path if same_names else run.path.name})"
        )
        arm = Arm(name, tuple(run for run, _ in members), tuple(row for _, row in members))
        (primary if is_primary(run, row) else others).append(arm)
    return primary, others


def method_settings(run: RunDirectory) -> tuple[Any, ...]:
    """A run's method with every setting in which two runs of one method must not differ."""
    values = run.config.flat()
    return (
        values["method"],
        tuple(value for name, value in values.items() if name not in NOT_THE_METHOD),
    )


def learning_curve(run: RunDirectory) -> dict[str, Any]:
    """Validation over the training: outer steps, image passes, seconds, accuracy and interval.

    An image pass is one image sent forward and backward in training.
    """
    config, records = run.config, _validations(run)
    return {
        "run": run.path.name,
        "method": config.method,
        "training_seed": config.training.seed,
        "step": [record["step"] for record in records],
        "image_passes": [_image_passes(run, record) for record in records],
        "seconds": [record["elapsed_s"] for record in records],
        "machine": run.machine,
        "query_accuracy": [record["query_accuracy"] for record in records],
        "query_accuracy_ci95": [record["query_accuracy_ci95"] for record in records],
        "episodes": records[-1]["episodes"],
        "batch_norm": records[-1]["batch_norm"],
    }


def _image_passes(run: RunDirectory, record: dict[str, Any]) -> int:
    if "image_passes" in record:
        return record["image_passes"]
    # Runs did not always record it.
    return run.config.own.image_passes(run.config, record["step"])


def compare(
    runs: Sequence[RunDirectory],
    *,
    part: str = "val",
    episodes: int = 600,
    allow_different: bool = False,
) -> dict[str, Any]:
    """Everything that ``comparison.json`` holds, from the evaluations in the run directories.

    Args:
        runs: at least two finished runs, each with an evaluation of its own way.
        part: which classes.
        episodes: how many of the part's fixed episodes.
        allow_different: go on where the protocols differ; differences are then not paired.

    Raises:
        ConfigError: if the runs cannot be compared, or one was not evaluated.
    """
    check_runs(runs, episodes)
    differing = differing_fields([protocol(run, part, episodes) for run in runs])
    if not allow_different:
        refuse_differences(runs, part, episodes)
    for run in runs:
        if not any(is_primary(run, row) for row in evaluations(run, part, episodes)):
            raise ConfigError(
                f"{run.path} was not evaluated on {episodes} episodes of part {part}."
            )
    return {"differing_fields": differing} | results(runs, part, episodes)


def results(runs: Sequence[RunDirectory], part: str, episodes: int) -> dict[str, Any]:
    """Rows, paired differences and learning curves of one or more runs, evaluated their own way."""
    primary, others = arms(runs, part, episodes)
    pairs = []
    for index, a in enumerate(primary):
        for b in primary[index + 1 :]:
            measure = (
                independent_difference
                if differing_fields([a.rows[0], b.rows[0]])
                else paired_difference
            )
            difference = measure(a.accuracies, b.accuracies)
            names = {"a": a.name, "b": b.name}
            pairs.append(
                names | difference.to_json() | {"sentence": sentence(a.name, b.name, difference)}
            )
    return {
        "rows": [arm.summary() for arm in primary],
        "other_rows": [arm.summary() for arm in others],
        "pairs": pairs,
        "learning_curves": [
            {"name": arm.name} | learning_curve(run) for arm in primary for run in arm.runs
        ],
    }
