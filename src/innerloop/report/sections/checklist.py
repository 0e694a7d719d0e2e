"""The section of a report that answers what a reader should ask of results."""

from collections.abc import Mapping, Sequence

from innerloop.core.intervals import intervals_in_words
from innerloop.report.document import Section, Table
from innerloop.report.findings import counted
from innerloop.report.material import Material, named
from innerloop.report.sections.account import DATA, selection_in_words, touched_test
from innerloop.runs.directory import RunDirectory

DISJOINT = "yes, no class is in two parts; every run has a digest of its classes"
"""Said of data whose splits are known."""
LICENCES = {"omniglot": "yes, MIT (Omniglot)", "strokes": "yes, generated (strokes)"}
"""Whether the licence of data is clear, by their name."""
NOT_KNOWN = "not known"


def section(material: Material, selection: str | None = None) -> Section:
    """Each question with its answer from the files.

    Args:
        material: of the report.
        selection: what settings were chosen on; None: what the methods' cards say of it.
    """
    data = dict.fromkeys(run.config.data.name for run in material.runs)
    runs = {
        named(method): validated
        for method in material.methods
        if (validated := material.all_of(method))
    }
    rows = [
        ["Are seeds stated, and more than one?", _seeds(runs)],
        [
            "Do results have intervals?",
            _intervals(material),
        ],
        [
            "Are the splits disjoint?",
            DISJOINT if all(name in DATA for name in data) else NOT_KNOWN,
        ],
        ["What were settings chosen on?", selection or selection_in_words(material)],
        [
            "Were test classes touched?",
            "yes, by the evaluations named in the protocol" if touched_test(material) else "no",
        ],
        ["What did it cost?", _cost(material, runs)],
        ["Is the licence of the data clear?", _licences(list(data))],
        ["Can it be made again?", _again(material)],
    ]
    caption = "Reproducibility, answered from the run directories."
    return Section("Checklist", [Table(caption, ["question", "answer"], rows)])


def _intervals(material: Material) -> str:
    if material.comparison is None:
        return "nothing was evaluated"
    rows = material.comparison.rows
    return f"yes, {intervals_in_words([(row.name, row.covers) for row in rows])}"


def _seeds(runs: Mapping[str, Sequence[RunDirectory]]) -> str:
    seeds = {
        name: len({run.config.training.seed for run in validated})
        for name, validated in runs.items()
    }
    if not seeds:
        return "no run was validated yet"
    return "; ".join(f"{name}: {counted(count, 'seed')}" for name, count in seeds.items())


def _licences(data: Sequence[str]) -> str:
    if len(data) == 1:
        return LICENCES.get(data[0], NOT_KNOWN)
    return "; ".join(f"{name}: {LICENCES.get(name, NOT_KNOWN)}" for name in data)


def _cost(material: Material, runs: Mapping[str, Sequence[RunDirectory]]) -> str:
    seconds = {name: validated[0].validations()[-1].elapsed_s for name, validated in runs.items()}
    compute = ", ".join(
        f"{name} {value / 60:.1f} minutes" for name, value in seconds.items() if value > 0
    )
    if not compute:
        return "not recorded"
    machines = "; or ".join(sorted({run.machine for run in material.runs}))
    return f"{compute} of training with validations, first seed of each; {machines}"


def _again(material: Material) -> str:
    answer = "settings, environment, data fingerprint and checksums are in this report"
    if any(run.environment.git.endswith("-dirty") for run in material.runs):
        return f"{answer}; the source had changes that are in no commit"
    return answer
