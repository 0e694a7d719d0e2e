"""The split that a folder of pictures comes with: by folders train, val and test, or by tables."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from innerloop.core.errors import DataError
from innerloop.data.listing import File

PARTS = ("train", "val", "test")
"""Names of folders, and of tables, that are parts of a split; the last may be missing."""

Classes = Mapping[str, Sequence[File]]
"""Name of a class -> its pictures; both sorted."""

ALMOST = {"valid", "validation", "dev", "training", "testing"}
"""What parts are called elsewhere: taken for groups of classes, a test part would be trained on."""


@dataclass(frozen=True)
class Content:
    """What a folder holds.

    Attributes:
        classes: with their pictures.
        parts: of the split that it comes with -> names of classes, sorted; empty if it has none.
    """

    classes: Classes
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def only(self, classes: Classes) -> "Content":
        """The same with some of the classes; a part may be left with none."""
        kept = {
            part: tuple(name for name in names if name in classes)
            for part, names in self.parts.items()
        }
        return Content(classes, kept)


def normal(name: str) -> str:
    """A name as it is compared: systems encode one letter in more than one way."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """A name without what a system, or a slip of the hand, may change in it."""
    return normal(normal(name).casefold())


def refuse_alike(names: Iterable[str], root: Path) -> None:
    """Refuse names of which other systems, or a slip of the hand, would make one of two.

    Args:
        names: of folders and files, as they lie in the folder.
        root: the folder.

    Raises:
        DataError: if there are two.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(folded(name), name)
        if other != name:
            raise DataError(
                f"The folder {str(root)!r} has {other!r} and {name!r}, which differ in upper and "
                "lower case alone, or in how their letters are encoded: rename one, or put what "
                "they hold together."
            )


def by_folders(classes: Classes, root: Path) -> Content:
    """Classes in folders train, val and test lose those from their names; others are as they are.

    Args:
        classes: by ``<group>/<class>`` or ``<class>``.
        root: the folder.

    Raises:
        DataError: if train or val is missing, or a class is in two of them; or if two folders are
            called so or almost so, and another is not called so.
    """
    groups = {name.partition("/")[0] if "/" in name else "" for name in classes}
    others = sorted(group for group in groups if folded(group) not in PARTS)
    of_split = {folded(group) for group in groups} & {*PARTS, *ALMOST}
    # One alone may be a group like any other: trains beside buses.
    if others and len(of_split) < 2:
        return Content(classes)
    if others:
        raise DataError(
            f"The folder {str(root)!r} has folders {' and '.join(sorted(of_split)[:2])} as of a "
            f"split, and {others[0]!r}: the parts of a split are called train, val and test, with "
            "nothing beside them. Rename it, or move it away."
        )
    named: dict[str, dict[str, Sequence[File]]] = {}
    for name, files in classes.items():
        group, _, class_name = name.partition("/")
        named.setdefault(folded(group), {})[class_name] = files
    return of_parts(named, root, "folder")


def of_parts(parts: Mapping[str, Classes], root: Path, what: str) -> Content:
    """The content of a folder whose parts have classes each.

    Args:
        parts: name of a part -> its classes.
        root: the folder.
        what: a part is, such as ``folder``.

    Raises:
        DataError: if train or val is missing, a part has no class, or a class is in two.
    """
    if empty := [part for part in parts if not parts[part]]:
        raise DataError(
            f"The folder {str(root)!r} has a {what} {empty[0]} that names no class: fill it, or "
            "remove it."
        )
    for part in PARTS[:2]:
        if part not in parts:
            raise DataError(
                f"The folder {str(root)!r} has a {what} {sorted(parts)[0]} and none for {part}: a "
                "split has train and val, and may have test."
            )
    part_of: dict[str, tuple[str, str]] = {}
    for part in parts:
        for name in parts[part]:
            other, spelt = part_of.setdefault(folded(name), (part, name))
            if other != part:
                raise DataError(
                    f"The folder {str(root)!r} has class {spelt!r} in {other} and {name!r} in "
                    f"{part}: a split for few-shot learning divides classes, not pictures, so put "
                    "each class into one of them."
                )
    classes = {name: files for part in parts.values() for name, files in part.items()}
    given = {part: tuple(sorted(parts[part])) for part in PARTS if part in parts}
    return Content({name: classes[name] for name in sorted(classes)}, given)
