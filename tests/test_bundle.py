"""The hand-in: its name, what is in it, the same bytes for the same content, and every tampering
named."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from innerloop import cli
from innerloop.assignment import pack, rebuild
from innerloop.assignment.check import check, is_more_than_rounding
from innerloop.assignment.pack import SUMS, Author, archive_name
from innerloop.core.errors import ConfigError, DataError
from innerloop.experiments.experiment import open_run, prepare
from innerloop.runs.weights import save_weights
from making import make_run
from test_environment import trained
from test_training import tiny_settings

PACK = ["bundle", "runs", "--name", "Ada Lovelace", "--student-number", "7"]
STEM = "Ada Lovelace_7_Assignment2"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Finished runs, and the archive of them; read-only."""
    folder = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for method in ("fomaml", "mamlpp", "transfer"):
            make_run(Path("runs"), method)
        assert cli.main([*PACK, "--collaborators", "Charles, the engine"]) == 0
    return folder


@pytest.fixture
def archive(made, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(made / f"{STEM}.zip", tmp_path))


@pytest.fixture(scope="module")
def made_light(made) -> Path:
    """The archive with one module of the code, and checksums that are right; read-only.

    The code is most of the files: a check writes all of them, and does no more than compare them.
    """
    path = made / "light.zip"
    content = read(made / f"{STEM}.zip")
    package = f"{STEM}/code/innerloop/"
    for name in list(content):
        if name.startswith(package) and name != f"{package}cli/app.py":
            del content[name]
    summed(content)
    write(path, content)
    return path


@pytest.fixture
def light(made_light, tmp_path, monkeypatch) -> Path:
    """An archive to be changed, where the code in it says nothing."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(made_light, tmp_path / f"{STEM}.zip"))


def read(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def write(archive: Path, content: dict[str, bytes]) -> None:
    with zipfile.ZipFile(archive, "w") as packed:
        for name, data in content.items():
            packed.writestr(name, data)


def changed(archive: Path, change) -> Path:
    """The archive with its files given to a function and packed again."""
    content = read(archive)
    change(content)
    write(archive, content)
    return archive


def test_everything_that_is_asked_for_is_in_it(made, archive, tmp_path):
    with zipfile.ZipFile(archive) as packed:
        names = {name.removeprefix(f"{STEM}/") for name in packed.namelist()}
        page, licence = (
            packed.read(f"{STEM}/{name}").decode() for name in ("report.html", "LICENSE")
        )
        results = json.loads(packed.read(f"{STEM}/results.json"))
        packed.extractall(tmp_path)

    assert {
        "report.html",
        "report.pdf",
        "README.md",
        SUMS,
        "code/requirements.txt",
        "code/ASSIGNMENT.md",
        "code/innerloop/methods/maml/learner.py",
        "code/innerloop/methods/transfer/learner.py",
    } <= names
    for method in ("fomaml", "mamlpp", "transfer"):
        for file in (
            "model.safetensors",
            "MODEL_CARD.md",
            "hyperparameters.md",
            "config.json",
            "metrics.jsonl",
        ):
            assert f"runs/{method}-s0/{file}" in names
        assert f"plots/validation-{method}.svg" in names
    assert {"plots/stability-fomaml.svg", "plots/stability-mamlpp.svg"} <= names
    assert "Charles, the engine" in page and "Ada Lovelace, 7, Assignment 2" in page
    assert "MIT License" in licence
    for row in results:
        assert {
            "method",
            "training_seed",
            "split",
            "ways",
            "shots",
            "inner_steps",
            "batch_norm",
        } <= row.keys()
    assert not any("__pycache__" in name for name in names)
    run = [sys.executable, "-c", "import innerloop, sys; print(innerloop.__file__)"]
    where = subprocess.run(
        run, cwd=tmp_path / STEM, env={"PYTHONPATH": "code"}, capture_output=True, text=True
    )
    assert Path(where.stdout.strip()).is_relative_to(tmp_path / STEM), "the code in it is whole"


def test_names_in_the_archive_are_those_that_a_check_by_hand_needs(archive):
    """`sha256sum -c SHA256SUMS` in the unpacked folder, and every file a run is opened with."""
    with zipfile.ZipFile(archive) as opened:
        names = {name.partition("/")[2] for name in opened.namelist()}
        dates = {entry.date_time for entry in opened.infolist()}

    assert "SHA256SUMS" in names
    runs = {Path(name).parent for name in names if re.fullmatch("runs/[^/]+/config.json", name)}
    assert len(runs) == 3
    for run in runs:
        kept = {Path(name).name for name in names if Path(name).parent == run}
        assert kept >= {"env.json", "metrics.jsonl", "status.json"}
        assert kept >= {"model.safetensors", "MODEL_CARD.md", "hyperparameters.md"}
    assert dates == {(1980, 1, 1, 0, 0, 0)}, "the first date of a zip, so that bytes are the same"


def test_all_that_a_training_leaves_but_its_checkpoints_is_handed_in(drawings, tmp_path):
    run = trained(prepare(tiny_settings("fomaml"), dataset=drawings), tmp_path / "run")

    files = {Path(name).name for name, _ in pack._results(run)}

    left = {path.name for path in run.path.iterdir() if path.is_file()}
    assert left - files <= {"lock"} and "episode.npz" in files


def test_a_run_that_was_not_evaluated_is_refused_on_another_split_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for method in pack.NEEDED:
        make_run(Path("runs"), method)
    other = make_run(Path("runs"), "fomaml", name="other", evaluated=None)
    elsewhere = other.config.replace(split="background-heldout")
    (other.path / "config.json").write_text(elsewhere.to_json())

    with pytest.raises(ConfigError, match=f"{other.path} was not evaluated: innerloop evaluate"):
        pack.contents(Path("runs"), Author(name="A", student_number="7", assignment=2))


def test_every_name_of_the_assignment_is_where_its_page_says(archive):
    from innerloop.methods.maml.learner import MAML
    from innerloop.methods.mamlpp.learner import MAMLpp
    from innerloop.methods.transfer.learner import Transfer

    with zipfile.ZipFile(archive) as packed:
        names, page = packed.namelist(), packed.read(f"{STEM}/code/ASSIGNMENT.md").decode()

    for word in page.replace("`", " ").split():
        if word.startswith("innerloop/") and word.rstrip(":,;").endswith(".py"):
            assert f"{STEM}/code/{word.rstrip(':,;')}" in names, word
    assert MAML.inner_loop and MAML.outer_loop and MAMLpp and Transfer.transfer_learn


def test_the_same_content_has_the_same_bytes(made, archive, monkeypatch):
    before = archive.read_bytes()
    monkeypatch.chdir(made)

    assert (
        cli.main([*PACK, "--collaborators", "Charles, the engine", "--out", str(archive.parent)])
        == 0
    )

    assert archive.read_bytes() == before


@pytest.mark.parametrize(
    "name",
    ["김민수", "Xaver", "Зоя Ковалёва", "José", unicodedata.normalize("NFD", "José"), "李小龍"],
)
def test_names_of_any_script_survive(name, tmp_path):
    stem = archive_name(Author(name=name, student_number="2024-1", assignment=2))

    assert stem == unicodedata.normalize("NFC", f"{name}_2024-1_Assignment2")
    (tmp_path / f"{stem}.zip").touch()
    assert (tmp_path / f"{stem}.zip").is_file()


def test_a_name_may_make_the_archives_two_hundred_bytes_long_and_no_longer():
    beside = len("_7_Assignment2")
    longest = "é" * ((200 - beside) // 2)

    assert len(archive_name(Author(name=longest, student_number="7", assignment=2)).encode()) == 200
    with pytest.raises(ConfigError, match="202 bytes long"):
        archive_name(Author(name=longest + "é", student_number="7", assignment=2))


@pytest.mark.parametrize(
    ("name", "number", "said"),
    [
        ("a/b", "1", "--name holds '/', which"),
        ("a", "1:2", "--student-number holds ':'"),
        ("", "1", "must not be empty"),
        ("a\n", "1", "must not begin or end"),
        ("a\tb", "1", r"--name holds '\\t'"),
        (".a", "1", "must not begin with a dot"),
        ("가" * 80, "1", "bytes long"),
        ("a\u202eb", "1", "which a file's name must not hold"),
    ],
)
def test_names_that_file_systems_refuse_are_errors(name, number, said):
    with pytest.raises(ConfigError, match=said):
        archive_name(Author(name=name, student_number=number, assignment=2))


@pytest.mark.parametrize(
    "file", ["report.html", "runs/fomaml-s0/model.safetensors", "code/innerloop/cli/app.py"]
)
def test_a_changed_file_is_named(file, light):
    def change(content):
        content[f"{STEM}/{file}"] += b" "

    with pytest.raises(DataError, match=f"{file} was changed"):
        check(changed(light, change))


def test_a_file_added_or_taken_away_is_named(light):
    with pytest.raises(DataError, match=r"extra\.txt was added"):
        check(changed(light, lambda content: content.update({f"{STEM}/extra.txt": b"x"})))
    with pytest.raises(DataError, match=r"report\.pdf is missing"):
        check(
            changed(
                light,
                lambda content: (
                    content.pop(f"{STEM}/report.pdf"),
                    content.pop(f"{STEM}/extra.txt"),
                ),
            )
        )


@pytest.fixture
def packed_once(made_light, monkeypatch) -> None:
    """Packing the runs again takes seconds; it gives the archive that they were packed into, as
    `test_packed_again_the_runs_give_the_archive` holds."""
    content = {name.removeprefix(f"{STEM}/"): data for name, data in read(made_light).items()}
    del content[SUMS]
    monkeypatch.setattr(rebuild, "contents", lambda folder, author: content)


def test_packed_again_the_runs_give_the_archive(archive):
    said = []
    with pytest.raises(DataError, match="its weights do not say of which method"):
        check(archive, say=said.append)

    assert len(said) == 1 and "every file matches its checksum" in said[0]


def test_what_cannot_be_drawn_is_a_sentence(light, monkeypatch):
    """Whatever hostile numbers do to the libraries that draw."""

    def fail(document):
        raise OverflowError("too large to draw")

    monkeypatch.setattr(pack, "report_files", fail)
    monkeypatch.setattr(pack, "results_of", lambda run, suffixes: {})
    with pytest.raises(DataError, match=r"cannot be packed again \(OverflowError: too large"):
        check(light)


def summed(content) -> None:
    """Give the checksums of what is there, as a forger would."""
    sums = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name.removeprefix(f'{STEM}/')}\n"
        for name, data in sorted(content.items())
        if name != f"{STEM}/{SUMS}"
    )
    content[f"{STEM}/{SUMS}"] = sums.encode()


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("report.html", None, None, r"holds no report\.html"),
        ("results.json", b"fomaml-s0", b"nowhere", "does not name the"),
        (
            "runs/fomaml-s0/config.json",
            b'"fomaml"',
            b'"evil:Learner"',
            r"evil:Learner'; only .*fomaml, .*maml, .*are checked",
        ),
        (
            "runs/fomaml-s0/config.json",
            b'"conv4"',
            b'"evil:make"',
            r"network 'evil:make'; only conv4, resnet12 are checked",
        ),
        ("results.json", b'"query_accuracy": 0.9', b'"query_accuracy": 0.8', "do not agree"),
        ("report.html", rb"\d\d\.\d\d", b"50.00", "report.html is not what"),
        ("report.html", b"Adam", b"Eve,", "report.html is not what"),
        ("report.pdf", b"%%EOF", b"%%EOF\n", "report.pdf is not what"),
        ("plots/validation-fomaml.svg", b"<svg", b"<svg ", "validation-fomaml.svg is not what"),
        ("plots/fomaml-s0/loss.png", b"IDAT", b"IDAT ", "loss.png is not what"),
        ("runs/fomaml-s0/MODEL_CARD.md", b"MIT", b"BSD", "MODEL_CARD.md is not what"),
        ("runs/fomaml-s0/hyperparameters.md", b"seed", b"need", "hyperparameters.md is not"),
        ("README.md", b"python", b"Python", "README.md is not what"),
        ("author.json", b"Ada", b"Eve", "is not what"),
        ("author.json", None, None, "holds no author.json, which says whose it is"),
        ("plots/fomaml-s0/loss.png", None, None, "loss.png is missing, which its runs give"),
    ],
)
def test_an_archive_with_right_sums_and_wrong_content_is_refused(
    file, old, new, said, light, packed_once
):
    def change(content):
        name = f"{STEM}/{file}"
        if old is None:
            del content[name]
        else:
            content[name], count = re.subn(old, new, content[name])
            assert count
        summed(content)

    with pytest.raises(DataError, match=said):
        check(changed(light, change))


@pytest.mark.parametrize("name", ["run.sh", "plots/more.svg", "runs/fomaml-s0/more.json"])
def test_a_file_added_with_a_right_sum_is_named(name, light, packed_once):
    def change(content):
        content[f"{STEM}/{name}"] = b"x"
        summed(content)

    with pytest.raises(DataError, match=f"{name} belongs to no hand-in of these runs"):
        check(changed(light, change))


@pytest.mark.parametrize("file", ["code/innerloop/cli/app.py", "code/new.py", "LICENSE"])
def test_code_of_another_version_is_said(file, light, packed_once):
    """It may be an honest archive's: what is checked is checked by the code that runs."""

    def change(content):
        name = f"{STEM}/{file}"
        content[name] = content.get(name, b"") + b"\n"
        summed(content)

    said = []
    with pytest.raises(DataError, match="its weights do not say of which method"):
        check(changed(light, change), say=said.append)

    (sentence,) = [one for one in said if "its code is not that of innerloop" in one]
    assert file in sentence


def test_figures_of_other_versions_are_not_compared_and_words_are(light, packed_once):
    def change(content, old=b"", new=b""):
        content[f"{STEM}/code/requirements.txt"] += b"another==1\n"
        page = content[f"{STEM}/report.html"].replace(b"<path ", b"<path  ").replace(old, new)
        content[f"{STEM}/report.html"] = page
        content[f"{STEM}/plots/validation-fomaml.svg"] += b" "
        summed(content)

    said = []
    with pytest.raises(DataError, match="its weights do not say of which method"):
        check(changed(light, change), say=said.append)
    assert any("figures and PDF are not compared" in sentence for sentence in said)

    with pytest.raises(DataError, match=r"report\.html is not what"):
        check(changed(light, lambda content: change(content, b"Charles", b"Alfred,")))


@pytest.mark.parametrize(
    ("method", "changes", "said"),
    [
        ("maml", {}, "holds the weights of maml, and the run is one of fomaml"),
        ("fomaml", {"outer_lr": 0.5}, "another training: 'outer_lr' was 0.5"),
        ("fomaml", {"seed": 9}, "another training: 'seed' was 9"),
    ],
)
def test_weights_of_another_training_are_refused(method, changes, said, tmp_path):
    run = make_run(tmp_path, "fomaml")
    settings = make_run(tmp_path / "other", method).config.replace(**changes)
    metadata = {"method": method, "config": settings.to_json()}
    save_weights(run.weights_path, {"a": torch.zeros(1)}, metadata)

    with pytest.raises(DataError, match=said):
        open_run(run)


def test_weights_of_another_machine_are_the_runs(tmp_path):
    """A run of a GPU is evaluated on a CPU too: here it gets as far as the tensors or the data."""
    run = make_run(tmp_path, "fomaml")
    settings = run.config.replace(device="cuda:3", threads=7).to_json()
    save_weights(run.weights_path, {"a": torch.zeros(1)}, {"method": "fomaml", "config": settings})

    with pytest.raises((ConfigError, DataError), match=r"does not hold images_background\.zip"):
        open_run(run, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("changed_episodes", "pictures", "refused"),
    [(0, 0, False), (1, 1, False), (2, 2, False), (3, 1, True), (1, 3, True), (78, 1, True)],
)
def test_episodes_agree_but_for_rounding(changed_episodes, pictures, refused):
    """Means within half a point are no agreement: another method's may be so near."""
    stored = np.full(100, 60 / 75)
    again = stored.copy()
    again[:changed_episodes] -= pictures / 75 * (-1) ** np.arange(changed_episodes)

    assert is_more_than_rounding(again, stored, 75) == refused


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"query_accuracy": "high"}, "Expected `float`, got `str` - at `$.query_accuracy`"),
        ({"query_accuracy": ...}, "missing required field `query_accuracy`"),
        ({"episodes": None}, "Expected `int`, got `null` - at `$.episodes`"),
        ({"episodes": 0}, "results.json and its evaluation do not agree"),
        ({"query_accuracy": None}, "results.json and its evaluation do not agree"),
        ({"batch_norm": "none"}, "results.json and its evaluation do not agree"),
        ({"run": ["fomaml-s0"]}, "Expected `str`, got `array` - at `$.run`"),
        ({"run": "/abs"}, "does not name the runs of the archive: it has '/abs'"),
        ({"run": "../.."}, "does not name the runs of the archive"),
        ({"run": "../runs/fomaml-s0"}, "does not name the runs of the archive"),
        ({"run": ""}, "does not name the runs of the archive"),
        ({"run": "a" * 5000}, "does not name the runs of the archive"),
    ],
)
def test_a_row_that_is_none_or_leads_out_of_the_archive_is_refused(row, said, light):
    def change(content):
        rows = json.loads(content[f"{STEM}/results.json"])
        rows[0] = {name: value for name, value in (rows[0] | row).items() if value is not ...}
        content[f"{STEM}/results.json"] = json.dumps(rows).encode()
        summed(content)

    with pytest.raises(DataError, match=re.escape(said)):
        check(changed(light, change))


@pytest.mark.parametrize("text", [b"{}", b"[1]", b"null", b"[" * 100_000, b"\xff"])
def test_results_that_are_no_rows_are_refused(text, light):
    def change(content):
        content[f"{STEM}/results.json"] = text
        summed(content)

    with pytest.raises(DataError, match=r"results\.json (is not JSON|does not hold a list)"):
        check(changed(light, change))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../out.txt", "has an unsafe name"),
        ("/out.txt", "has an unsafe name"),
        (f"{STEM}/../../out.txt", "has an unsafe name"),
        (f"{STEM}\\out.txt", "has an unsafe name"),
        ("alone.txt", "holds 'alone.txt', which is in no folder"),
    ],
)
def test_a_path_that_leaves_the_folder_is_refused(name, said, light, tmp_path):
    with pytest.raises(DataError, match=said):
        check(changed(light, lambda content: content.update({name: b"x"})))
    assert not (tmp_path.parent / "out.txt").exists()


@pytest.mark.parametrize(
    ("file", "cut", "said"),
    [
        ("metrics.jsonl", 400, "metrics.jsonl ends at step . of 30: it is damaged"),
        ("model.safetensors", 20, "model.safetensors is no safetensors file, or it is damaged"),
    ],
)
def test_a_damaged_run_is_neither_reported_nor_packed(
    file, cut, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    runs = [make_run(Path("runs"), method).path for method in ("fomaml", "mamlpp", "transfer")]
    (runs[0] / file).write_bytes((runs[0] / file).read_bytes()[:cut])

    for command in (PACK, ["report", *map(str, runs)]):
        assert cli.main(command) == 5
        assert re.search(said, capsys.readouterr().err)
    assert not list(Path().glob("*.zip")) and not Path("report").exists()


def test_what_is_no_archive_is_a_sentence(archive, capsys):
    Path("text.zip").write_text("no archive")
    with zipfile.ZipFile("empty.zip", "w") as packed:
        packed.writestr("folder/file.txt", "x")
    Path("torn.zip").write_bytes(archive.read_bytes()[:-3000])

    assert cli.main(["bundle", "--check", "text.zip"]) == 5
    assert cli.main(["bundle", "--check", "empty.zip"]) == 5
    assert cli.main(["bundle", "--check", "torn.zip"]) == 5
    assert cli.main(["bundle", "--check", "nowhere.zip"]) == 5
    said = capsys.readouterr().err.splitlines()
    assert "not a zip archive" in said[0] and f"holds no {SUMS}" in said[1]
    assert "not a zip archive" in said[2] and "nowhere.zip" in said[3]


def test_wrong_words_on_the_command_line_are_sentences(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs"), "fomaml")
    wrong = [
        (["bundle"], "one of the two"),
        (["bundle", "runs", "--check", "a.zip"], "one of the two"),
        (["bundle", "runs"], "give both"),
        ([*PACK[:1], "nowhere", *PACK[2:]], "nowhere is not a folder"),
        ([*PACK, "--assignment", "0"], "--assignment is a number from 1 on: got 0"),
        (PACK, "holds no run of mamlpp, which the hand-in needs: innerloop train mamlpp"),
    ]
    for arguments, said in wrong:
        assert cli.main(arguments) == 2
        assert said in capsys.readouterr().err
    assert cli.main(["report", "runs/fomaml-s0", "--collaborators", " "]) == 2
    assert "A collaborator is empty" in capsys.readouterr().err
    make_run(Path("runs"), "mamlpp", finished=False, evaluated=None)
    assert cli.main(PACK) == 2 and "it is not finished" in capsys.readouterr().err
