"""Compare a hand-in with what is packed of its own runs: report, plots, cards and code."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from innerloop.assignment.pack import AUTHOR, REQUIREMENTS, Author, contents
from innerloop.core.errors import DataError, InnerloopError
from innerloop.core.version import __version__
from innerloop.report.render.pages import LAST_OF_CYRILLIC

DRAWN = (".svg", ".png", ".pdf", ".html")
"""Endings of what other versions of the drawing libraries draw in other bytes."""


def refuse_what_its_runs_do_not_give(
    path: Path, root: Path, content: Mapping[str, bytes], say: Callable[[str], None]
) -> list[str]:
    """Pack the archive's own runs again, and compare.

    Args:
        path: of the archive.
        root: where it is unpacked; figures and cards of its runs are drawn anew there.
        content: its files by name.
        say: told of differences that are no fault.

    Returns:
        What was said.

    Raises:
        DataError: if a file is not what the runs give, is missing, or belongs to no archive.
    """
    wanted = _packed_again(path, root, content)
    remarks = [*_of_code(content, wanted)]
    drawn_alike = content.get(REQUIREMENTS) == wanted[REQUIREMENTS]
    if not drawn_alike:
        remarks.append(
            f"{REQUIREMENTS} names other versions than are installed here: figures and PDF are "
            "not compared, and of the page the words."
        )
    elif not _has_own_fonts(wanted):
        remarks.append(
            "it has letters of other scripts, whose fonts are those of the machine that packed "
            "it: the PDF is not compared."
        )
    for remark in remarks:
        say(f"{path}: {remark}")
    for name in sorted(wanted.keys() | content.keys()):
        if not _is_code(name):
            _refuse_difference(path, name, content, wanted, drawn_alike)
    return remarks


def _packed_again(path: Path, root: Path, content: Mapping[str, bytes]) -> dict[str, bytes]:
    author = _author(path, content)
    try:
        return contents(root / "runs", author)
    except InnerloopError as error:
        raise DataError(f"{path}: its runs cannot be packed again: {error}") from error
    # What hostile numbers and names do to libraries that draw cannot be listed.
    except Exception as error:
        raise DataError(
            f"{path}: its runs cannot be packed again ({type(error).__name__}: {error})."
        ) from error


def _author(path: Path, content: Mapping[str, bytes]) -> Author:
    try:
        values = json.loads(content[AUTHOR])
        return msgspec.convert(values, Author, strict=True)
    except KeyError as error:
        raise DataError(
            f"{path} holds no {AUTHOR}, which says whose it is: pack it again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {AUTHOR} does not hold what it should: {error}.") from error


def _is_code(name: str) -> bool:
    return name == "LICENSE" or name.startswith("code/")


def _of_code(content: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> list[str]:
    """A sentence where the archive's code is not this version's: it is not what checks it."""
    names = sorted(filter(_is_code, wanted.keys() | content.keys()))
    other = [
        name for name in names if name != REQUIREMENTS and content.get(name) != wanted.get(name)
    ]
    if not other:
        return []
    more = f" and {len(other) - 3} more" if len(other) > 3 else ""
    return [
        f"its code is not that of innerloop {__version__} here, which checks it: "
        f"{', '.join(other[:3])}{more} differ{'s' if len(other) == 1 else ''}."
    ]


def _refuse_difference(
    path: Path,
    name: str,
    content: Mapping[str, bytes],
    wanted: Mapping[str, bytes],
    drawn_alike: bool,
) -> None:
    if name not in wanted:
        raise DataError(f"{path}: {name} belongs to no hand-in of these runs: it was added.")
    if name not in content:
        raise DataError(f"{path}: {name} is missing, which its runs give.")
    if content[name] == wanted[name]:
        return
    if name.endswith(DRAWN) and not drawn_alike:
        if not name.endswith(".html") or _words(content[name]) == _words(wanted[name]):
            return
    # The fonts of other scripts are those of the machine that packed it.
    if name.endswith(".pdf") and not _has_own_fonts(wanted):
        return
    raise DataError(
        f"{path}: {name} is not what the archive's own runs give. If other code packed it, check "
        "it with that: PYTHONPATH=code python -m innerloop.cli bundle --check."
    )


def _words(page: bytes) -> str:
    """A page with nothing of its figures but what is written in them."""
    text = page.decode("utf-8", errors="replace")
    return re.sub(r"<svg.*?</svg>", lambda figure: _written_in(figure[0]), text, flags=re.DOTALL)


def _written_in(figure: str) -> str:
    return f"<svg>{' '.join(re.sub(r'<[^>]*>', ' ', figure).split())}</svg>"


def _has_own_fonts(wanted: Mapping[str, bytes]) -> bool:
    return all(ord(letter) <= LAST_OF_CYRILLIC for letter in json.loads(wanted[AUTHOR]).__str__())
