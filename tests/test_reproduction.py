"""`reproduce`: the plan, what is kept, what is refused, and a kill at any moment."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from pypdf import PdfReader

from innerloop import cli
from innerloop.assignment.plan import METHODS, Budget, budgets, plan_in_words
from innerloop.cli import reproduction
from innerloop.cli.progress import Overall, TrainingProgress
from innerloop.runs import directory as runs
from innerloop.runs.directory import RunDirectory
from killing import report_without_durations, results_of

SMALL = dict(
    filters=4,
    image_size=16,
    meta_steps=4,
    validation_every=2,
    validation_episodes=2,
    checkpoint_every=2,
    ways=3,
    shots=2,
    queries=2,
    inner_steps=2,
    threads=1,
)
OF_EPISODES = SMALL | dict(meta_batch_size=2)
OF_IMAGES = SMALL | dict(batch_size=8)
OUT = Path("out/quick")


def shrink(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make the quick budget one of seconds, in a folder of its own."""
    patch.chdir(folder)
    tiny = Budget(
        "quick",
        (0,),
        3,
        2,
        2,
        {method: OF_IMAGES if method == "transfer" else OF_EPISODES for method in METHODS},
    )
    patch.setattr(reproduction, "budgets", lambda: {"quick": tiny})
    shorter = {
        "steps.STEPS": (0, 1, 2),
        "steps.STEP_RATES": (0.4,),
        "parts.RATES": (0.1, 0.4),
        "parts.PARTS": ("head", "all"),
    }
    for name, value in shorter.items():
        patch.setattr(f"innerloop.analysis.explanation.{name}", value)


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    shrink(monkeypatch, tmp_path)


def run(*arguments: str) -> int:
    return cli.main(["reproduce", "--data", "strokes", "--out", "out", *arguments])


def made(folder: Path = Path()) -> dict[str, bytes]:
    return results_of(folder / OUT)


def words_of_report(folder: Path = Path()) -> str:
    return report_without_durations(folder / OUT)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """What one uninterrupted run makes; read-only."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch, folder)
        assert run() == 0
    return folder


@pytest.mark.slow
def test_every_section_is_filled_and_every_figure_says_strokes(whole):
    page = (whole / OUT / "report" / "report.html").read_text(encoding="utf-8")
    missing = re.findall(r'<div class="missing">\s*<p>(.*?)</p>', page)
    figures = re.findall(r"<figure id=.*?</figure>", page, flags=re.DOTALL)

    assert missing == ["No collaborators are named."]
    assert len(figures) > 15 and all("not Omniglot" in figure for figure in figures)
    assert len(PdfReader(whole / OUT / "report" / "report.pdf").pages) > 5


@pytest.mark.slow
def test_typed_again_all_is_kept(whole, capsys):
    shutil.copytree(whole / "out", "out")

    assert run("--json") == 0

    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert (
        "Plan (quick budget): 11 jobs" in said.err
        and "of one seed; evaluations and the explanation are over fewer" in said.err
    )
    assert said.err.count("done already, and kept.") == 11
    assert made() == made(whole) and words_of_report() == words_of_report(whole)
    assert [Path(path).is_file() for path in [*answer["weights"], answer["html"]]] == [True] * 5
    assert {row["method"] for row in answer["rows"]} == set(METHODS)


@pytest.mark.slow
@pytest.mark.parametrize("writes", [9, 40, 118])
def test_a_kill_at_any_write_ends_in_the_same_weights_and_report(writes, whole, monkeypatch):
    """In a training; between two of them; late, in evaluations, explanation or report."""
    count, replace = 0, runs.os.replace

    def dying(source, target):
        nonlocal count
        count += 1
        if count > writes:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(runs.os, "replace", dying)
    assert run() == 130 and made() != made(whole)
    monkeypatch.setattr(runs.os, "replace", replace)
    assert run() == 0

    assert made() == made(whole) and words_of_report() == words_of_report(whole)


@pytest.mark.slow
def test_its_bundle_passes_its_check_and_other_weights_do_not(whole, capsys):
    shutil.copytree(whole / "out", "out")
    pack = ["bundle", str(OUT), "--name", "김민수", "--student-number", "1"]
    assert cli.main(pack) == 0
    archive = Path("김민수_1_Assignment2.zip")
    capsys.readouterr()

    assert cli.main(["bundle", "--check", str(archive), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [(run["episodes"], run["agree"]) for run in answer["runs"]] == [(3, 3)] * 4

    weights = OUT / "transfer-strokes-3w2s-s0" / "model.safetensors"
    row = next(
        (OUT / "transfer-strokes-3w2s-s0").glob(
            "evaluation-alphabets-val-3w2s2q-2steps-running-3*.json"
        )
    )
    stored = json.loads(row.read_text())
    better = [min(1.0, value + 0.5) for value in stored["query_accuracy_per_episode"]]
    stored |= {"query_accuracy_per_episode": better, "query_accuracy": sum(better) / 3}
    row.write_text(json.dumps(stored))
    assert weights.is_file() and cli.main(pack) == 0
    assert cli.main(["bundle", "--check", str(archive)]) == 5
    assert re.search(
        r"transfer-\S+: its weights give [\d.]+ % on 3 episodes, and the archive .*more than round",
        capsys.readouterr().err,
    )


@pytest.mark.slow
def test_a_bundle_with_the_weights_of_another_method_is_refused(whole, capsys):
    """MAML's fit FO-MAML's network, and their accuracies are near."""
    shutil.copytree(whole / "out", "out")
    other = OUT / "maml-strokes-3w2s-s0" / "model.safetensors"
    shutil.copy(other, OUT / "fomaml-strokes-3w2s-s0" / "model.safetensors")
    shutil.rmtree(OUT / "explanation")
    assert cli.main(["bundle", str(OUT), "--name", "A", "--student-number", "1"]) == 0

    assert cli.main(["bundle", "--check", "A_1_Assignment2.zip"]) == 5
    said = capsys.readouterr().err
    assert "holds the weights of maml, and the run is one of fomaml" in said


def test_a_paused_training_goes_on(capsys):
    assert run("--max-minutes", "0") == 0
    assert "Go on with: the same command, typed again." in capsys.readouterr().out
    assert not (OUT / "fomaml-strokes-3w2s-s0" / "model.safetensors").exists()
    assert run("--max-minutes", "0") == 0

    assert RunDirectory(OUT / "fomaml-strokes-3w2s-s0").status.step == 2


@pytest.mark.parametrize(("name", "value"), [("meta_steps", 5), ("inner_lr", 0.1), ("seed", 3)])
def test_a_run_of_other_settings_is_refused_by_name(name, value, capsys):
    assert run("--max-minutes", "0") == 0
    path = OUT / "fomaml-strokes-3w2s-s0"
    (path / "config.json").write_text(RunDirectory(path).config.replace(**{name: value}).to_json())
    before = {path: path.read_bytes() for path in OUT.rglob("*") if path.is_file()}

    assert run() == 2

    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"innerloop: {path} is there with another {name!r} ({value!r}, here ")
    assert said.endswith("choose another --out, or remove it.")
    assert {path: path.read_bytes() for path in OUT.rglob("*") if path.is_file()} == before


def test_a_file_in_the_way_is_refused_before_the_plan(capsys):
    Path("out").touch()

    assert run() == 2

    said = capsys.readouterr()
    assert (
        "out is a file, and no folder for the runs" in said.err
        and "Plan" not in said.out + said.err
    )


@dataclass(frozen=True)
class Step:
    """A job that is done or not."""

    what: str
    seconds: float
    done: bool

    def is_done(self) -> bool:
        return self.done


def test_the_plan_is_said_with_its_times():
    jobs = [Step("one", 600.0, False), Step("two", 60, True)]
    words = list(plan_in_words(Budget("full", (0,), 600, 200, 16), jobs))

    assert words == [
        "Plan (full budget): 2 jobs and the report, about 10 minutes to go on two x86_64 cores.",
        "   1. one: about 10 minutes",
        "   2. two: done already",
    ]


def test_overall_progress_counts_by_weight_and_learns_the_pace(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("innerloop.cli.progress.time.monotonic", lambda: now[0])
    overall = Overall([100.0, 100.0, 200.0])
    overall.begin(0)
    overall.skip()
    overall.begin(1)
    now[0] = 100.0

    assert overall.in_words(0.5) == "[2/3, 38 % of all, about 8 min left] "
    overall.resume(0.25)  # a quarter of it was there: half the pace
    assert overall.in_words(0.5) == "[2/3, 38 % of all, about 17 min left] "


def test_the_time_left_is_told_from_steps_and_not_from_the_first_validation(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("innerloop.cli.progress.time.monotonic", lambda: now[0])
    progress = TrainingProgress(11)
    validation = {"kind": "validation", "query_accuracy": 0.5, "query_accuracy_ci95": 0.01}
    progress.on_step(1, {"kind": "train", "loss": 1.0})
    now[0] = 500.0
    progress.on_step(0, validation)
    now[0] = 506.0
    progress.on_step(2, {"kind": "train", "loss": 1.0})

    assert capsys.readouterr().err.splitlines()[-1].endswith("about 54 s left")


def test_the_quick_budget_has_the_published_trainings_of_one_seed(monkeypatch):
    monkeypatch.undo()
    quick, full = budgets()["quick"], budgets()["full"]

    assert quick.settings == full.settings == {}
    assert (quick.seeds, full.seeds) == ((0,), (0, 1, 2))
    assert quick.episodes < full.episodes == 600
