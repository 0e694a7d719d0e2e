"""The section of a report that says what was reached, and how the methods compare."""

from collections.abc import Sequence

from innerloop.analysis.compared import ComparedRow, Comparison
from innerloop.core.intervals import intervals_in_words
from innerloop.report import comparison as comparisons
from innerloop.report.document import (
    Block,
    Bullets,
    Missing,
    Paragraph,
    Picture,
    Section,
    Table,
    code,
)
from innerloop.report.findings import percent
from innerloop.report.material import Material, named
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import primary_row
from innerloop.runs.results import EvaluationRow

COLUMNS_OF_OTHERS = (
    "method",
    "data, split",
    "part",
    "episodes of",
    "training seed",
    "batch norm",
    "episodes",
    "query accuracy, %",
)


def section(material: Material) -> Section:
    """The results in one table, and what follows from them."""
    blocks = about_data(material)
    comparison = material.comparison
    if comparison is None:
        blocks.append(not_evaluated(material))
    else:
        blocks.append(results_table(comparison.rows))
        blocks += differences(material)
        if comparison.pairs:
            blocks.append(picture_of_learning_curves(comparison))
    return Section("Results", [*blocks, *other_settings(material)])


def about_data(material: Material) -> list[Block]:
    """What must be known of synthetic data before any number is read."""
    if not material.on_strokes:
        return []
    return [
        Paragraph(
            "The data are strokes, synthetic drawings made by this package, and not "
            "Omniglot. No number here can be compared with a number on Omniglot."
        )
    ]


def not_evaluated(material: Material) -> Missing:
    """The commands that make results."""
    return Missing(
        "No run was evaluated, or not all on the same episodes.",
        [f"innerloop evaluate {material.path(run)}" for run in material.main],
    )


def results_table(rows: Sequence[ComparedRow]) -> Table:
    """A row for each method, with everything that an accuracy must not be quoted without."""
    caption = (
        f"Query accuracy after adaptation. {comparisons.describe(rows[0])}; "
        f"{comparisons.plus_minus(rows)}{comparisons.steps_in_words(rows)}."
    )
    return Table(caption, comparisons.COLUMNS, [comparisons.cells(row) for row in rows])


def differences(material: Material) -> list[Block]:
    """All pairs of methods, in words and as a picture; nothing where there is one method."""
    comparison = material.comparison
    if comparison is None or not comparison.pairs:
        return []
    return [
        Bullets([pair.sentence for pair in comparison.pairs]),
        picture_of_accuracies(comparison),
    ]


def picture_of_accuracies(comparison: Comparison) -> Picture:
    """Accuracy of each method with its interval, and the paired differences."""
    accuracies = "; ".join(
        f"{row.name} {percent(row.query_accuracy, row.query_accuracy_ci95)}"
        for row in comparison.rows
    )
    return Picture(
        "accuracy",
        lambda: comparisons.draw_accuracy(comparison),
        f"Dots with intervals: {accuracies}. Beside them the differences between the methods.",
        "Query accuracy of each method and paired differences, "
        f"{comparison.rows[0].episodes} episodes; bars of methods: "
        f"{intervals_in_words([(row.name, row.covers) for row in comparison.rows])}.",
    )


def picture_of_learning_curves(comparison: Comparison) -> Picture:
    """What the training cost, in images and in seconds."""
    return Picture(
        "learning-curves",
        lambda: comparisons.draw_learning_curves(comparison),
        "Two line charts: validation accuracy of each method over the images seen in "
        "training, and over seconds.",
        "Validation accuracy over image passes (an image sent forward and backward in "
        "training) and over seconds of training with its validations.",
    )


def other_settings(material: Material) -> list[Block]:
    """Which runs of a method differ from its first one in more than the seed."""
    blocks: list[Block] = []
    for method in material.methods:
        same = material.of(method)
        if others := [run for run in material.all_of(method) if run not in same]:
            blocks.append(
                Paragraph(
                    f"{named(method)} was also run with other settings "
                    f"({', '.join(code(run.path.name) for run in others)}); the sections below "
                    f"are about {code(same[0].path.name)} and its seeds."
                )
            )
    return blocks


def other_splits(material: Material) -> Section | None:
    """Runs of other data, split or episodes, with what they reach, also on test classes."""
    found = [
        (run, row)
        for run in material.others
        for part in ("val", "test")
        if (row := primary_row(run, part))
    ]
    rows = [_cells_of_other(run, row) for run, row in found]
    covers = intervals_in_words([(named(row.method), row.covers) for _, row in found])
    if not rows:
        return None
    return Section(
        "Other data, splits and episodes",
        [
            Paragraph(
                "These are other classes or other episodes than those above, so their accuracies "
                "do not compare."
            ),
            Table(
                f"Query accuracy after adaptation, with the {covers}.",
                COLUMNS_OF_OTHERS,
                rows,
            ),
        ],
    )


def _cells_of_other(run: RunDirectory, row: EvaluationRow) -> list[str]:
    return [
        named(run.config.method),
        f"{run.config.data.name}, {run.config.data.split}",
        row.part,
        f"{row.ways}-way {row.shots}-shot, {row.queries} queries",
        str(run.config.training.seed),
        row.batch_norm,
        str(row.episodes),
        f"{100 * row.query_accuracy:.2f} ± {100 * row.query_accuracy_ci95:.2f}",
    ]
