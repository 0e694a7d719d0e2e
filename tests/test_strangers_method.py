"""A method of another package is found by its entry point, and everything takes it as its own."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from innerloop.methods import catalogue

HERE = Path(__file__).parent
TINY = [
    *("--data", "strokes", "--filters", "4", "--image-size", "16", "--threads", "1"),
    *("--meta-steps", "4", "--meta-batch-size", "2", "--validation-episodes", "2"),
    *("--ways", "3", "--shots", "2", "--queries", "2"),
]


class Machine:
    """A working directory, and a place where packages are installed beside innerloop."""

    def __init__(self, path: Path):
        self.packages, self.here = path / "packages", path / "here"
        self.packages.mkdir()
        self.here.mkdir()

    def install(self, distribution: str, methods: dict[str, str], **modules: str) -> None:
        """Modules, and a distribution whose entry points name cards."""
        for module, text in modules.items():
            (self.packages / f"{module}.py").write_text(text)
        information = self.packages / f"{distribution}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Name: {distribution}\nVersion: 1.0\n")
        rows = [f"{name} = {place}" for name, place in methods.items()]
        entries = "\n".join(["[innerloop.methods]", *rows, ""])
        (information / "entry_points.txt").write_text(entries)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        paths = [str(self.packages), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "INNERLOOP_CACHE": str(self.here.parent / "cache"),
            "COLUMNS": "120",
        }
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            cwd=self.here,
            env=environment,
        )

    def innerloop(self, *arguments: str) -> str:
        """What a command that goes well prints."""
        done = self.python("-m", "innerloop", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str) -> str:
        """The sentence of a command that is refused, and leaves nothing behind."""
        done = self.python("-m", "innerloop", *arguments)
        assert done.returncode == 2 and done.stdout == ""
        assert re.fullmatch(r"innerloop: [^\n]+[.?]\n", done.stderr), done.stderr
        assert not list(self.here.iterdir())
        return done.stderr.removeprefix("innerloop: ").strip()


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def install_centroids(machine: Machine) -> Machine:
    shutil.copytree(HERE / "stranger" / "centroids", machine.packages / "centroids")
    machine.install("centroids", {"centroids": "centroids.card:CARD"})
    return machine


@pytest.fixture(scope="module")
def with_runs(tmp_path_factory) -> Machine:
    """Where centroids is installed, and a run of it and one of maml are finished."""
    machine = install_centroids(Machine(tmp_path_factory.mktemp("strangers")))
    paused = machine.innerloop(
        "train", "centroids", *TINY, "--run-dir", "mine", "--max-minutes", "0"
    )
    assert "Go on with: innerloop resume mine" in paused
    machine.innerloop("resume", "mine")
    machine.innerloop("train", "maml", *TINY, "--inner-steps", "1", "--run-dir", "theirs")
    return machine


def test_train_lists_the_method_with_its_paper(machine):
    page = install_centroids(machine).innerloop("train", "--help")

    assert re.findall(r"^  (\w+) +\S", page, re.MULTILINE) == [*catalogue.names(), "centroids"]
    assert "centroids  Nearest centroid: A. Stranger. Means are enough." in page


def test_it_is_in_the_table_of_all_methods_and_has_no_page_here(machine):
    install_centroids(machine)
    page = machine.innerloop("methods")
    told = machine.innerloop("methods", "centroids")

    row = r"^centroids +Nearest centroid +2026 +- +episodes +no +-\s+-$"
    assert re.search(row, page, re.MULTILINE)
    assert "Means are enough" in told and "temperature (10.0): Divides the squared" in told
    assert "Its page" not in told


def test_its_help_has_its_settings_defaults_and_presets_and_no_other_methods(machine):
    page = install_centroids(machine).innerloop("train", "centroids", "--help-all")

    assert "centroids's own options" in page
    assert re.search(r"--temperature FLOAT[│\s]+Divides the squared [^(]+\(default: 10\.0\)", page)
    assert re.search(r"--outer-lr FLOAT .*\(default: 0\.002\)", page)
    assert "Start from named settings: warm;" in page
    own = {"meta_batch_size", "temperature"}
    others = {
        name for card in catalogue.cards()[0] for name in card.settings.flags() if name not in own
    }
    assert others
    for name in others:
        assert f"--{name.replace('_', '-')} " not in page


@pytest.mark.slow
def test_it_is_trained_stopped_and_resumed(with_runs):
    run = with_runs.here / "mine"

    config = json.loads((run / "config.json").read_text())
    assert (config["method"], config["own"]["temperature"]) == ("centroids", 10.0)
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    assert "temperature" in (run / "hyperparameters.md").read_text()


@pytest.mark.slow
def test_its_figure_is_drawn(with_runs):
    assert list((with_runs.here / "mine" / "figures").glob("spread.*"))


@pytest.mark.slow
def test_it_is_evaluated(with_runs):
    printed = with_runs.innerloop("evaluate", "mine", "--episodes", "3", "--json")

    (row,) = json.loads(printed)["rows"]
    assert (row["method"], row["batch_norm"], row["episodes"]) == ("centroids", "transductive", 3)


@pytest.mark.slow
def test_it_is_compared_with_a_method_of_innerloop(with_runs):
    page = with_runs.innerloop("compare", "mine", "theirs", "--episodes", "3", "--out", "compared")

    assert re.search(r"^- .*(centroids|Nearest centroid) .*; over the same 3 episodes", page, re.M)
    assert (with_runs.here / "compared" / "comparison.json").is_file()


@pytest.mark.slow
def test_it_is_in_the_report(with_runs):
    with_runs.innerloop("report", "mine", "theirs", "--out", "written")

    assert "Nearest centroid" in (with_runs.here / "written" / "report.html").read_text()


@pytest.mark.slow
def test_its_paper_and_figure_are_in_the_report(with_runs):
    with_runs.innerloop("report", "mine", "theirs", "--out", "again")

    page = (with_runs.here / "again" / "report.html").read_text()
    assert "Means are enough" in page and "the mean distance between class means" in page


@pytest.mark.slow
def test_its_report_speaks_of_no_steps_that_it_does_not_take(with_runs):
    with_runs.innerloop("report", "mine", "--out", "alone")

    page = (with_runs.here / "alone" / "report.html").read_text().lower()
    assert "nearest centroid" in page
    for words in ("no rate", "gradient descent", "80 %", "published", "collaborator"):
        assert words not in page
    assert not list((with_runs.here / "mine" / "figures").glob("inner-steps.*"))


def test_it_is_in_the_table_of_the_documentation(machine):
    code = f"import sys; sys.path.insert(0, {str(HERE.parent / 'docs')!r}); import conf"
    done = install_centroids(machine).python("-c", f"{code}; print(conf.methods_table())")

    assert done.returncode == 0, done.stderr
    assert "| `centroids` | Nearest centroid | 2026 | - | episodes | no | - | - |" in done.stdout
    assert "- A. Stranger. Means are enough. Journal of Means 2026. arXiv 2601" in done.stdout
    assert (
        "| `temperature` | 10.0 | Divides the squared distances to the class means. |"
        in done.stdout
    )
    assert "`outer_lr` 0.002. Distances want larger steps than weights." in done.stdout


CARD = """
from dataclasses import dataclass
from typing import Annotated

from innerloop import Card
from innerloop.settings.fields import between
from innerloop.settings.method import EpisodicSettings


@dataclass(frozen=True)
class Settings(EpisodicSettings):
    width: Annotated[int, between(1, 9)] = 5
    'How wide it is.'


CARD = Card("broken", "Broken", Settings, "no_such_learner:Broken", "It is broken.")
"""
WRONG = "Method 'broken' has a card that is wrong: "
UNKNOWN = "The card of method 'broken' cannot be imported from broken:CARD: "
FAULTS = {
    "a wrong default of its own": (
        CARD.replace("= 5", "= 50"),
        f"{WRONG}width must be between 1 and 9: got 50.",
    ),
    "no default": (
        CARD.replace(" = 5", " = field(kw_only=True)").replace("dataclass\n", "dataclass, field\n"),
        f"{WRONG}its setting 'width' has no default.",
    ),
    "a wrong common default": (
        CARD.replace('broken.")', 'broken.", defaults={"ways": 1})'),
        f"{WRONG}ways must be between 2 and 1,000: got 1.",
    ),
    "a wrong preset": (
        CARD.replace('broken.")', 'broken.", presets={"wide": {"width": 10}})'),
        f"{WRONG}its preset 'wide': width must be between 1 and 9: got 10.",
    ),
    "a setting without a sentence": (
        CARD.replace("'How wide it is.'", ""),
        f"{WRONG}its setting 'width' has no sentence under it.",
    ),
    "an error of two lines": (
        "raise ValueError('The first line.\\nThe second.')",
        f"{UNKNOWN}ValueError: The first line (FOLDER/broken.py, line 1).",
    ),
    "an error without words": (
        "raise ValueError",
        f"{UNKNOWN}ValueError (FOLDER/broken.py, line 1).",
    ),
    "nothing of that name": ("A = 1", f"{UNKNOWN}module 'broken' has no attribute 'CARD'."),
    "another name": (
        CARD.replace('Card("broken"', 'Card("whole"'),
        "Method 'broken' has a card with another name, 'whole'.",
    ),
    "a card that is none": ("CARD = 1", "Method 'broken': broken:CARD is not an innerloop Card."),
}
"""What is wrong -> text of the card's module, and the sentence that says so."""


def listed(page: str) -> list[str]:
    return re.findall(r"^  (\w+) +\S", page, re.MULTILINE)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_card_that_cannot_be_used_is_said_in_a_sentence_and_the_others_work(fault, machine):
    text, sentence = FAULTS[fault]
    sentence = sentence.replace("FOLDER", str(machine.packages))
    machine.install("broken", {"broken": "broken:CARD"}, broken=text)

    page = machine.innerloop("train", "--help")

    assert listed(page) == catalogue.names()
    assert sentence in " ".join(page.split())
    assert machine.refused("train", "broken", "--ways", "3") == sentence


def test_two_methods_of_one_name_are_refused_with_both_places(machine):
    machine.install("broken", {"broken": "broken:CARD"}, broken=CARD)
    machine.install("another", {"broken": "another:CARD"}, another=CARD)

    page = " ".join(machine.innerloop("train", "--help").split())
    refused = machine.refused("train", "broken")

    assert refused in page
    assert "maml's own options" in machine.innerloop("train", "maml", "--help")
    assert re.fullmatch(
        r"There are 2 methods 'broken': (another|broken):CARD and (another|broken):CARD\. "
        r"Uninstall all but one, or name one by its place\.",
        refused,
    )
    assert "--width" in machine.innerloop("train", "another:CARD", "--help")


def test_a_learner_that_cannot_be_imported_is_refused_before_anything_is_written(machine):
    machine.install("broken", {"broken": "broken:CARD"}, broken=CARD)

    assert listed(machine.innerloop("train", "--help")) == [*catalogue.names(), "broken"]
    assert machine.refused("train", "broken", *TINY) == (
        "The learner of method 'broken' cannot be imported from no_such_learner:Broken: No module "
        "named 'no_such_learner'."
    )


def test_a_preset_of_another_method_is_refused_with_those_there_are(machine):
    install_centroids(machine)

    assert machine.refused("train", "maml", "--preset", "warm") == (
        "maml has no preset 'warm', centroids has. There are: course, paper-5w1s, "
        "paper-5w5s, paper-20w1s, paper-20w5s."
    )
    assert machine.refused("train", "centroids", "--preset", "course") == (
        "centroids has no preset 'course', fomaml, maml, mamlpp and transfer have. There are: warm."
    )


def test_a_method_without_presets_says_so(machine):
    machine.install("broken", {"broken": "broken:CARD"}, broken=CARD)

    assert "named settings; this method has none" in " ".join(
        machine.innerloop("train", "broken", "--help").split()
    )
    assert machine.refused("train", "broken", "--preset", "warm") == (
        "There is no preset 'warm'. broken has none."
    )


def test_methods_of_one_title_are_told_apart_by_their_names(machine):
    machine.install("broken", {"broken": "broken:CARD"}, broken=CARD.replace('"Broken"', '"MAML"'))
    titles = "from innerloop.methods.catalogue import title_of as t; "
    titles += "print(t('maml'), t('broken'), t('transfer'), t('gone'), sep=', ')"

    printed = machine.python("-c", titles)

    assert printed.stdout.strip() == "MAML (maml), MAML (broken), Transfer, gone"
