"""Tables in pages, between ``<!-- table: NAME -->`` and ``<!-- end -->``, written by programs."""

import re
from collections.abc import Iterable


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
