"""Page of an explanation, from ``explanation.json`` alone; no torch."""

import math
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from innerloop.analysis.explanation.results import Explanation
from innerloop.analysis.explanation.rows import Change, Mean, ShiftedMean, ShiftRow
from innerloop.analysis.explanation.storage import explanation_to_json
from innerloop.core.files import json_text, write_folder
from innerloop.core.intervals import Difference
from innerloop.report.figures.explanation import (
    DRAWINGS,
    adapted_parts,
    at_rates,
    describe,
    heads_of,
)
from innerloop.report.figures.style import pictures_of
from innerloop.report.render.markdown import table, text

SHOWN_STEPS = (0, 1, 5, 10, 20, 50, 100, 200)
"""Adaptation steps that are columns of a table, as far as they were measured."""


def write_explanation(explanation: Explanation, folder: Path) -> None:
    """Write ``explanation.json``, ``explanation.md`` and ``figures/`` into a folder.

    Raises:
        DiskError: if something cannot be written.
    """
    contents: dict[str, bytes | str] = {
        "explanation.json": json_text(explanation_to_json(explanation), indent=1) + "\n",
        "explanation.md": explanation_page(explanation),
    }
    for name, draw in DRAWINGS.items():
        contents |= pictures_of(partial(draw, explanation), f"figures/{name}")
    write_folder(folder, contents)


def explanation_page(explanation: Explanation) -> str:
    """The text of ``explanation.md``: the verdict, and every number behind it."""
    a, b = explanation.names
    sections = (
        [f"# {text(f'Why {a} and {b} differ')}"],
        [f"- {text(sentence)}" for sentence in explanation.verdict],
        [
            f"{text(describe(explanation, explanation.episodes))}. ± is the 95 % interval over "
            "episodes."
        ],
        ["## Features and heads"],
        [
            "Frozen features of each network, a new head in every episode; query accuracy in "
            "percent."
        ],
        _heads(explanation),
        [text(f"The gap, {a} minus {b}, in points:")],
        _gap(explanation),
        ["## Steps and rates"],
        _steps(explanation),
        ["## What is adapted"],
        [
            f"{explanation.few_episodes} episodes. Best is the best rate of those tried, on these "
            "same episodes."
        ],
        _parts(explanation),
        ["## What adaptation changes"],
        _change(explanation),
        ["## Shift"],
        [
            "The change is from the first row, paired over the same images.",
            "In brackets: by the statistics of each batch instead of stored ones.",
        ],
        _shift(explanation),
        ["## Shots"],
        _shots(explanation),
    )
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _percent(value: Mean) -> str:
    return f"{100 * value.mean:.2f} ± {100 * value.ci95:.2f}"


def _points(difference: Difference) -> str:
    return f"{100 * difference.mean:+.2f} ± {100 * difference.ci95:.2f}"


def _heads(explanation: Explanation) -> list[str]:
    heads = heads_of(explanation)
    return table(
        ["features", "batch norm", *heads.values()],
        (
            [name, mode, *(_percent(cells[head]) for head in heads)]
            for (name, mode), cells in explanation.table.by_features().items()
        ),
    )


def _gap(explanation: Explanation) -> list[str]:
    parts = explanation.gap_in_words()
    return table(["part", "points"], ([name, _points(part)] for name, part in parts.items()))


def _steps(explanation: Explanation) -> list[str]:
    curves = explanation.steps.curves
    shown = [index for index, step in enumerate(curves[0].steps) if step in SHOWN_STEPS]
    columns = [f"{curves[0].steps[index]} steps" for index in shown]
    return table(
        ["rate", "run", "adapted", "episodes", *columns],
        (
            [
                f"{curve.rate:g}",
                curve.name,
                curve.adapted,
                str(curve.episodes),
                *(f"{100 * curve.accuracy[index]:.1f}" for index in shown),
            ]
            for curve in curves
        ),
    )


def _parts(explanation: Explanation) -> list[str]:
    columns = ("at its rate", "best", "best rate")
    return table(
        ["adapted", *(f"{name}, {column}" for name in explanation.names for column in columns)],
        (
            [adapts, *_part_cells(explanation, adapts)]
            for adapts in adapted_parts(chain(*explanation.parts.values()))
        ),
    )


def _part_cells(explanation: Explanation, adapts: str) -> Iterator[str]:
    """Of each run: accuracy at its own rate, at the best one, and that rate."""
    for subject in explanation.subjects:
        rows = explanation.parts[subject.name]
        if adapts not in adapted_parts(rows):
            yield from ("-", "-", "-")
            continue
        own, best = at_rates(rows, adapts, subject.inner_lr)
        yield "-" if own is None else _percent(own)
        yield _percent(best)
        yield f"{best.rate:g}"


def _change(explanation: Explanation) -> list[str]:
    a, b = (explanation.change[name] for name in explanation.names)
    return table(["quantity", "where", *explanation.names], _change_rows(a, b))


def _change_rows(a: Change, b: Change) -> Iterator[list[str]]:
    for words, first, second in (
        ("CKA, before against after", a.cka, b.cka),
        ("variance within / between classes, before", a.spread_before, b.spread_before),
        ("variance within / between classes, after", a.spread_after, b.spread_after),
        ("relative change of weights", a.weights, b.weights),
    ):
        for where in dict.fromkeys([*first, *second]):
            numbers = (values.get(where, math.nan) for values in (first, second))
            yield [words, where, *map(_number, numbers)]


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _shift(explanation: Explanation) -> list[str]:
    a, b = explanation.names
    return table(
        ["episodes", a, "change, points", b, "change, points", f"{a} minus {b}, points"],
        (_shift_cells(row, explanation.names) for row in explanation.shift),
    )


def _shift_cells(row: ShiftRow, names: tuple[str, str]) -> list[str]:
    runs = [cell for name in names for cell in _shifted_cells(row.runs[name])]
    return [f"{row.shift} ({row.episodes})", *runs, _points(row.difference)]


def _shifted_cells(run: ShiftedMean) -> tuple[str, str]:
    """Accuracy, by batch statistics in brackets, and the paired change where there is one."""
    by_batch = run.batch_statistics
    brackets = "" if by_batch is None else f" ({100 * by_batch.mean:.1f})"
    return _percent(run) + brackets, "-" if run.change is None else _points(run.change)


def _shots(explanation: Explanation) -> list[str]:
    a, b = (explanation.shots[name] for name in explanation.names)
    return table(
        ["shots, 10 queries", *explanation.names],
        (
            [str(first.shots), _percent(first), _percent(second)]
            for first, second in zip(a, b, strict=True)
        ),
    )
