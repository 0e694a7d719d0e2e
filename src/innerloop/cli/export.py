"""`innerloop export`: a classifier as a file that needs no innerloop."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from innerloop.cli.command import Common, parse, print_json, sayer
from innerloop.core.errors import ConfigError
from innerloop.core.files import refuse_unwritable

PAGE = (".html", ".htm")


@dataclass(frozen=True)
class ExportOptions(Common):
    """Write a classifier as one ONNX file, or as a page that needs nothing but a browser."""

    classifier: tyro.conf.Positional[Path] = field(kw_only=True)
    """What innerloop adapt wrote."""
    out: tyro.conf.Positional[Path] = field(kw_only=True)
    """The file: model.onnx, or page.html."""
    runtime: Path | None = None
    """For a page: the folder of the npm package onnxruntime-web, which becomes part of the page;
    default: none."""
    replace: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write over a file that is there already."""


def run(arguments: list[str]) -> int:
    """Load the classifier, write the file, and say on how many pictures it was tried."""
    options = parse(ExportOptions, "export", arguments)
    suffix = options.out.suffix.lower()
    if suffix not in (".onnx", *PAGE):
        raise ConfigError(f"{options.out} must end in .onnx or in .html: that says what it is.")
    from innerloop.classifier.places import refuse_file, refuse_other

    refuse_other(options.classifier)
    refuse_unwritable(options.out)
    refuse_file(options.out, replace=options.replace)
    say = sayer(options)
    from innerloop.classifier.estimator import FewShotClassifier

    classifier = FewShotClassifier.load(options.classifier)
    if suffix in PAGE:
        from innerloop.classifier.export_page import export_page

        written = export_page(classifier, options.out, options.runtime)
    else:
        from innerloop.classifier.export import export_onnx

        written = export_onnx(classifier, options.out)
    say(str(written))
    print_json(
        options,
        {
            "file": str(written.path),
            "bytes": written.size,
            "pictures": written.pictures,
            "difference": written.difference,
        },
    )
    return 0
