"""The sentences of a report that judge; each follows from numbers by a rule, and nothing else."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from innerloop.analysis.explanation.rows import Mean, PartRow, ShotsRow
from innerloop.runs.directory import RunDirectory

ROUGHLY = 0.01
"""Accuracies that are nearer to one another than this are called level."""


def percent(mean: float | None, half: float | None = None, digits: int = 2) -> str:
    """An accuracy in percent, with its interval.

    None is what JSON has for a number that is not finite.
    """
    if mean is None:
        return "not finite"
    return (
        f"{100 * mean:.{digits}f}" + ("" if half is None else f" ± {100 * half:.{digits}f}") + " %"
    )


def nats(loss: float | None) -> str:
    """A cross-entropy."""
    return "a loss that is not finite" if loss is None else f"{loss:.3f} nats"


def counted(number: int, one: str) -> str:
    """A number of things in words."""
    return f"{number} {one}{'' if number == 1 else 's'}"


def against_bar(name: str, mean: float, half: float, bar: float) -> str:
    """Whether an accuracy is above a bar, beyond its interval."""
    if mean - half > bar:
        verdict = f"is above the bar of {100 * bar:g} %"
    elif mean + half < bar:
        verdict = f"is below the bar of {100 * bar:g} %"
    else:
        verdict = f"cannot be told from the bar of {100 * bar:g} %, which lies in its interval"
    return f"{name} {verdict}: {percent(mean, half)} query accuracy after adaptation."


def first_above(
    name: str, steps: Sequence[int], accuracy: Sequence[float | None], bar: float
) -> str:
    """When a validation curve passes a bar, and whether it ever falls back under it."""
    known = [
        (step, value or 0.0) for step, value in zip(steps, accuracy, strict=True)
    ]  # not finite is no accuracy
    reached = next((step for step, value in known if value >= bar), None)
    if reached is None:
        return f"Its validation curve never reaches {100 * bar:g} %."
    after = [value for step, value in known if step > reached]
    stays = (
        "and stays above it"
        if all(value >= bar for value in after)
        else "and falls under it again later"
    )
    return f"{name}'s validation curve reaches {100 * bar:g} % at outer step {reached} {stays}."


def before_adaptation(
    accuracies: Mapping[str, tuple[float, float]], ways: int, from_zero: Sequence[str]
) -> list[str]:
    """Why accuracy before adaptation is what it is.

    Args:
        accuracies: name of a method -> its mean accuracy before adaptation, and the half-width of
            its interval.
        ways: classes in an episode.
        from_zero: methods whose head starts from zero in every episode.
    """
    exact = [
        name
        for name in from_zero
        if accuracies[name][1] == 0 and abs(accuracies[name][0] - 1 / ways) < 1e-6
    ]
    said = []
    if exact:
        said.append(
            f"Before adaptation, exactly {percent(1 / ways, digits=1)} of the query images are "
            f"right in every episode ({', '.join(exact)}): the head starts from zero, so all "
            f"{ways} logits are equal, the tie goes to one class, and one image in {ways} is of "
            "that class."
        )
    for name, (mean, half) in accuracies.items():
        if name in exact:
            continue
        if abs(mean - 1 / ways) <= max(half, ROUGHLY):
            said.append(
                f"Before adaptation {name} has {percent(mean, half, 1)}, chance: labels are "
                "assigned at random in every episode, so nothing in a picture tells its label "
                "until the support set does."
            )
        else:
            side = "above" if mean > 1 / ways else "below"
            said.append(
                f"Before adaptation {name} has {percent(mean, half, 1)}, {side} chance "
                f"({percent(1 / ways, digits=1)})."
            )
    return said


def support_against_query(name: str, support: float, query: float) -> str:
    """Which of the two sets is classified better after adaptation, and what that means."""
    said = (
        f"After adaptation {name} has {percent(support, digits=1)} on the support and "
        f"{percent(query, digits=1)} on the query set"
    )
    gap = support - query
    if abs(gap) < ROUGHLY:
        return (
            f"{said}: level, so what it learns from the support set carries over to new drawings."
        )
    if gap > 0:
        return f"{said}: {100 * gap:.1f} points are lost on drawings that it did not adapt to."
    return f"{said}: the query set is {100 * -gap:.1f} points better."


def more_steps(name: str, accuracy: Sequence[float | None], trained: int) -> str:
    """What inner steps do: how far the first goes, and what those beyond training bring."""
    values = [np.nan if value is None else value for value in accuracy]
    if trained < 1 or len(values) <= trained or not np.isfinite(values).all():
        return f"{name} was not measured step by step."
    said = (
        f"{name} goes from {percent(values[0], digits=1)} to {percent(values[1], digits=1)} with "
        f"the first inner step and to {percent(values[trained], digits=1)} with all {trained}"
    )
    if len(values) == trained + 1:
        return f"{said}."
    change = values[-1] - values[trained]
    beyond = "changes little" if abs(change) < ROUGHLY else "helps" if change > 0 else "hurts"
    points_more = round(100 * change, 1) + 0.0  # without the sign of a zero
    return f"{said}; going on to {len(values) - 1} steps {beyond} ({points_more:+.1f} points)."


def stability(arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Which of several methods trains more steadily, by each seed's validation curve.

    Args:
        arms: name of a method -> what `innerloop.core.stability.measures` says of each of its
            trainings, by seed.
    """
    said = []
    for name, rows in arms.items():
        fallen = sum(bool(row["diverged"]) for row in rows)
        whole = [row for row in rows if "drawdown" in row]
        ending = (
            "."
            if not whole
            else (
                f"; its largest fall from a former best above 80 % is "
                f"{100 * max(row['drawdown'] for row in whole):.1f} points, its roughness "
                f"{100 * float(np.mean([row['roughness'] for row in whole])):.2f} points."
            )
        )
        said.append(f"{name}: {fallen} of {counted(len(rows), 'seed')} diverged{ending}")
    known = {
        name: round(float(np.mean([row["roughness"] for row in rows])), 4)  # as the table shows it
        for name, rows in arms.items()
        if rows and all("roughness" in row for row in rows)
    }
    if len(set(known.values())) > 1:
        calm = [name for name in known if known[name] == min(known.values())]
        rough = [name for name in known if known[name] == max(known.values())]
        seeds = ", ".join(f"{name} {counted(len(rows), 'seed')}" for name, rows in arms.items())
        zero = (
            " A curve that never falls has a roughness of zero." if min(known.values()) == 0 else ""
        )
        said.append(
            f"By roughness, {' and '.join(calm)} {'is' if len(calm) == 1 else 'are'} the "
            f"smoothest and {' and '.join(rough)} the roughest.{zero} This describes these "
            f"trainings ({seeds}) and tests nothing about the methods."
        )
    return said


def smoothing(decays: Mapping[str, float]) -> str:
    """What the moving average of the validated weights does to curves that are compared."""
    if len(set(decays.values())) > 1:
        shown = ", ".join(f"{name} {decay:g}" for name, decay in decays.items())
        return (
            "The curves do not compare: their moving averages of the weights have different "
            f"decays ({shown})."
        )
    decay = next(iter(decays.values()))
    if decay:
        return (
            f"The validated weights are a moving average of decay {decay:g} over the outer "
            "steps, which smooths every curve here; the study of stability in the documentation "
            "is without it."
        )
    return "The validated weights are those of the optimiser, without a moving average."


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


def kept_rates(run: RunDirectory) -> str:
    """Which learnt rates of the first inner step stayed where they began, and why; or nothing."""
    last = run.read_metrics("validation")[-1].get("diagnostics") or {}
    kept = [
        layer
        for layer, rates in last.get("learned_rates", {}).items()
        if rates and abs(rates[0] - run.config.own.adaptation_rate) < 1e-6
    ]
    if not kept or not (run.config.own.has_fresh_head and run.config.network.head_init == "zero"):
        return ""
    return (
        f"The rate of the first inner step stays at {run.config.own.adaptation_rate:g} in "
        f"{', '.join(kept)}: a head that starts from zero passes no gradient to the layers below "
        "it, so that step moves the head alone."
    )


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
    """What more support images per class do."""
    shown = ", ".join(f"{percent(row.mean, row.ci95, 1)} with {row.shots}" for row in rows)
    rising = len(rows) > 1 and all(b.mean > a.mean for a, b in pairwise(rows))
    return f"{name} has {shown} support images a class" + (
        ": more is better at every step." if rising else "."
    )


def better_or_worse(pair: Mapping[str, Any]) -> str:
    """The answer to the assignment's last question: the first method's verdict and its numbers."""
    verdict = {"better": "Better", "worse": "Worse", "not distinguishable": "Neither"}[
        pair["verdict"]
    ]
    return f"{verdict}. {pair['sentence']}"


def what_was_seen(
    pair: Mapping[str, Any], curves: Sequence[Mapping[str, Any]], runs: Sequence[RunDirectory]
) -> str:
    """How much, and what, the first run of each of two methods was trained on.

    Args:
        pair: names them, ``a`` and ``b``.
        curves: learning curves by ``name``, as a comparison has them.
        runs: a run of each, in that order.
    """
    said = []
    for name, run in zip((pair["a"], pair["b"]), runs, strict=True):
        passes = next(curve["image_passes"][-1] for curve in curves if curve["name"] == name)
        if run.config.own.trains_on == "images":
            turned = (
                ", each of its four rotations a class of its own,"
                if run.config.own.rotations_as_classes
                else ""
            )
            task = f"told all training characters{turned} apart at once"
        else:
            task = (
                f"told {run.config.episode.ways} characters apart at a time, new ones in every "
                "episode"
            )
        said.append(
            f"{name} {task}, and sent {passes / 1000:.0f} thousand images forward and backward"
        )
    return f"In training {said[0]}; {said[1]}."
