"""A stranger's folder of pictures, the whole way: trained, stopped, moved, resumed, evaluated."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from innerloop import cli
from innerloop.runs.directory import RunDirectory

SMALL = (
    "--ways=2 --shots=1 --queries=3 --filters=4 --meta-steps=4 --validation-every=2 "
    "--validation-episodes=2 --checkpoint-every=1 --image-size=16 --threads=1"
).split()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_pictures(folder: Path, channels: int = 3) -> None:
    """Six classes of 4 to 6 pictures, each of one colour and some noise."""
    random = np.random.default_rng(0)
    for number in range(6):
        colour = random.integers(40, 216, channels)
        for example in range(4 + number % 3):
            noisy = colour + random.integers(-40, 40, (20, 24, channels))
            pixels = noisy.astype(np.uint8).squeeze()
            path = folder / f"kind {number}" / f"{example}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert cli.main(arguments) != 0
    return capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
@pytest.mark.parametrize("method", ["fomaml", "transfer"])
def test_a_run_on_a_folder_goes_on_where_the_folder_was_moved_to_with_the_same_weights(
    method, channels, here, capsys
):
    make_pictures(here / "my pictures", channels)
    train = ["train", method, "--data", "my pictures", *SMALL]
    assert cli.main(train) == 0
    assert cli.main([*train, "--max-minutes", "0"]) == 0
    whole = RunDirectory(Path(f"runs/{method}-my-pictures-2w1s-s0"))
    paused = RunDirectory(Path(f"{whole.path}-2"))
    assert paused.status.state == "paused"
    moved = shutil.move("my pictures", "elsewhere")

    assert "--data-dir" in refusal(["resume", str(paused.path)], capsys)
    assert cli.main(["resume", str(paused.path), "--data-dir", moved]) == 0
    evaluation = ["evaluate", str(paused.path), "--data-dir", moved, "--episodes", "4"]
    assert cli.main(evaluation) == 0
    assert cli.main(["report", str(paused.path), "--out", "report"]) == 0

    assert paused.weights_sha256() == whole.weights_sha256()
    assert {row.data for row in paused.evaluations()} == {"my-pictures"}
    card = (paused.path / "MODEL_CARD.md").read_text("utf-8")
    assert "characters of scripts" not in card and "licence of the pictures" in card


@pytest.mark.slow
def test_a_folder_that_changed_since_is_refused(here, capsys):
    make_pictures(here / "pictures")
    assert cli.main(["train", "fomaml", "--data", "pictures", *SMALL, "--max-minutes", "0"]) == 0
    run = "runs/fomaml-pictures-2w1s-s0"
    Image.new("RGB", (9, 9)).save("pictures/kind 0/another.png")

    assert "data_fingerprint differs" in refusal(["resume", run], capsys)


def test_the_classes_of_each_part_are_recorded_and_listed(here, capsys):
    make_pictures(here / "pictures")
    assert cli.main(["train", "fomaml", "--data", "./pictures", *SMALL, "--max-minutes=0"]) == 0
    run = RunDirectory(Path("runs/fomaml-pictures-2w1s-s0"))
    capsys.readouterr()

    assert cli.main(["data", "info", "--data", "./pictures", "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    assert said["class_names"] == run.environment.split_classes
    assert said["parts"] == {"train": 4, "val": 2} and said["channels"] == 3
    assert run.config.data.folder == str(here / "pictures")
    assert "folder" not in run.config.flat()


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_pictures_are_shown_as_they_are_and_not_as_ink(channels, here):
    """Of six plain colours; each that is on the sheet is one of them."""
    for number in range(6):
        (here / "plain" / f"{number}").mkdir(parents=True)
        pixels = np.full((16, 16, channels), 20 * number + 5, dtype=np.uint8)
        pixels[..., channels - 1] += 2
        for example in range(3):
            Image.fromarray(pixels.squeeze()).save(here / "plain" / str(number) / f"{example}.png")

    show = ["data", "show", "--data=plain", "--part=train", "--ways=4", "--shots=1", "--queries=2"]
    assert cli.main([*show, "--image-size=16"]) == 0

    sheet = np.asarray(Image.open("episode.png")).reshape(-1, channels)
    plain = {(*[20 * number + 5] * (channels - 1), 20 * number + 7) for number in range(6)}
    grey = {(120,) * channels, (225,) * channels}
    shown = set(map(tuple, sheet.tolist()))
    assert shown - grey <= plain and len(shown - grey) == 4


def test_the_example_of_the_page_on_data_runs(here):
    """On a folder of the name that the page gives it."""
    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text("utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    make_pictures(here / "pictures")
    names: dict = {}

    exec(compile(example, "data.md", "exec"), names)

    assert names["batch"].support.images.shape == (1, 2 * 1, 3, 84, 84)
