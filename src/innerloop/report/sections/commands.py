"""The section of a report that says how to make its runs again."""

from collections.abc import Sequence

from innerloop.report.document import Block, Commands, Paragraph, Section, Table, code
from innerloop.report.material import Material
from innerloop.runs.directory import RunDirectory
from innerloop.runs.results import Environment

ENVIRONMENT = (
    "innerloop",
    "git",
    "python",
    "torch",
    "numpy",
    "platform",
    "processor",
    "device",
    "threads",
)
"""What of an environment decides numbers and seconds."""
CHECKSUMS = {"data_fingerprint": "pixels and names", "split_digest": "classes"}
"""What an environment records of the data -> of what it is the checksum."""


def section(material: Material) -> Section:
    """The exact commands, the environment, and the checksums of data and weights."""
    environments = [run.environment for run in material.runs]
    again = [f"innerloop train --config {material.path(run)}/config.json" for run in material.runs]
    typed = dict.fromkeys(environment.command for environment in environments)
    rows = [[key, _values(environments, key)] for key in ENVIRONMENT]
    blocks: list[Block] = [
        Paragraph(
            "Each run directory holds its complete settings; on a CPU the same file gives the "
            "same bits on the same machine:"
        ),
        Commands(again),
        Paragraph("As they were typed:"),
        Commands(list(typed)),
        Table("Environment of the trainings.", ["what", "value"], rows),
    ]
    finished = [run for run in material.runs if run.weights_path.is_file()]
    if finished:
        sums = [*_of_data(material.runs), *_of_weights(finished)]
        blocks.append(Table("Checksums.", ["what", "SHA-256"], sums))
    return Section("Commands and environment", blocks)


def _values(environments: Sequence[Environment], key: str) -> str:
    values = {str(environment.recorded().get(key, "-")) for environment in environments}
    return ", ".join(sorted(values))


def _of_data(runs: Sequence[RunDirectory]) -> list[list[str]]:
    rows = []
    for run in runs:
        data = run.config.data
        recorded = run.environment.recorded()
        for key, what in CHECKSUMS.items():
            digest = code(str(recorded.get(key)))
            rows.append((f"data {data.name}, split {data.split}: {what}", digest))
    return [list(row) for row in dict.fromkeys(rows)]


def _of_weights(runs: Sequence[RunDirectory]) -> list[list[str]]:
    return [
        [code(f"{run.path.name}/{run.weights_path.name}"), code(run.weights_sha256())]
        for run in runs
    ]
