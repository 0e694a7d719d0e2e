"""Which classes are meta-train, -val and -test: committed lists, checked against their digest."""

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files

from innerloop.core.errors import ConfigError, DataError, nearest
from innerloop.data.images import FewShotDataset

OMNIGLOT_SPLITS = ("assignment", "background-heldout", "1100-100-423")
"""``assignment``: the 964 background characters train, the 659 evaluation characters validate.
``background-heldout``: background alphabets alone, 24 to train and 6 to choose settings on.
``1100-100-423``: the counts most of the field uses, drawn at random once; the only one with a test
part."""
SPLITS_OF_NAMED = {"omniglot": OMNIGLOT_SPLITS, "strokes": ("alphabets",)}
"""Those of the data sets with a name; the first is the default."""
GIVEN = "given"
"""The split that a folder comes with, by its folders or its tables."""
SPLITS_OF_FOLDERS = (GIVEN, "groups", "classes")
"""Those that a folder of pictures can have."""

FEWEST_CLASSES = 4
"""That can be split: two to train on and two to validate on."""
TEST_FROM = {"classes": 10, "groups": 5}
"""So many are needed for a test part; with fewer there are a train and a validation part."""
FEWEST_HELD_OUT = {"classes": 2, "groups": 1}
"""Of the validation part, and of the test part where there is one."""


@dataclass(frozen=True)
class Split:
    """Class names of each part, disjoint.

    Attributes:
        name: as in ``--split``.
        parts: ``train``, ``val`` and, where the split has one, ``test`` -> class names, sorted.
    """

    name: str
    parts: dict[str, tuple[str, ...]]

    def __post_init__(self):
        seen: set[str] = set()
        for part, names in self.parts.items():
            if shared := seen.intersection(names):
                raise DataError(
                    f"Split {self.name!r}: class {min(shared)!r} is in {part!r} and in another "
                    "part."
                )
            seen.update(names)

    def part(self, name: str) -> tuple[str, ...]:
        """Class names of a part.

        Raises:
            ConfigError: if the split has no such part.
        """
        if name not in self.parts:
            raise ConfigError(
                f"Split {self.name!r} has no part {name!r}; it has: {', '.join(self.parts)}."
            )
        return self.parts[name]

    @property
    def digest(self) -> str:
        """SHA-256 over parts and class names."""
        # Sorted are the parts alone: the order of names decides which classes an episode has.
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()


def splits_of(dataset: FewShotDataset) -> tuple[str, ...]:
    """Names of the splits of a data set; the first is the default."""
    if dataset.name in SPLITS_OF_NAMED:
        return SPLITS_OF_NAMED[dataset.name]
    groups = {name.rpartition("/")[0] for name in dataset.class_names}
    absent = {GIVEN} if not dataset.parts else set()
    if len(groups) < 2:
        absent.add("groups")
    return tuple(name for name in SPLITS_OF_FOLDERS if name not in absent)


def find_split(name: str, dataset: FewShotDataset) -> Split:
    """The split of that name for a data set.

    Args:
        name: one of `splits_of`, or ``auto`` for the default.
        dataset: whose classes are split.

    Raises:
        ConfigError: if there is no such split for this data set.
        DataError: if a committed list was changed, or there are too few classes.
    """
    choices = splits_of(dataset)
    name = choices[0] if name == "auto" else name
    if name not in choices:
        raise ConfigError(
            f"Data set {dataset.name!r} has no split {name!r}. Choose --split "
            f"{', or --split '.join(choices)}.{nearest(name, choices)}"
        )
    if name == GIVEN:
        return Split(GIVEN, dict(dataset.parts))
    if name in TEST_FROM:
        return _by_name(name, dataset)
    return _by_alphabet(dataset) if name == "alphabets" else _committed(name)


def _committed(name: str) -> Split:
    text = files("innerloop.data").joinpath(f"split_lists/{name}.json").read_text(encoding="utf-8")
    stored = json.loads(text)
    parts = {
        part: tuple(
            f"{alphabet}/character{number:02d}"
            for alphabet, numbers in alphabets.items()
            for number in numbers
        )
        for part, alphabets in stored["parts"].items()
    }
    split = Split(name, parts)
    if split.digest != stored["digest"]:
        raise DataError(
            f"The class list of split {name!r} does not match its digest: reinstall innerloop."
        )
    return split


def _by_name(split: str, dataset: FewShotDataset) -> Split:
    """Classes, or whole groups of them, in an order from their names alone: 60, 20 and 20 %.

    The order is that of the names' SHA-256: in the order of the alphabet names that belong together
    would come into one part.
    """
    of_class = {
        name: name.rpartition("/")[0] if split == "groups" else name for name in dataset.class_names
    }
    if len(of_class) < FEWEST_CLASSES:
        raise DataError(
            f"Data set {dataset.name!r} has {len(of_class)} classes, and at least {FEWEST_CLASSES} "
            "are needed, two to train on and two to validate on: add classes."
        )
    units = sorted(set(of_class.values()), key=lambda unit: hashlib.sha256(unit.encode()).digest())
    held_out = max(FEWEST_HELD_OUT[split], round(0.2 * len(units)))
    sizes = {"val": held_out}
    if len(units) >= TEST_FROM[split]:
        sizes["test"] = held_out
    parts = {"train": units[: len(units) - sum(sizes.values())]}
    start = len(parts["train"])
    for part, count in sizes.items():
        parts[part] = units[start : start + count]
        start += count
    return Split(
        split,
        {
            part: tuple(name for name in dataset.class_names if of_class[name] in members)
            for part, members in parts.items()
        },
    )


def _by_alphabet(dataset: FewShotDataset) -> Split:
    """Whole alphabets, in order: 60 % to train, 20 % to validate, 20 % to test."""
    alphabets = sorted({name.partition("/")[0] for name in dataset.class_names})
    train_end = round(0.6 * len(alphabets))
    val_end = round(0.8 * len(alphabets))
    groups = {
        "train": alphabets[:train_end],
        "val": alphabets[train_end:val_end],
        "test": alphabets[val_end:],
    }
    return Split(
        "alphabets",
        {
            part: tuple(name for name in dataset.class_names if name.partition("/")[0] in group)
            for part, group in groups.items()
        },
    )
