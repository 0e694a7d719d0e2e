"""The documentation as a site: sphinx-build -W -b html docs site."""

import contextlib
import io
import os
from pathlib import Path

import innerloop
from innerloop import cli
from innerloop.methods import catalogue
from innerloop.methods.card import Card
from innerloop.methods.measured import FILE, read_measured
from innerloop.methods.overview import COLUMNS, caption, cells, result_in_words
from innerloop.report.document import code
from innerloop.report.render.markdown import table, text
from innerloop.settings.sections import EpisodeSettings

project, author, release = "innerloop", "the innerloop developers", innerloop.__version__
copyright = "the innerloop developers, MIT licence"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme, html_title = "furo", "innerloop"
html_static_path: list[str] = []
myst_heading_anchors = 3
# Made by scikit-learn, with links into its own pages.
OF_SCIKIT_LEARN = "set_score_request"
autodoc_member_order, autodoc_typehints = "bysource", "description"
napoleon_google_docstring, napoleon_numpy_docstring = True, False
nitpicky = False
REPOSITORY = Path(__file__).parents[1]


def printed(*arguments: str) -> str:
    """What a command prints, as a block of a page."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        code = exit_code_of(*arguments)
    if code:
        raise RuntimeError(f"innerloop {' '.join(arguments)} ended with exit code {code}.")
    lines = [line.rstrip() for line in text.getvalue().strip().splitlines()]
    return "\n".join(["```text", *lines, "```", ""])


def exit_code_of(*arguments: str) -> int | str | None:
    """With which a command ends; tyro ends the process after a help text."""
    try:
        return cli.main([*arguments])
    except SystemExit as end:
        return end.code


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
        parts += [f"## {command}", "", f"{what[0].upper()}{what[1:]}.", ""]
        parts += [printed(command, "--help")]
        if command == "train":
            parts += [every_methods_options()]
    return "\n".join(parts)


def every_methods_options() -> str:
    """All options of each method, under a heading of its own."""
    parts = []
    for name in catalogue.names():
        parts += [f"### train {name}", "", printed("train", name, "--help-all")]
    return "\n".join(parts)


def methods_table() -> str:
    """The methods that are installed: a table, then what each does and can be told."""
    cards, faults = catalogue.cards()
    measured = read_measured(FILE)
    shape = EpisodeSettings().ways, EpisodeSettings().shots
    rows = [cells(card, measured.row(card.name, *shape)) for card in cards]
    parts = [
        "# Methods",
        "",
        "Generated from the code: every method that is installed, as its card has it, and as "
        "`innerloop methods` shows it.",
        "",
        *table(COLUMNS, ([code(name), *others] for name, *others in rows)),
        "",
        text(caption(measured, *shape)),
        "",
        *faults,
        "",
    ]
    for card in cards:
        parts += [f"## {card.title}", "", card.idea, ""]
        parts += [f"- {paper}" for paper in card.papers]
        parts += ["", *settings_table(card), ""]
        parts += [f"- {text(result_in_words(measured, row))}" for row in measured.of(card.name)]
        parts += [""]
    return "\n".join(parts)


def settings_table(card: Card) -> list[str]:
    """A method's own settings, then what it changes in those of all."""
    sentences = card.settings.descriptions()
    rows = [
        [code(name), str(default), sentences[name]]
        for name, default in card.settings().flat().items()
    ]
    lines = table(["Setting", "Default", "What it is"], rows)
    changes = ", ".join(f"`{name}` {value}" for name, value in card.defaults.items())
    if changes:
        lines += ["", f"Other defaults than usual: {changes}. {card.reason}"]
    return lines


def python_interface() -> str:
    """Every public name with its docstring."""
    parts = [
        "# The Python interface",
        "",
        "Generated from the code: every public name of the package `innerloop`.",
        "",
    ]
    for name in (name for name in dir(innerloop) if name != "__version__"):
        kind = "autoclass" if isinstance(getattr(innerloop, name), type) else "autofunction"
        options = (
            ["   :members:", f"   :exclude-members: {OF_SCIKIT_LEARN}"]
            if kind == "autoclass"
            else []
        )
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

    def named(link: re.Match) -> str:
        target = (REPOSITORY / "docs" / _docname).parent / link[2].partition("#")[0]
        outside = not target.resolve().is_relative_to(REPOSITORY / "docs")
        return f"{link[1]} (`{target.resolve().relative_to(REPOSITORY)}`)" if outside else link[0]

    source[0] = re.sub(r"(?<!!)\[([^\]]+)\]\((\.\.[^)]+)\)", named, source[0])


def setup(app: object) -> None:
    """Write the generated pages before the others are read."""
    pages = {
        "command-line": command_line(),
        "methods": methods_table(),
        "python": python_interface(),
    }
    for name, page in pages.items():
        (Path(__file__).parent / f"{name}.md").write_text(page, encoding="utf-8")
    app.connect("source-read", links_out_of_the_site)  # type: ignore[attr-defined]
