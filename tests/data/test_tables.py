"""Folders whose classes are in tables, or in folders train, val and test, as many publish them."""

import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from innerloop.core.errors import DataError
from innerloop.data import folders, load_dataset, tables
from innerloop.data.given import Content
from innerloop.data.images import FewShotDataset
from innerloop.data.splits import find_split, splits_of

RANDOM = np.random.default_rng(0)
SETS = {
    "train": ["n01532829", "n01558993", "n01704323"],
    "val": ["n01855672", "n02091244"],
    "test": ["n01930112", "n01981276"],
}
"""Classes of each part, named as mini-ImageNet's are."""


def write(path: Path) -> np.ndarray:
    pixels = RANDOM.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    """A small copy of mini-ImageNet's layout: three pictures a class, in colour."""
    folder = tmp_path / "mini"
    for part, names in SETS.items():
        rows = [f"{name}0000000{i}.png,{name}" for name in names for i in range(3)]
        for row in rows:
            write(folder / "images" / row.partition(",")[0])
        (folder / f"{part}.csv").write_text("\n".join(["filename,label", *rows, ""]))
    return folder


ALBUM = {
    "birds": ["wren", "robin, red", "Zilpzalp"],
    "fish": ["cod", "eel"],
    "moths": ["atlas", "luna"],
}


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A small copy of Meta-Album's layout: two pictures a category, in three super-categories."""
    folder = tmp_path / "album"
    rows = ["FILE_NAME,CATEGORY,SUPER_CATEGORY"]
    for group, names in ALBUM.items():
        for name in names:
            for i in range(2):
                file = f"{group}_{name[:2]}_{i}.png"
                write(folder / "images" / file)
                rows.append(f'{file},"{name}",{group}')
    (folder / "labels.csv").write_text("\n".join(rows))
    described = {"dataset_name": "album", "has_super_categories": True}
    (folder / "info.json").write_text(json.dumps(described))
    return folder


def load(folder: Path, said: list[str] | None = None, **options) -> FewShotDataset:
    say = [].append if said is None else said.append
    return load_dataset(str(folder), size=16, say=say, **options)


def refused(folder: Path, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(folder)


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")


def album_names() -> list[str]:
    return sorted(f"{group}/{name}" for group, names in ALBUM.items() for name in names)


# mini-ImageNet


def test_the_tables_of_mini_imagenet_are_its_split_and_its_default(mini):
    dataset = load(mini)

    split = find_split("auto", dataset)

    assert split.name == "given" and splits_of(dataset) == ("given", "classes")
    assert split.parts == {part: tuple(names) for part, names in SETS.items()}
    assert dataset.class_names == tuple(sorted(name for names in SETS.values() for name in names))


def test_every_picture_is_an_example_of_its_label(mini):
    dataset = load(mini)

    for index, name in enumerate(dataset.class_names):
        for example in range(3):
            pixels = np.asarray(Image.open(mini / "images" / f"{name}0000000{example}.png"))
            assert np.array_equal(dataset.images[index][example], pixels.transpose(2, 0, 1))


def test_a_split_without_a_test_table_has_two_parts(mini):
    (mini / "test.csv").unlink()
    said: list[str] = []

    assert list(find_split("auto", load(mini, said)).parts) == ["train", "val"]
    assert any("6 pictures are in no table and are passed over" in sentence for sentence in said)


@pytest.mark.parametrize("missing", ["train", "val"])
def test_a_split_without_train_or_val_is_refused(mini, missing):
    (mini / f"{missing}.csv").unlink()
    refused(mini, f"has a table test and none for {missing}: a split has train and val")


def test_a_class_in_two_tables_is_refused(mini):
    write(mini / "images" / "more.png")
    change(mini / "val.csv", "\n", f"\nmore.png,{SETS['train'][0]}\n")
    refused(mini, "has class 'n01532829' in train and 'n01532829' in val: a split for few-shot")


def test_pictures_may_lie_in_folders_inside_of_images(mini):
    (mini / "images" / "more").mkdir()
    before = load(mini).fingerprint
    name = "n0153282900000000.png"
    (mini / "images" / name).rename(mini / "images" / "more" / name)
    change(mini / "train.csv", name, f"more/{name}")

    dataset = load(mini)

    assert dataset.counts.tolist() == [3] * 7
    assert dataset.fingerprint == before


# Meta-Album


def test_the_categories_of_meta_album_are_classes_and_its_super_categories_groups(album):
    dataset = load(album)

    assert list(dataset.class_names) == album_names()
    assert splits_of(dataset) == ("groups", "classes")
    parts = find_split("auto", dataset).parts
    groups = [{name.partition("/")[0] for name in names} for names in parts.values()]
    assert set.union(*groups) == set(ALBUM) and sum(map(len, groups)) == len(ALBUM)
    index = dataset.class_names.index("birds/robin, red")
    for example in range(2):
        pixels = np.asarray(Image.open(album / "images" / f"birds_ro_{example}.png"))
        assert np.array_equal(dataset.images[index][example], pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("how", ["no column", "empty", "told"])
def test_a_set_without_super_categories_is_split_by_classes(album, how):
    text = (album / "labels.csv").read_text()
    for group in ALBUM:
        text = text.replace(f",{group}\n", ",\n").removesuffix(f",{group}")
    if how == "told":
        (album / "info.json").write_text('{"has_super_categories": false}')
    else:
        (album / "info.json").unlink()
        text = text if text.endswith(",") else f"{text},"
        if how == "no column":
            lines = text.splitlines()
            text = "\n".join(
                line.removesuffix(",SUPER_CATEGORY").removesuffix(",") for line in lines
            )
        (album / "labels.csv").write_text(text)

    dataset = load(album)

    assert list(dataset.class_names) == sorted(name for names in ALBUM.values() for name in names)
    assert splits_of(dataset) == ("classes",)


def test_columns_are_called_as_the_description_says_and_in_any_case(album):
    expected = load(album).fingerprint
    change(album / "labels.csv", "FILE_NAME,CATEGORY,SUPER_CATEGORY", "Picture,category,Kind")
    described = {"image_column_name": "picture", "super_category_column_name": "Kind"}
    (album / "info.json").write_text(json.dumps(described))

    assert load(album).fingerprint == expected


def test_a_table_is_read_whatever_program_saved_it(album):
    """With a byte-order mark, Windows' line ends, quotes, blank lines and other columns."""
    expected = load(album).fingerprint
    rows = (album / "labels.csv").read_text().splitlines()
    text = "\r\n".join([f"index,{rows[0]}", "", *(f'"1",{row}' for row in rows[1:]), "", ""])
    (album / "labels.csv").write_bytes(text.encode("utf-8-sig"))

    assert load(album).fingerprint == expected


def test_slashes_in_labels_make_no_groups(album):
    change(album / "labels.csv", '"cod"', '"cod/ling"')
    change(album / "labels.csv", '"cod"', '"cod/ling"')

    assert "fish/cod-ling" in load(album).class_names


def test_a_category_in_two_super_categories_is_refused(album):
    change(album / "labels.csv", '"cod",fish', '"cod",birds')
    refused(album, "has 'cod' in 'fish', and a row before in 'birds'")


def test_rows_with_and_without_a_super_category_are_refused(album):
    change(album / "labels.csv", '"cod",fish', '"cod",')
    refused(album, "has an empty SUPER_CATEGORY")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "must hold one JSON object"),
        ("{", "info.json is not JSON"),
        ('{"category_column_name": 3}', "has a name of a column that is no text"),
    ],
)
def test_a_description_that_cannot_be_used_is_refused(album, text, words):
    (album / "info.json").write_text(text)
    refused(album, words)


def test_a_column_that_only_the_description_names_is_told_as_its(album):
    described = {"image_column_name": "picture"}
    (album / "info.json").write_text(json.dumps(described))

    refused(album, "it is picture,CATEGORY,SUPER_CATEGORY by info.json")


def test_a_super_category_that_is_promised_and_has_no_column_is_refused(album):
    change(album / "labels.csv", "SUPER_CATEGORY", "KIND")
    refused(album, "has 0 columns 'SUPER_CATEGORY' in its first line, and needs one")


# What is refused of any table


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("n0153282900000000.png", "../val.csv", "names '../val.csv', which is no path inside of"),
        ("n0153282900000000.png", "/etc/passwd", "names '/etc/passwd', which is no path inside"),
        ("n0153282900000000.png", "..\\x.png", r"names '..\\\\x.png', which is no path inside"),
        ("n0153282900000000.png", "", "names '', which is no path inside of images"),
        ("n0153282900000000.png", "lost.png", "names 'lost.png', and images has no such picture:"),
        (
            "n0153282900000000.png",
            "N0153282900000000.PNG",
            "no such picture, but 'n0153282900000000.png': put it there",
        ),
        (
            "n0153282900000000.png",
            "n0153282900000001.png",
            r"line 3, names 'n0153282900000001.png', as .*train.csv', line 2, does",
        ),
        (
            "filename,label",
            "file,label",
            "has 0 columns 'filename' in its first line, and needs one",
        ),
        ("filename,label", "filename,label,Label", "has 2 columns 'label' in its first line"),
        ("png,n01532829", "png", "line 2, has 1 values where the first line names 2 columns"),
        ("png,n01532829", "png,a,b", "line 2, has 3 values where .*put quotes around"),
        ("png,n01532829", "png,", "line 2, has an empty label: fill it in"),
        ("png,n01532829", "png,N01532829", "which differ in upper and lower case or in a slash"),
        ("png,n01532829", 'png,"n01532829', "is no CSV"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(mini, old, new, words):
    change(mini / "train.csv", old, new)
    refused(mini, words)


def test_a_picture_in_two_tables_is_refused(mini):
    change(mini / "val.csv", "n0185567200000000.png", "n0153282900000000.png")
    refused(mini, r"val.csv', line 2, names 'n01.*', as .*train.csv', line 2, does")


def test_an_empty_table_and_one_that_is_no_text_are_refused(mini):
    (mini / "val.csv").write_text("")
    refused(mini, "val.csv' has 0 columns 'filename'")
    (mini / "val.csv").write_bytes("filename,label\nä,b\n".encode("latin-1"))
    refused(mini, "val.csv' is not UTF-8 text")


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_table_without_rows_is_refused_and_its_part_does_not_vanish(mini, part):
    (mini / f"{part}.csv").write_text("filename,label\n")
    refused(mini, f"has a table {part} that names no class: fill it, or remove it")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Test.csv", "has 'Test.csv' and 'test.csv', which differ"),
        ("Images/a.png", "has 'Images' and 'images', which differ"),
        ("testing.csv", "has train.csv and testing.csv: the tables of a split are called"),
        ("valid.csv", "has train.csv and valid.csv: the tables of a split are called"),
    ],
)
def test_a_second_table_or_folder_of_almost_that_name_is_refused(mini, name, words):
    (mini / name).parent.mkdir(exist_ok=True)
    (mini / name).write_bytes(b"")
    refused(mini, words)


def test_two_pictures_whose_names_are_encoded_otherwise_alone_are_refused(mini):
    for form in ("NFC", "NFD"):
        write(mini / "images" / unicodedata.normalize(form, "é.png"))
    refused(mini, "has two pictures .* encoded alone: rename one")


def test_a_huge_table_is_refused_before_it_is_read(mini, monkeypatch):
    monkeypatch.setattr(tables, "LARGEST", 100)
    refused(mini, r"train.csv' has \d+ bytes, and a table of pictures at most 100")


def test_a_table_through_a_link_is_no_table_and_a_picture_through_a_link_is_not_there(
    mini, tmp_path
):
    secret = tmp_path / "secret.png"
    (mini / "images" / "n0153282900000000.png").rename(secret)
    (mini / "images" / "n0153282900000000.png").symlink_to(secret)
    refused(mini, "names 'n0153282900000000.png', and images has no such picture")
    secret.replace(mini / "images" / "n0153282900000000.png")
    (mini / "val.csv").rename(tmp_path / "val.csv")
    (mini / "val.csv").symlink_to(tmp_path / "val.csv")
    refused(mini, "has a table test and none for val")


def test_tables_of_both_layouts_are_refused(mini, album):
    shutil.copy(album / "labels.csv", mini)
    refused(mini, r"has labels.csv and train.csv, which both say what the classes are")


def test_a_file_that_is_no_picture_is_refused(mini):
    (mini / "images" / "notes.txt").write_text("x")
    change(mini / "train.csv", "n0153282900000000.png", "notes.txt")
    refused(mini, "names 'notes.txt', which is not called as a picture that can be read")


def test_tables_beside_folders_of_classes_change_nothing(mini, tmp_path):
    """A text that lies outside of the classes was always passed over."""
    for name in ("ant", "bee", "cat", "dog"):
        write(tmp_path / "plain" / name / "1.png")
    shutil.copy(mini / "train.csv", tmp_path / "plain")

    assert load(tmp_path / "plain").class_names == ("ant", "bee", "cat", "dog")


def test_a_table_that_changed_is_read_again(mini):
    before = load(mini).fingerprint
    change(mini / "train.csv", "00000000.png,n01532829", "00000000.png,n01558993")

    dataset = load(mini)

    assert dataset.fingerprint != before
    assert dataset.counts.tolist()[:2] == [2, 4]


def test_small_classes_are_left_out_of_the_split_too(mini):
    lines = (mini / "val.csv").read_text().splitlines()
    (mini / "val.csv").write_text("\n".join(lines[:-1]))

    dataset = load(mini, fewest_images=3)

    assert find_split("given", dataset).parts["val"] == (SETS["val"][0],)
    assert SETS["val"][1] not in dataset.class_names


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_part_whose_classes_are_all_small_is_refused_and_does_not_vanish(mini, part):
    rows = [f"{name}00000000.png,{name}" for name in SETS[part]]
    (mini / f"{part}.csv").write_text("\n".join(["filename,label", *rows]))

    with pytest.raises(DataError, match=f"No class of part '{part}' .* has 3 pictures"):
        load(mini, fewest_images=3)


# Folders train, val and test


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    folder = tmp_path / "divided"
    for part, names in (("Train", "bd"), ("val", "ac"), ("test", "e")):
        for name in names:
            write(folder / part / name / "1.png")
    return folder


def test_folders_train_val_and_test_are_the_split_and_no_part_of_the_names(divided):
    dataset = load(divided)

    assert dataset.class_names == ("a", "b", "c", "d", "e")
    assert splits_of(dataset) == ("given", "classes")
    expected = {"train": ("b", "d"), "val": ("a", "c"), "test": ("e",)}
    assert find_split("auto", dataset).parts == expected
    pixels = np.asarray(Image.open(divided / "Train" / "b" / "1.png"))
    assert np.array_equal(dataset.images[1][0], pixels.transpose(2, 0, 1))


def test_folders_without_val_are_refused(divided):
    shutil.rmtree(divided / "val")
    refused(divided, "has a folder test and none for val: a split has train and val")


def test_a_class_in_two_of_the_folders_is_refused(divided):
    write(divided / "test" / "B" / "1.png")
    refused(divided, "has class 'b' in train and 'B' in test: .* divides classes, not pictures")


def test_groups_of_other_names_and_classes_called_train_are_no_split(tmp_path):
    for name in ("train/a", "train/b", "tram/c", "bus/d"):
        write(tmp_path / "groups" / name / "1.png")
    for name in ("train", "val", "bus", "test"):
        write(tmp_path / "classes" / name / "1.png")

    assert splits_of(load(tmp_path / "groups")) == ("groups", "classes")
    assert splits_of(load(tmp_path / "classes")) == ("classes",)


@pytest.mark.parametrize(
    "names",
    [
        ("train/a", "valid/b", "test/c"),
        ("training/a", "val/b"),
        ("train/a", "validation/b"),
        ("train/a", "val/b", "test/c", "extra/d"),
    ],
    ids=" ".join,
)
def test_a_split_whose_parts_are_not_all_called_so_is_no_groups(names, tmp_path):
    """Its test classes would be divided anew, and trained on."""
    for name in names:
        write(tmp_path / "split" / name / "1.png")

    refused(tmp_path / "split", "parts of a split are called train, val and test")


def test_the_split_that_came_with_the_data_may_be_left_for_another(divided):
    dataset = load(divided)

    parts = find_split("classes", dataset).parts

    assert sorted(name for names in parts.values() for name in names) == list("abcde")
    assert parts != find_split("given", dataset).parts


def test_what_an_earlier_version_cached_in_another_order_is_read_again(divided, monkeypatch):
    """It took the folders for groups, so the same files came in the order of their paths."""
    with monkeypatch.context() as earlier:
        earlier.setattr(folders, "by_folders", lambda classes, root: Content(classes))
        assert load(divided).class_names[0] == "Train/b"

    dataset = load(divided)

    pixels = np.asarray(Image.open(divided / "val" / "a" / "1.png"))
    assert np.array_equal(dataset.images[0][0], pixels.transpose(2, 0, 1))
