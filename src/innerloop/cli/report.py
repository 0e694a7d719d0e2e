"""`innerloop report`: runs into a page and a PDF."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from innerloop.cli.command import Common, parse, print_json, runs_among, say_boxes, sayer


@dataclass(frozen=True)
class ReportOptions(Common):
    """Write report.html and report.pdf from run directories alone; in seconds, without PyTorch."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = field(kw_only=True)
    """The run directories, of any methods and seeds; what is missing is said in its section."""
    out: Path = Path("report")
    """Folder for report.html, report.pdf and figures/."""
    assignment: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write the course's report, as `innerloop reproduce` does: its questions in their order, its
    bar; default: a report of whatever the methods are."""
    explanation: Path | None = None
    """Folder that `innerloop explain` wrote; default: explanation, beside the first run, where it
    is there."""
    collaborators: tuple[str, ...] = ()
    """Who took part, and in what, each in quotes; default: nobody is named."""
    references: tuple[str, ...] = ()
    """What else was used, each in quotes; default: only the papers that the report itself cites."""


def run(arguments: list[str]) -> int:
    """Write the report, and say what it lacks."""
    options = parse(ReportOptions, "report", arguments)
    from innerloop.assignment import document as assignment
    from innerloop.report.report import document, read_material, write_report

    say = sayer(options)
    material = read_material(
        runs_among(options.runs, say),
        options.explanation,
        collaborators=options.collaborators,
        references=options.references,
    )
    written = assignment.document(material) if options.assignment else document(material)
    write_report(written, options.out)
    missing = list(dict.fromkeys(written.missing))
    for what in missing:
        say(f"Missing: {what}")
    say_boxes(say, [*options.collaborators, *options.references])
    html = options.out / "report.html"
    pdf = options.out / "report.pdf"
    say(f"{html}\n{pdf}")
    figures = [picture.name for picture in written.pictures]
    print_json(
        options, {"html": str(html), "pdf": str(pdf), "figures": figures, "missing": missing}
    )
    return 0
