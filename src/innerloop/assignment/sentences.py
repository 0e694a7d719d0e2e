"""The sentences of the course's report that judge; each follows from numbers by a rule."""

from innerloop.analysis.compared import Pair
from innerloop.core.intervals import covers_seeds
from innerloop.runs.directory import RunDirectory

LEARNED_RATES = "learned_rates"
"""Key of the learnt inner rates among the diagnostics of a validation."""


def better_or_worse(pair: Pair) -> str:
    """The answer to the assignment's last question: the first method's verdict and its numbers.

    Without several training seeds of both there is no verdict about the methods.
    """
    if not covers_seeds(pair.difference.covers):
        return f"{pair.sentence} What other training seeds would give is not known."
    verdict = {"better": "Better", "worse": "Worse", "not distinguishable": "Neither"}[
        pair.difference.verdict
    ]
    return f"{verdict}. {pair.sentence}"


def kept_rates(run: RunDirectory) -> str:
    """Which learnt rates of the first inner step stayed where they began, and why; or nothing."""
    last = run.validations()[-1].diagnostics
    kept = [
        layer
        for layer, rates in last.get(LEARNED_RATES, {}).items()
        if rates and abs(rates[0] - run.config.own.adaptation_rate) < 1e-6
    ]
    if not kept or not run.config.own.starts_at_chance(run.config):
        return ""
    return (
        f"The rate of the first inner step stays at {run.config.own.adaptation_rate:g} in "
        f"{', '.join(kept)}: a head that starts from zero passes no gradient to the layers below "
        "it, so that step moves the head alone."
    )
