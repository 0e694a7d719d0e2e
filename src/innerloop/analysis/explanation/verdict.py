"""The sentences of an explanation; each follows from the numbers by a rule, and nothing else."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from innerloop.analysis.explanation.head_rows import Gap
from innerloop.analysis.explanation.rows import (
    STEPS_OF_PARTS,
    DisjointMeans,
    PairedMeans,
    ShiftRow,
    SubjectRow,
)
from innerloop.analysis.explanation.step_rows import StepDifferences
from innerloop.core.intervals import Difference


def points(difference: Difference) -> str:
    """A difference in points of accuracy with its interval."""
    return f"{100 * difference.mean:+.2f} ± {100 * difference.ci95:.2f} points"


def ranked(difference: Difference, a: str, b: str) -> str:
    """Who is above, in words."""
    return {
        "better": f"{a} is above {b}",
        "worse": f"{b} is above {a}",
        "not distinguishable": f"{a} and {b} are not distinguishable",
    }[difference.verdict]


def which_is_better(
    subjects: tuple[SubjectRow, SubjectRow],
    own: PairedMeans,
    disjoint: DisjointMeans,
    episodes: int,
) -> str:
    """Who is above at the methods' own budgets, and whether disjoint episodes agree."""
    a, b = (subject.name for subject in subjects)
    budgets = dict.fromkeys(map(_budget, subjects))
    agree = own.difference.verdict == disjoint.difference.verdict
    return (
        f"At each method's own budget ({' and '.join(budgets)}), {ranked(own.difference, a, b)}: "
        f"{100 * own.a.mean:.2f} against {100 * own.b.mean:.2f} %, "
        f"{points(own.difference)} over {episodes} episodes. For new characters, "
        f"over {disjoint.episodes} episodes that share none: {points(disjoint.difference)}, "
        + ("which says the same." if agree else f"by which {ranked(disjoint.difference, a, b)}.")
    )


def _budget(subject: SubjectRow) -> str:
    """How many steps a run takes."""
    if subject.inner_lr is None:
        return "no steps"
    return f"{subject.inner_steps} step{'' if subject.inner_steps == 1 else 's'}"


def without_steps(subjects: tuple[SubjectRow, SubjectRow]) -> list[str]:
    """What an explanation, which is of steps and rates, measured of a run without."""
    return [
        f"{subject.name} takes no inner steps: its own adaptation is whole at once, and the "
        f"same from one step on and at every rate; other parts of its network took "
        f"{STEPS_OF_PARTS} steps."
        for subject in subjects
        if subject.inner_lr is None
    ]


def why(gap: Gap, a: str, b: str, head: str) -> str:
    """What the gap between the runs is made of.

    Args:
        gap: the first run minus the second.
        a: the first run.
        b: the second run.
        head: what the part of their heads is called.
    """
    parts = {
        "features": gap.features,
        head: gap.head_steps,
        "the body's adaptation": gap.body_adaptation,
    }
    shares = ", ".join(f"{points(part)} from {name}" for name, part in parts.items())
    # A part whose interval holds zero may be the largest by chance alone.
    clear = [name for name, part in parts.items() if part.verdict != "not distinguishable"]
    ending = "no part's interval leaves zero out."
    if clear:
        largest = max(clear, key=lambda name: abs(parts[name].mean))
        ending = f"the largest clear part is {largest}."
    return f"Of the gap, {a} minus {b}, {points(gap.all)}: {shares}; {ending}"


def features(gap: Gap, a: str, b: str) -> list[str]:
    """Whose features are better, under each head that takes no steps."""
    return [
        _better_features("a converged head", gap.features, a, b),
        _better_features("cosine prototypes", gap.cosine_features, a, b),
    ]


def _better_features(head: str, difference: Difference, a: str, b: str) -> str:
    whose = {
        "better": f"{a}'s features are better",
        "worse": f"{b}'s features are better",
        "not distinguishable": "the two kinds of features are not distinguishable",
    }[difference.verdict]
    return f"Under {head}, {whose}: {points(difference)}."


def budget(rows: Sequence[StepDifferences], episodes: int, a: str, b: str) -> list[str]:
    """At each rate: who is ahead after how many steps, as far as the intervals tell."""
    return [
        f"At rate {row.rate:g}, over {episodes} episodes, {_who_is_ahead(row, a, b)}."
        for row in rows
    ]


def _who_is_ahead(row: StepDifferences, a: str, b: str) -> str:
    """The phases in which one run is ahead, in their order."""
    phases = []
    pairs = zip(row.steps, row.own_difference, strict=True)
    leaders = ((step, _leader(difference, a, b)) for step, difference in pairs)
    for leader, phase in groupby(leaders, key=lambda pair: pair[1]):
        steps = [step for step, _ in phase]
        if leader:
            phases.append((leader, steps))
    if not phases:
        return "neither is ahead beyond the intervals at any number of steps"
    order = ", then ".join(_phase(leader, steps) for leader, steps in phases)
    changes = len({leader for leader, _ in phases}) > 1
    return order + ("; the order changes with the budget" if changes else "")


def _leader(difference: Difference, a: str, b: str) -> str | None:
    return {"better": a, "worse": b}.get(difference.verdict)


def _phase(leader: str, steps: Sequence[int]) -> str:
    if len(steps) == 1:
        return f"{leader} is ahead at {steps[0]} steps"
    return f"{leader} is ahead from {steps[0]} to {steps[-1]} steps"


def safe_rate(
    subjects: tuple[SubjectRow, SubjectRow], safe_rates: Mapping[str, Sequence[float]]
) -> list[str]:
    """The runs' rates against the one below which the head's steps cannot overshoot."""
    clauses = [
        _times_the_safe_rate(subject.name, subject.inner_lr, safe_rates[subject.name])
        for subject in subjects
        if subject.inner_lr is not None
    ]
    return [f"In the median episode {', and '.join(clauses)}."] if clauses else []


def _times_the_safe_rate(name: str, inner_lr: float, safe_rates: Sequence[float]) -> str:
    ratios = sorted(inner_lr / rate for rate in safe_rates)
    median = ratios[len(ratios) // 2]
    return f"{name}'s rate of {inner_lr:g} is {median:.1f} times the head's safe rate"


def shift(rows: Sequence[ShiftRow], own: PairedMeans, a: str, b: str) -> str:
    """Who leads at each ladder step, and where the order is not that of the usual episodes."""
    first = own.difference.verdict
    flipped = [row for row in rows if {first, row.difference.verdict} == {"better", "worse"}]
    ladder = "; ".join(
        f"{row.shift}: {ranked(row.difference, a, b)}, {points(row.difference)}" for row in rows
    )
    ending = "The order flips nowhere on this ladder."
    if flipped:
        ending = f"The order flips on: {', '.join(row.shift for row in flipped)}."
    by_batch = [text for row in flipped for name in (a, b) if (text := _by_batch(row, name))]
    cause = f" {'; '.join(by_batch)}." if by_batch else ""
    return f"Under shift, over {rows[0].episodes} episodes each: {ladder}. {ending}{cause}"


def _by_batch(row: ShiftRow, name: str) -> str:
    """What batch statistics make of a run that has stored ones; nothing of one that has none."""
    run = row.runs[name]
    if run.batch_statistics is None:
        return ""
    return (
        f"{name} by the statistics of each batch instead of stored ones has "
        f"{100 * run.batch_statistics.mean:.1f} % on {row.shift} ({100 * run.mean:.1f} by stored "
        "ones)"
    )
