"""Uses that people come to, and what once went wrong in them."""

import pickle
import shutil
import warnings
import zipfile
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from innerloop import FewShotClassifier, cli
from innerloop.classifier.backbones import of_module
from innerloop.classifier.pictures import pictures_of
from innerloop.classifier.state import State
from innerloop.classifier.vectors import vectors_of
from innerloop.core.errors import ConfigError, DataError
from picturing import COLOURS, KINDS, drawing, photo

LETTERS = [drawing(kind, seed) for kind in KINDS for seed in range(4)]
NAMES = [kind for kind in KINDS for _ in range(4)]


@pytest.fixture
def letters() -> FewShotClassifier:
    return FewShotClassifier("omniglot").fit(LETTERS, NAMES)


def brightness(pixels: np.ndarray) -> np.ndarray:
    return np.array([pixels.mean() / 255, pixels.std() / 255, 1.0])


def test_a_strangers_file_or_folder_is_never_written_over(letters, tmp_path):
    with zipfile.ZipFile(tmp_path / "backup.zip", "w") as archive:
        archive.writestr("holiday.jpg", b"x")
    before = (tmp_path / "backup.zip").read_bytes()
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "README.md").write_text("mine")

    for name in ("backup.zip", "project"):
        with pytest.raises(ConfigError, match="no classifier: choose another place"):
            letters.save(tmp_path / name)
    assert (tmp_path / "backup.zip").read_bytes() == before
    assert (tmp_path / "project" / "README.md").read_text() == "mine"
    letters.save(tmp_path / "mine", thumbnails=True)
    letters.save(tmp_path / "mine")
    assert list((tmp_path / "mine" / "thumbnails").iterdir()) == []


def test_a_classifier_among_its_pictures_is_no_class(drawings, tmp_path, monkeypatch, capsys):
    shutil.copytree(drawings, tmp_path / "pictures")
    monkeypatch.chdir(tmp_path / "pictures")
    for _ in range(2):
        assert cli.main(["adapt", ".", "--replace"]) == 0
        assert "3 classes, 18 examples" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    assert cli.main(["adapt", "pictures", "--out", "pictures/model"]) == 2


def test_whole_numbers_are_compared_with_the_names_of_folders(tmp_path, capsys):
    numbers = [KINDS.index(name) for name in NAMES]
    FewShotClassifier("omniglot").fit(LETTERS, numbers).save(tmp_path / "c.innerloop")
    for number, kind in enumerate(KINDS):
        (tmp_path / "new" / str(number)).mkdir(parents=True)
        drawing(kind, 9).save(tmp_path / "new" / str(number) / "9.png")

    assert cli.main(["evaluate", str(tmp_path / "c.innerloop"), str(tmp_path / "new")]) == 0
    assert "Of 3 pictures 100.0 % are right" in capsys.readouterr().out


def test_a_drawing_that_is_too_long_for_a_square_is_refused(letters):
    line = np.zeros((1, 1_000_000), np.uint8)
    line[0, ::2] = 255

    with pytest.raises(DataError, match="too long for a square"):
        letters.predict([line])


def test_copies_do_not_make_everything_unknown():
    pictures = [photo(kind, seed) for kind in COLOURS for seed in range(4)]
    names = np.repeat(list(COLOURS), 4)
    classifier = FewShotClassifier("photos").fit(pictures * 2, np.tile(names, 2))

    assert classifier.is_unknown(pictures).mean() <= 0.1
    assert all(pair.identical for pair in classifier.report_.duplicates)
    assert len(classifier.report_.duplicates) >= len(pictures)


def test_different_drawings_are_no_copies(letters):
    for pair in letters.report_.duplicates:
        assert pair.labels[0] == pair.labels[1]
    assert len(letters.report_.duplicates) <= 3


@pytest.mark.parametrize("seed", range(20))
def test_more_examples_are_never_said_to_do_harm(seed):
    generator = np.random.default_rng(seed)
    counts = generator.integers(2, 12, 3)
    y = np.repeat([0, 1, 2], counts)
    X = generator.normal(size=(len(y), 4)) + 1.5 * np.eye(4)[y]
    report = FewShotClassifier(None).fit(X, y).report_

    assert report.outlook is None or report.accuracy <= report.outlook <= 1


def test_an_array_of_paths_is_a_list_of_them(drawings):
    paths = sorted(str(path) for path in drawings.rglob("*.png"))
    y = [Path(path).parent.name for path in paths]
    for backbone in ("auto", "omniglot"):
        classifier = FewShotClassifier(backbone).fit(np.array(paths), y)
        assert classifier.score(np.array(paths), y) > 0.9


@pytest.mark.parametrize(
    ("X", "sentence"),
    [
        ((picture for picture in LETTERS), "got generator"),
        ({1, 2}, "got set"),
        ([], "no examples"),
        ([None, None], "Picture 1 is of type NoneType"),
        (np.zeros((8, 8, 3), np.uint8), "Give one picture as a list with it"),
        (["a\0b.png", "c.png"], "cannot be the path of a file"),
        ("nowhere", "There is no folder 'nowhere'"),
        ([Image.new("RGB", (0, 5)), LETTERS[0]], "has no pixels"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_no_picture_is_refused_in_a_sentence(X: Any, sentence: str):
    y = None if isinstance(X, str) else ["a", "b"][: len(X) if isinstance(X, list) else 2]
    with pytest.raises((ConfigError, DataError), match=sentence) as error:
        FewShotClassifier().fit(X, y)
    assert "\n" not in str(error.value)


class Animal(str, Enum):  # noqa: UP042 - this is how many have it
    CAT = "cat"
    HORSE = "horse"


def test_classes_of_an_enumeration_are_called_by_their_values():
    y = [Animal.CAT, Animal.HORSE] * 2
    classifier = FewShotClassifier("omniglot").fit(LETTERS[:4], y)

    assert classifier.classes_.tolist() == ["cat", "horse"]


@pytest.mark.parametrize(
    ("y", "sentence"),
    [
        ([None] * 4, "texts or numbers: got NoneType"),
        ([1.0, float("nan"), 1.0, 2.0], "NaN"),
        (["a", "a\0", "b", "b"], "NUL"),
        ([("a", 1)] * 4, "has the shape"),
    ],
)
def test_other_labels_are_refused(y, sentence):
    with pytest.raises(ConfigError, match=sentence):
        FewShotClassifier("omniglot").fit(LETTERS[:4], y)


def test_a_report_is_made_once_and_anew_after_a_change(letters):
    report = letters.report_
    assert letters.report_ is report
    letters.remove_class("ring")
    assert letters.report_.classes == ("angle", "cross")
    assert letters.undo().report_.classes == KINDS


def test_a_failed_fit_leaves_the_former_one():
    generator = np.random.default_rng(0)
    X, y = generator.normal(size=(20, 4)), np.arange(20) % 2
    classifier = FewShotClassifier(None).fit(X, y)
    expected = classifier.predict_proba(X)

    with pytest.raises(DataError, match="one class"):
        classifier.fit(np.zeros((5, 7)), [1] * 5)
    assert np.array_equal(classifier.predict_proba(X), expected)


def test_a_function_is_pickled_with_its_classifier():
    classifier = FewShotClassifier(brightness).fit(LETTERS, NAMES)
    again = pickle.loads(pickle.dumps(classifier))

    assert np.array_equal(again.predict_proba(LETTERS), classifier.predict_proba(LETTERS))


def test_settings_that_are_changed_after_fitting_wait_for_the_next_fit(letters, tmp_path):
    threshold = letters.threshold_
    letters.set_params(unknown=None, head="prototypes")
    letters.add_pictures(LETTERS[:1], ["ring"])
    letters.save(tmp_path / "file.innerloop")
    loaded = FewShotClassifier.load(tmp_path / "file.innerloop")

    assert loaded.head_ == "ridge" and loaded.unknown == "auto"
    assert loaded.threshold_ is not None and threshold is not None
    assert letters.fit(LETTERS, NAMES).threshold_ is None


@pytest.mark.parametrize("unknown", [True, [1], np.float32(5), "low"])
def test_a_threshold_is_a_cosine(unknown):
    with pytest.raises(ConfigError, match="unknown is"):
        FewShotClassifier("omniglot", unknown=unknown).fit(LETTERS, NAMES)


def test_where_all_vectors_are_the_same_nothing_is_told_apart():
    def same(pixels: np.ndarray) -> np.ndarray:
        return np.ones(300)

    report = FewShotClassifier(same, head="prototypes").fit(LETTERS, NAMES).report_

    assert report.accuracy <= 0.5


def test_vectors_of_different_lengths_are_refused():
    def odd(pixels: np.ndarray) -> np.ndarray:
        return np.ones(3 + int(pixels.mean()) % 2)

    with pytest.raises(DataError, match="different lengths"):
        FewShotClassifier(odd).fit(LETTERS, NAMES)


def test_another_function_than_it_was_made_with_is_noticed(tmp_path):
    FewShotClassifier(brightness).fit(LETTERS, NAMES).save(tmp_path / "file.innerloop")
    with pytest.raises(DataError, match="it is another one"):
        FewShotClassifier.load(tmp_path / "file.innerloop", backbone=lambda pixels: np.ones(7))


def test_a_tables_header_is_no_formula(drawings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(drawings, "pictures")
    Path("pictures/ring").rename("pictures/=cmd|calc")
    assert cli.main(["adapt", "pictures", "--out", "c"]) == 0
    assert cli.main(["predict", "c", "pictures", "--csv", "table.csv"]) == 0

    head = Path("table.csv").read_text().splitlines()[0]
    assert "'=cmd|calc" in head


def test_a_prediction_reads_the_classifier_once(letters, monkeypatch):
    """A change that comes in the middle of a prediction is for the next one."""
    probabilities = State.probabilities

    def changed_meanwhile(state: State, vectors: np.ndarray) -> np.ndarray:
        if len(letters.classes_) == 3:
            letters.remove_class("angle")
        return probabilities(state, vectors)

    monkeypatch.setattr(State, "probabilities", changed_meanwhile)
    assert letters.predict(LETTERS[-1:]).tolist() == ["ring"]


class Counting(nn.Module):
    """Takes down how many threads PyTorch has where it is called."""

    def __init__(self):
        super().__init__()
        self.seen: set[int] = set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.add(torch.get_num_threads())
        return images.flatten(1)[:, :4]


def test_each_picture_is_computed_by_one_thread_and_the_callers_number_stays():
    module = Counting()
    backbone = of_module("counting", "", module, lambda pixels: pixels[None].astype(np.float32))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        vectors = vectors_of(pictures_of([np.asarray(picture) for picture in LETTERS]), backbone)
        after = torch.get_num_threads()
    finally:
        torch.set_num_threads(threads)

    assert vectors.values.shape == (12, 4)
    assert module.seen == {1} and after == 2


def test_whole_numbers_of_any_type_are_bytes_and_zeros_and_ones_black_and_white():
    grey = np.arange(64).reshape(8, 8) * 4
    ink = np.eye(8)

    def pixels(array: np.ndarray) -> np.ndarray:
        (picture,) = pictures_of([array])
        return picture.read().pixels()

    for dtype in (np.uint8, np.int16, np.uint16, np.int64, np.uint64):
        assert np.array_equal(pixels(grey.astype(dtype)), grey)
    for dtype in (bool, int, np.int8, np.float32):
        assert np.array_equal(pixels(ink.astype(dtype)), 255 * ink)
    assert np.array_equal(pixels(ink.astype(np.uint8)), ink)  # as a file would be


def test_a_table_that_may_be_pictures_is_said_to_be_a_table():
    X = np.stack([np.asarray(picture) for picture in LETTERS])
    with pytest.warns(UserWarning, match=r"table of 4096 columns.*\(n, height, width\)"):
        FewShotClassifier().fit(X.reshape(len(X), -1), NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FewShotClassifier().fit(X.reshape(len(X), -1)[:, :50] / 255, NAMES)


def test_empty_pictures_are_named():
    ghost = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    ghost.paste((255, 255, 255, 255), (20, 20, 40, 40))
    dot = Image.new("L", (640, 640), "white")
    dot.paste(0, (300, 300, 308, 308))
    pictures = [*LETTERS, Image.new("L", (64, 64), 90), ghost, dot]
    classifier = FewShotClassifier("omniglot").fit(pictures, [*NAMES, "ring", "ring", "ring"])
    report = classifier.report_

    assert report.empty == ("picture 13", "picture 14")
    assert "2 pictures are empty, all of one colour: picture 13, picture 14" in str(report)
    assert "empty" not in str(FewShotClassifier("omniglot").fit(LETTERS, NAMES).report_)


def test_a_class_that_cannot_be_a_folder_is_said_before_pictures_are_computed(
    tmp_path, monkeypatch, capsys
):
    def compute(*_: object, **__: object) -> None:
        raise AssertionError("computed")

    names = ["a:b" if name == "ring" else name for name in NAMES]
    FewShotClassifier("omniglot").fit(LETTERS, names).save(tmp_path / "c.innerloop")
    drawing("cross", 9).save(tmp_path / "new.png")
    monkeypatch.setattr("innerloop.classifier.predictions.predictions", compute)
    arguments = [str(tmp_path / "c.innerloop"), str(tmp_path / "new.png")]

    assert cli.main(["predict", *arguments, "--copy-into", str(tmp_path / "sorted")]) == 5
    assert "cannot be the name of a folder" in capsys.readouterr().err
    assert not (tmp_path / "sorted").exists()
