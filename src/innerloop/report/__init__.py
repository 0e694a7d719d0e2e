"""What is made from a run's files: figures and the page of hyperparameters. Imports no torch."""

from innerloop.core.files import write_atomic
from innerloop.report.figures.diagnostics import diagnostic_drawings
from innerloop.report.figures.run import draw_figures, save_figure
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
    for name, draw in diagnostic_drawings(run).items():
        save_figure(draw(run), run.path / "figures", name)
    write_atomic(run.path / "hyperparameters.md", hyperparameters(run))  # last: where it is, all is
