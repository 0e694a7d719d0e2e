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

DEFAULT_SPLITS = {"omniglot": "assignment", "strokes": "alphabets"}


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


def find_split(name: str, dataset: FewShotDataset) -> Split:
    """The split of that name for a data set.

    Args:
        name: one of `OMNIGLOT_SPLITS`, or ``alphabets`` for strokes.
        dataset: whose classes are split.

    Raises:
        ConfigError: if there is no such split for this data set.
        DataError: if a committed list was changed.
    """
    choices = OMNIGLOT_SPLITS if dataset.name == "omniglot" else ("alphabets",)
    if name not in choices:
        raise ConfigError(
            f"Data set {dataset.name!r} has no split {name!r}. Choose --split "
            f"{', or --split '.join(choices)}.{nearest(name, choices)}"
        )
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
