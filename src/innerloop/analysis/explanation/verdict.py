"""The sentences of an explanation; each follows from the numbers by a rule, and nothing else."""

from typing import Any


def verdict(measured: dict[str, Any]) -> list[str]:
    """What `innerloop.analysis.explanation.measurements.explain` found, in sentences.

    Args:
        measured: what it returned, or what ``explanation.json`` holds.
    """
    a, b = (subject["name"] for subject in measured["subjects"])
    return [
        _which_is_better(measured, a, b),
        _why(measured["table"]["gap"], a, b),
        *_features(measured["table"]["gap"], a, b),
        *_budget(measured, a, b),
        _safe_rate(measured, a, b),
        _shift(measured, a, b),
    ]


def points(difference: dict[str, Any]) -> str:
    """A difference in points of accuracy with its interval."""
    return f"{100 * difference['mean']:+.2f} ± {100 * difference['ci95']:.2f} points"


def ranked(difference: dict[str, Any], a: str, b: str) -> str:
    """Who is above, in words."""
    return {
        "better": f"{a} is above {b}",
        "worse": f"{b} is above {a}",
        "not distinguishable": f"{a} and {b} are not distinguishable",
    }[difference["verdict"]]


def _which_is_better(measured: dict[str, Any], a: str, b: str) -> str:
    own, apart = measured["own"], measured["disjoint"]
    agree = own["difference"]["verdict"] == apart["difference"]["verdict"]
    steps = measured["subjects"][0]["inner_steps"], measured["subjects"][1]["inner_steps"]
    budget = f"{steps[0]} steps" if steps[0] == steps[1] else f"{steps[0]} and {steps[1]} steps"
    return (
        f"At each method's own budget ({budget}), {ranked(own['difference'], a, b)}: "
        f"{100 * own['a']['mean']:.2f} against {100 * own['b']['mean']:.2f} %, "
        f"{points(own['difference'])} over {measured['episodes']} episodes. For new characters, "
        f"over {apart['episodes']} episodes that share none: {points(apart['difference'])}, "
        + ("which says the same." if agree else f"by which {ranked(apart['difference'], a, b)}.")
    )


def _why(gap: dict[str, Any], a: str, b: str) -> str:
    total = gap["all"]
    named = [name for name in ("features", "the head's steps", "the body's adaptation")]
    shares = ", ".join(f"{points(gap[name])} from {name}" for name in named)
    clear = [name for name in named if gap[name]["verdict"] != "not distinguishable"]
    if clear:
        ending = f"the largest clear part is {max(clear, key=lambda name: abs(gap[name]['mean']))}."
    else:
        ending = "no part's interval leaves zero out."
    return f"Of the gap, {a} minus {b}, {points(total)}: {shares}; {ending}"


def _features(gap: dict[str, Any], a: str, b: str) -> list[str]:
    said = []
    for name, under in (
        ("features", "a converged head"),
        ("features, by cosine prototypes", "cosine prototypes"),
    ):
        difference = gap[name]
        who = {"better": f"{a}'s features are better", "worse": f"{b}'s features are better"}.get(
            difference["verdict"], "the two kinds of features are not distinguishable"
        )
        said.append(f"Under {under}, {who}: {points(difference)}.")
    return said


def _budget(measured: dict[str, Any], a: str, b: str) -> list[str]:
    """At each rate: who is ahead after how many steps, as far as the intervals tell."""
    said = []
    for curve in measured["steps"]:
        if "own_difference" not in curve:
            continue
        phases: list[tuple[int, int, str]] = []
        last_ahead = None
        for step, difference in zip(curve["steps"], curve["own_difference"], strict=True):
            who, before = {"better": a, "worse": b}.get(difference["verdict"]), last_ahead
            last_ahead = who
            if who is None:
                continue
            if who == before:
                phases[-1] = (phases[-1][0], step, who)
            else:
                phases.append((step, step, who))
        if not phases:
            told = "neither is ahead beyond the intervals at any number of steps"
        else:
            told = ", then ".join(
                f"{who} is ahead from {first} to {last} steps"
                if last > first
                else f"{who} is ahead at {first} steps"
                for first, last, who in phases
            )
            told += (
                "; the order changes with the budget"
                if len({who for *_, who in phases}) > 1
                else ""
            )
        said.append(f"At rate {curve['rate']:g}, over {measured['few_episodes']} episodes, {told}.")
    return said


def _safe_rate(measured: dict[str, Any], a: str, b: str) -> str:
    parts = []
    for subject in measured["subjects"]:
        ratios = sorted(
            subject["inner_lr"] / rate for rate in measured["safe_rates"][subject["name"]]
        )
        middle = ratios[len(ratios) // 2]
        parts.append(
            f"{subject['name']}'s rate of {subject['inner_lr']:g} is {middle:.1f} times the "
            "head's safe rate"
        )
    return f"In the median episode {parts[0]}, and {parts[1]}."


def _shift(measured: dict[str, Any], a: str, b: str) -> str:
    """Who leads at each ladder step, and where the order is not that of the usual episodes."""
    rows, first = measured["shift"], measured["own"]["difference"]["verdict"]
    flipped = [
        row["shift"] for row in rows if {first, row["difference"]["verdict"]} == {"better", "worse"}
    ]
    told = "; ".join(
        f"{row['shift']}: {ranked(row['difference'], a, b)}, {points(row['difference'])}"
        for row in rows
    )
    ending = (
        f"The order flips on: {', '.join(flipped)}."
        if flipped
        else "The order flips nowhere on this ladder."
    )
    by_batch = [
        f"{name} by the statistics of each batch instead of stored ones has "
        f"{100 * held['mean']:.1f} % on {row['shift']} ({100 * row[name]['mean']:.1f} by stored "
        "ones)"
        for row in rows
        if row["shift"] in flipped
        for name in (a, b)
        if (held := row[name].get("batch_statistics"))
    ]
    cause = f" {'; '.join(by_batch)}." if by_batch else ""
    return f"Under shift, over {rows[0]['episodes']} episodes each: {told}. {ending}{cause}"
