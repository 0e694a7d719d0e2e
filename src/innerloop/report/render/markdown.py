"""Parts of Markdown pages."""

import re
from collections.abc import Iterable, Sequence

from innerloop.core.texts import printable
from innerloop.report.document import spans

MARKS = re.compile(
    r"""
    [\\`*\[\]<|$~]                   # what marks something wherever it stands
    | (?<!\w)_ | _(?!\w)             # within a word an underscore marks nothing
    | &(?=\#?\w+;)                   # only as the beginning of an entity
    | ^(?:>|[#+-](?=[#+\s-])|\d+(?=[.)]\s))  # only at the beginning of a line
    """,
    re.VERBOSE,
)


def text(sentence: str) -> str:
    """A sentence on a line of its own, shown as it is; its parts that are code are marked so."""
    return "".join(
        _code(part) if is_code else _escaped(part)
        # Of a name with a line end, too: Markdown would take it for the end of what stands there.
        for part, is_code in spans(re.sub(r"\s*[\r\n\x0b\x0c\x85\u2028\u2029]\s*", " ", sentence))
    )


def _escaped(part: str) -> str:
    return MARKS.sub(_marked, printable(part))


def _marked(found: re.Match[str]) -> str:
    mark = found[0]
    return f"{mark}\\" if mark.isdigit() else f"\\{mark}"


def _code(part: str) -> str:
    """Between as many backticks as no part of it has."""
    ticks = "`" * (1 + max(map(len, re.findall("`+", part)), default=0))
    room = " " if part.startswith("`") or part.endswith("`") else ""
    return f"{ticks}{room}{printable(part)}{room}{ticks}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; its cells are shown as they are, by `text`.

    Args:
        head: names of the columns.
        rows: as many cells each.
    """
    return [_line(head), f"|{'---|' * len(head)}", *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    # In a table even code must not hold a bar.
    escaped = (re.sub(r"(?<!\\)\|", r"\\|", text(cell)) for cell in cells)
    return f"| {' | '.join(escaped)} |"
