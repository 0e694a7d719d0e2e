"""A report as one HTML file, and as a PDF.

The PDF is typeset by Typst, which comes as one wheel without system libraries, has bookmarks, page
numbers and alternative texts, and keeps SVG as vectors and text as text.
"""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup

from innerloop.core.files import temporary_folder
from innerloop.core.texts import printable
from innerloop.core.version import __version__
from innerloop.report.document import (
    Bullets,
    Commands,
    Document,
    Missing,
    Paragraph,
    Picture,
    Table,
    plain,
    spans,
)
from innerloop.report.figures.drawing import fonts_for
from innerloop.report.render.svg import Drawing

WIDE = 66
"""A column of the PDF with longer cells takes the room that is left, and breaks its lines."""
LAST_OF_CYRILLIC = 0x052F
"""The PDF's own fonts have what comes before."""
FILES = resources.files("innerloop.report.render")


def html_page(document: Document, drawings: Mapping[str, Drawing]) -> str:
    """The report as one HTML file that refers to nothing outside it.

    ``drawings`` are its pictures by name.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    template = environment.from_string(_file("page.html.j2"))
    page = template.render(
        document=document,
        version=__version__,
        css=Markup(_file("page.css")),
        script=Markup(_file("page.js")),
        spans=spans,
        plain=plain,
        svg={
            picture.name: Markup(drawings[picture.name].on_page(picture.name, picture.alt))
            for picture in document.pictures
        },
        number={picture.name: number for number, picture in enumerate(document.pictures, start=1)},
    )
    return printable(page)


def pdf(document: Document, drawings: Mapping[str, Drawing]) -> bytes:
    """The report as a PDF on A4; ``drawings`` are its pictures by name."""
    import typst

    with temporary_folder() as root:
        for picture in document.pictures:
            svg = drawings[picture.name].svg
            (root / f"{picture.name}.svg").write_text(svg, encoding="utf-8")
        (root / "report.json").write_text(_as_json(document), encoding="utf-8")
        (root / "report.typ").write_text(_file("report.typ"), encoding="utf-8")
        # The figures' own font, which matplotlib brings along.
        fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        content = typst.compile(
            str(root / "report.typ"), root=str(root), font_paths=[str(fonts)], format="pdf"
        )
    return bytes(content)  # type: ignore[arg-type]  # one file, since it is a PDF


def boxes(text: str) -> str:
    """Characters of a text that the PDF shows as boxes: no font that it can use has them."""
    # Typst's own fonts have what comes before.
    return fonts_for("".join(letter for letter in text if ord(letter) > LAST_OF_CYRILLIC))[1]


def _file(name: str) -> str:
    return FILES.joinpath(name).read_text(encoding="utf-8")


def _as_json(document: Document) -> str:
    """What report.typ reads: strings, which Typst shows as they are, and never as markup."""
    content = {
        "title": document.title,
        "subtitle": document.subtitle,
        "author": document.author,
        "version": __version__,
        "sections": [
            {"title": section.title, "blocks": [_block(block) for block in section.blocks]}
            for section in document.sections
        ],
    }
    return printable(json.dumps(content, ensure_ascii=False))


def _block(block: Any) -> dict[str, Any]:
    def inline(text: str) -> list[dict[str, Any]]:
        return [{"text": part, "code": is_code} for part, is_code in spans(text)]

    match block:
        case Paragraph(text):
            return {"kind": "paragraph", "text": inline(text)}
        case Bullets(items):
            return {"kind": "bullets", "items": [inline(item) for item in items]}
        case Table(caption, head, rows):
            cells = [[inline(cell) for cell in row] for row in rows]
            wide = [
                max(len(plain(cell)) for cell in column) > WIDE
                for column in zip(head, *rows, strict=True)
            ]
            return {
                "kind": "table",
                "caption": inline(caption),
                "head": [inline(cell) for cell in head],
                "rows": cells,
                "wide": wide,
            }
        case Picture(name, _, alt, caption):
            return {"kind": "picture", "name": name, "alt": alt, "caption": inline(caption)}
        case Commands(lines):
            return {"kind": "commands", "text": "\n".join(lines)}
        case Missing(what, commands):
            return {"kind": "missing", "text": inline(what), "commands": "\n".join(commands)}
    raise AssertionError(f"There is no block like {block!r}.")
