"""The sections of the course's report on the methods that it asks for."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from innerloop.assignment.bar import BAR, against_bar, first_above
from innerloop.assignment.sentences import LEARNED_RATES, kept_rates
from innerloop.methods.catalogue import find_card
from innerloop.report.document import Block, Missing, Paragraph, Picture, Section, code
from innerloop.report.figures.run import describe, file_name
from innerloop.report.figures.seeds import draw_seeds
from innerloop.report.figures.style import PALETTE
from innerloop.report.material import Material, named
from innerloop.report.sections import methods, pictures, stability
from innerloop.runs.directory import RunDirectory

ARMS = ("fomaml", "maml", "mamlpp")
"""The methods whose trainings are compared in stability."""
COLOURS: dict[str, str] = dict(zip(ARMS, PALETTE, strict=False))
PLOTTED = ("fomaml", "mamlpp")
"""Those that the course wants a plot of."""


def fomaml(material: Material) -> Section:
    """FO-MAML: plot, bar, weights, settings."""
    blocks = [Paragraph(find_card("fomaml").idea), *_trained(material, "fomaml")]
    if run := material.first("fomaml"):
        blocks.append(pictures.loss(run, named("fomaml")))
        if (run.path / "episode.npz").is_file():
            blocks.append(pictures.episode(run, named("fomaml"), "episode"))
    return Section("FO-MAML", blocks)


def mamlpp(material: Material) -> Section:
    """MAML++: the two stability plots, its measures, and what it learnt."""
    run = material.first("mamlpp")
    blocks: list[Block] = [Paragraph(find_card("mamlpp").idea)]
    if run:
        blocks.append(Paragraph(_parts(run)))
    blocks += [*_trained(material, "mamlpp"), *_stability(material)]
    if run:
        blocks += _diagnostics(run)
    return Section("MAML++", blocks)


def maml(material: Material) -> Section:
    """MAML of second order, which stands between FO-MAML and MAML++."""
    idea = Paragraph(
        "MAML is FO-MAML with the whole derivative: the outer gradient goes through the "
        "inner steps. MAML++, which is of second order too, is built on it; the assignment's "
        "two plots compare MAML++ with FO-MAML."
    )
    return Section("MAML, second order", [idea, *_trained(material, "maml")])


def transfer(material: Material) -> Section:
    """Transfer learning: plot, pretrained weights, settings."""
    idea = Paragraph(
        "Transfer learning trains the network to classify all training characters. Then its "
        "features and batch-norm statistics are frozen, and every episode gets a new linear "
        "head, which is adapted on the support set."
    )
    return Section("Transfer learning", [idea, *_trained(material, "transfer")])


def _trained(material: Material, method: str) -> list[Block]:
    """How a method stands against the bar, and what every method's section has."""
    blocks: list[Block] = []
    if row := material.row(method):
        name = named(method)
        mean = row.query_accuracy
        half = row.query_accuracy_ci95
        records = material.of(method)[0].validations()
        reached = first_above(
            name,
            [record.step for record in records],
            [record.query_accuracy for record in records],
            BAR.accuracy,
        )
        verdict = against_bar(name, mean, half, BAR.accuracy, row.covers)
        blocks.append(Paragraph(f"{verdict} {reached}"))
    return blocks + methods.trained(material, method, BAR)


def _parts(run: RunDirectory) -> str:
    values = run.config.flat()
    off = [part for part in find_card("mamlpp").parts if values[part] in methods.SWITCHED_OFF]
    if not off:
        return "Here all six are on."
    return f"Here {', '.join(map(code, off))} of them {'is' if len(off) == 1 else 'are'} off."


def _stability(material: Material) -> list[Block]:
    """The two plots on the same axes, and the measures of every training."""
    arms = {method: runs for method in ARMS if (runs := material.of(method))}
    if "mamlpp" not in arms:
        return []
    if "fomaml" not in arms:
        command = methods.train_command(material, "fomaml")
        return [Missing("The stability plots need FO-MAML beside MAML++.", [command])]
    by_name = {named(method): runs for method, runs in arms.items()}
    return [*_stability_pictures(arms), *stability.in_numbers(by_name, above=BAR.accuracy)]


def _stability_pictures(arms: Mapping[str, Sequence[RunDirectory]]) -> list[Picture]:
    bottom, end = stability.axes_of(arms)
    return [_stability_picture(method, arms[method], bottom, end) for method in PLOTTED]


def _stability_picture(
    method: str, runs: Sequence[RunDirectory], bottom: float, end: float
) -> Picture:
    name = named(method)
    lines = "one seed" if len(runs) == 1 else "every seed thin and the median bold"
    return Picture(
        f"stability-{method}",
        lambda: _draw_stability(method, runs, bottom, end),
        f"Line chart: validation accuracy of {name} over the outer steps, a line "
        f"for each of {len(runs)} training seeds, on the axes that it shares with "
        "the other method.",
        f"Stability of {name}: validation accuracy after adaptation, {lines}; "
        f"{runs[0].config.training.validation_episodes} fixed episodes at each "
        f"validation. The two plots have the same axes, which begin at {bottom:g} %; "
        "what is lower is below them.",
    )


def _draw_stability(method: str, runs: Sequence[RunDirectory], bottom: float, end: float) -> Figure:
    last = runs[0].validations()[-1]
    name = named(method)
    seeds = ", ".join(str(run.config.training.seed) for run in runs)
    return draw_seeds(
        {name: stability.curves(runs)},
        f"Validation accuracy of {name}, every seed",
        f"{describe(runs[0]).rpartition(', seed')[0]}; {last.episodes} fixed "
        f"episodes, batch norm {last.batch_norm}, seeds {seeds}",
        bottom=bottom,
        end=end,
        colours=[COLOURS[method]],
    )


def _diagnostics(run: RunDirectory) -> list[Block]:
    """What the learner recorded of itself; why some learnt rates stayed stands before theirs."""
    blocks: list[Block] = []
    of_rates = [
        file_name(figure.name, run)
        for figure in find_card("mamlpp").figures
        if figure.key == LEARNED_RATES
    ]
    for picture in pictures.diagnostics(run, named("mamlpp")):
        if picture.name in of_rates and (kept := kept_rates(run)):
            blocks.append(Paragraph(kept))
        blocks.append(picture)
    return blocks
