"""What is made from a run's files: figures and the page of hyperparameters. Imports no torch."""

from innerloop.core.files import write_atomic
from innerloop.report.figures.diagnostics import diagnostics_of
from innerloop.report.figures.run import draw_figures
from innerloop.report.figures.style import save_figure
from innerloop.report.hyperparameters import hyperparameters
from innerloop.report.model_card import write_model_card
from innerloop.runs.directory import RunDirectory


def write_results(run: RunDirectory) -> None:
    """Write a run's ``hyperparameters.md``, ``figures/`` and, once finished, ``MODEL_CARD.md``.

    They go into the run directory.

    Raises:
        DataError: if the run holds no validation yet.
        DiskError: if something cannot be written.
    """
    if run.weights_path.is_file():
        write_model_card(run)
    draw_figures(run)
    for diagnostic in diagnostics_of(run):
        save_figure(diagnostic.draw, run.path / "figures", diagnostic.name)
    write_atomic(run.path / "hyperparameters.md", hyperparameters(run))  # last: where it is, all is
