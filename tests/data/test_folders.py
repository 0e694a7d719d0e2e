"""A folder of pictures is the data set that it looks like, or is refused in a sentence."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from innerloop.core.errors import ConfigError, DataError
from innerloop.data import folders, load_dataset
from innerloop.data.images import FewShotDataset
from innerloop.data.splits import find_split

RANDOM = np.random.default_rng(0)


def grey() -> np.ndarray:
    return RANDOM.integers(0, 256, (16, 16), dtype=np.uint8)


def write(path: Path, pixels: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "folders"


@pytest.fixture
def ragged(tmp_path: Path) -> dict[str, np.ndarray]:
    """Four classes of 2, 3, 4 and 5 grey pictures in ``pictures``: name -> (n, 16, 16)."""
    return {
        name: np.stack(
            [write(tmp_path / "pictures" / name / f"{i}.png", grey()) for i in range(count)]
        )
        for count, name in enumerate(["ant", "bee", "cat", "dog"], start=2)
    }


def load(folder: Path, said: list[str] | None = None, **options) -> FewShotDataset:
    say = [].append if said is None else said.append
    return load_dataset(str(folder), size=16, say=say, **options)


def refused(folder: Path, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(folder)


# What is read


def test_every_picture_is_an_example_of_the_class_that_its_folder_names(tmp_path, ragged):
    dataset = load(tmp_path / "pictures")

    assert dataset.name == "pictures"
    assert dataset.class_names == ("ant", "bee", "cat", "dog")
    assert dataset.counts.tolist() == [2, 3, 4, 5]
    for index, pixels in enumerate(ragged.values()):
        assert np.array_equal(dataset.images[index][:, 0], pixels)


def test_groups_come_before_their_classes(tmp_path):
    for name in ("b/x", "b/y", "a/x", "a/z"):
        write(tmp_path / "pictures" / name / "1.png", grey())

    dataset = load(tmp_path / "pictures")

    assert dataset.class_names == ("a/x", "a/z", "b/x", "b/y")
    assert find_split("auto", dataset).name == "groups"


def test_one_coloured_picture_makes_all_coloured_and_grey_ones_the_same_in_each_channel(
    tmp_path, ragged
):
    coloured = RANDOM.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    write(tmp_path / "pictures" / "ant" / "9.png", coloured)

    dataset = load(tmp_path / "pictures")

    assert dataset.image_shape == (3, 16, 16)
    assert np.array_equal(dataset.images[0][2], coloured.transpose(2, 0, 1))
    for channel in range(3):
        assert np.array_equal(dataset.images[3][:, channel], ragged["dog"])


def test_clutter_and_texts_outside_the_classes_are_no_part_of_it(tmp_path, ragged):
    folder = tmp_path / "pictures"
    before = load(folder).fingerprint
    for name in ("README.txt", "ant/Thumbs.db", "ant/.DS_Store", "ant/._0.png", ".git/x/y/z.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"clutter")

    assert load(folder).fingerprint == before


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_are_the_same_however_a_system_encodes_their_letters(tmp_path, form):
    for name in ("Gemüse", "日本 語", "عربي", "a.b c"):
        write(tmp_path / form / "set" / unicodedata.normalize(form, name) / "é.png", grey() * 0)

    dataset = load(tmp_path / form / "set")

    assert dataset.class_names == ("Gemüse", "a.b c", "عربي", "日本 語")
    expected = FewShotDataset("x", np.zeros((4, 1, 1, 16, 16), np.uint8), dataset.class_names)
    assert dataset.fingerprint == expected.fingerprint


def test_links_are_said_and_not_followed(tmp_path, ragged):
    folder = tmp_path / "pictures"
    before = load(folder).fingerprint
    write(tmp_path / "secret" / "1.png", grey())
    (folder / "ant" / "link.png").symlink_to(tmp_path / "secret" / "1.png")
    (folder / "elsewhere").symlink_to(tmp_path / "secret")
    (folder / "ant" / "loop").symlink_to(folder)
    os.mkfifo(folder / "bee" / "pipe.png")
    said: list[str] = []

    assert load(folder, said).fingerprint == before
    assert any("4 links, pipes or devices are passed over" in sentence for sentence in said)


# The cache


@pytest.fixture
def undecodable(monkeypatch: pytest.MonkeyPatch):
    def forbid() -> None:
        def decode(*_):
            raise AssertionError("a picture was decoded")

        monkeypatch.setattr(folders, "read_picture", decode)

    return forbid


def test_the_second_load_decodes_nothing(tmp_path, ragged, undecodable):
    first = load(tmp_path / "pictures")
    undecodable()

    assert load(tmp_path / "pictures").fingerprint == first.fingerprint


@pytest.mark.parametrize("change", ["content", "added", "removed", "renamed", "same size and time"])
def test_a_folder_that_changed_is_read_again(tmp_path, ragged, change):
    """Renamed to the end of its class, a picture is another example."""
    folder = tmp_path / "pictures"
    file = folder / "dog" / "0.bmp"
    write(file, grey())  # a format whose files of one size have one length
    first = load(folder).fingerprint
    status = file.stat()
    if change == "added":
        write(folder / "dog" / "8.png", grey())
    elif change == "removed":
        file.unlink()
    elif change == "renamed":
        file.rename(folder / "dog" / "7.bmp")
    else:
        write(file, grey())
    if change == "same size and time":
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert load(folder).fingerprint != first


def test_a_damaged_cache_is_read_again(tmp_path, ragged, cache):
    first = load(tmp_path / "pictures").fingerprint
    (file,) = cache.iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)

    assert load(tmp_path / "pictures").fingerprint == first


# What is refused


def test_a_folder_without_classes_is_refused(tmp_path):
    (tmp_path / "pictures").mkdir()
    refused(tmp_path / "pictures", "has no folder of pictures in it")
    refused(tmp_path / "nowhere", "Cannot list the folder .*nowhere.*No such file")


def test_an_empty_class_is_refused(tmp_path, ragged):
    (tmp_path / "pictures" / "eel").mkdir()
    refused(tmp_path / "pictures", "class folder .*eel' holds no pictures")


def test_a_picture_in_no_class_is_refused(tmp_path, ragged):
    write(tmp_path / "pictures" / "lost.png", grey())
    refused(tmp_path / "pictures", r"lost.png' lies in no class: move it")


def test_classes_beside_groups_are_refused(tmp_path, ragged):
    write(tmp_path / "pictures" / "fish" / "eel" / "1.png", grey())
    refused(tmp_path / "pictures", "mixes classes with groups of classes: 'ant' .* 'fish' has")


def test_folders_too_deep_are_refused(tmp_path, ragged):
    write(tmp_path / "pictures" / "a" / "b" / "c" / "1.png", grey())
    refused(tmp_path / "pictures", "too deep, the first is 'a/b/c'")


@pytest.mark.parametrize(("one", "other"), [("eel", "Eel"), ("\u00e9l", "e\u0301l"), ("ß", "ss")])
def test_classes_that_another_system_would_take_for_one_are_refused(tmp_path, ragged, one, other):
    for name in (one, other):
        write(tmp_path / "pictures" / name / "1.png", grey())
    refused(tmp_path / "pictures", "differ in upper and lower case alone, or in how")


@pytest.mark.parametrize("name", ["two\nlines", os.fsdecode(b"\xff\xfe")])
def test_a_class_whose_name_no_list_could_show_is_refused(tmp_path, ragged, name):
    write(tmp_path / "pictures" / name / "1.png", grey())
    refused(tmp_path / "pictures", "has a class called .*rename it")


@pytest.mark.parametrize("name", ["notes.txt", "photo.heic", "picture"])
def test_a_file_among_pictures_that_is_not_named_as_one_is_refused(tmp_path, ragged, name):
    (tmp_path / "pictures" / "ant" / name).write_bytes(b"x")
    refused(tmp_path / "pictures", f"{name}' lies among the pictures of a class and is not named")


def test_a_damaged_picture_is_named(tmp_path, ragged):
    (tmp_path / "pictures" / "cat" / "2.png").write_bytes(b"")
    refused(tmp_path / "pictures", r"cat/2.png' cannot be read")


def test_a_picture_that_vanishes_or_changes_while_the_folder_is_read_is_named(
    tmp_path, ragged, monkeypatch
):
    folder = tmp_path / "pictures"
    read = folders.read_picture

    def meddling(change):
        def reading(*arguments):
            change()
            return read(*arguments)

        return reading

    last = folder / "dog" / "4.png"
    monkeypatch.setattr(folders, "read_picture", meddling(lambda: last.write_bytes(b"other")))
    refused(folder, "dog/4.png' changed while the folder was read")
    monkeypatch.setattr(folders, "read_picture", meddling(lambda: last.unlink(missing_ok=True)))
    refused(folder, "dog/4.png' vanished while the folder was read")


def test_a_picture_that_may_not_be_read_is_named(tmp_path, ragged, monkeypatch):
    """The tests may run as root, who may read everything."""

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    refused(tmp_path / "pictures", r"Cannot read .*ant/0.png' \(Permission denied\)")


# Names and classes


def test_a_typing_error_is_answered_and_no_folder_is_looked_for():
    with pytest.raises(ConfigError, match=r"no data set 'omnigolt'\. Did you mean 'omniglot'"):
        load_dataset("omnigolt", size=16)
    with pytest.raises(ConfigError, match="a folder of pictures is named by its path"):
        load_dataset("zzz", size=16)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("my pictures", "my-pictures"),
        ("x/../Vögel", "Vögel"),
        ("Omniglot", "folder-Omniglot"),
        ("...", "pictures"),
        ("a" * 200, "a" * 40),
        ("$(rm) ;x", "rm-x"),
    ],
)
def test_a_data_set_is_called_by_its_folder_made_safe_and_never_as_another(folder, name):
    assert folders.safe_name(Path(folder), ("auto", "omniglot", "strokes")) == name


def test_a_run_finds_its_folder_where_it_was_or_where_it_is_said_to_be_now(tmp_path, ragged):
    folder = tmp_path / "pictures"
    first = load_dataset(str(folder), size=16)
    moved = folder.rename(tmp_path / "moved")

    again = load_dataset(first.name, size=16, folder=first.folder, data_dir=moved)

    assert (again.name, again.fingerprint) == (first.name, first.fingerprint)
    with pytest.raises(DataError, match="whose data were moved, with --data-dir"):
        load_dataset(first.name, size=16, folder=first.folder)


def test_small_classes_are_left_out_where_that_is_asked_for_and_said(tmp_path, ragged):
    said: list[str] = []

    dataset = load(tmp_path / "pictures", said, fewest_images=4)

    assert dataset.class_names == ("cat", "dog")
    assert any("2 of 4 classes have fewer than 4 pictures" in sentence for sentence in said)
    with pytest.raises(DataError, match=r"No class of .* has 6 pictures"):
        load(tmp_path / "pictures", fewest_images=6)
    with pytest.raises(ConfigError, match="fewest_images leaves out classes of a folder"):
        load_dataset("strokes", size=16, fewest_images=2)


@pytest.mark.parametrize(
    ("classes", "sizes"), [(4, [2, 2]), (9, [7, 2]), (10, [6, 2, 2]), (50, [30, 10, 10])]
)
def test_a_split_by_classes_has_parts_of_these_sizes(classes, sizes):
    names = tuple(f"class {number:02d}" for number in range(classes))
    dataset = FewShotDataset("x", np.zeros((classes, 1, 1, 2, 2), np.uint8), names)

    split = find_split("auto", dataset)

    assert [len(part) for part in split.parts.values()] == sizes
    assert sorted(name for part in split.parts.values() for name in part) == list(names)


def test_a_split_by_groups_divides_no_group():
    names = tuple(f"group {group}/{number}" for group in range(7) for number in range(3))
    dataset = FewShotDataset("x", np.zeros((21, 1, 1, 2, 2), np.uint8), names)

    parts = find_split("groups", dataset).parts
    groups = {part: {name.partition("/")[0] for name in members} for part, members in parts.items()}

    assert {part: len(members) for part, members in groups.items()} == {
        "train": 5,
        "val": 1,
        "test": 1,
    }
    assert len(set.union(*groups.values())) == 7


def test_too_few_classes_to_split_are_refused():
    dataset = FewShotDataset("x", np.zeros((3, 1, 1, 2, 2), np.uint8), ("a", "b", "c"))

    with pytest.raises(DataError, match="has 3 classes, and at least 4 are needed"):
        find_split("auto", dataset)


@pytest.mark.parametrize("size", [0, -3, 16.5, True, 10**6])
@pytest.mark.parametrize("name", ["strokes", "./pictures"])
def test_sides_that_no_image_has_are_refused_before_anything_is_read(name, size):
    with pytest.raises(ConfigError, match="size must be a whole number between 1 and 1024: got"):
        load_dataset(name, size=size)


def test_a_folder_may_be_a_path(ragged, tmp_path):
    folder = tmp_path / "pictures"
    by_text, by_path = (load_dataset(of, size=16) for of in (str(folder), folder))

    assert by_text.fingerprint == by_path.fingerprint
