"""What programs have of pages: tables that they write, and code that they run.

Tables stand between ``<!-- table: NAME -->`` and ``<!-- end -->``.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def table(head: str, rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown, its head as cells between ``|``."""
    columns = head.split("|")
    lines = [[name.strip() for name in columns], *rows]
    written = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join([written[0], "|---" * len(columns) + "|", *written[1:]])


def filled(page: str, tables: dict[str, str]) -> str:
    """A page with what stands between the marks of every table replaced.

    Raises:
        KeyError: if it asks for a table that there is not.
    """
    return re.sub(
        r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)",
        lambda match: match[1] + tables[match[2]] + "\n" + match[3],
        page,
        flags=re.DOTALL,
    )


def executed(page: Path, chosen: Iterable[int]) -> dict[str, Any]:
    """The names that some of a page's blocks of Python define, run in this order.

    Args:
        page: in Markdown.
        chosen: numbers of the blocks, from 1 on.
    """
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    for number in chosen:
        exec(compile(blocks[number - 1], f"{page.name}, block {number}", "exec"), names)
    return names
