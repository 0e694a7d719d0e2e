"""What a report is before it is a page or a PDF: sections of text, tables, figures, commands."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

# Characters that no text has, so that no name needs escaping.
_CODE_BEGIN = "\x02"
_CODE_END = "\x03"


def code(text: str) -> str:
    """Mark a part of a sentence as code: a command, a file, a setting."""
    return f"{_CODE_BEGIN}{text}{_CODE_END}"


def spans(text: str) -> Iterator[tuple[str, bool]]:
    """The parts of a sentence in their order, each with whether it is code."""
    for part in re.split(f"({_CODE_BEGIN}.*?{_CODE_END})", text, flags=re.DOTALL):
        if part:
            marked = part.startswith(_CODE_BEGIN)
            yield (part[1:-1] if marked else part), marked


def plain(text: str) -> str:
    """A sentence without its marks."""
    return "".join(part for part, _ in spans(text))


@dataclass(frozen=True)
class Paragraph:
    """A few sentences."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table; the first column names the rows.

    Attributes:
        caption: what it shows, with units and n.
        head: names of the columns.
        rows: as many cells each.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        name: of its files, and unique in the report.
        draw: makes it.
        alt: what it shows, for who cannot see it.
        caption: under it.
    """

    name: str
    draw: Callable[[], Figure]
    alt: str
    caption: str


@dataclass(frozen=True)
class Commands:
    """Lines to type into a shell."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Missing:
    """Something that the report would show if it had been made.

    Attributes:
        what: is missing, a sentence.
        commands: that make it.
    """

    what: str
    commands: Sequence[str]


Block = Paragraph | Bullets | Table | Picture | Commands | Missing


@dataclass(frozen=True)
class Section:
    """A part of the report under a heading of its own."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """What a link to it is called."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Document:
    """A whole report.

    Attributes:
        title: of it.
        subtitle: a line under the title: data, split, episodes.
        sections: in the order of reading.
        author: a line under that; none where it is empty.
        made_from: what nothing else is in it than, for the last line.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
    author: str = ""
    made_from: str = "run directories alone"

    @property
    def anchors(self) -> list[str]:
        """What a link to each section is called; a name that is taken gets a number."""
        taken: Counter[str] = Counter()
        anchors = []
        for section in self.sections:
            taken[section.anchor] += 1
            count = taken[section.anchor]
            anchors.append(section.anchor if count == 1 else f"{section.anchor}-{count}")
        return anchors

    @property
    def pictures(self) -> list[Picture]:
        """Every figure, in the order of reading."""
        return [
            block
            for section in self.sections
            for block in section.blocks
            if isinstance(block, Picture)
        ]

    @property
    def missing(self) -> list[str]:
        """What the report says is missing."""
        return [
            plain(block.what)
            for section in self.sections
            for block in section.blocks
            if isinstance(block, Missing)
        ]
