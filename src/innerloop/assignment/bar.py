"""The course's bar, and the sentences that hold results against it."""

from collections.abc import Sequence

from innerloop.core.intervals import Covers, covers_seeds
from innerloop.report.figures.run import Bar
from innerloop.report.findings import percent

BAR = Bar(0.80, "the assignment's bar")
"""What validation accuracy is held against."""


def against_bar(name: str, mean: float, half: float, bar: float, covers: Covers) -> str:
    """Whether an accuracy is above a bar, beyond its interval, which covers what it covers."""
    if mean - half > bar:
        verdict = f"is above the bar of {100 * bar:g} %"
    elif mean + half < bar:
        verdict = f"is below the bar of {100 * bar:g} %"
    else:
        verdict = f"cannot be told from the bar of {100 * bar:g} %, which lies in its interval"
    about = "" if covers_seeds(covers) else "Of this network alone: "
    return f"{about}{name} {verdict}: {percent(mean, half)} query accuracy after adaptation."


def first_above(name: str, steps: Sequence[int], accuracy: Sequence[float], bar: float) -> str:
    """When a validation curve passes a bar, and whether it ever falls back under it."""
    known = list(zip(steps, accuracy, strict=True))  # what is not finite is under every bar
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
