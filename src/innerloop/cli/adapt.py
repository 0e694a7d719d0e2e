"""`innerloop adapt`: a classifier from a folder of one's own pictures."""

import math
import shlex
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from innerloop.cli.command import Common, parse, print_json, sayer
from innerloop.core.errors import ConfigError
from innerloop.core.files import refuse_unwritable


@dataclass(frozen=True)
class AdaptOptions(Common):
    """Make a classifier from a folder of pictures; nothing leaves this machine."""

    folder: tyro.conf.Positional[Path] = field(kw_only=True)
    """A folder with a folder of pictures for each class."""
    out: Path = Path("classifier")
    """Where the classifier goes: a folder with a report beside it, or one file if the name ends in
    .innerloop or .zip."""
    replace: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write over a classifier that is there already, which is lost."""
    backbone: str = "auto"
    """The frozen network: auto (of those installed, the one that has more pictures right when they
    are left out, or, if that is close, omniglot for what looks like drawings, else photos), photos,
    omniglot (for drawings), timm:NAME, open_clip:NAME or torchvision:NAME."""
    head: Literal["auto", "prototypes", "ridge", "logistic"] = "auto"
    """How classes are told apart; auto is ridge from two pictures of each class on, else
    prototypes."""
    unknown: str = "auto"
    """When a picture is of none of the classes: auto, never, or a similarity to the nearest
    example, from -1 to 1, below which it is."""
    thumbnails: tyro.conf.FlagCreatePairsOff[bool] = False
    """Keep small pictures of the examples in the classifier, too."""
    strict: tyro.conf.FlagCreatePairsOff[bool] = False
    """Stop at the first picture that cannot be read, instead of going on without it."""


def run(arguments: list[str]) -> int:
    """Fit, say how good it is, write it, and say what to type next."""
    options = parse(AdaptOptions, "adapt", arguments)
    if not options.folder.is_dir():
        raise ConfigError(f"{options.folder} is no folder: name one with a folder for each class.")
    from innerloop.classifier.given import refuse_too_few
    from innerloop.classifier.pictures import labelled_folder
    from innerloop.classifier.places import SUFFIXES, refuse_taken

    # What needs no torch first: nobody waits seconds to hear of a mistyped word.
    unknown = _threshold(options.unknown)
    single = options.out.suffix.lower() in SUFFIXES
    _refuse_inside(options.out, options.folder)
    refuse_taken(options.out, replace=options.replace)
    refuse_unwritable(options.out)
    pictures, labels, classes = labelled_folder(options.folder, lambda sentence: None)
    refuse_too_few(classes, labels)
    say = sayer(options)
    from innerloop.classifier.estimator import FewShotClassifier, PictureWarning
    from innerloop.classifier.words import how, sentences
    from innerloop.cli.progress import CountProgress

    classifier = FewShotClassifier(
        options.backbone,
        head=options.head,
        unknown=unknown,
        strict=options.strict,
    )
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", PictureWarning)
        progress = CountProgress("pictures", len(pictures), quiet=options.json)
        classifier.fit(str(options.folder), on_picture=progress)
    for warning in heard:
        if issubclass(warning.category, PictureWarning):
            say(str(warning.message))
    if classifier.skipped_:
        say(f"{len(classifier.skipped_)} of {len(pictures)} pictures could not be read.")
    report = classifier.report_
    if classifier.choice_:
        say(classifier.choice_)
    say(f"It tells classes apart by {how(classifier.head_, classifier.backbone_)}.")
    for sentence in sentences(report):
        say(sentence)
    classifier.save(options.out, thumbnails=options.thumbnails)
    written = [str(options.out)]
    if not single:
        written += _write_page(classifier, report, options.out, options.folder)
    for path in written:
        say(path)
    say(f"Next: innerloop predict {shlex.quote(str(options.out))} PICTURES...")
    print_json(options, _outcome(classifier, report, written))
    return 0


def _refuse_inside(out: Path, folder: Path) -> None:
    """Raise `ConfigError` where the classifier would lie among the pictures."""
    if folder.resolve() in out.resolve().parents and folder.resolve() != Path.cwd():
        raise ConfigError(f"{out} lies among the pictures: choose another --out.")


def _threshold(text: str) -> Any:
    if text == "auto":
        return "auto"
    if text == "never":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not -1 <= value <= 1:
        raise ConfigError(
            f"--unknown must be auto, never, or a similarity from -1 to 1: got {text!r}."
        )
    return value


def _write_page(classifier: Any, report: Any, out: Path, folder: Path) -> list[str]:
    from innerloop.classifier.page import contact_sheet, page
    from innerloop.core.files import write_folder

    title = f"A classifier of {folder.resolve().name}"
    files: dict[str, bytes | str] = {
        "report.html": page(classifier.state, report, title, classifier.backbone_),
        "pictures.png": contact_sheet(classifier.state),
    }
    write_folder(out, files)
    return [str(out / name) for name in files]


def _outcome(classifier: Any, report: Any, written: list[str]) -> dict[str, Any]:
    return {
        "classes": [str(name) for name in report.classes],
        "pictures": list(report.counts),
        "backbone": classifier.backbone_,
        "choice": classifier.choice_,
        "head": classifier.head_,
        "accuracy": report.accuracy,
        "interval": list(report.interval),
        "five_folds": report.five_folds,
        "threshold": classifier.threshold_,
        "mistakes": [
            {"picture": of.name, "class": str(of.label), "taken_for": str(of.predicted)}
            for of in report.mistakes
        ],
        "skipped": classifier.skipped_,
        "files": written,
    }
