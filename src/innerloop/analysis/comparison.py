"""Compare runs over the same episodes: paired differences and intervals."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from innerloop.analysis.compared import ComparedRow, Comparison, LearningCurve, Pair
from innerloop.core.components import Design
from innerloop.core.errors import ConfigError, DataError
from innerloop.core.intervals import (
    Difference,
    independent_difference,
    mean_and_interval,
    paired_difference,
    what_is_covered,
)
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import (
    evaluations,
    is_primary,
    method_settings,
    primary_rows,
    protocol,
    validations,
)
from innerloop.runs.results import EvaluationRow, Protocol, ValidationRecord


@dataclass(frozen=True)
class Arm:
    """What a row is made from.

    Attributes:
        name: what tables and figures call it.
        runs: its runs, one for each training seed.
        rows: an evaluation of each run.
    """

    name: str
    runs: tuple[RunDirectory, ...]
    rows: tuple[EvaluationRow, ...]

    @property
    def accuracies(self) -> np.ndarray:
        """(seeds, episodes) query accuracy of each training seed in each episode."""
        return np.array([row.query_accuracy_per_episode for row in self.rows])

    @property
    def seeds(self) -> tuple[int, ...]:
        """The training seed of each run."""
        return tuple(row.training_seed for row in self.rows)

    def summary(self) -> ComparedRow:
        """The row: mean, its interval and, apart, the spread over training seeds."""
        design = shared_design(self.rows)
        mean, half = mean_and_interval(self.accuracies, design)
        seeds = np.array([row.query_accuracy for row in self.rows])
        curves = zip(*(row.query_accuracy_per_step for row in self.rows), strict=True)
        first = self.rows[0]
        return ComparedRow(
            **dataclasses.asdict(first.protocol),
            name=self.name,
            runs=tuple(run.path.name for run in self.runs),
            training_seeds=self.seeds,
            method=first.method,
            adaptation=first.adaptation,
            # Evaluations did not always say it themselves.
            learned_rates=self.runs[0].config.own.learns_rates and first.adaptation == "own",
            transductive=first.transductive,
            inner_steps=first.inner_steps,
            inner_lr=first.inner_lr,
            batch_norm=first.batch_norm,
            query_accuracy=mean,
            query_accuracy_ci95=half,
            covers=what_is_covered(design, seeds=len(self.rows) > 1),
            query_accuracy_of_each_seed=tuple(seeds.tolist()),
            query_accuracy_sd_over_seeds=float(seeds.std(ddof=1)) if len(seeds) > 1 else None,
            query_accuracy_per_step=tuple(float(np.mean(column)) for column in curves),
        )


def shared_design(rows: Sequence[EvaluationRow]) -> Design:
    """Which episodes share classes; nothing is known of it where a row does not name them.

    Args:
        rows: all over the same episodes.

    Raises:
        DataError: if they name other classes.
    """
    named = [row.episode_classes for row in rows]
    if None in named:
        return Design(rows[0].episodes)
    if any(classes != named[0] for classes in named):
        methods = " and ".join(dict.fromkeys(row.method for row in rows))
        raise DataError(
            f"Evaluations of {methods} name other classes for the same episodes "
            f"({rows[0].stream}, seed {rows[0].episode_seed}): evaluate these runs again."
        )
    return rows[0].design


def differing_fields(protocols: Sequence[Protocol]) -> dict[str, list[Any]]:
    """Fields in which protocols differ, each with the values there are."""
    values = {
        spec.name: [getattr(protocol, spec.name) for protocol in protocols]
        for spec in fields(Protocol)
    }
    return {
        name: column
        for name, column in values.items()
        if any(value != column[0] for value in column)
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
    # Resolved, since two spellings of a path, or a link, are one run.
    paths = [run.path.resolve() for run in runs]
    for path, run in zip(paths, runs, strict=True):
        if paths.count(path) > 1:
            raise ConfigError(f"{run.path} is given twice.")
        run.refuse_unfinished()


def arms(runs: Sequence[RunDirectory], part: str, episodes: int) -> tuple[list[Arm], list[Arm]]:
    """Group evaluations into rows: runs that differ in nothing but the training seed are one.

    Returns:
        The primary rows, and the others: other batch-norm modes, other adaptations.

    Raises:
        ConfigError: if two runs of a method have the same training seed.
    """
    groups: dict[tuple[Any, ...], list[tuple[RunDirectory, EvaluationRow]]] = {}
    for run in runs:
        for row in evaluations(run, part, episodes):
            adaptation = (row.adaptation, row.inner_steps, row.inner_lr, row.batch_norm)
            method = (*method_settings(run), row.protocol)
            groups.setdefault((method, adaptation), []).append((run, row))
    methods = [method for method, *_ in dict.fromkeys(method for method, _ in groups)]
    same_names = len({run.path.name for run in runs}) < len(runs)
    primary = []
    others = []
    for members in groups.values():
        _refuse_seed_twice(members)
        run, row = members[0]
        name = row.method
        if methods.count(run.config.method) > 1:
            name += f" ({run.path if same_names else run.path.name})"
        arm = Arm(name, tuple(run for run, _ in members), tuple(row for _, row in members))
        (primary if is_primary(run, row) else others).append(arm)
    return primary, others


def _refuse_seed_twice(members: Sequence[tuple[RunDirectory, EvaluationRow]]) -> None:
    # A copy of a run would pass for a second seed, with no spread at all.
    seeds = [row.training_seed for _, row in members]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(
            f"{' and '.join(str(run.path) for run, _ in members)} are one method with training "
            f"seeds {', '.join(map(str, seeds))}: the same seed twice is no second seed."
        )


def learning_curve(name: str, run: RunDirectory) -> LearningCurve:
    """Validation over the training of a run.

    An image pass is one image sent forward and backward in training.
    """
    records = validations(run)
    return LearningCurve(
        name=name,
        run=run.path.name,
        method=run.config.method,
        training_seed=run.config.training.seed,
        step=tuple(record.step for record in records),
        image_passes=tuple(_image_passes(run, record) for record in records),
        seconds=tuple(record.elapsed_s for record in records),
        machine=run.machine,
        query_accuracy=tuple(record.query_accuracy for record in records),
        query_accuracy_ci95=tuple(record.query_accuracy_ci95 for record in records),
        episodes=records[-1].episodes,
        batch_norm=records[-1].batch_norm,
        covers=records[-1].covers,
    )


def _image_passes(run: RunDirectory, record: ValidationRecord) -> int:
    if record.image_passes is not None:
        return record.image_passes
    # Runs did not always record it.
    return run.config.own.image_passes(run.config, record.step)


def compare(
    runs: Sequence[RunDirectory],
    *,
    part: str = "val",
    episodes: int = 600,
    allow_different: bool = False,
) -> Comparison:
    """Compare runs by the evaluations in their directories.

    Args:
        runs: at least two finished runs, each with an evaluation of its own way.
        part: which classes.
        episodes: how many of the part's fixed episodes.
        allow_different: go on where the protocols differ; differences are then not paired.

    Raises:
        ConfigError: if the runs cannot be compared, or one was not evaluated.
    """
    check_runs(runs, episodes)
    if not allow_different:
        refuse_differences(runs, part, episodes)
    for run in runs:
        if not primary_rows(run, part, episodes):
            raise ConfigError(
                f"{run.path} was not evaluated on {episodes} episodes of part {part}."
            )
    return results(runs, part, episodes)


def results(runs: Sequence[RunDirectory], part: str, episodes: int) -> Comparison:
    """Rows, paired differences and learning curves of one or more runs, evaluated their own way."""
    primary, others = arms(runs, part, episodes)
    return Comparison(
        rows=tuple(arm.summary() for arm in primary),
        other_rows=tuple(arm.summary() for arm in others),
        pairs=tuple(_pair(a, b) for index, a in enumerate(primary) for b in primary[index + 1 :]),
        learning_curves=tuple(learning_curve(arm.name, run) for arm in primary for run in arm.runs),
        differing_fields=differing_fields([protocol(run, part, episodes) for run in runs]),
    )


def _pair(a: Arm, b: Arm) -> Pair:
    return Pair(a.name, b.name, difference(a, b))


def difference(a: Arm, b: Arm) -> Difference:
    """Arm A minus arm B, paired by episode where both were measured on the same ones."""
    # Over other episodes nothing pairs, and the interval is that of two independent means.
    if a.rows[0].protocol != b.rows[0].protocol:
        designs = (shared_design(a.rows), shared_design(b.rows))
        return independent_difference(a.accuracies, b.accuracies, *designs)
    return paired_difference(a.accuracies, b.accuracies, shared_design((*a.rows, *b.rows)))
