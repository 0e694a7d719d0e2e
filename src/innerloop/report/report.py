"""A report of several runs: which sections there are, and the folder it is written to."""

from collections.abc import Sequence
from pathlib import Path

from innerloop.core.errors import ConfigError
from innerloop.core.files import disk_errors, write_atomic
from innerloop.report.document import Document
from innerloop.report.figures.run import data_name
from innerloop.report.material import Material, explains, read_explanation, with_names
from innerloop.report.render.pages import html_page, pdf
from innerloop.report.render.svg import drawn
from innerloop.report.sections import account, answers, causes
from innerloop.runs.directory import RunDirectory


def document(material: Material) -> Document:
    """The report, in the order of the assignment's questions."""
    config = material.runs[0].config
    sections = [
        answers.summary(material),
        answers.fomaml(material),
        answers.mamlpp(material),
        answers.maml(material),
        answers.transfer(material),
        causes.comparison(material),
        causes.questions(material),
        answers.other_splits(material),
        account.protocol(material),
        account.limits(material),
        account.commands(material),
        account.checklist(material),
        account.people(material),
        account.hyperparameters(material),
    ]
    return Document(
        f"FO-MAML, MAML++ and transfer learning on {data_name(config.data.name)}",
        f"{config.episode.ways}-way {config.episode.shots}-shot, {config.episode.queries} query "
        f"images a class, split {config.data.split}",
        [section for section in sections if section is not None],
        material.author,
    )


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
    if not runs:
        raise ConfigError("A report needs at least one run directory.")
    for path in runs:
        if sum(path.resolve() == other.resolve() for other in runs) > 1:
            raise ConfigError(f"{path} is given twice.")
    for what, given in (("collaborator", collaborators), ("reference", references)):
        if not all(one.strip() for one in given):
            raise ConfigError(f"A {what} is empty: name each in quotes.")
    opened = tuple(RunDirectory(path) for path in runs)
    for run in opened:
        run.refuse_damaged()
    file = (explanation or runs[0].parent / "explanation") / "explanation.json"
    if explanation and not file.is_file():
        raise ConfigError(f"{explanation} holds no explanation.json: innerloop explain writes one.")
    found = read_explanation(file) if file.is_file() else None
    if found and not explains(found, opened):
        if explanation:
            raise ConfigError(
                f"{explanation} explains other runs than these; innerloop explain makes one of "
                "them."
            )
        found = None  # of other runs, which happen to lie beside these
    return Material(
        opened, with_names(found) if found else None, collaborators, references, folder, author
    )


def write_report(material: Material, folder: Path) -> Document:
    """Write ``report.html``, ``report.pdf`` and ``figures/`` into a folder.

    Raises:
        DataError: if a file of a run is damaged.
        DiskError: if something cannot be written.
    """
    made = document(material)
    with disk_errors(str(folder)):
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    drawings = {picture.name: drawn(picture.draw) for picture in made.pictures}
    for left in (folder / "figures").glob("*.svg"):  # of a former report
        if left.stem not in drawings:
            left.unlink()
    for name, drawing in drawings.items():
        write_atomic(folder / "figures" / f"{name}.svg", drawing.svg)
    write_atomic(folder / "report.html", html_page(made, drawings))
    write_atomic(folder / "report.pdf", pdf(made, drawings))
    return made
