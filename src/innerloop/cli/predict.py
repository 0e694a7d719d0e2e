"""`innerloop predict`: what a classifier says of pictures."""

import csv
import io
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from innerloop.cli.command import Common, parse, print_json, sayer
from innerloop.core.errors import ConfigError, DataError
from innerloop.core.files import refuse_unwritable
from innerloop.core.texts import printable, whole

if TYPE_CHECKING:
    from innerloop.classifier.estimator import FewShotClassifier
    from innerloop.classifier.predictions import Prediction

NONE = "none of these"
"""What a picture of no class is called."""


@dataclass(frozen=True)
class PredictOptions(Common):
    """Say of which class pictures are; nothing leaves this machine."""

    classifier: tyro.conf.Positional[Path] = field(kw_only=True)
    """What innerloop adapt wrote."""
    pictures: tyro.conf.Positional[tuple[Path, ...]] = field(kw_only=True)
    """Pictures, or folders, whose pictures are taken wherever they lie."""
    backbone: str | None = None
    """The network of another library that the classifier was made with, to say that it may be
    loaded; default: none is."""
    csv: Path | None = None
    """A file for a table with every class's probability; default: none."""
    copy_into: Path | None = None
    """A folder into which each picture is copied, into one that is called as its class; default:
    nothing is copied."""
    replace: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write over a table that is there already. Copies never replace a file."""
    strict: tyro.conf.FlagCreatePairsOff[bool] = False
    """Stop at the first picture that cannot be read, instead of going on without it."""


def run(arguments: list[str]) -> int:
    """Predict each picture, print a line for it, and do with it what was asked for."""
    options = parse(PredictOptions, "predict", arguments)
    if not options.pictures:
        raise ConfigError("innerloop predict needs pictures, or a folder of them.")
    from innerloop.classifier.pictures import pictures_of
    from innerloop.classifier.places import refuse_file, refuse_other

    refuse_other(options.classifier)
    if options.csv:
        refuse_file(options.csv, replace=options.replace)
        refuse_unwritable(options.csv)
    if options.copy_into:
        refuse_unwritable(options.copy_into / NONE)
    pictures = [picture for path in options.pictures for picture in pictures_of(path)]
    from innerloop.classifier.estimator import FewShotClassifier
    from innerloop.classifier.predictions import predictions
    from innerloop.cli.progress import CountProgress

    say = sayer(options)
    classifier = FewShotClassifier.load(options.classifier, backbone=options.backbone)
    for name in classifier.classes_ if options.copy_into else ():
        _safe(str(name))
    progress = CountProgress("pictures", len(pictures), quiet=options.json)
    made = predictions(classifier, pictures, strict=options.strict, on_picture=progress)
    rows = []
    for one in made.rows:
        say(printable(_line(one)).replace("\n", " "))
        rows.append(
            {
                "picture": one.name,
                "class": str(one.label),
                "probability": one.probability,
                "unknown": one.unknown,
                "similarity": one.similarity,
            }
        )
    for fault in made.faults.values():
        say(fault)
    if made.faults:
        say(f"{len(made.faults)} of {len(pictures)} pictures could not be read.")
    if options.csv:
        _write_table(options.csv, classifier, made)
        say(str(options.csv))
    if options.copy_into:
        _copy(made, options.copy_into)
        say(str(options.copy_into))
    print_json(options, {"predictions": rows, "skipped": made.faults})
    return 0


def _line(one: "Prediction") -> str:
    sure = f"{100 * one.probability:.0f} %"
    if one.unknown:
        return f"{one.name}: {NONE} (if it were one, {one.label} at {sure})"
    return f"{one.name}: {one.label} ({sure})"


def _write_table(path: Path, classifier: "FewShotClassifier", made: Any) -> None:
    from innerloop.core.files import write_atomic

    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    classes = [str(name) for name in classifier.classes_]
    head = ["picture", "class", "unknown", "similarity", *classes]
    table.writerow([_harmless(cell) for cell in head])
    for one in made.rows:
        numbers = [f"{p:.6f}" for p in one.probabilities]
        cells = [one.name, one.label, int(one.unknown), f"{one.similarity:.6f}", *numbers]
        table.writerow([_harmless(cell) for cell in cells])
    write_atomic(path, file.getvalue())


def _harmless(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    if not isinstance(cell, str):
        return cell
    text = whole(cell)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _copy(made: Any, folder: Path) -> None:
    """Copy pictures by class; a name that is taken gets a number."""
    from innerloop.core.files import disk_errors

    for one in made.rows:
        source = Path(one.name)
        name = NONE if one.unknown else str(one.label)
        target = folder.joinpath(*_safe(name))
        with disk_errors(str(target)):
            target.mkdir(parents=True, exist_ok=True)
            place = target / source.name
            number = 1
            while place.exists():
                number += 1
                place = target / f"{source.stem}-{number}{source.suffix}"
            shutil.copyfile(source, place)


def _safe(name: str) -> list[str]:
    """The folders of a class's name, which may be a stranger's."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    if not parts or any("\\" in part or "\0" in part or ":" in part for part in parts):
        raise DataError(f"The class {name!r} cannot be the name of a folder.")
    return parts
