"""`innerloop evaluate CLASSIFIER FOLDER`: a classifier on pictures that it was not made from."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from innerloop.cli.command import Common, parse, print_json, sayer
from innerloop.core.errors import DataError
from innerloop.core.files import refuse_unwritable

FIGURE = "reliability"
"""Of how sure it is and how often right, without its suffix."""


@dataclass(frozen=True)
class HeldOutOptions(Common):
    """Evaluate a classifier on pictures that it was not made from."""

    classifier: tyro.conf.Positional[Path] = field(kw_only=True)
    """What innerloop adapt wrote."""
    folder: tyro.conf.Positional[Path] = field(kw_only=True)
    """A folder with a folder of pictures for each class; classes that it does not know show what
    passes as known."""
    backbone: str | None = None
    """The network of another library that the classifier was made with, to say that it may be
    loaded; default: none is."""
    out: Path | None = None
    """Folder for reliability.png and reliability.svg: how often it is right when it is how sure;
    default: none."""
    replace: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write over figures that are there already."""
    strict: tyro.conf.FlagCreatePairsOff[bool] = False
    """Stop at the first picture that cannot be read, instead of going on without it."""


def is_of_a_classifier(arguments: list[str]) -> bool:
    """Whether what is to be evaluated is a classifier, and no run."""
    from innerloop.classifier.places import is_classifier

    # Of a run nothing stands behind its name but options.
    two = [of for of in arguments[:2] if not of.startswith("-")]
    return len(two) == 2 or any(is_classifier(Path(of)) for of in arguments)


def run(arguments: list[str]) -> int:
    """Predict every picture of the folder, and compare."""
    options = parse(HeldOutOptions, "evaluate", arguments)
    from innerloop.classifier.pictures import labelled_folder
    from innerloop.classifier.places import refuse_file, refuse_other

    refuse_other(options.classifier)
    if options.out:
        refuse_file(options.out / f"{FIGURE}.png", replace=options.replace)
        refuse_unwritable(options.out / f"{FIGURE}.png")
    say = sayer(options)
    pictures, labels, _ = labelled_folder(options.folder, say)
    if not pictures:
        raise DataError(f"The folder {str(options.folder)!r} holds no pictures.")
    from innerloop.classifier.estimator import FewShotClassifier
    from innerloop.classifier.held_out import held_out, sentences
    from innerloop.classifier.predictions import predictions
    from innerloop.cli.progress import CountProgress

    classifier = FewShotClassifier.load(options.classifier, backbone=options.backbone)
    progress = CountProgress("pictures", len(pictures), quiet=options.json)
    made = predictions(classifier, pictures, strict=options.strict, on_picture=progress)
    classes = [str(name) for name in classifier.classes_]
    found = held_out(made, [labels[place] for place in made.places], classes)
    for fault in made.faults.values():
        say(fault)
    if made.faults:
        say(f"{len(made.faults)} of {len(pictures)} pictures could not be read.")
    for sentence in sentences(found):
        say(sentence)
    for name, (right, tested) in found.by_class.items():
        if tested:
            say(f"{name}: {right} of {tested}")
    if options.out and found.tested:
        from innerloop.classifier.figures import reliability
        from innerloop.report.figures.style import save_figure

        title = "How sure, and how often right, on pictures that it was not made from"
        say(str(save_figure(lambda: reliability(found.p, found.right, title), options.out, FIGURE)))
    print_json(
        options,
        {
            "tested": found.tested,
            "accuracy": found.accuracy,
            "interval": list(found.interval),
            "calibration_error": found.calibration_error,
            "by_class": {name: list(of) for name, of in found.by_class.items()},
            "refused": found.refused,
            "strangers": found.strangers,
            "passed": found.passed,
            "auroc": found.auroc,
            "mistakes": [
                {"picture": name, "class": str(label), "taken_for": str(guess)}
                for name, label, guess in found.mistakes
            ],
            "skipped": made.faults,
        },
    )
    return 0
