"""Names that a person chose are shown as they are: in figures, Markdown, HTML and PDF."""

import html
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pypdf
import pytest
from matplotlib.figure import Figure

from innerloop.cli import main
from innerloop.report.document import Document, Paragraph, Picture, Section, Table, code
from innerloop.report.figures.style import band, canvas, save_figure
from innerloop.report.render import markdown
from innerloop.report.render.pages import html_page, pdf
from innerloop.report.render.svg import drawn
from making import make_run

NAMES = [
    "costs 5$ and 6$",
    r"\frac{1}{2}_^% {x}",
    "$x^{2$",
    "<b>&amp;|a|",
    'id="x" url(#y) #000000',
    "*a* _b_ `c` [d](e) ~f~",
    "# no heading",
    "日本語",
    "שלום",
    "🐍",
]


def figure_of(name: str) -> Figure:
    figure, axes = canvas(name, name)
    band(axes, [0, 1], [0.5, 0.6], [0.1, 0.1], name, "#0072B2")
    axes.set_yticks([50, 60], [name, name])
    axes.legend()
    return figure


def texts_of_svg(svg: str) -> list[str]:
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_in_a_figure_on_the_page_and_in_its_values_as_it_is(name):
    drawing = drawn(lambda: figure_of(name))
    page = drawing.on_page("picture", name)

    # Title, subtitle, two ticks and the legend.
    assert texts_of_svg(drawing.svg).count(name) == 5
    assert texts_of_svg(page).count(name) == 5
    assert page.count(f'data-series="{html.escape(name)}"') == 2


@pytest.mark.parametrize("scale", ["log", "symlog", "asinh", "logit", "linear"])
@pytest.mark.parametrize("values", [(0.02, 0.9), (0.3, 0.4), (1e-7, 3e9)])
def test_no_axis_shows_a_formula_as_it_is_typed(scale, values):
    def draw() -> Figure:
        figure, axes = canvas("title", "subtitle")
        axes.set_yscale(scale)
        axes.plot([0, 1], [min(value, 0.99) for value in values] if scale == "logit" else values)
        return figure

    texts = texts_of_svg(drawn(draw).svg)

    assert not [text for text in texts if "$" in text or "\\" in text]
    # More than the title, the subtitle and the five or six ticks of the other axis.
    assert len(texts) > 8


@pytest.mark.parametrize("name", [*NAMES, "two\nlines", "bell \a", "half \udc80"])
def test_a_figure_with_any_name_is_saved_as_png_and_as_whole_svg(name, tmp_path):
    png = save_figure(lambda: figure_of(name), tmp_path, "figure")

    assert png.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "figure.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a|b", r"a\|b"),
        ("two\r\nlines", "two lines"),
        ("<b>", r"\<b>"),
        ("> a > b", r"\> a > b"),
        ("$x$", r"\$x\$"),
        ("_a_b_", r"\_a_b\_"),
        ("&lt; & c", r"\&lt; & c"),
        ("# a", r"\# a"),
        ("1. a", r"1\. a"),
        ("-5.0 ± 1.0", "-5.0 ± 1.0"),
        (r"\|", r"\\\|"),
        (code("a`b"), "``a`b``"),
    ],
)
def test_a_cell_of_markdown_is_escaped(name, written):
    """By CommonMark a backslash before punctuation makes it a plain character."""
    assert markdown.table(["x"], [[name]])[-1] == f"| {written} |"


def document_of(name: str) -> Document:
    blocks = [
        Paragraph(name),
        Table(name, [name, "b"], [[name, code(name)]]),
        Picture("picture", lambda: figure_of(name), name, name),
    ]
    return Document(name, name, [Section(name, blocks)], name)


@pytest.mark.parametrize("name", [*NAMES, "half \udc80"])
def test_a_report_with_any_name_shows_it_on_page_and_paper(name):
    document = document_of(name)
    drawings = {"picture": drawn(document.pictures[0].draw)}
    page = html_page(document, drawings)
    paper = pypdf.PdfReader(io.BytesIO(pdf(document, drawings))).pages[0].extract_text()

    shown = name.replace("\udc80", "\ufffd")
    assert html.unescape(page).count(shown) >= 8
    if shown.isascii():
        assert "".join(shown.split()) in "".join(paper.split())


def test_runs_with_any_name_are_compared(tmp_path):
    names = [f"{name.replace('/', '')} s{seed}" for seed, name in enumerate(NAMES)]
    runs = [
        make_run(tmp_path, "maml", seed, name=name, inner_lr=0.1 + seed / 100)
        for seed, name in enumerate(names)
    ]
    folders = [str(run.path) for run in runs]

    assert main(["compare", *folders, "--episodes", "8", "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {8}


def pixels(folder: Path) -> bytes:
    return save_figure(lambda: figure_of("name"), folder, "figure").read_bytes()


def test_figures_do_not_follow_the_callers_style_and_leave_it_as_it_is(tmp_path):
    usual = pixels(tmp_path)
    own: Any = {
        "font.size": 30.0,
        "text.usetex": True,
        "font.family": ["no such"],
        "lines.linewidth": 9,
    }
    with matplotlib.rc_context(own), np.errstate(all="raise"):
        before = dict(matplotlib.rcParams)
        assert pixels(tmp_path) == usual
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("backend", ["nonsense", "module://no.such.backend", "TkAgg", ""])
def test_figures_are_drawn_whatever_backend_the_environment_names(backend, tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.size: 40\n", encoding="utf-8")
    code = (
        "import innerloop.report, os, pathlib, test_names;"
        "test_names.pixels(pathlib.Path('there'));"
        "print(os.environ['MPLBACKEND'])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={
            **os.environ,
            "MPLBACKEND": backend,
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert said.strip() == backend
    assert (tmp_path / "there" / "figure.png").read_bytes() == pixels(tmp_path)
