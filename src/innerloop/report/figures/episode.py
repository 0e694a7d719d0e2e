"""One validation episode as a picture: what was seen, what was asked, and what was answered."""

import math
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from innerloop.core.errors import DataError
from innerloop.core.zips import Limits, open_archive
from innerloop.report.figures.style import GREY, WRONG
from innerloop.runs.directory import RunDirectory

KINDS = {"support": "u", "query": "u", "labels": "i", "predictions": "i", "class_names": "U"}
"""Kinds of the arrays of an ``episode.npz``, as numpy names them."""
LIMITS = Limits(entries=10, file_bytes=2**28, total_bytes=2**29)
"""Of an ``episode.npz``."""
LONGEST_NAME = 18
"""Letters of a class's name that there is room for."""


@dataclass(frozen=True)
class Episode:
    """What ``episode.npz`` holds; the images come class by class.

    Attributes:
        support: (ways * shots, channels, height, width) drawings, 0 to 255.
        query: (ways * queries, channels, height, width).
        labels: (ways * queries,) classes of the query drawings.
        predictions: (ways * queries,) classes that were predicted.
        class_names: of each class, the folder that it lies in before a slash.
    """

    support: np.ndarray
    query: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    class_names: np.ndarray

    @property
    def ways(self) -> int:
        """Classes."""
        return len(self.class_names)

    @property
    def shots(self) -> int:
        """Support drawings of a class."""
        return len(self.support) // self.ways

    @property
    def queries(self) -> int:
        """Query drawings of a class."""
        return len(self.query) // self.ways


def read_episode(run: RunDirectory) -> Episode:
    """Read a run's ``episode.npz``, which may be somebody else's.

    Raises:
        DataError: if it is damaged, or is not an episode of the run's shape.
    """
    path = run.path / "episode.npz"
    shape = run.config.episode
    support = shape.ways * shape.shots
    query = shape.ways * shape.queries
    with path.open("rb") as file, open_archive(file, str(path), LIMITS) as archive:
        arrays = {name: _array(path, archive.read(name)) for name in archive.names}
    kinds = {name.removesuffix(".npy"): array.dtype.kind for name, array in arrays.items()}
    counts = {name.removesuffix(".npy"): len(array) for name, array in arrays.items()}
    fits = (
        kinds == KINDS
        and counts
        == {
            "support": support,
            "query": query,
            "labels": query,
            "predictions": query,
            "class_names": shape.ways,
        }
        and all(arrays[f"{name}.npy"].ndim == 4 for name in ("support", "query"))
        and all(0 <= arrays[f"{name}.npy"].min() for name in ("labels", "predictions"))
        and all(arrays[f"{name}.npy"].max() < shape.ways for name in ("labels", "predictions"))
    )
    if not fits:
        raise DataError(f"{path} does not hold an episode of the run's shape: it is damaged.")
    return Episode(**{name.removesuffix(".npy"): array for name, array in arrays.items()})


def _array(path: Path, content: bytes) -> np.ndarray:
    """An array of numpy's format, of as many bytes as its header says."""
    file = BytesIO(content)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("another version of numpy's format")
        shape, by_columns, kind = np.lib.format.read_array_header_1_0(file)
        # A header can promise more than the memory holds; an object could run code.
        if kind.hasobject or by_columns or not shape:
            raise ValueError("no plain array")
        if math.prod(shape) * kind.itemsize != len(content) - file.tell():
            raise ValueError("another length than its header says")
        return np.frombuffer(content, kind, offset=file.tell()).reshape(shape)
    except (ValueError, TypeError, EOFError, RecursionError, MemoryError) as error:
        raise DataError(f"{path} holds an array that is damaged: {error}.") from error


def draw_episode(run: RunDirectory, subtitle: str) -> Figure:
    """One validation episode: support and query drawings, predictions, mistakes marked.

    Args:
        run: with an ``episode.npz``.
        subtitle: below the picture.
    """
    episode = read_episode(run)
    grey = "gray_r" if run.config.data.are_drawings else "gray"
    columns = episode.shots + episode.queries
    figure = Figure(figsize=(0.46 * columns + 2.6, 0.62 * episode.ways + 1.3))
    wrong = int((episode.predictions != episode.labels).sum())
    figure.suptitle(
        f"One validation episode: {wrong} of {len(episode.labels)} query images wrong",
        fontsize=11,
    )
    figure.text(0.5, 0.01, subtitle, ha="center", fontsize=7, color=GREY)
    margins = dict(left=0.19, right=0.99, top=0.82, bottom=0.08, wspace=0.08, hspace=0.5)
    grid = figure.add_gridspec(episode.ways, columns + 1, **margins)
    for way in range(episode.ways):
        _draw_support(figure, grid, episode, way, grey)
        _draw_query(figure, grid, episode, way, grey)
    return figure


def _draw_support(figure: Figure, grid: GridSpec, episode: Episode, way: int, grey: str) -> None:
    for column in range(episode.shots):
        image = episode.support[way * episode.shots + column]
        axes = _drawing(figure, grid[way, column], image, grey)
        if column == 0:
            *_, folder, name = ("", *str(episode.class_names[way]).split("/"))
            label = f"{_letter(way)}  {_short(folder)}\n{name}"
            axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7)
        if way == 0 and column == episode.shots // 2:
            axes.set_title("support", fontsize=9)


def _draw_query(figure: Figure, grid: GridSpec, episode: Episode, way: int, grey: str) -> None:
    for column in range(episode.queries):
        index = way * episode.queries + column
        place = grid[way, episode.shots + 1 + column]
        axes = _drawing(figure, place, episode.query[index], grey)
        predicted = int(episode.predictions[index])
        mistake = bool(predicted != episode.labels[index])
        axes.set_xlabel(
            _letter(predicted),
            fontsize=7,
            labelpad=1,
            color=WRONG if mistake else GREY,
            fontweight="bold" if mistake else "normal",
        )
        for spine in axes.spines.values():
            spine.set_visible(mistake)
            spine.set_color(WRONG)
            spine.set_linewidth(1.5)
        if way == 0 and column == episode.queries // 2:
            axes.set_title("query, predicted class below", fontsize=9)


def _letter(way: int) -> str:
    return chr(ord("A") + way)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def _drawing(figure: Figure, position: Any, image: np.ndarray, grey: str) -> Axes:
    """One image; ``grey`` is the colour map of those with one channel."""
    axes = figure.add_subplot(position)
    picture = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
    axes.imshow(picture, cmap=grey, vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes
