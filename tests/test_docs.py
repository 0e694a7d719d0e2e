"""The tutorial runs, and the site is built without a warning."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.slow
def test_the_tutorial_runs(capsys):
    blocks = re.findall(
        r"^```python\n(.*?)^```", (DOCS / "tutorial.md").read_text("utf-8"), re.M | re.S
    )
    names: dict = {}

    for number, block in enumerate(blocks):
        exec(compile(block, f"tutorial.md, block {number}", "exec"), names)

    assert len(blocks) == 6 and names["after"] > names["before"] > 0.2


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        "-d",
        str(tmp_path / "trees"),
        str(DOCS),
        str(tmp_path / "site"),
    ]
    built = subprocess.run(command, capture_output=True, text=True)
    pages = {
        path.relative_to(tmp_path / "site").as_posix()
        for path in (tmp_path / "site").rglob("*.html")
    }

    assert built.returncode == 0, built.stderr
    assert {
        "index.html",
        "first-run.html",
        "tutorial.html",
        "methods.html",
        "methods/mamlpp.html",
        "stability.html",
        "python.html",
        "command-line.html",
        "questions.html",
        "performance.html",
        "data.html",
    } <= pages
    page = (tmp_path / "site" / "command-line.html").read_text("utf-8")
    assert {"--meta-batch-size", "--image-size", "innerloop train METHOD"} <= set(
        re.findall(r"--[a-z-]+|innerloop train METHOD", page)
    )
    assert "EpisodeBatch" in (tmp_path / "site" / "python.html").read_text("utf-8")
