"""All methods side by side, and all of one, from their cards and what was measured of them.

Imports no torch.
"""

from innerloop.core.intervals import interval_in_words
from innerloop.methods.card import Card
from innerloop.methods.measured import Measured, MeasuredRow

COLUMNS = ["name", "title", "year", "adapts", "trains on", "transductive", "cost", "accuracy, %"]
"""Of the table of all methods."""
NOT_THERE = "-"
"""In a cell: a card does not say it, or nobody has measured it."""


def cells(card: Card, row: MeasuredRow | None) -> list[str]:
    """What stands under `COLUMNS` for a method.

    Args:
        card: of the method.
        row: what was measured of it.
    """
    return [
        card.name,
        card.title,
        str(card.papers[0].year) if card.papers else NOT_THERE,
        card.adapts or NOT_THERE,
        card.trains_on,
        "yes" if card.transductive else "no",
        cost(row) if row else NOT_THERE,
        accuracy(row) if row else NOT_THERE,
    ]


def cost(row: MeasuredRow) -> str:
    """What a training takes."""
    return f"{row.seconds / 60:.1f} min"


def accuracy(row: MeasuredRow) -> str:
    """An accuracy in percent with its interval, by which batch norm, and of which variant."""
    percent = f"{100 * row.query_accuracy:.2f} ± {100 * row.query_accuracy_ci95:.2f}"
    remarks = [row.batch_norm, row.variant] if row.variant else [row.batch_norm]
    return f"{percent} ({', '.join(remarks)})"


def caption(measured: Measured, ways: int, shots: int) -> str:
    """What cost and accuracy in the table are, or that they were not measured yet.

    Args:
        measured: of all methods.
        ways: classes in an episode.
        shots: support images of each.
    """
    rows = [row for row in measured.rows if (row.ways, row.shots) == (ways, shots)]
    if not rows:
        return f"Cost and accuracy were not measured yet, of {ways}-way {shots}-shot episodes."
    intervals = dict.fromkeys(interval_in_words(row.covers) for row in rows)
    processors = dict.fromkeys(row.processor for row in rows)
    return (
        f"Cost: minutes of one training on one core, without its validations "
        f"({'; or '.join(processors)}). "
        f"Accuracy: of query images after adaptation, {protocol(measured, ways, shots)}; ± is the "
        f"{', or the '.join(intervals)}; in brackets the batch norm, which may make a "
        "method transductive that is not by itself, and a solver that is not the usual one. Both "
        "are of the settings that innerloop methods NAME says, which are not always the usual ones."
    )


def protocol(measured: Measured, ways: int, shots: int) -> str:
    """Over which episodes something was measured."""
    return (
        f"{ways}-way {shots}-shot, {measured.queries} query images a class, {measured.data}, split "
        f"{measured.split}, part {measured.part}, {measured.episodes} episodes"
    )


def result_in_words(measured: Measured, row: MeasuredRow) -> str:
    """A row with everything that it must not be quoted without, in one sentence."""
    seeds = ", ".join(map(str, row.training_seeds))
    return (
        f"{100 * row.query_accuracy:.2f} ± {100 * row.query_accuracy_ci95:.2f} % query accuracy, "
        f"{protocol(measured, row.ways, row.shots)}, batch norm {row.batch_norm}, training seeds "
        f"{seeds}; {interval_in_words(row.covers)}; innerloop {row.innerloop}. A training takes "
        f"{cost(row)} of one core ({row.processor}) without its validations, and "
        f"{row.image_passes / 1000:,.0f} thousand image passes."
    )


def page_of(card: Card) -> str | None:
    """The method's page in this project's repository; None of a method of another package.

    Methods with one learner share a page, that of the learner's folder.
    """
    package, *folder = card.learner.partition(":")[0].split(".")
    if package != "innerloop" or len(folder) < 2:
        return None
    return f"docs/methods/{folder[1]}.md"
