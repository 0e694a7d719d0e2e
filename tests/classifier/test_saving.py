"""Classifiers on the disk: what is saved is what was, and what was changed is refused."""

import hashlib
import json
import pickle
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from innerloop import FewShotClassifier
from innerloop.classifier.backbones import find_backbone
from innerloop.classifier.places import SUMS
from innerloop.core.errors import ConfigError, DataError
from picturing import KINDS, drawing

NEW = [drawing(kind, seed) for kind in KINDS for seed in range(6, 12)]
LEGACY = Path(__file__).parents[1] / "legacy" / "classifier-1.innerloop"


@pytest.fixture(params=["auto", "prototypes", "logistic"])
def classifier(request: pytest.FixtureRequest, drawings: Path) -> FewShotClassifier:
    return FewShotClassifier("omniglot", head=request.param).fit(drawings)


@pytest.fixture
def saved(drawings: Path, tmp_path: Path) -> Path:
    FewShotClassifier("omniglot").fit(drawings).save(tmp_path / "classifier")
    return tmp_path / "classifier"


@pytest.mark.parametrize("name", ["folder", "file.innerloop", "file.zip"])
def test_a_loaded_classifier_says_what_the_saved_one_did(classifier, tmp_path, name):
    classifier.save(tmp_path / name)
    loaded = FewShotClassifier.load(tmp_path / name)

    assert np.array_equal(loaded.predict_proba(NEW), classifier.predict_proba(NEW))
    assert np.array_equal(loaded.is_unknown(NEW), classifier.is_unknown(NEW))
    assert (loaded.threshold_, loaded.temperature_) == (
        classifier.threshold_,
        classifier.temperature_,
    )
    assert loaded.get_params() == classifier.get_params()
    assert loaded.report_.accuracy == classifier.report_.accuracy


def test_a_loaded_classifier_can_be_changed_as_the_saved_one(drawings, tmp_path):
    classifier = FewShotClassifier("omniglot").fit(drawings)
    classifier.save(tmp_path / "file.innerloop")
    loaded = FewShotClassifier.load(tmp_path / "file.innerloop")
    for one in (classifier, loaded):
        one.add_class("more", NEW[:3])

    assert np.array_equal(loaded.predict_proba(NEW), classifier.predict_proba(NEW))


@pytest.mark.parametrize("labels", [[1, 2], [1.0, 2.0], ["a", "ä\n"], [True, False]])
def test_vectors_and_any_names_are_saved(tmp_path, labels):
    X = np.random.default_rng(0).normal(size=(20, 3)) + 3 * np.arange(20)[:, None] % 2
    classifier = FewShotClassifier(None).fit(X, [labels[place % 2] for place in range(20)])
    classifier.save(tmp_path / "file.innerloop")
    loaded = FewShotClassifier.load(tmp_path / "file.innerloop")

    assert loaded.predict(X).tolist() == classifier.predict(X).tolist()
    assert vars(loaded)["n_features_in_"] == 3


def test_the_same_classifier_is_the_same_bytes(drawings, tmp_path):
    classifier = FewShotClassifier("omniglot").fit(drawings)
    classifier.save(tmp_path / "one.innerloop")
    classifier.save(tmp_path / "two.innerloop")

    assert (tmp_path / "one.innerloop").read_bytes() == (tmp_path / "two.innerloop").read_bytes()
    names = zipfile.ZipFile(tmp_path / "one.innerloop").namelist()
    assert not any("thumbnails" in name for name in names)
    classifier.save(tmp_path / "with.innerloop", thumbnails=True)
    assert "thumbnails/000000.jpg" in zipfile.ZipFile(tmp_path / "with.innerloop").namelist()


def test_no_folder_of_this_machine_is_in_the_file(drawings, saved):
    for file in saved.iterdir():
        assert str(drawings.parent).encode() not in file.read_bytes()


def test_a_hundred_classes_of_five_photos_take_less_than_a_megabyte(tmp_path):
    generator = np.random.default_rng(0)
    # As the photo backbone's: a third near zero, none negative.
    X = np.maximum(generator.normal(0.2, 0.5, (500, 1280)), 0).astype(np.float32)
    pixels = {place: X[place] for place in range(500)}

    def backbone(picture: np.ndarray) -> np.ndarray:
        return pixels[int(picture[0, 0]) * 256 + int(picture[0, 1])]

    pictures = [np.full((2, 2), place % 256, np.uint8) for place in range(500)]
    for place, picture in enumerate(pictures):
        picture[0, 0] = place // 256
    classifier = FewShotClassifier(backbone).fit(pictures, np.arange(500) % 100)
    classifier.save(tmp_path / "file.innerloop")

    assert (tmp_path / "file.innerloop").stat().st_size < 1_000_000


def test_a_classifier_of_the_first_version_stays_readable():
    classifier = FewShotClassifier.load(LEGACY)
    expected = json.loads(LEGACY.with_suffix(".json").read_text())

    assert classifier.classes_.tolist() == expected["classes"]
    assert classifier.predict_proba(NEW) == pytest.approx(np.array(expected["p"]), abs=1e-5)
    assert classifier.threshold_ == expected["threshold"]


def test_the_classifier_of_a_former_network_keeps_it(tmp_path):
    """`omniglot` was another network then: adding examples and saving again go on with that one."""
    newest = find_backbone("omniglot")
    classifier = FewShotClassifier.load(LEGACY)
    other = FewShotClassifier.load(LEGACY, backbone="omniglot")
    for former in (classifier, other):
        assert former.network.name == newest.name
        assert former.network.version not in ("", newest.version)

    classifier.add_pictures([NEW[0]], [classifier.classes_[0]])
    classifier.save(tmp_path / "again")
    again = FewShotClassifier.load(tmp_path / "again")
    unpickled = pickle.loads(pickle.dumps(classifier))

    assert again.network.version == unpickled.network.version == classifier.network.version
    assert np.array_equal(again.predict_proba(NEW), classifier.predict_proba(NEW))


# What was changed


def with_sums(folder: Path) -> None:
    """The checksums of what is there now, as who changes a file on purpose would write them."""
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
        for file in sorted(folder.iterdir())
        if file.name != SUMS
    ]
    (folder / SUMS).write_text("".join(lines))


def change_header(folder: Path, **values: Any) -> None:
    path = folder / "classifier.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with_sums(folder)


def change_tensors(folder: Path, name: str, **values: Any) -> None:
    path = folder / f"{name}.safetensors"
    save_file(load_file(path) | values, path)
    with_sums(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "head.safetensors").write_bytes(b"x"),
        lambda folder: (folder / "classifier.json").unlink(),
        lambda folder: (folder / SUMS).unlink(),
        lambda folder: (folder / SUMS).write_bytes(b"\xff\xfe"),
        lambda folder: change_header(folder, head="forest"),
        lambda folder: change_header(folder, temperature=-1.0),
        lambda folder: change_header(folder, temperature=float("nan")),
        lambda folder: change_header(folder, threshold="high"),
        lambda folder: change_header(folder, classes=["a"]),
        lambda folder: change_header(folder, classes=["angle", "ring", "cross"]),
        lambda folder: change_header(folder, classes=["angle", "cross", 3]),
        lambda folder: change_header(folder, names=[]),
        lambda folder: change_header(folder, columns=5),
        lambda folder: change_header(folder, backbone=None),
        lambda folder: change_header(folder, more=1),
        lambda folder: change_tensors(folder, "head", weight=np.zeros((3, 3), np.float32)),
        lambda folder: change_tensors(folder, "head", weight=np.full((3, 65), np.nan, np.float32)),
        lambda folder: change_tensors(folder, "examples", labels=np.zeros(18, np.int32)),
        lambda folder: change_tensors(folder, "examples", labels=np.full(18, -1, np.int32)),
        lambda folder: change_tensors(folder, "examples", codes=np.zeros((2, 2), np.int8)),
    ],
)
def test_what_was_changed_is_refused_in_a_sentence(saved, change):
    change(saved)

    with pytest.raises(DataError, match=r"classifier.*make it again with innerloop adapt"):
        FewShotClassifier.load(saved)


def test_a_file_of_a_later_version_says_so(saved):
    change_header(saved, format=2)

    with pytest.raises(DataError, match="later innerloop"):
        FewShotClassifier.load(saved)


def test_another_backbone_is_refused(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    change_header(saved, backbone_version="0" * 32)
    with pytest.raises(DataError, match="another version of the backbone omniglot"):
        FewShotClassifier.load(saved)
    change_header(saved, backbone="timm:resnet18")
    with pytest.raises(ConfigError, match="may be downloaded: give it as backbone"):
        FewShotClassifier.load(saved)
    with pytest.raises(ConfigError, match="pip install timm"):
        FewShotClassifier.load(saved, backbone="timm:resnet18")


def test_a_backbone_that_is_not_installed_is_said_with_the_command(saved, monkeypatch):
    change_header(saved, backbone="photos")
    monkeypatch.setitem(sys.modules, "innerloop_photos", None)

    with pytest.raises(ConfigError, match=r"pip install 'innerloop\[photos\]'"):
        FewShotClassifier.load(saved)


def test_a_function_of_ones_own_is_given_again(tmp_path):
    def size(pixels: np.ndarray) -> np.ndarray:
        return np.array([pixels.mean() / 255, 1.0, pixels.std() / 255])

    pictures = [drawing(kind, seed) for kind in KINDS for seed in range(3)]
    classifier = FewShotClassifier(size).fit(pictures, np.arange(9) // 3)
    classifier.save(tmp_path / "file.innerloop")

    with pytest.raises(ConfigError, match="function of your own"):
        FewShotClassifier.load(tmp_path / "file.innerloop")
    loaded = FewShotClassifier.load(tmp_path / "file.innerloop", backbone=size)
    assert np.array_equal(loaded.predict_proba(NEW), classifier.predict_proba(NEW))


@pytest.mark.parametrize("place", ["nowhere", "file", "folder"])
def test_what_is_no_classifier_is_refused(tmp_path, place):
    (tmp_path / "file").write_bytes(b"PK nothing")
    (tmp_path / "folder").mkdir()

    with pytest.raises(DataError, match="innerloop adapt"):
        FewShotClassifier.load(tmp_path / place)


def test_names_in_an_archive_cannot_lead_out_of_it(saved, tmp_path):
    path = tmp_path / "evil.innerloop"
    with zipfile.ZipFile(path, "w") as archive:
        for file in saved.iterdir():
            archive.write(file, file.name)
        archive.writestr("../evil", b"x")

    with pytest.raises(DataError, match="unsafe name"):
        FewShotClassifier.load(path)
    shutil.rmtree(saved)
