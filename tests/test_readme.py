"""The README's example runs, and every command line in the README and in docs/ parses."""

import re
import shlex
from importlib.metadata import metadata
from pathlib import Path

import pytest
import tyro

from innerloop import cli
from innerloop.cli import start
from innerloop.methods.catalogue import settings_of

ROOT = Path(__file__).parents[1]
GENERATED = ("command-line.md", "methods.md", "python.md")  # written by the build of the site
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name not in GENERATED),
]


class ParsedError(Exception):
    """Raised in place of running a command, once all of its options are understood."""


def python_example() -> str:
    (example,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S
    )
    return example


def command_lines(page: Path) -> list[str]:
    """``innerloop ...`` in fenced blocks of shell commands, and between backticks in the text."""
    text = page.read_text("utf-8")
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    shell = [
        block.replace("\\\n", " ")
        for language, block in fences
        if language in ("", "sh", "console")
    ]
    prose = re.sub(r"^```\w*\n.*?^```$", "", text, flags=re.M | re.S)
    lines = [
        line for block in shell for line in re.findall(r"^(?:\$ )?(innerloop .+)$", block, re.M)
    ]
    return lines + re.findall(r"`(innerloop [^`]+)`", prose)


COMMAND_LINES = [(page, line) for page in PAGES for line in command_lines(page)]


def understand(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse a command line as the shell would, and do nothing else; files that it names need not
    exist."""
    parse = tyro.cli

    def parse_only(*arguments, **options):
        parse(*arguments, **options)
        raise ParsedError

    monkeypatch.setattr(tyro, "cli", parse_only)
    monkeypatch.setattr(start, "load_config", lambda path: settings_of("fomaml"))
    with pytest.raises(ParsedError):
        cli.main(shlex.split(line, comments=True)[1:])


def test_the_python_example_has_at_most_15_lines():
    lines = [
        line
        for line in python_example().splitlines()
        if line.strip() and not line.strip().startswith("#")
    ]

    assert len(lines) <= 15


@pytest.mark.slow
def test_the_python_example_learns():
    names: dict = {}

    exec(compile(python_example(), "README.md", "exec"), names)

    logits, labels = names["logits"], names["new"].query.labels
    assert logits.shape == (10, 75, 5)
    assert (logits.argmax(dim=-1) == labels).float().mean().item() > 0.5  # chance is 0.2


LINK = re.compile(r"\[[^\]]*\]\(([^)]+)\)")


def test_every_link_of_the_readme_works_in_a_clone():
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in (ROOT / "README.md").read_text("utf-8").splitlines()
        if line.startswith("#")
    }
    for target in LINK.findall((ROOT / "README.md").read_text("utf-8")):
        path, _, place = target.partition("#")
        assert "://" in target or (ROOT / path).exists(), target
        assert path or place in headings, target


def test_no_link_on_a_package_index_leads_into_the_repository():
    """What an index shows is the description in the package's metadata."""
    shown = metadata("innerloop").json["description"]

    assert isinstance(shown, str) and "docs/comparison.md" in shown
    assert [link for link in LINK.findall(shown) if not link.startswith(("#", "https://"))] == []


def test_the_readme_shows_every_command():
    shown = {line.split()[1] for page, line in COMMAND_LINES if page.name == "README.md"}

    assert shown == set(cli.COMMANDS)


@pytest.mark.parametrize(
    ("page", "line"), COMMAND_LINES, ids=[f"{page.name}: {line}" for page, line in COMMAND_LINES]
)
def test_every_command_line_parses(page, line, monkeypatch):
    understand(line, monkeypatch)


@pytest.mark.parametrize(
    "line", ["innerloop trian fomaml", "innerloop train fomaml --preset curse", "innerloop train"]
)
def test_a_command_line_that_innerloop_refuses_is_noticed(line, monkeypatch):
    """Else the test above could pass whatever the pages say."""
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        understand(line, monkeypatch)


def test_an_option_that_does_not_exist_is_noticed(monkeypatch):
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        understand("innerloop train fomaml --meta-step 10", monkeypatch)
