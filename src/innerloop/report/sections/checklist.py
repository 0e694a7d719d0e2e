"""The section of a report that answers what a reader should ask of results."""

from collections.abc import Mapping, Sequence

from innerloop.report.document import Section, Table
from innerloop.report.findings import counted
from innerloop.report.material import Material, named
from innerloop.report.sections.account import chosen_on, touched_test
from innerloop.runs.directory import RunDirectory


def section(material: Material) -> Section:
    """Each question with its answer from the files."""
    runs = {
        named(method): validated
        for method in material.methods
        if (validated := material.all_of(method))
    }
    rows = [
        ["Are seeds stated, and more than one?", _seeds(runs)],
        [
            "Do results have intervals?",
            "yes, 95 % over episodes" if material.comparison else "nothing was evaluated",
        ],
        [
            "Are the splits disjoint?",
            "yes, no class is in two parts; every run has a digest of its classes",
        ],
        ["What were settings chosen on?", chosen_on(material.runs[0].config.data.split)],
        [
            "Were test classes touched?",
            "yes, by the evaluations named in the protocol" if touched_test(material) else "no",
        ],
        ["What did it cost?", _cost(material, runs)],
        ["Is the licence of the data clear?", "yes, MIT (Omniglot) or generated (strokes)"],
        ["Can it be made again?", _again(material)],
    ]
    caption = "Reproducibility, answered from the run directories."
    return Section("Checklist", [Table(caption, ["question", "answer"], rows)])


def _seeds(runs: Mapping[str, Sequence[RunDirectory]]) -> str:
    seeds = {
        name: len({run.config.training.seed for run in validated})
        for name, validated in runs.items()
    }
    return "; ".join(f"{name}: {counted(count, 'seed')}" for name, count in seeds.items())


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
