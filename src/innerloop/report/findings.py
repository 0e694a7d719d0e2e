"""The sentences of a report that judge; each follows from numbers by a rule, and nothing else."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from innerloop.analysis.compared import LearningCurve, Pair
from innerloop.analysis.explanation.rows import Mean, PartRow, ShotsRow
from innerloop.runs.directory import RunDirectory

WITHOUT_BATCH_NORM = (
    "A network of its user's own that has no batch norm predicts each image by itself, whatever "
    "the mode of batch norm is called."
)
"""What is said beside a mode's meaning where a network may have none."""
ROUGHLY = 0.01
"""Accuracies that are nearer to one another than this are called level."""


def percent(mean: float, half: float | None = None, digits: int = 2) -> str:
    """An accuracy in percent, with its interval."""
    if not math.isfinite(mean):
        return "not finite"
    return (
        f"{100 * mean:.{digits}f}" + ("" if half is None else f" ± {100 * half:.{digits}f}") + " %"
    )


def nats(loss: float) -> str:
    """A cross-entropy."""
    return f"{loss:.3f} nats" if math.isfinite(loss) else "a loss that is not finite"


def counted(number: int, one: str) -> str:
    """A number of things in words."""
    return f"{number} {one}{'' if number == 1 else 's'}"


def before_adaptation(
    accuracies: Mapping[str, tuple[float, float]], ways: int, from_zero: Sequence[str]
) -> list[str]:
    """Why accuracy before adaptation is what it is.

    Args:
        accuracies: name of a method -> its mean accuracy before adaptation, and the half-width of
            its interval.
        ways: classes in an episode.
        from_zero: methods that know nothing of an episode's classes before: their head starts from
            zero, or is found in one go.
    """
    exact = [
        name
        for name in from_zero
        if accuracies[name][1] == 0 and abs(accuracies[name][0] - 1 / ways) < 1e-6
    ]
    sentences = []
    if exact:
        sentences.append(
            f"Before adaptation, exactly {percent(1 / ways, digits=1)} of the query images are "
            f"right in every episode ({', '.join(exact)}): until the support set is seen all "
            f"{ways} logits are equal, the tie goes to one class, and one image in {ways} is of "
            "that class."
        )
    for name, (mean, half) in accuracies.items():
        if name in exact:
            continue
        if abs(mean - 1 / ways) <= max(half, ROUGHLY):
            sentences.append(
                f"Before adaptation {name} has {percent(mean, half, 1)}, chance: labels are "
                "assigned at random in every episode, so nothing in a picture tells its label "
                "until the support set does."
            )
        else:
            side = "above" if mean > 1 / ways else "below"
            sentences.append(
                f"Before adaptation {name} has {percent(mean, half, 1)}, {side} chance "
                f"({percent(1 / ways, digits=1)})."
            )
    return sentences


def support_against_query(name: str, support: float, query: float) -> str:
    """Which of the two sets is classified better after adaptation, and what that means."""
    sentence = (
        f"After adaptation {name} has {percent(support, digits=1)} on the support and "
        f"{percent(query, digits=1)} on the query set"
    )
    gap = support - query
    if abs(gap) < ROUGHLY:
        return (
            f"{sentence}: level, so what it learns from the support set carries over to new "
            "drawings."
        )
    if gap > 0:
        return f"{sentence}: {100 * gap:.1f} points are lost on drawings that it did not adapt to."
    return f"{sentence}: the query set is {100 * -gap:.1f} points better."


def more_steps(name: str, accuracy: Sequence[float], trained: int) -> str:
    """What inner steps do: how far the first goes, and what those beyond training bring."""
    values = list(accuracy)
    if trained < 1 or len(values) <= trained or not all(map(math.isfinite, values)):
        return f"{name} was not measured step by step."
    sentence = (
        f"{name} goes from {percent(values[0], digits=1)} to {percent(values[1], digits=1)} with "
        f"the first inner step and to {percent(values[trained], digits=1)} with all {trained}"
    )
    if len(values) == trained + 1:
        return f"{sentence}."
    change = values[-1] - values[trained]
    points_more = round(100 * change, 1) + 0.0  # without the sign of a zero
    return (
        f"{sentence}; going on to {len(values) - 1} steps {_effect(change)} "
        f"({points_more:+.1f} points)."
    )


def _effect(change: float) -> str:
    if abs(change) < ROUGHLY:
        return "changes little"
    return "helps" if change > 0 else "hurts"


def over_rates(name: str, rows: Sequence[PartRow], own: float) -> str:
    """What the inner rate does: best of those tried, range within two points, the run's own."""
    best = max(rows, key=lambda row: row.mean)
    near = _around(rows, best)
    mine = min(rows, key=lambda row: abs(row.rate - own))
    return (
        f"Of the inner rates tried, {name}'s accuracy is highest at {best.rate:g} "
        f"({percent(best.mean, best.ci95, 1)}) and within two points of that from "
        f"{min(near):g} to {max(near):g}; at {mine.rate:g} it has "
        f"{percent(mine.mean, mine.ci95, 1)}"
        + (
            ", which the intervals do not tell apart."
            if mine is not best and _overlap(mine, best)
            else "."
        )
    )


def _overlap(a: Mean, b: Mean) -> bool:
    return abs(a.mean - b.mean) <= a.ci95 + b.ci95


def _around(rows: Sequence[PartRow], best: PartRow) -> list[float]:
    """The rates next to the best one, without a gap, that are within two points of it."""
    ordered = sorted(rows, key=lambda row: row.rate)
    low = high = ordered.index(best)
    while low and ordered[low - 1].mean >= best.mean - 0.02:
        low -= 1
    while high + 1 < len(ordered) and ordered[high + 1].mean >= best.mean - 0.02:
        high += 1
    return [row.rate for row in ordered[low : high + 1]]


def over_shots(name: str, rows: Sequence[ShotsRow]) -> str:
    """What more support images per class do; better is what the intervals tell apart."""
    shown = ", ".join(f"{percent(row.mean, row.ci95, 1)} with {row.shots}" for row in rows)
    rising = len(rows) > 1 and all(
        b.mean - a.mean > math.hypot(a.ci95, b.ci95) for a, b in pairwise(rows)
    )
    return f"{name} has {shown} support images a class" + (
        ": more is better at every step." if rising else "."
    )


def what_was_seen(pair: Pair, curves: Sequence[LearningCurve], runs: Sequence[RunDirectory]) -> str:
    """How much, and what, the first run of each of two methods was trained on.

    Args:
        pair: names them.
        curves: of all runs in the comparison.
        runs: a run of each, in that order.
    """
    sentences = []
    for name, run in zip((pair.a, pair.b), runs, strict=True):
        passes = next(curve.image_passes[-1] for curve in curves if curve.name == name)
        task = run.config.own.task_in_words(run.config)
        sentences.append(
            f"{name} {task}, and sent {passes / 1000:.0f} thousand images forward and backward"
        )
    return f"In training {sentences[0]}; {sentences[1]}."
