"""`innerloop adapt`, `predict` and `evaluate` as a person types them."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from innerloop import FewShotClassifier, cli
from picturing import KINDS, drawing


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def adapted(here: Path, drawings: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert cli.main(["adapt", str(drawings)]) == 0
    capsys.readouterr()
    return here / "classifier"


@pytest.fixture
def new(here: Path) -> Path:
    for kind in KINDS:
        (here / "new" / kind).mkdir(parents=True)
        for seed in range(6, 9):
            drawing(kind, seed).save(here / "new" / kind / f"{seed}.png")
    return here / "new"


def test_three_commands_from_a_folder_to_predictions(here, drawings, new, capsys):
    assert cli.main(["adapt", str(drawings), "--out", "mine"]) == 0
    said = capsys.readouterr().out
    assert "are right when left out, one of each class at a time" in said
    assert said.endswith("Next: innerloop predict mine PICTURES...\n")
    assert {file.name for file in Path("mine").iterdir()} >= {
        "classifier.json",
        "head.safetensors",
        "README.md",
        "report.html",
        "pictures.png",
    }
    page = Path("mine/report.html").read_text()
    assert "Would more pictures help?" in page
    assert re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']*""", page) == []

    assert cli.main(["predict", "mine", "new"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert sum(f"{Path(line.split(':')[0]).parent.name} (" in line for line in lines) >= 7

    assert cli.main(["evaluate", "mine", "new", "--out", "evaluation"]) == 0
    said = capsys.readouterr().out
    assert "Of 9 pictures" in said and "cross: 3 of 3" in said
    assert Path("evaluation/reliability.png").is_file()


def test_a_stranger_is_called_none_and_how_sure_is_said_of_its_class(adapted, here, capsys):
    noise = np.random.default_rng(0).integers(0, 2, (64, 64)).astype(np.uint8)
    Image.fromarray(255 * noise).save("noise.png")

    assert cli.main(["predict", str(adapted), "noise.png"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"noise.png: none of these \(if it were one, \w+ at \d+ %\)", line)


def test_json_has_all_that_is_said(adapted, new, capsys):
    assert cli.main(["predict", str(adapted), "new/ring/6.png", "--json"]) == 0
    (prediction,) = json.loads(capsys.readouterr().out)["predictions"]
    assert prediction["class"] == "ring" and 0 < prediction["probability"] < 1

    assert cli.main(["evaluate", str(adapted), "new", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tested"] == 9 and found["by_class"]["ring"] == [3, 3]


def test_classes_that_it_does_not_know_show_what_passes(adapted, new, capsys):
    (new / "dots").mkdir()
    for place in range(4):
        noise = np.random.default_rng(place).integers(0, 2, (64, 64)).astype(np.uint8)
        Image.fromarray(255 * noise).save(new / "dots" / f"{place}.png")

    assert cli.main(["evaluate", str(adapted), "new"]) == 0

    said = capsys.readouterr().out
    assert "Of 9 pictures" in said
    assert "Of 4 pictures of other classes (dots)" in said and "AUROC" in said


def test_predictions_go_into_a_table_and_into_folders(adapted, new, capsys):
    arguments = ["predict", str(adapted), "new", "--csv", "table.csv", "--copy-into", "sorted"]
    assert cli.main(arguments) == 0

    with open("table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert sum(float(rows[0][kind]) for kind in KINDS) == pytest.approx(1, abs=1e-5)
    copies = sorted(path.name for path in Path("sorted").rglob("*.png"))
    # Files of three folders are called the same.
    assert len(copies) == 9


def test_what_cannot_be_read_is_named_and_the_others_go_on(adapted, new, capsys):
    (new / "ring" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (new / "ring" / "phone.heic").write_bytes(b"x")

    assert cli.main(["predict", str(adapted), "new"]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 12
    assert said.endswith("\n2 of 11 pictures could not be read.\n")
    assert "broken.jpg' cannot be read" in said and "save it as JPEG" in said
    assert cli.main(["predict", str(adapted), "new", "--strict"]) == 5


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    before = sorted(Path().rglob("*"))
    assert cli.main(arguments) in (2, 5)
    assert sorted(Path().rglob("*")) == before
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_wrong_folders_are_refused_in_a_sentence_and_nothing_is_written(here, new, capsys):
    assert "is no folder" in refusal(["adapt", "nowhere"], capsys)
    Path("empty").mkdir()
    assert "has no folder of pictures" in refusal(["adapt", "empty"], capsys)
    Path("empty/a").mkdir()
    assert "There is one class, 'a'" in refusal(["adapt", "empty"], capsys)
    Path("empty/b").mkdir()
    assert "The class 'a' has no picture" in refusal(["adapt", "empty"], capsys)
    (new / "Ring").mkdir()
    assert "upper and lower case alone" in refusal(["adapt", "new"], capsys)


def test_a_taken_place_and_wrong_options_are_refused(here, drawings, new, capsys):
    Path("notes").mkdir()
    Path("notes/mine.txt").touch()
    folder = str(drawings)
    assert "no classifier: choose another" in refusal(["adapt", folder, "--out", "notes"], capsys)
    assert "--unknown must be" in refusal(["adapt", folder, "--unknown", "maybe"], capsys)
    assert "no backbone 'cats'" in refusal(["adapt", folder, "--backbone", "cats"], capsys)
    assert "needs pictures" in refusal(["predict", "nowhere"], capsys)
    assert "innerloop adapt" in refusal(["predict", "nowhere", "new"], capsys)


@pytest.mark.parametrize("out", ["classifier", "mine.innerloop"])
def test_a_second_classifier_does_not_take_the_place_of_the_first(here, drawings, new, out, capsys):
    assert cli.main(["adapt", str(drawings), "--out", out]) == 0
    first = FewShotClassifier.load(out).add_class("more", [drawing("ring", 9)])
    first.save(out)
    capsys.readouterr()

    said = refusal(["adapt", "new", "--out", out], capsys)
    assert f"{out} is a classifier already" in said and "--replace" in said
    assert len(FewShotClassifier.load(out).classes_) == 4
    assert cli.main(["adapt", "new", "--out", out, "--replace"]) == 0
    assert len(FewShotClassifier.load(out).classes_) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["adapt", "nowhere"],
        ["adapt", "empty"],
        ["adapt", "new", "--unknown", "maybe"],
        ["adapt", "new", "--out", "file/inside"],
        ["predict", "nowhere", "new"],
        ["predict", "model.onnx", "new"],
        ["predict", "classifier", "empty"],
        ["predict", "classifier", "new", "--csv", "file/table.csv"],
        ["predict", "classifier", "new", "--copy-into", "file/inside"],
        ["evaluate", "nowhere", "new"],
        ["evaluate", "classifier", "empty"],
        ["evaluate", "classifier", "new", "--out", "file/inside"],
        ["export", "nowhere", "model.onnx"],
        ["export", "classifier", "file/model.onnx"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_said_before_torch_is_imported(here, new, arguments):
    for name in ("empty", "classifier"):
        Path(name).mkdir()
    for name in ("classifier.json", "SHA256SUMS"):
        Path("classifier", name).touch()
    Path("file").touch()
    code = (
        "import sys; from innerloop import cli\n"
        "status = cli.main(sys.argv[1:]); print(status, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)

    assert done.stdout.split() in (["2", "False"], ["4", "False"], ["5", "False"]), done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("innerloop: ") and "is intact" not in line


def test_an_export_is_not_read_back_and_that_is_said(adapted, new, capsys):
    Path("model.onnx").touch()
    assert "does not read back" in refusal(["predict", "model.onnx", "new"], capsys)


def test_no_file_is_written_over_unless_it_is_asked_for(adapted, new, capsys):
    evaluation = Path("evaluation")
    evaluation.mkdir()
    files = [Path("model.onnx"), Path("table.csv"), evaluation / "reliability.png"]
    commands = [
        ["export", "classifier", "model.onnx"],
        ["predict", "classifier", "new", "--csv", "table.csv"],
        ["evaluate", "classifier", "new", "--out", "evaluation"],
    ]
    for file, command in zip(files, commands, strict=True):
        file.write_text("mine")
        assert "is there already" in refusal(command, capsys)
        assert file.read_text() == "mine"
        assert cli.main([*command, "--replace"]) == 0
        assert file.read_bytes() != b"mine"


def test_the_same_picture_in_two_classes_is_said(here, drawings, new, capsys):
    (new / "cross" / "copy.png").write_bytes((new / "ring" / "6.png").read_bytes())

    assert cli.main(["adapt", "new", "--out", "mine"]) == 0

    assert "are the same and are of different classes" in capsys.readouterr().out
