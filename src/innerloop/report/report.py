"""A report of several runs: which sections there are, and the folder it is written to."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from innerloop.analysis.explanation.results import Explanation
from innerloop.core.errors import ConfigError
from innerloop.core.files import disk_errors, write_folder
from innerloop.report.document import Document, Section
from innerloop.report.figures.run import data_name
from innerloop.report.material import Material, explains, named, read_explanation, with_names
from innerloop.report.render.pages import html_page, pdf
from innerloop.report.render.svg import drawn
from innerloop.report.sections import (
    account,
    causes,
    checklist,
    commands,
    methods,
    results,
    sources,
    stability,
)
from innerloop.runs.directory import RunDirectory


def document(material: Material) -> Document:
    """The report of any runs: a section for each method, and what holds for all of them."""
    sections = [
        results.section(material),
        *(methods.section(material, method) for method in material.methods),
        causes.section(material),
        stability.section(material),
        results.other_splits(material),
        account.protocol(material),
        account.limits(material),
        commands.section(material),
        checklist.section(material),
        sources.people(material, sources.papers_of(material)),
        sources.hyperparameters(material),
    ]
    data = data_name(material.runs[0].config.data.name)
    titles = in_words([named(method) for method in material.methods])
    return composed(f"{titles} on {data}", sections, material)


def composed(title: str, sections: Sequence[Section | None], material: Material) -> Document:
    """Sections as a whole, under the data, split and episodes of the first run.

    Args:
        title: of it.
        sections: in the order of reading; None is passed over.
        material: of the report.
    """
    config = material.runs[0].config
    return Document(
        title,
        f"{config.episode.ways}-way {config.episode.shots}-shot, {config.episode.queries} query "
        f"images a class, split {config.data.split}",
        [section for section in sections if section is not None],
        material.author,
    )


def in_words(names: Sequence[str]) -> str:
    """A, B and C."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def read_material(
    runs: Sequence[Path],
    explanation: Path | None = None,
    *,
    collaborators: Sequence[str] = (),
    references: Sequence[str] = (),
    folder: str | None = None,
    author: str = "",
) -> Material:
    """Open what a report is made from.

    Args:
        runs: the run directories, at least one.
        explanation: folder with an ``explanation.json``; by default ``explanation`` beside the
            first run, if any.
        collaborators: named in the report.
        references: named in the report.
        folder: where the report's commands find the runs, if it is not where they are now.
        author: on the report's first page.

    Raises:
        ConfigError: if there is no run, one is given twice or is none, a collaborator or reference
            is empty, or the explanation is not there or is of other runs.
        DataError: if a file is damaged.
    """
    _refuse_faults(runs, {"collaborator": collaborators, "reference": references})
    opened = tuple(RunDirectory(path) for path in runs)
    for run in opened:
        run.refuse_damaged()
    return Material(
        opened, _explanation_of(opened, explanation), collaborators, references, folder, author
    )


def _refuse_faults(runs: Sequence[Path], people: Mapping[str, Sequence[str]]) -> None:
    """Raise `ConfigError` for no run, a run twice, or an empty name."""
    if not runs:
        raise ConfigError("A report needs at least one run directory.")
    places = [path.resolve() for path in runs]
    for path, place in zip(runs, places, strict=True):
        if places.count(place) > 1:
            raise ConfigError(f"{path} is given twice.")
    for what, texts in people.items():
        if not all(text.strip() for text in texts):
            raise ConfigError(f"A {what} is empty: name each in quotes.")


def _explanation_of(runs: Sequence[RunDirectory], folder: Path | None) -> Explanation | None:
    """The explanation in a folder, or the one that lies beside the first run and is of these."""
    file = (folder or runs[0].path.parent / "explanation") / "explanation.json"
    if not file.is_file():
        if folder:
            raise ConfigError(f"{folder} holds no explanation.json: innerloop explain writes one.")
        return None
    explanation = read_explanation(file)
    if explains(explanation, runs):
        return with_names(explanation)
    if folder:
        raise ConfigError(
            f"{folder} explains other runs than these; innerloop explain makes one of them."
        )
    return None  # of other runs, which happen to lie beside these


def write_report(report: Document, folder: Path) -> None:
    """Write ``report.html``, ``report.pdf`` and ``figures/`` into a folder.

    Raises:
        DataError: if a file of a run is damaged.
        DiskError: if something cannot be written.
    """
    files = report_files(report)
    write_folder(folder, files)
    with disk_errors(str(folder)):
        for left in (folder / "figures").glob("*.svg"):  # of a former report
            if f"figures/{left.name}" not in files:
                left.unlink()


def report_files(report: Document) -> dict[str, bytes]:
    """The report by the names of its files: ``report.html``, ``report.pdf``, ``figures/*.svg``.

    Raises:
        DataError: if a file of a run is damaged.
        DiskError: if the PDF's temporary files cannot be written.
    """
    drawings = {picture.name: drawn(picture.draw) for picture in report.pictures}
    figures = {f"figures/{name}.svg": drawing.svg.encode() for name, drawing in drawings.items()}
    return {
        "report.html": html_page(report, drawings).encode(),
        "report.pdf": pdf(report, drawings),
        **figures,
    }
