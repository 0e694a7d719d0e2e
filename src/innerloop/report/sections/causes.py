"""The sections of a report that say which method is better and why.

They also answer what the course's ancestor asks.
"""

from typing import Any

from innerloop.analysis.explanation.results import Explanation
from innerloop.analysis.explanation.rows import ShotsRow
from innerloop.report import comparison as comparisons
from innerloop.report import findings
from innerloop.report.document import Block, Bullets, Missing, Paragraph, Picture, Section
from innerloop.report.figures import explanation as explanations
from innerloop.report.figures import run as figures
from innerloop.report.findings import percent
from innerloop.report.material import Material, named, primary_row
from innerloop.report.sections.answers import train_command
from innerloop.runs import evaluations
from innerloop.runs.directory import RunDirectory


def comparison(material: Material) -> Section:
    """Transfer learning against FO-MAML: better or worse, and why."""
    title = "Transfer learning against FO-MAML: better or worse, and why?"
    pair = material.difference("transfer", "fomaml")
    blocks: list[Block] = []
    if pair is None:
        missing = [method for method in ("transfer", "fomaml") if material.row(method) is None]
        blocks.append(
            Missing(
                f"The answer needs {' and '.join(named(method) for method in missing)}, trained "
                "and evaluated."
                if missing
                else "The two were not evaluated on the same episodes.",
                [
                    command
                    for method in missing
                    for command in (train_command(material, method), "innerloop evaluate RUN")
                ]
                or [f"innerloop evaluate {material.path(run)}" for run in material.main],
            )
        )
    else:
        found = material.results
        assert found is not None
        runs = [material.of(method)[0] for method in ("transfer", "fomaml")]
        blocks += [
            Paragraph(findings.better_or_worse(pair)),
            Paragraph(findings.what_was_seen(pair, found["learning_curves"], runs)),
            *_learning_curves(material),
        ]
    if material.explanation is None or {
        subject.method for subject in material.explanation.subjects
    } != {
        "transfer",
        "fomaml",
    }:
        runs = [
            material.path(run)
            for method in ("transfer", "fomaml")
            for run in material.of(method)[:1]
        ]
        paths = " ".join(runs) if len(runs) == 2 else "TRANSFER_RUN FOMAML_RUN"
        blocks.append(Missing("Why was not measured.", [f"innerloop explain {paths}"]))
    else:
        blocks += _why(material.explanation)
    return Section(title, blocks)


def _learning_curves(material: Material) -> list[Block]:
    found = material.comparison
    assert found is not None
    return [
        Picture(
            "learning-curves",
            lambda: comparisons.draw_learning_curves(found),
            "Two line charts: validation accuracy of each method over the images seen in "
            "training, and over seconds.",
            "Validation accuracy over image passes (an image sent forward and backward in "
            "training) and over seconds of training with its validations.",
        )
    ]


def _why(explanation: Explanation) -> list[Block]:
    a, b = explanation.names
    few, many = explanation.few_episodes, explanation.episodes
    pictures = (
        (
            "features-and-heads",
            explanations.draw_table,
            f"Accuracy of {a}'s and {b}'s frozen features under each kind of head, and the parts "
            "of the gap between them.",
            f"Better features, or a better head? New heads on frozen features, {many} episodes, "
            "95 % intervals.",
        ),
        (
            "adaptation-steps",
            explanations.draw_steps,
            f"Accuracy of {a} and {b} over the number of adaptation steps at three rates.",
            f"Accuracy over adaptation steps, {few} episodes (head alone: {many}).",
        ),
        (
            "head-and-body",
            explanations.draw_parts,
            "Accuracy when the head, some blocks, everything or all but the head take the steps.",
            f"What is adapted, at the run's own rate and at the best of those tried, {few} "
            "episodes.",
        ),
        (
            "representation",
            explanations.draw_change,
            "Similarity of each block's features before and after adaptation, and how far apart "
            "the classes are.",
            f"What adaptation changes, {few} episodes.",
        ),
        (
            "shift",
            explanations.draw_shift,
            f"Accuracy of {a} and {b} on episodes that differ more and more from the training, "
            "and the difference.",
            f"A ladder of shift, {explanation.shift[0].episodes} episodes each, 95 % intervals.",
        ),
    )
    return [
        Paragraph(
            f"Why, as measured on one run of each. {explanations.describe(explanation, many)}; "
            f"what adapts whole networks is over {few} episodes."
        ),
        Bullets(list(explanation.verdict)),
        *(
            Picture(
                f"why-{name}",
                lambda draw=draw: draw(explanation),
                f"{alt} {_verdict_alt(explanation)}",
                caption,
            )
            for name, draw, alt, caption in pictures
        ),
    ]


def _verdict_alt(explanation: Explanation) -> str:
    own = explanation.own
    a, b = explanation.names
    return (
        f"Own adaptation: {a} {percent(own.a.mean, own.a.ci95)}, "
        f"{b} {percent(own.b.mean, own.b.ci95)}."
    )


def questions(material: Material) -> Section:
    """What the course's ancestor asks besides."""
    blocks: list[Block] = [
        Paragraph(
            "Why does accuracy before adaptation stay near one in N? How do support and query "
            "set compare? What do the inner rate and the number of steps do? How does accuracy "
            "depend on K at test?"
        )
    ]
    rows = {
        named(method): row
        for method in material.methods
        if (one := material.first(method)) and (row := primary_row(one, "val"))
    }
    configs = {name: material.of(row["method"])[0].config for name, row in rows.items()}
    from_zero = [
        name
        for name, config in configs.items()
        if config.own.has_fresh_head and config.network.head_init == "zero"
    ]
    said = findings.before_adaptation(
        {
            name: (row["query_accuracy_before"], row["query_accuracy_before_ci95"])
            for name, row in rows.items()
        },
        material.runs[0].config.episode.ways,
        from_zero,
    )
    for name, row in rows.items():
        said.append(
            findings.support_against_query(name, row["support_accuracy"], row["query_accuracy"])
        )
    for name, row in rows.items():
        said.append(findings.more_steps(name, row["query_accuracy_per_step"], row["inner_steps"]))
    blocks.append(
        Bullets(said) if said else Missing("No run was evaluated.", ["innerloop evaluate RUN"])
    )
    if run := material.first("fomaml"):
        last = run.read_metrics("validation")[-1]
        blocks.append(
            Picture(
                "inner-steps",
                lambda: figures.draw_inner_steps(run),
                "Line chart over the inner steps: query accuracy of FO-MAML from "
                f"{percent(last['query_accuracy_per_step'][0], digits=1)} to "
                f"{percent(last['query_accuracy'], digits=1)}, support accuracy to "
                f"{percent(last['support_accuracy'], digits=1)}.",
                "FO-MAML: accuracy on support and query set after each inner step, at the last "
                f"validation, {last['episodes']} episodes.",
            )
        )
    blocks += _rates_and_shots(material)
    return Section("Questions", blocks)


def _rates_and_shots(material: Material) -> list[Block]:
    blocks: list[Block] = []
    shots = {
        named(method): [
            ShotsRow(shots=row["shots"], mean=row["mean"], ci95=row["ci95"]) for row in rows
        ]
        for method in material.methods
        for run in material.of(method)[:1]
        if (rows := over_shots(run))
    }
    if explanation := material.explanation:
        said = []
        for subject in explanation.subjects:
            own = [row for row in explanation.parts[subject.name] if row.adapts == "own"]
            said.append(findings.over_rates(subject.name, own, subject.inner_lr))
        blocks += [
            Bullets(said),
            Picture(
                "sensitivity",
                lambda: explanations.draw_sensitivity(explanation),
                "Three charts: accuracy over the inner rate, accuracy over shots, and the rate "
                f"over the head's safe one. {' '.join(said)}",
                f"Sensitivity to the inner rate and to K, {explanation.few_episodes} episodes.",
            ),
        ]
        if not shots:
            shots = {name: list(explanation.shots[name]) for name in explanation.names}
    else:
        blocks.append(
            Missing(
                "The effect of the inner rate was not measured.",
                ["innerloop explain TRANSFER_RUN FOMAML_RUN"],
            )
        )
    if shots:
        blocks.append(Bullets([findings.over_shots(name, rows) for name, rows in shots.items()]))
    if not shots or max(len(rows) for rows in shots.values()) < 10:
        blocks.append(
            Missing(
                "Accuracy for every K from 1 to 10 was not measured.",
                ["innerloop evaluate RUN --shots 1 2 3 4 5 6 7 8 9 10"],
            )
        )
    return blocks


def over_shots(run: RunDirectory) -> list[dict[str, Any]]:
    """A run's evaluations at several shots, as JSON."""
    return [
        {
            "shots": row.shots,
            "mean": row.query_accuracy,
            "ci95": row.query_accuracy_ci95,
            "episodes": row.episodes,
        }
        for row in evaluations.over_shots(run)
    ]
