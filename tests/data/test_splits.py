import dataclasses
import json
import os
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from innerloop.core.errors import ConfigError, DataError
from innerloop.data import omniglot, splits, strokes
from innerloop.data.images import FewShotDataset
from innerloop.data.splits import OMNIGLOT_SPLITS, Split, find_split

COUNTS = {
    "assignment": {"train": 964, "val": 659},
    "background-heldout": {"train": 731, "val": 233},
    "1100-100-423": {"train": 1100, "val": 100, "test": 423},
}


@pytest.fixture(scope="session")
def names_only() -> FewShotDataset:
    """Omniglot's class names without its drawings: enough to split."""
    names = omniglot.class_names(omniglot.contents())
    return FewShotDataset("omniglot", np.zeros((len(names), 20, 1, 1, 1), dtype=np.uint8), names)


@pytest.mark.parametrize("name", OMNIGLOT_SPLITS)
def test_committed_splits_have_their_counts_and_are_disjoint_by_class(name, names_only):
    split = find_split(name, names_only)

    assert {part: len(classes) for part, classes in split.parts.items()} == COUNTS[name]
    together = [class_name for part in split.parts.values() for class_name in part]
    assert len(set(together)) == len(together)
    assert set(together) <= set(names_only.class_names)


def test_assignment_trains_on_background_and_validates_on_the_evaluation_alphabets(names_only):
    split = find_split("assignment", names_only)

    assert {name.partition("/")[0] for name in split.part("train")} == {"background"}
    assert {name.partition("/")[0] for name in split.part("val")} == {"evaluation"}


def test_background_heldout_holds_out_whole_alphabets_and_never_touches_evaluation(names_only):
    split = find_split("background-heldout", names_only)
    alphabets = {
        part: {name.rpartition("/")[0] for name in split.part(part)} for part in split.parts
    }

    assert len(alphabets["train"]) == 24
    assert len(alphabets["val"]) == 6
    assert not alphabets["train"] & alphabets["val"]
    assert all(name.startswith("background/") for part in alphabets.values() for name in part)


@pytest.mark.skipif(
    "INNERLOOP_DATA" not in os.environ, reason="needs Omniglot's drawings, which are not shipped"
)
@pytest.mark.parametrize("name", OMNIGLOT_SPLITS)
def test_no_drawing_of_one_part_is_in_another_turned_by_any_quarter(name):
    dataset = omniglot.load()
    seen: dict[bytes, str] = {}
    for part, classes in find_split(name, dataset).parts.items():
        for image in dataset.images[dataset.class_indices(classes)].reshape(-1, 28, 28):
            for turns in range(4 if part == "train" else 1):
                content = np.rot90(image, turns).tobytes()
                assert seen.setdefault(content, part) == part


def test_strokes_split_by_alphabet_60_20_20():
    dataset = strokes.generate(250, drawings=2)

    split = find_split("alphabets", dataset)

    alphabets = {
        part: {name.partition("/")[0] for name in split.part(part)} for part in split.parts
    }
    assert {part: len(names) for part, names in alphabets.items()} == {
        "train": 6,
        "val": 2,
        "test": 2,
    }
    assert len(set.union(*alphabets.values())) == 10


def test_a_class_in_two_parts_is_refused():
    with pytest.raises(DataError, match="class 'a/1' is in 'val' and in another part"):
        Split("wrong", {"train": ("a/0", "a/1"), "val": ("a/1",)})


def test_a_changed_list_is_refused(monkeypatch, names_only):
    stored = json.loads(files("innerloop.data").joinpath("split_lists/assignment.json").read_text())
    stored["parts"]["val"]["evaluation/Angelic"].pop()
    monkeypatch.setattr(splits.json, "loads", lambda text: stored)

    with pytest.raises(DataError, match="split 'assignment' does not match its digest"):
        find_split("assignment", names_only)


def test_a_split_of_another_data_set_is_refused(names_only):
    with pytest.raises(
        ConfigError,
        match=r"Data set 'omniglot' has no split 'alphabets'. Choose --split assignment",
    ):
        find_split("alphabets", names_only)
    with pytest.raises(
        ConfigError, match=r"Data set 'strokes' has no split 'assignment'. Choose --split alphabets"
    ):
        find_split("assignment", strokes.generate(2, drawings=1))


def test_a_part_that_a_split_lacks_is_refused(names_only):
    with pytest.raises(
        ConfigError, match="Split 'assignment' has no part 'test'; it has: train, val"
    ):
        find_split("assignment", names_only).part("test")


def test_classes_that_a_data_set_lacks_are_named(names_only):
    fewer = dataclasses.replace(
        names_only, images=names_only.images[1:], class_names=names_only.class_names[1:]
    )

    with pytest.raises(
        DataError,
        match=f"1 classes of the split are not in .* for instance '{names_only.class_names[0]}'",
    ):
        fewer.class_indices(names_only.class_names)


def test_the_documents_say_which_test_characters_settings_were_chosen_on(names_only):
    heldout = find_split("background-heldout", names_only)
    test = set(find_split("1100-100-423", names_only).part("test"))
    chosen_on = len(test & set(heldout.part("val")))
    trained_on = len(test & set(heldout.part("train")))

    assignment = find_split("assignment", names_only)

    assert not set(heldout.part("val")) & set(assignment.part("val"))
    for page in ("README.md", "benchmarks/README.md", "docs/comparison.md", "docs/methods/maml.md"):
        text = (Path(__file__).parents[2] / page).read_text("utf-8")
        assert f"test characters {chosen_on} are in the held-out alphabets" in text, page
        assert f"and {trained_on} more were trained on" in text, page
