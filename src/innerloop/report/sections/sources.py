"""The sections of a report that name people, papers, and every setting."""

from collections.abc import Sequence

from innerloop.methods.card import Paper
from innerloop.methods.catalogue import find_card
from innerloop.report.document import (
    Block,
    Bullets,
    Missing,
    Paragraph,
    Section,
    Table,
    code,
)
from innerloop.report.hyperparameters import value_in_words
from innerloop.report.material import Material, named
from innerloop.runs.directory import RunDirectory

LAKE = (
    "B. Lake, R. Salakhutdinov, J. Tenenbaum. Human-level concept learning through probabilistic "
    "program induction. Science 350, 2015."
)
DATA_PAPERS = {"omniglot": LAKE}
"""Where a data set comes from, by its name."""


def people(
    material: Material, papers: Sequence[str], *, collaborators_asked: bool = False
) -> Section | None:
    """Collaborators and references, or None where there are none.

    Args:
        material: names both.
        papers: behind the references that are named.
        collaborators_asked: it is missing if none are named.
    """
    blocks: list[Block] = []
    title = "References"
    if material.collaborators or collaborators_asked:
        title = "Collaborators and references"
    if material.collaborators:
        blocks += [Paragraph("Collaborators:"), Bullets(list(material.collaborators))]
    elif collaborators_asked:
        blocks.append(
            Missing(
                "No collaborators are named.",
                ['innerloop report RUN... --collaborators "Name, what"'],
            )
        )
    if references := [*material.references, *papers]:
        blocks += [Paragraph("References:"), Bullets(references)]
    return Section(title, blocks) if blocks else None


def papers_of(material: Material) -> list[str]:
    """The papers of the methods at hand, and of the data."""
    papers: list[Paper] = []
    for method in dict.fromkeys(run.config.method for run in material.runs):
        papers += find_card(method).papers
    data = dict.fromkeys(run.config.data.name for run in material.runs)
    of_data = [DATA_PAPERS[name] for name in data if name in DATA_PAPERS]
    return [*dict.fromkeys(map(str, papers)), *of_data]


def hyperparameters(material: Material) -> Section:
    """Every setting of every method in one table."""
    columns = {method: runs for method in material.methods if (runs := material.all_of(method))}
    title = "Hyperparameters"
    if not columns:
        return Section(title, [Missing("No run was validated yet.", ["innerloop train METHOD"])])
    descriptions: dict[str, str] = {}
    for runs in columns.values():
        descriptions |= runs[0].config.descriptions()
    rows = [
        [code(name), *(_values(runs, name) for runs in columns.values()), sentence]
        for name, sentence in descriptions.items()
    ]
    fixed = [
        f"Fixed by {named(method)}: {runs[0].config.own.fixed_in_words}"
        for method, runs in columns.items()
    ]
    table = Table(
        "Every setting of every method; several values are those of its runs; -: not "
        "used by the method or its network.",
        ["setting", *map(named, columns), "meaning"],
        rows,
    )
    return Section(title, [Bullets(fixed), table])


def _values(runs: Sequence[RunDirectory], name: str) -> str:
    values = [run.config.in_use().get(name) for run in runs]
    return ", ".join(
        dict.fromkeys("-" if value is None else value_in_words(value) for value in values)
    )
