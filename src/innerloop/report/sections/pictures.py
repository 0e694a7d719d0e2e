"""The pictures of one run that a report shows: its training, an episode, what was recorded."""

from innerloop.core.intervals import interval_in_words
from innerloop.report import findings
from innerloop.report.document import Picture
from innerloop.report.figures import run as figures
from innerloop.report.figures.diagnostics import Diagnostic, diagnostics_of
from innerloop.report.findings import percent
from innerloop.runs.directory import RunDirectory


def validation(run: RunDirectory, name: str, bar: figures.Bar | None = None) -> Picture:
    """Accuracy on validation episodes over the training."""
    records = run.validations()
    first = records[0]
    last = records[-1]
    alt = (
        f"Line chart of {name} over {last.step} outer steps. Query accuracy after adaptation "
        f"goes from {percent(first.query_accuracy, digits=1)} to "
        f"{percent(last.query_accuracy, digits=1)}; before adaptation it ends at "
        f"{percent(last.query_accuracy_before, digits=1)}."
    )
    caption = (
        f"Validation accuracy of {name} before and after adaptation over the training, seed "
        f"{run.config.training.seed}; {last.episodes} fixed episodes at each validation, "
        f"bands: {interval_in_words(last.covers)}"
    )
    if bar:
        alt += f" The bar is at {100 * bar.accuracy:g} %."
        caption += f"; dashed: {bar.name} of {100 * bar.accuracy:g} %"
    return Picture(
        figures.file_name("validation", run),
        lambda: figures.draw_validation(run, bar),
        alt,
        f"{caption}.",
    )


def of_training(run: RunDirectory, name: str) -> list[Picture]:
    """Loss, one episode, and what the learner records of itself."""
    drawings = [loss(run, name)]
    if (run.path / "episode.npz").is_file():
        drawings.append(episode(run, name, figures.file_name("episode", run)))
    return [*drawings, *diagnostics(run, name)]


def loss(run: RunDirectory, name: str) -> Picture:
    """Loss over the training."""
    last = findings.nats(run.validations()[-1].query_loss)
    return Picture(
        figures.file_name("loss", run),
        lambda: figures.draw_loss(run),
        f"Line chart on a logarithmic axis: training and validation loss of {name} over the outer "
        f"steps, ending at {last} in validation.",
        f"Loss of {name} after adaptation over the training, seed {run.config.training.seed}.",
    )


def episode(run: RunDirectory, name: str, file: str) -> Picture:
    """One validation episode with what was predicted; ``file`` names its files."""
    return Picture(
        file,
        lambda: figures.draw_validation_episode(run),
        "Images of one validation episode: the support set to the left, the query "
        "images to the right, each with the class that was predicted; wrong ones "
        "are framed.",
        f"One validation episode, adapted by {name}. The letter under a query "
        "image is its predicted class; wrong predictions are framed.",
    )


def diagnostics(run: RunDirectory, name: str) -> list[Picture]:
    """The norm of the outer gradient, and the figures that the method's card names."""
    return [_diagnostic(run, name, diagnostic) for diagnostic in diagnostics_of(run)]


def _diagnostic(run: RunDirectory, name: str, diagnostic: Diagnostic) -> Picture:
    begin = diagnostic.words[:1].upper()
    rest = diagnostic.words[1:]
    return Picture(
        figures.file_name(diagnostic.name, run),
        diagnostic.draw,
        f"Line chart over the outer steps: {diagnostic.words} of {name}.",
        f"{begin}{rest} of {name} over the training, seed {run.config.training.seed}.",
    )
