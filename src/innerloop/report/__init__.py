"""What is made from a run's files: figures and the page of hyperparameters. Imports no torch."""

from collections.abc import Sequence

from innerloop.core.files import write_folder
from innerloop.report.figures.diagnostics import diagnostics_of
from innerloop.report.figures.run import figures_of
from innerloop.report.figures.style import SUFFIXES, pictures_of
from innerloop.report.hyperparameters import hyperparameters
from innerloop.report.model_card import model_card
from innerloop.runs.directory import RunDirectory


def results_of(run: RunDirectory, suffixes: Sequence[str] = SUFFIXES) -> dict[str, bytes]:
    """A run's ``figures/``, ``hyperparameters.md`` and, once finished, ``MODEL_CARD.md``.

    Args:
        run: any.
        suffixes: of the figures' files.

    Returns:
        The contents by the names of their files.

    Raises:
        DataError: if the run holds no validation yet.
    """
    pictures = figures_of(run, suffixes)
    for diagnostic in diagnostics_of(run):
        pictures |= pictures_of(diagnostic.draw, diagnostic.name, suffixes)
    results = {f"figures/{name}": content for name, content in pictures.items()}
    if run.weights_path.is_file():
        results["MODEL_CARD.md"] = model_card(run).encode()
    results["hyperparameters.md"] = hyperparameters(run).encode()
    return results


def write_results(run: RunDirectory) -> None:
    """Write what `results_of` a run are into its directory.

    Raises:
        DataError: if the run holds no validation yet.
        DiskError: if something cannot be written.
    """
    write_folder(run.path, results_of(run))
