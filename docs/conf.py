"""The documentation as a site: sphinx-build -W -b html docs site."""

import contextlib
import io
import os
from pathlib import Path

import innerloop
from innerloop import cli

project, author, release = "innerloop", "the innerloop developers", innerloop.__version__
copyright = "the innerloop developers, MIT licence"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme, html_title = "furo", "innerloop"
html_static_path: list[str] = []
myst_heading_anchors = 3
autodoc_member_order, autodoc_typehints = "bysource", "description"
napoleon_google_docstring, napoleon_numpy_docstring = True, False
nitpicky = False
REPOSITORY = Path(__file__).parents[1]


def command_line() -> str:
    """Every command's help, as the shell prints it, under a heading of its own."""
    os.environ["COLUMNS"] = "90"
    parts = [
        "# The command line",
        "",
        "Generated from the code: what `--help` prints after each command.",
        "",
    ]
    for command, (_, what) in cli.COMMANDS.items():
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            cli.main([command, "--help"])
        parts += [
            f"## {command}",
            "",
            f"{what[0].upper()}{what[1:]}.",
            "",
            "```text",
            printed.getvalue().strip(),
            "```",
            "",
        ]
    return "\n".join(parts)


def python_interface() -> str:
    """Every public name with its docstring."""
    parts = [
        "# The Python interface",
        "",
        "Generated from the code: every public name of the package `innerloop`.",
        "",
    ]
    for name in innerloop.__all__[1:]:
        kind = "autoclass" if isinstance(getattr(innerloop, name), type) else "autofunction"
        options = ["   :members:"] if kind == "autoclass" else []
        parts += [
            f"## {name}",
            "",
            "```{eval-rst}",
            f".. {kind}:: innerloop.{name}",
            *options,
            "```",
            "",
        ]
    return "\n".join(parts)


def links_out_of_the_site(_app: object, _docname: str, source: list[str]) -> None:
    """Name the files beside docs/ that pages link to, since the site does not hold them."""
    import re

    def named(found: re.Match) -> str:
        target = (REPOSITORY / "docs" / _docname).parent / found[2].partition("#")[0]
        outside = not target.resolve().is_relative_to(REPOSITORY / "docs")
        return f"{found[1]} (`{target.resolve().relative_to(REPOSITORY)}`)" if outside else found[0]

    source[0] = re.sub(r"(?<!!)\[([^\]]+)\]\((\.\.[^)]+)\)", named, source[0])


def setup(app: object) -> None:
    """Write the generated pages before the others are read."""
    for name, page in (("command-line", command_line()), ("python", python_interface())):
        (Path(__file__).parent / f"{name}.md").write_text(page, encoding="utf-8")
    app.connect("source-read", links_out_of_the_site)  # type: ignore[attr-defined]
