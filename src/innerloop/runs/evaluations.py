"""Judges evaluations: over which episodes they are, and which of them a method is judged by."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from innerloop.core.errors import DataError
from innerloop.core.seeding import EVALUATION_SEED
from innerloop.runs.directory import RunDirectory
from innerloop.runs.results import EvaluationRow, Protocol, ResultRow, ValidationRecord, typed

NOT_THE_METHOD = (
    "seed",
    "threads",
    "device",
    "validation_every",
    "validation_episodes",
    "checkpoint_every",
    "episodes_per_chunk",
    # These two are in the protocol, by which rows are told apart anyway.
    "data",
    "split",
)
"""Settings that two runs of one method may differ in."""

QUERIES_OVER_SHOTS = 10
"""Query images a class in the evaluations at several shots."""


def protocol(run: RunDirectory, part: str, episodes: int) -> Protocol:
    """Over which episodes an evaluation of a run is, known before it is made."""
    config = run.config
    return Protocol(
        data=config.data.name,
        data_fingerprint=run.environment.data_fingerprint or "-",
        split=config.data.split,
        part=part,
        ways=config.episode.ways,
        shots=config.episode.shots,
        queries=config.episode.queries,
        query_batches=1,
        rotations=False,
        stream=f"episodes/{part}",
        episode_seed=EVALUATION_SEED,
        episodes=episodes,
    )


def evaluations(run: RunDirectory, part: str, episodes: int | None = None) -> list[EvaluationRow]:
    """A run's evaluations of its own protocol, whatever the adaptation, those of its own way first.

    Args:
        run: finished.
        part: which classes.
        episodes: how many; None: however many there are, the most first.

    Raises:
        DataError: if one of the files is damaged.
    """
    rows = [
        row
        for row in run.evaluations()
        if row.protocol == protocol(run, part, row.episodes if episodes is None else episodes)
    ]
    return sorted(rows, key=lambda row: (not is_own(run, row), -row.episodes))


def is_own(run: RunDirectory, row: EvaluationRow) -> bool:
    """Whether an evaluation adapts in the method's own way, as trained."""
    own = run.config.own
    return (row.adaptation, row.inner_lr, row.inner_steps) == (
        "own",
        own.adaptation_rate,
        own.adaptation_steps,
    )


def is_primary(run: RunDirectory, row: EvaluationRow) -> bool:
    """Whether an evaluation is what a method is judged by: its own way and batch-norm mode."""
    # Validations use the method's own mode, so that files alone say which it is, without a learner.
    return is_own(run, row) and row.batch_norm == validations(run)[-1].batch_norm


def validations(run: RunDirectory) -> tuple[ValidationRecord, ...]:
    """A run's validations, at least one.

    Raises:
        DataError: if there is none.
    """
    records = run.validations()
    if not records:
        raise DataError(f"{run.path / 'metrics.jsonl'} holds no validation.")
    return records


def last_validation(run: RunDirectory) -> ResultRow:
    """A run's last validation, with everything that it must not be quoted without."""
    record = run.read_metrics("validation")[-1]
    return typed(record, ResultRow, f"The last validation in {run.path / 'metrics.jsonl'}")


def primary_rows(run: RunDirectory, part: str, episodes: int | None = None) -> list[EvaluationRow]:
    """The evaluations that a run is judged by, the most episodes first."""
    return [row for row in evaluations(run, part, episodes) if is_primary(run, row)]


def primary_row(run: RunDirectory, part: str, episodes: int | None = None) -> EvaluationRow | None:
    """A run's evaluation in its own way on so many episodes of a part, or on the most; or None."""
    if not run.weights_path.is_file() or not run.validations():
        return None
    return next(iter(primary_rows(run, part, episodes)), None)


def common_episodes(runs: Sequence[RunDirectory], part: str) -> int | None:
    """The most episodes on which each of some runs was evaluated in its own way, or None."""
    counts = [{row.episodes for row in primary_rows(run, part)} for run in runs]
    return max(set.intersection(*counts), default=None) if counts else None


def method_settings(run: RunDirectory) -> tuple[Any, ...]:
    """A run's method with every setting in which two runs of one method must not differ."""
    values = run.config.flat()
    return (
        values["method"],
        tuple(value for name, value in values.items() if name not in NOT_THE_METHOD),
    )


def over_other_shapes(run: RunDirectory) -> list[EvaluationRow]:
    """A run's evaluations in its own way on episodes of other ways, shots or queries, rising.

    Data, split and drawing of episodes are the run's own.
    """
    rows = []
    for row in run.evaluations():
        shape = {"ways": row.ways, "shots": row.shots, "queries": row.queries}
        own = protocol(run, row.part, row.episodes)
        as_trained = row.protocol == own
        if is_own(run, row) and not as_trained and row.protocol == replace(own, **shape):
            rows.append(row)
    return sorted(rows, key=lambda row: (row.part != "val", row.ways, row.shots, row.queries))


def over_shots(run: RunDirectory) -> list[EvaluationRow]:
    """A run's validation at several shots, in its own way, by rising number of shots.

    All are over as many episodes: of several such series the longest, then that on the most.
    """
    series: dict[int, dict[int, EvaluationRow]] = {}
    for row in run.evaluations():
        if _is_over_shots(run, row):
            series.setdefault(row.episodes, {})[row.shots] = row
    longest = max(series, key=lambda episodes: (len(series[episodes]), episodes), default=0)
    return [row for _, row in sorted(series.get(longest, {}).items())]


def _is_over_shots(run: RunDirectory, row: EvaluationRow) -> bool:
    config = run.config
    expected = (
        config.data.split,
        run.environment.data_fingerprint,
        "val",
        config.episode.ways,
        QUERIES_OVER_SHOTS,
        validations(run)[-1].batch_norm,
    )
    actual = (
        row.split,
        row.data_fingerprint,
        row.part,
        row.ways,
        row.queries,
        row.batch_norm,
    )
    return actual == expected and is_own(run, row)
