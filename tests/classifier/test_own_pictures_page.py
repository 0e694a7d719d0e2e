"""The examples of `docs/own-pictures.md` run as they stand."""

import re
from pathlib import Path

import numpy as np
import pytest

from picturing import COLOURS, KINDS, drawing, photo

PAGE = Path(__file__).parents[2] / "docs" / "own-pictures.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page supposes: photos of cats and dogs, and drawn letters."""
    grass, sea, sunset = COLOURS
    for name, colour in (("cat", grass), ("dog", sea)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for seed in range(5):
            photo(colour, seed).save(tmp_path / "pictures" / name / f"{seed}.jpg")
    photo(grass, 9).save(tmp_path / "new.jpg")
    photo(grass, 10).save(tmp_path / "cat-9.jpg")
    for seed in (1, 2):
        photo(sunset, seed).save(tmp_path / f"bird-{seed}.jpg")
    for kind in KINDS:
        (tmp_path / "letters" / kind).mkdir(parents=True)
        for seed in range(5):
            drawing(kind, seed).save(tmp_path / "letters" / kind / f"{seed}.png")
    drawing("ring", 9).save(tmp_path / "new.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_run(folder, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    names: dict = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"own-pictures.md, block {number}", "exec"), names)

    assert len(blocks) == 3
    assert capsys.readouterr().out.splitlines()[-1] == "ring"
    classifier = names["classifier"]
    assert classifier.predict(["new.jpg"]).tolist() == ["cat"]
    # The last line of all takes back that the bird is gone.
    assert np.array_equal(classifier.classes_, ["bird", "cat", "dogs"])
    assert (folder / "cats-and-dogs.innerloop").is_file()
