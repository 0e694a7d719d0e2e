"""Somebody else's module is imported, or a sentence says why not, and where."""

import re
import subprocess
import sys

import pytest

from innerloop.core.errors import ConfigError
from innerloop.core.imports import load


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("raise RuntimeError('no GPU')", "RuntimeError: no GPU"),
        ("{}['a']", "KeyError: 'a'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("raise ValueError('two\\nlines')", "ValueError: two"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_whatever_an_import_raises_is_a_sentence_with_file_and_line(line, reason, here, request):
    name = f"module{abs(hash(request.node.name))}"
    (here / f"{name}.py").write_text(f"x = 1\n{line}\n", encoding="utf-8")

    where = rf" \(\S*{name}\.py, line 2\)"
    with pytest.raises(ConfigError, match=rf"^The card .*: {re.escape(reason)}{where}\.$"):
        load(f"{name}:CARD", "The card of method 'm'")


def test_ctrl_c_during_an_import_is_no_error_of_the_module(here):
    (here / "stopped.py").write_text("raise KeyboardInterrupt\n", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        load("stopped:CARD", "The card")


def test_a_module_of_the_working_directory_is_found_and_takes_the_place_of_none(here):
    """The installed command's path begins with its own folder, not with the working directory."""
    (here / "mine.py").write_text("CARD = 'mine'\n", encoding="utf-8")
    (here / "msgspec.py").write_text("CARD = 'taken'\n", encoding="utf-8")
    code = (
        "import sys; sys.path.remove('')\n"
        "from innerloop.core.imports import load\n"
        "print(load('mine:CARD', ''), load('msgspec:__name__', ''), hasattr("
        "sys.modules['msgspec'], 'CARD'))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.split() == ["mine", "msgspec", "False"]
