"""What adaptation does: before and after, on support and query set, step by step, by shots."""

import math
from dataclasses import dataclass

from innerloop.analysis.explanation.rows import ShotsRow
from innerloop.report import findings
from innerloop.report.document import Block, Bullets, Picture
from innerloop.report.figures import run as figures
from innerloop.report.findings import percent
from innerloop.report.material import Material, named
from innerloop.runs import evaluations
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import primary_row
from innerloop.runs.results import EvaluationRow
from innerloop.settings.run import RunConfig


@dataclass(frozen=True)
class Adapted:
    """A method's first run, and its evaluation in its own way.

    Attributes:
        name: of the method, and of the run's training seed where the method has several.
        config: of the run.
        row: of the evaluation.
    """

    name: str
    config: RunConfig
    row: EvaluationRow


def adapted(material: Material, method: str) -> Adapted | None:
    """The first run of a method, if it was evaluated; on the episodes of the report's table."""
    run = material.first(method)
    row = None
    if run:
        row = primary_row(run, "val", material.episodes) or primary_row(run, "val")
    return Adapted(name_of_first(material, method), run.config, row) if run and row else None


def name_of_first(material: Material, method: str) -> str:
    """A method, and where it has several trainings the seed of the first, of which it is said."""
    runs = material.of(method)
    several = f" (training seed {runs[0].config.training.seed})" if len(runs) > 1 else ""
    return f"{named(method)}{several}"


def blocks(material: Material, method: str) -> list[Block]:
    """What adaptation does to one method's accuracy."""
    result = adapted(material, method)
    run = material.first(method)
    if result is None or run is None:
        return []
    sentences = in_words([result])
    if rows := over_shots(run):
        sentences.append(findings.over_shots(result.name, rows))
    pictures = [] if run.config.own.adaptation_rate is None else [picture(run, result.name)]
    return [Bullets(sentences), *pictures]


def in_words(results: list[Adapted]) -> list[str]:
    """Accuracy before adaptation, of the support set, and after each step, of each method."""
    if not results:
        return []
    before = {
        result.name: (
            result.row.query_accuracy_before,
            result.row.query_accuracy_before_ci95,
        )
        for result in results
    }
    from_zero = [
        result.name for result in results if result.config.own.starts_at_chance(result.config)
    ]
    ways = results[0].config.episode.ways
    support = [
        findings.support_against_query(
            result.name, result.row.support_accuracy, result.row.query_accuracy
        )
        for result in results
        # It is not known where it depends on which images are predicted.
        if math.isfinite(result.row.support_accuracy)
    ]
    steps = [
        findings.more_steps(result.name, result.row.query_accuracy_per_step, result.row.inner_steps)
        for result in results
        if result.config.own.adaptation_rate is not None
    ]
    return [*findings.before_adaptation(before, ways, from_zero), *support, *steps]


def picture(run: RunDirectory, name: str, file: str | None = None) -> Picture:
    """Accuracy at each inner step; ``file`` names its files where the method does not."""
    last = run.validations()[-1]
    return Picture(
        file or figures.file_name("inner-steps", run),
        lambda: figures.draw_inner_steps(run),
        f"Line chart over the inner steps: query accuracy of {name} from "
        f"{percent(last.query_accuracy_per_step[0], digits=1)} to "
        f"{percent(last.query_accuracy, digits=1)}, support accuracy to "
        f"{percent(last.support_accuracy, digits=1)}.",
        f"{name}: accuracy on support and query set after each inner step, at the last "
        f"validation, {last.episodes} episodes.",
    )


def over_shots(run: RunDirectory) -> list[ShotsRow]:
    """A run's accuracies at several shots."""
    return [
        ShotsRow(shots=row.shots, mean=row.query_accuracy, ci95=row.query_accuracy_ci95)
        for row in evaluations.over_shots(run)
    ]
