"""`innerloop methods`: all methods in a table, or all of one."""

import dataclasses
import itertools
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import tyro

from innerloop.cli.command import Common, parse, print_json, sayer
from innerloop.core.errors import ConfigError
from innerloop.methods import measured
from innerloop.methods.card import Card
from innerloop.methods.catalogue import cards, find_card
from innerloop.methods.measured import Measured, read_measured
from innerloop.methods.overview import COLUMNS, caption, cells, page_of, result_in_words

Say = Callable[[str], None]


@dataclass(frozen=True)
class MethodsOptions(Common):
    """Show which methods there are, what each adapts, costs and reaches, or all of one of them."""

    method: tyro.conf.Positional[str | None] = field(default=None, kw_only=True)
    """Its name, to read all of one; default: a table of all."""
    ways: int = 5
    """Classes in the episodes of the table's measurements."""
    shots: int = 5
    """Support images per class in these."""


def run(arguments: list[str]) -> int:
    """Show the table, or one method."""
    options = parse(MethodsOptions, "methods", arguments)
    for name, value in (("ways", options.ways), ("shots", options.shots)):
        if value < 1:
            raise ConfigError(f"--{name} must be at least 1: got {value}.")
    results = read_measured(measured.FILE)
    say = sayer(options)
    if options.method is None:
        print_json(options, _all(results, options.ways, options.shots, say))
    else:
        print_json(options, _one(find_card(options.method), results, say))
    return 0


def _all(results: Measured, ways: int, shots: int, say: Say) -> dict[str, Any]:
    """The table of all methods, and a sentence for each card that cannot be used."""
    whole, faults = cards()
    rows = [cells(card, results.row(card.name, ways, shots)) for card in whole]
    # In a pipe a method has one line, for grep.
    width = shutil.get_terminal_size(fallback=(sys.maxsize, 0)).columns
    for line in columns([COLUMNS, *rows], width):
        say(line)
    for sentence in (caption(results, ways, shots), *faults):
        say("")
        _say_wrapped(sentence, say)
    say("")
    say("innerloop methods NAME tells all of one, innerloop train NAME trains it.")
    return {"methods": [_to_json(card, results) for card in whole], "faults": faults}


def columns(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell.

    Columns that have no place in the width follow in further, indented lines of each row.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    starts = [0]
    used = 0
    for index, wide in enumerate(widths):
        if index > starts[-1] and used + wide > width:
            starts.append(index)
            used = 2
        used += wide + 2
    lines = []
    for row in rows:
        padded = [cell.ljust(wide) for cell, wide in zip(row, widths, strict=True)]
        for start, end in itertools.pairwise([*starts, len(row)]):
            indent = "  " if start else ""
            lines.append((indent + "  ".join(padded[start:end])).rstrip())
    return lines


def _one(card: Card, results: Measured, say: Say) -> dict[str, Any]:
    """All that a card says, and what was measured of its method."""
    say(f"{card.title} ({card.name})")
    say("")
    _say_wrapped(card.idea, say)
    for title, lines in _parts(card, results):
        say("")
        say(title)
        for line in lines:
            _say_wrapped(line, say, indent="  ")
    return _to_json(card, results)


def _parts(card: Card, results: Measured) -> list[tuple[str, list[str]]]:
    """What there is to say of a method, under headings of their own."""
    sentences = card.settings.descriptions()
    settings = [
        f"{name} ({default}): {sentences[name]}" for name, default in card.settings().flat().items()
    ]
    measured_rows = [
        f"{result_in_words(results, row)} {row.command}" for row in results.of(card.name)
    ]
    page = page_of(card)
    parts = [
        ("What it is", _facts(card)),
        ("From", [str(paper) for paper in card.papers]),
        ("Settings of its own, with their defaults", settings),
        ("Other defaults than usual", _changes(card)),
        ("Presets", [", ".join(card.presets)] if card.presets else []),
        ("Measured", measured_rows or ["Not yet."]),
        ("Train it", [f"innerloop train {card.name}"]),
        ("Its page", [page] if page else []),
    ]
    return [(title, lines) for title, lines in parts if lines]


def _facts(card: Card) -> list[str]:
    adapts = [f"Adapts: {card.adapts}."] if card.adapts else []
    others = "depends" if card.transductive else "does not depend"
    # Those that are pretrained on images have stored statistics alone.
    by_batch_norm = "; batch norm may add that" if card.trains_on == "episodes" else ""
    return [
        *adapts,
        f"Trains on: {card.trains_on}.",
        f"By itself a prediction {others} on the other query images{by_batch_norm}.",
    ]


def _changes(card: Card) -> list[str]:
    values = [f"{name} {value}" for name, value in card.defaults.items()]
    return [", ".join(values), card.reason] if values else []


def _say_wrapped(sentence: str, say: Say, indent: str = "") -> None:
    """A sentence in lines as wide as the shell; what is longer than a line stays whole."""
    lines = textwrap.wrap(
        sentence,
        shutil.get_terminal_size().columns,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines:
        say(line)


def _to_json(card: Card, results: Measured) -> dict[str, Any]:
    return {
        "name": card.name,
        "title": card.title,
        "idea": card.idea,
        "papers": [dataclasses.asdict(paper) for paper in card.papers],
        "adapts": card.adapts,
        "trains_on": card.trains_on,
        "transductive": card.transductive,
        "settings": card.settings().flat(),
        "defaults": dict(card.defaults),
        "presets": {name: dict(values) for name, values in card.presets.items()},
        "page": page_of(card),
        "measured": [dataclasses.asdict(row) for row in results.of(card.name)],
    }
