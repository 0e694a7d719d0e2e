"""Folders of pictures whose classes are in CSV files: Meta-Album's, and mini-ImageNet's splits."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from innerloop.core.errors import ConfigError, DataError
from innerloop.core.files import parse_json_object
from innerloop.data.given import ALMOST, PARTS, Content, folded, normal, of_parts, refuse_alike
from innerloop.data.listing import File, Listing
from innerloop.data.pictures import is_picture

LARGEST = 64 * 2**20
"""Bytes of a table: a million rows; the largest that is known has fewer than 200,000."""
COLUMNS = {
    "image_column_name": "FILE_NAME",
    "category_column_name": "CATEGORY",
    "super_category_column_name": "SUPER_CATEGORY",
}
"""What Meta-Album's ``info.json`` may call otherwise -> what it is called usually."""
CSV_COLUMNS = ("filename", "label")
"""Of the usual lists of mini-ImageNet's splits."""


def content_of(listing: Listing, say: Callable[[str], None]) -> Content | None:
    """What a folder's tables say; None of a folder without pictures in ``images`` and tables.

    Args:
        listing: of the folder.
        say: told in a sentence which pictures are in no table.

    Raises:
        DataError: if a table cannot be read, or names what is not there, or something twice.
    """
    at_root = {folded(file.parts[0]): file for file in listing.files if len(file.parts) == 1}
    tables = {f"{part}.csv" for part in (*PARTS, *ALMOST)} & {*at_root}
    labels = at_root.get("labels.csv")
    splits = {part: at_root[f"{part}.csv"] for part in PARTS if f"{part}.csv" in at_root}
    if not any(folded(parts[0]) == "images" for parts in listing.folders):
        return None
    if labels is None and not splits:
        return None
    if labels is not None and splits:
        raise DataError(
            f"The folder {str(listing.root)!r} has {labels.name} and {next(iter(splits))}.csv, "
            "which both say what the classes are: remove those that do not."
        )
    if splits and (almost := sorted(tables - {f"{part}.csv" for part in PARTS})):
        raise DataError(
            f"The folder {str(listing.root)!r} has {next(iter(splits))}.csv and {almost[0]}: the "
            "tables of a split are called train.csv, val.csv and test.csv. Rename it, or move it "
            "away."
        )
    at_top = {parts[0] for parts in (*listing.folders, *(file.parts for file in listing.files))}
    refuse_alike(sorted(at_top), listing.root)
    pictures = Pictures(listing)
    if labels is not None:
        content = _meta_album(pictures, labels, at_root.get("info.json"))
    else:
        content = _splits(pictures, splits)
    if left := pictures.left:
        say(
            f"In {listing.root} {len(left):,} pictures are in no table and are passed over, the "
            f"first is {left[0]!r}."
        )
    return content


@dataclass(frozen=True)
class Row:
    """A row of a table: its place, as errors say it, and the values of the columns asked for."""

    place: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Pictures:
    """The pictures in ``images``, each of which a table may name once.

    Attributes:
        listing: of the whole folder.
        named: path in ``images`` -> the place that names it.
    """

    listing: Listing
    named: dict[str, str] = field(default_factory=dict)
    _files: dict[str, File] = field(default_factory=dict)

    def __post_init__(self):
        for file in self.listing.files:
            if len(file.parts) > 1 and folded(file.parts[0]) == "images":
                name = "/".join(file.parts[1:])
                other = self._files.setdefault(normal(name), file)
                if other != file:
                    raise DataError(
                        f"The folder {str(self.listing.root)!r} has two pictures {name!r}, which "
                        "differ in how their letters are encoded alone: rename one."
                    )

    @property
    def left(self) -> list[str]:
        """Paths of those that no table named."""
        return [name for name in self._files if name not in self.named and is_picture(name)]

    def take(self, name: str, place: str) -> File:
        """The picture of a name, which a row at ``place`` has.

        Raises:
            DataError: if there is none, it lies elsewhere, or it was named before.
        """
        key = normal(name)
        if "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
            raise DataError(
                f"{place} names {name!r}, which is no path inside of images: change it."
            )
        if key not in self._files:
            raise DataError(
                f"{place} names {name!r}, and images has no such picture{self._similar(key)}: put "
                "it there, or take the row away."
            )
        if not is_picture(name):
            raise DataError(
                f"{place} names {name!r}, which is not called as a picture that can be read: "
                "convert it to PNG."
            )
        if (other := self.named.setdefault(key, place)) != place:
            raise DataError(f"{place} names {name!r}, as {other} does: take one of the rows away.")
        return self._files[key]

    def _similar(self, key: str) -> str:
        """Says so if a name is there in other upper and lower case."""
        similar = [name for name in self._files if folded(name) == folded(key)]
        return f", but {similar[0]!r}" if similar else ""


class Names:
    """Names of classes, of which no two are almost alike."""

    def __init__(self):
        self._spelt: dict[str, str] = {}

    def of(self, label: str, column: str, place: str) -> str:
        """The name for a label, without slashes, which part groups from classes.

        Raises:
            DataError: if the label is empty, or differs from a former one in almost nothing.
        """
        if not label:
            raise DataError(f"{place} has an empty {column}: fill it in, or take the row away.")
        name = normal(label).replace("/", "-")
        other = self._spelt.setdefault(folded(name), label)
        if normal(other) != normal(label):
            raise DataError(
                f"{place} has the {column} {label!r}, and a row before has {other!r}, which differ "
                "in upper and lower case or in a slash alone: write both in one way."
            )
        return name


def _splits(pictures: Pictures, tables: dict[str, File]) -> Content:
    """The split of Ravi and Larochelle (2017): a table for each part, ``filename,label``."""
    parts: dict[str, dict[str, list[File]]] = {}
    names = Names()
    for part, table in tables.items():
        classes = parts.setdefault(part, {})
        for row in _rows(pictures.listing, table, CSV_COLUMNS):
            filename, label = row.values
            files = classes.setdefault(names.of(label, "label", row.place), [])
            files.append(pictures.take(filename, row.place))
    ordered = {part: _in_order(classes) for part, classes in parts.items()}
    return of_parts(ordered, pictures.listing.root, "table")


def _meta_album(pictures: Pictures, labels: File, info: File | None) -> Content:
    """Meta-Album's layout (Ullah and others, 2022); classes are ``<super-category>/<category>``."""
    described = {} if info is None else _json(pictures.listing, info)
    columns = [described.get(key, usual) for key, usual in COLUMNS.items()]
    if not all(isinstance(column, str) for column in columns):
        raise DataError(
            f"{str(pictures.listing.root / 'info.json')!r} has a name of a column that is no text: "
            f"give {', '.join(COLUMNS)} as texts."
        )
    told = described.get("has_super_categories")
    wanted = columns[:2] if told is False else columns
    rows = list(_rows(pictures.listing, labels, wanted, optional=0 if told else 1))
    # A set without super-categories may have the column, and leave it empty.
    grouped = len(wanted) == 3 and any(row.values[2] for row in rows)
    categories, groups = Names(), Names()
    group_of: dict[str, str] = {}
    classes: dict[str, list[File]] = {}
    for row in rows:
        name = categories.of(row.values[1], columns[1], row.place)
        group = groups.of(row.values[2], columns[2], row.place) if grouped else ""
        if (other := group_of.setdefault(name, group)) != group:
            raise DataError(
                f"{row.place} has {name!r} in {group!r}, and a row before in {other!r}: a category "
                "is in one super-category."
            )
        files = classes.setdefault(f"{group}/{name}" if grouped else name, [])
        files.append(pictures.take(row.values[0], row.place))
    return Content(_in_order(classes))


def _in_order(classes: dict[str, list[File]]) -> dict[str, list[File]]:
    return {
        name: sorted(classes[name], key=lambda file: normal(file.name)) for name in sorted(classes)
    }


def _json(listing: Listing, file: File) -> dict[str, Any]:
    """The JSON object of a listed file."""
    path = str(listing.root.joinpath(*file.parts))
    try:
        return parse_json_object(_text(listing, file), path)
    except ConfigError as error:
        raise DataError(str(error)) from error


def _text(listing: Listing, file: File) -> str:
    """The text of a listed file, whose byte-order mark is no part of it."""
    path = str(listing.root.joinpath(*file.parts))
    size = file.state[0]
    if size > LARGEST:
        raise DataError(
            f"{path!r} has {size:,} bytes, and a table of pictures at most {LARGEST:,}: is it "
            "another file?"
        )
    try:
        with listing.opened(file) as opened:
            return opened.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path!r} is not UTF-8 text: save it as that.") from error


def _rows(
    listing: Listing, table: File, columns: Sequence[str], optional: int = 0
) -> Iterator[Row]:
    """The rows of a table with its header taken off.

    Args:
        listing: of the folder.
        table: the file.
        columns: which values are wanted; upper and lower case is the same.
        optional: so many of the last columns may be missing, and are then empty.
    """
    path = str(listing.root.joinpath(*table.parts))
    reader = csv.reader(io.StringIO(_text(listing, table), newline=""), strict=True)
    try:
        header = [folded(name.strip()) for name in next(reader, [])]
        places = _places(path, header, columns, optional)
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(header):
                raise DataError(
                    f"{path!r}, line {reader.line_num}, has {len(values)} values where the first "
                    f"line names {len(header)} columns: put quotes around what has a comma."
                )
            yield Row(
                f"{path!r}, line {reader.line_num},",
                tuple("" if place is None else values[place].strip() for place in places),
            )
    except csv.Error as error:
        raise DataError(f"{path!r}, line {reader.line_num}, is no CSV: {error}.") from error


def _places(
    path: str, header: Sequence[str], columns: Sequence[str], optional: int
) -> list[int | None]:
    """Where the columns are; None of an optional one that is missing."""
    places: list[int | None] = []
    for number, column in enumerate(columns):
        count = header.count(folded(column))
        if count > 1 or (count == 0 and number < len(columns) - optional):
            named = set(columns) - {*COLUMNS.values(), *CSV_COLUMNS}
            layout = "by info.json" if named else "in the usual layout"
            raise DataError(
                f"{path!r} has {count} columns {column!r} in its first line, and needs one: it is "
                f"{','.join(columns)} {layout}. If it is not the list of the classes, "
                "move it elsewhere."
            )
        places.append(header.index(folded(column)) if count else None)
    return places
