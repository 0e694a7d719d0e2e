"""The section of a report that says why two of its runs differ."""

from innerloop.analysis.explanation.results import Explanation
from innerloop.report import findings
from innerloop.report.document import Block, Bullets, Missing, Paragraph, Picture, Section
from innerloop.report.figures import explanation as explanations
from innerloop.report.findings import percent
from innerloop.report.material import Material


def section(material: Material) -> Section | None:
    """The two runs that were explained; else how two would be; None where none can be."""
    if material.explanation is None:
        return _not_measured(material)
    explanation = material.explanation
    first, second = explanation.names
    methods = [subject.method for subject in explanation.subjects]
    return Section(
        f"{first} against {second}",
        [*_difference(material, *methods), *why(explanation), *sensitivity(explanation)],
    )


def _not_measured(material: Material) -> Section | None:
    finished = [
        run
        for run in material.evaluated
        if run.weights_path.is_file() and run.config.own.can_be_explained
    ]
    firsts = {run.config.method: run for run in reversed(finished)}
    first_runs = [run for run in finished if run is firsts[run.config.method]]
    if len(first_runs) < 2:
        return None
    paths = " ".join(material.path(run) for run in first_runs[:2])
    missing = Missing("Why the methods differ was not measured.", [f"innerloop explain {paths}"])
    return Section("Causes", [missing])


def _difference(material: Material, first: str, second: str) -> list[Block]:
    """Which of two methods is better, and what each was trained on."""
    pair = None if first == second else material.difference(first, second)
    if pair is None or material.comparison is None:
        return []
    runs = [material.of(method)[0] for method in (first, second)]
    curves = material.comparison.learning_curves
    return [
        Paragraph(pair.sentence),
        Paragraph(findings.what_was_seen(pair, curves, runs)),
    ]


def why(explanation: Explanation) -> list[Block]:
    """The verdict of an explanation, and its figures."""
    few = explanation.few_episodes
    many = explanation.episodes
    return [
        Paragraph(
            f"Why, as measured on one run of each. {explanations.describe(explanation, many)}; "
            f"what adapts whole networks is over {few} episodes."
        ),
        Bullets(explanation.verdict),
        *_pictures(explanation),
    ]


def _pictures(explanation: Explanation) -> list[Picture]:
    a, b = explanation.names
    few = explanation.few_episodes
    many = explanation.episodes
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
        Picture(
            f"why-{name}",
            lambda draw=draw: draw(explanation),
            f"{alt} {_verdict_alt(explanation)}",
            caption,
        )
        for name, draw, alt, caption in pictures
    ]


def _verdict_alt(explanation: Explanation) -> str:
    own = explanation.own
    a, b = explanation.names
    return (
        f"Own adaptation: {a} {percent(own.a.mean, own.a.ci95)}, "
        f"{b} {percent(own.b.mean, own.b.ci95)}."
    )


def sensitivity(explanation: Explanation) -> list[Block]:
    """What the inner rate does to each of the two."""
    sentences = []
    for subject in explanation.subjects:
        own = [row for row in explanation.parts[subject.name] if row.adapts == "own"]
        if own and subject.inner_lr is not None:
            sentences.append(findings.over_rates(subject.name, own, subject.inner_lr))
    return [
        *([Bullets(sentences)] if sentences else []),
        Picture(
            "sensitivity",
            lambda: explanations.draw_sensitivity(explanation),
            "Three charts: accuracy over the inner rate, accuracy over shots, and the rate "
            f"over the head's safe one. {' '.join(sentences)}",
            f"Sensitivity to the inner rate and to K, {explanation.few_episodes} episodes.",
        ),
    ]
