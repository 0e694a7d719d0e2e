"""Omniglot as somebody extracted it is Omniglot to the pixel, or is refused as archives are."""

import os
import shutil
import zipfile
from pathlib import Path

import pytest
from test_omniglot import Fake

from innerloop.core.errors import DataError
from innerloop.data import load_dataset, omniglot
from innerloop.data.splits import OMNIGLOT_SPLITS, splits_of


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Fake, Path]:
    """Two small archives, and a folder with what zipfile extracts from them."""
    monkeypatch.delenv("INNERLOOP_DATA", raising=False)
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "archives").mkdir()
    fake = Fake(tmp_path / "archives")
    monkeypatch.setattr(omniglot, "contents", lambda: fake.expected)
    for path in fake.directory.glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "extracted")
    return fake, tmp_path / "extracted"


def first_drawing(folder: Path) -> Path:
    return folder / "images_background" / "Alif" / "character01" / "0007_01.png"


def test_extracted_folders_give_the_pixels_names_and_splits_of_the_archives(both, monkeypatch):
    fake, folder = both
    monkeypatch.setenv("INNERLOOP_CACHE", os.devnull)  # so that neither is read for the other
    archives = fake.load(fake.directory)

    extracted = load_dataset(str(folder), size=28)

    assert extracted.name == "omniglot" and splits_of(extracted) == OMNIGLOT_SPLITS
    assert extracted.class_names == archives.class_names
    assert (extracted.images == archives.images).all()
    assert load_dataset("omniglot", size=28, data_dir=folder).fingerprint == archives.fingerprint


def test_a_folder_of_the_archives_is_omniglot_too(both):
    fake, _ = both

    assert load_dataset(str(fake.directory), size=28).name == "omniglot"


def test_half_of_it_is_refused(both):
    _, folder = both
    shutil.rmtree(folder / "images_evaluation")

    with pytest.raises(DataError, match="nor the folder images_evaluation extracted from it"):
        load_dataset(str(folder), size=28)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "lacks 1 of 60 drawings"),
        (lambda path: path.rename(path.with_name("mine.png")), "holds 1 files that are not"),
        (lambda path: path.write_bytes(b"x"), "is not a PNG image"),
        (lambda path: path.write_bytes(bytes(99_999)), "has 99,999 bytes, no drawing has"),
        (lambda path: shutil.copy(path.with_name("0007_02.png"), path), "not those of Omniglot"),
    ],
    ids=["missing", "renamed", "damaged", "large", "changed"],
)
def test_what_was_changed_since_is_refused_also_where_the_cache_knows_better(both, damage, words):
    _, folder = both
    load_dataset(str(folder), size=28)
    damage(first_drawing(folder))

    with pytest.raises(DataError, match=words):
        load_dataset(str(folder), size=28)


def test_a_link_is_not_followed(both):
    _, folder = both
    path = first_drawing(folder)
    outside = path.rename(folder.parent / "outside.png")
    path.symlink_to(outside)

    with pytest.raises(DataError, match="lacks 1 of 60 drawings"):
        load_dataset(str(folder), size=28)
