"""The course's questions: which is better and why, and what its ancestor asks besides."""

from collections.abc import Sequence

from innerloop.analysis.explanation.rows import ShotsRow
from innerloop.assignment.asked import PAIR, SHOTS
from innerloop.assignment.sentences import better_or_worse
from innerloop.report import findings
from innerloop.report.document import Block, Bullets, Missing, Paragraph, Section
from innerloop.report.material import Material, named
from innerloop.report.sections import adaptation, causes, methods, results


def comparison(material: Material) -> Section:
    """Transfer learning against FO-MAML: better or worse, and why."""
    title = "Transfer learning against FO-MAML: better or worse, and why?"
    return Section(title, [*_better_or_worse(material), *_why(material)])


def _better_or_worse(material: Material) -> list[Block]:
    pair = material.difference(*PAIR)
    if pair is None or material.comparison is None:
        return [_without_answer(material)]
    runs = [material.of(method)[0] for method in PAIR]
    seen = findings.what_was_seen(pair, material.comparison.learning_curves, runs)
    return [
        Paragraph(better_or_worse(pair)),
        Paragraph(seen),
        results.picture_of_learning_curves(material.comparison),
    ]


def _without_answer(material: Material) -> Missing:
    """What the answer needs, and the commands that make it."""
    missing = [method for method in PAIR if material.row(method) is None]
    if not missing:
        return Missing(
            "The two were not evaluated on the same episodes.",
            [f"innerloop evaluate {material.path(run)}" for run in material.main],
        )
    commands = []
    for method in missing:
        commands += [methods.train_command(material, method), "innerloop evaluate RUN"]
    needed = " and ".join(map(named, missing))
    return Missing(f"The answer needs {needed}, trained and evaluated.", commands)


def _why(material: Material) -> list[Block]:
    explanation = material.explanation
    if explanation and {subject.method for subject in explanation.subjects} == set(PAIR):
        return causes.why(explanation)
    runs = [material.path(run) for method in PAIR for run in material.of(method)[:1]]
    paths = " ".join(runs) if len(runs) == len(PAIR) else "TRANSFER_RUN FOMAML_RUN"
    return [Missing("Why was not measured.", [f"innerloop explain {paths}"])]


def questions(material: Material) -> Section:
    """What the course's ancestor asks besides."""
    blocks: list[Block] = [
        Paragraph(
            "Why does accuracy before adaptation stay near one in N? How do support and query "
            "set compare? What do the inner rate and the number of steps do? How does accuracy "
            "depend on K at test?"
        )
    ]
    evaluated = (adaptation.adapted(material, method) for method in material.methods)
    if answers := adaptation.in_words([result for result in evaluated if result]):
        blocks.append(Bullets(answers))
    else:
        blocks.append(Missing("No run was evaluated.", ["innerloop evaluate RUN"]))
    if run := material.first("fomaml"):
        blocks.append(adaptation.picture(run, named("fomaml"), "inner-steps"))
    return Section("Questions", [*blocks, *_rates(material), *_shots(material)])


def _rates(material: Material) -> list[Block]:
    if material.explanation:
        return causes.sensitivity(material.explanation)
    command = "innerloop explain TRANSFER_RUN FOMAML_RUN"
    return [Missing("The effect of the inner rate was not measured.", [command])]


def _shots(material: Material) -> list[Block]:
    rows = _rows_over_shots(material)
    blocks: list[Block] = []
    if rows:
        blocks.append(Bullets([findings.over_shots(name, row) for name, row in rows.items()]))
    if max(map(len, rows.values()), default=0) < len(SHOTS):
        numbers = " ".join(map(str, SHOTS))
        blocks.append(
            Missing(
                f"Accuracy for every K from {SHOTS[0]} to {SHOTS[-1]} was not measured.",
                [f"innerloop evaluate RUN --shots {numbers}"],
            )
        )
    return blocks


def _rows_over_shots(material: Material) -> dict[str, Sequence[ShotsRow]]:
    """Accuracies at several shots by method: of the runs, else those of the explanation."""
    firsts = {method: material.first(method) for method in material.methods}
    measured: dict[str, Sequence[ShotsRow]] = {
        adaptation.name_of_first(material, method): rows
        for method, run in firsts.items()
        if run and (rows := adaptation.over_shots(run))
    }
    if measured or material.explanation is None:
        return measured
    shots = material.explanation.shots
    return {name: shots[name] for name in material.explanation.names}
