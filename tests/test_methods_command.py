"""`innerloop methods`: what cards say, and what the file of measurements says, and nothing else."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from innerloop import cli
from innerloop.core.errors import DataError
from innerloop.methods import measured
from innerloop.methods.catalogue import cards, find_card, names
from innerloop.methods.measured import FILE, read_measured
from innerloop.methods.overview import page_of

DOCS = Path(__file__).parents[1] / "docs"
ROW: dict[str, Any] = {
    "method": "maml",
    "ways": 5,
    "shots": 5,
    "training_seeds": [0, 1],
    "batch_norm": "support",
    "query_accuracy": 0.98126,
    "query_accuracy_ci95": 0.00304,
    "covers": "episodes, classes and training seeds",
    "seconds": 93.0,
    "image_passes": 1_234_000,
    "command": "innerloop train maml --seed 0",
    "innerloop": "0.1.0",
    "processor": "a processor",
    "variant": "",
}


def written(file: Path, *rows: dict[str, Any]) -> Path:
    """A file of measurements with some rows, each `ROW` with changes."""
    values = json.loads(FILE.read_text(encoding="utf-8"))
    file.write_text(json.dumps(values | {"rows": [ROW | row for row in rows]}), encoding="utf-8")
    return file


@pytest.fixture
def measurements(tmp_path, monkeypatch) -> None:
    """What was measured of MAML in two shapes, and of transfer in one of them."""
    file = written(
        tmp_path / "measured.json",
        {},
        {"ways": 20, "shots": 1, "query_accuracy": 0.7, "seconds": 600.0},
        {
            "method": "transfer",
            "batch_norm": "running",
            "covers": "episodes and classes",
            "variant": "cosine",
        },
    )
    monkeypatch.setattr(measured, "FILE", file)


@pytest.fixture(autouse=True)
def no_width(monkeypatch) -> None:
    """The shell's own must not decide what a table looks like."""
    monkeypatch.delenv("COLUMNS", raising=False)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["methods", *arguments]) == 0
    return capsys.readouterr().out


def table_of(page: str) -> dict[str, list[str]]:
    """Name of a method -> its other cells."""
    head, *rows = (re.split(r"  +", line) for line in page.split("\n\n")[0].splitlines())
    assert head == [
        *("name", "title", "year", "adapts", "trains on", "transductive", "cost", "accuracy, %")
    ]
    return {name: cells for name, *cells in rows}


def one_line(page: str) -> str:
    return " ".join(page.split())


def test_the_table_has_every_method_as_its_card_has_it(capsys):
    table = table_of(printed(capsys))

    assert list(table) == names()
    for card in cards()[0]:
        title, year, adapts, trains_on, transductive, *_ = table[card.name]
        assert (title, year, adapts) == (card.title, str(card.papers[0].year), card.adapts)
        assert (trains_on, transductive == "yes") == (card.trains_on, card.transductive)


@pytest.mark.parametrize("width", [80, 100, 60])
def test_in_a_narrow_shell_columns_without_a_place_follow_in_further_lines(
    width, capsys, monkeypatch
):
    whole = table_of(printed(capsys))
    monkeypatch.setenv("COLUMNS", str(width))
    lines = printed(capsys).split("\n\n")[0].splitlines()

    assert max(map(len, lines)) <= width
    _, *rows = re.split(r"\n(?! )", "\n".join(lines))
    assert {row[0]: row[1:] for row in (re.split(r"\n?  +", row) for row in rows)} == whole


def test_the_table_shows_what_the_file_says_and_a_dash_where_it_says_nothing(capsys, measurements):
    page = printed(capsys)
    table = table_of(page)

    assert table["maml"][5:] == ["1.6 min", "98.13 ± 0.30 (support)"]
    assert table["transfer"][5:] == ["1.6 min", "98.13 ± 0.30 (running, cosine)"]
    assert all(table[name][5:] == ["-", "-"] for name in set(table) - {"maml", "transfer"})
    assert (
        "5-way 5-shot, 15 query images a class, omniglot, split 1100-100-423, part test, 600 "
        "episodes; ± is the 95 % interval over episodes, classes and training seeds, or the 95 % "
        "interval over episodes and classes; in brackets the batch norm, " in one_line(page)
    )
    cost = "Cost: minutes of one training on one core, without its validations (a processor)."
    assert cost in one_line(page)


def test_other_episodes_have_other_measurements(capsys, measurements):
    table = table_of(printed(capsys, "--ways", "20", "--shots", "1"))
    page = one_line(printed(capsys, "--ways", "7"))

    assert table["maml"][5:] == ["10.0 min", "70.00 ± 0.30 (support)"]
    assert table["transfer"][5:] == ["-", "-"]
    assert "Cost and accuracy were not measured yet, of 7-way 5-shot episodes." in page


def test_of_one_method_all_is_told(capsys, measurements):
    page = one_line(printed(capsys, "maml"))

    assert "MAML (maml)" in page and "Model-agnostic meta-learning" in page
    assert "inner_steps (5): Gradient steps on the support set." in page
    assert "Presets " + ", ".join(find_card("maml").presets) in page
    assert "docs/methods/maml.md" in page
    assert (
        "98.13 ± 0.30 % query accuracy, 5-way 5-shot, 15 query images a class, omniglot, split "
        "1100-100-423, part test, 600 episodes, batch norm support, training seeds 0, 1; 95 % "
        "interval over episodes, classes and training seeds; innerloop 0.1.0. A training takes "
        "1.6 min of one core (a processor) without its validations, and 1,234 thousand image "
        "passes. innerloop train maml --seed 0"
    ) in page
    assert page.index("5-way 5-shot") < page.index("20-way 1-shot")
    assert "Not yet." in printed(capsys, "fomaml")


def test_json_has_all_of_every_method(capsys, measurements):
    whole = json.loads(printed(capsys, "--json"))
    one = json.loads(printed(capsys, "maml", "--json"))

    assert [method["name"] for method in whole["methods"]] == names() and whole["faults"] == []
    assert one in whole["methods"]
    assert one["measured"][0] == ROW
    assert one["settings"]["inner_steps"] == 5 and one["papers"][0]["arxiv"] == "1703.03400"


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"query_accuracy": 98.1}], r"does not hold what it should: .*query_accuracy"),
        ([{"covers": "everything"}], "does not hold what it should: .*everything"),
        ([{}, {}], "has maml at 5-way 5-shot 2 times"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused(rows, sentence, tmp_path):
    with pytest.raises(DataError, match=sentence):
        read_measured(written(tmp_path / "measured.json", *rows))


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="Cannot read"):
        read_measured(tmp_path / "none.json")
    (tmp_path / "half.json").write_bytes(b'{"rows": [')
    with pytest.raises(DataError, match="does not hold what it should"):
        read_measured(tmp_path / "half.json")


def test_what_comes_with_the_package_is_of_methods_that_it_has():
    rows = read_measured(FILE).rows

    assert {row.method for row in rows} <= set(names())


def test_every_page_of_a_method_is_one_that_a_card_leads_to():
    pages = {f"docs/methods/{page.name}" for page in (DOCS / "methods").glob("*.md")}

    assert pages and pages <= {page_of(card) for card in cards()[0]}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mamal"], "There is no method 'mamal'"),
        (["--shots", "0"], "--shots must be at least 1: got 0."),
    ],
)
def test_what_there_is_not_is_refused(arguments, sentence, capsys):
    assert cli.main(["methods", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_the_table_needs_no_torch_and_no_drawing():
    code = (
        "import sys; from innerloop import cli; cli.main(['methods']); "
        "print([name for name in ('torch', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
