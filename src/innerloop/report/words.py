"""Results in words, as the shell prints them."""

import math
from collections.abc import Sequence

from innerloop.core.intervals import interval_in_words
from innerloop.runs.results import ResultRow
from innerloop.settings.method import adaptation_in_words


def describe_row(row: ResultRow) -> str:
    """A result with everything that it must not be quoted without, in one sentence."""
    # A head in closed form takes no steps.
    adapted = "adaptation"
    if row.inner_lr is not None:
        adapted = adaptation_in_words(row.inner_steps, row.inner_lr, learnt=row.learned_rates)
    adaptation = "" if row.adaptation == "own" else f", adapting {row.adaptation}"
    method = f"{row.method} (transductive)" if row.transductive else row.method
    return (
        f"{method}{adaptation}: {100 * row.query_accuracy:.2f} ± "
        f"{100 * row.query_accuracy_ci95:.2f} % query accuracy after {adapted} "
        f"({100 * row.query_accuracy_before:.1f} % before), {row.data}, split "
        f"{row.split}, part {row.part}, {row.ways}-way {row.shots}-shot, "
        f"{row.queries} queries, batch norm {row.batch_norm}, query batches "
        f"{row.query_batches}, rotations {'on' if row.rotations else 'off'}, "
        f"{row.episodes} episodes of seed {row.episode_seed}, training seed "
        f"{row.training_seed}; {interval_in_words(row.covers)}"
    )


def table_of_rows(rows: Sequence[ResultRow]) -> str:
    """Query and support accuracies in percent, a row for each shots and batch norm."""
    lines = [
        "",
        "shots  batch norm    query before  query after      support before  support after",
    ]
    lines += [
        f"{row.shots:5d}  {row.batch_norm:12s}  {100 * row.query_accuracy_before:10.2f} "
        f"%  {100 * row.query_accuracy:6.2f} ± {100 * row.query_accuracy_ci95:.2f} %  "
        f"{100 * row.support_accuracy_before:12.2f} %  {_percent_or_dash(row.support_accuracy)}"
        for row in rows
    ]
    lines += [_line_of_steps(row) for row in rows if _was_measured_by_step(row)]
    return "\n".join(lines)


def _percent_or_dash(accuracy: float) -> str:
    """Of the support set, where it is known without the images that are predicted."""
    return f"{'-':>11s}" if math.isnan(accuracy) else f"{100 * accuracy:11.2f} %"


def _was_measured_by_step(row: ResultRow) -> bool:
    known = not any(map(math.isnan, row.query_accuracy_per_step))
    return known and row.inner_lr is not None


def _line_of_steps(row: ResultRow) -> str:
    """Query accuracy after each inner step; of many steps only some."""
    curve = row.query_accuracy_per_step
    shown = [
        step
        for step in range(len(curve))
        if len(curve) <= 25 or step in (0, 1, 2, 3, 5) or step % 10 == 0
    ]
    steps = "  ".join(f"{step}: {100 * curve[step]:.1f}" for step in shown)
    return f"{row.shots}-shot {row.batch_norm}, query accuracy in % at inner step {steps}"
