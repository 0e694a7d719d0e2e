"""Figures as SVG: once for paper, and once for the page.

On the page they follow its colours and answer to a pointer.
"""

import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator

from innerloop.core.texts import printable
from innerloop.report.figures.drawing import picture, usual_style
from innerloop.report.figures.style import SERIES_OF

COLOURS = {
    "#000000": "--ink",
    "#ffffff": "--paper",
    "#767676": "--muted",
    "#0072b2": "--blue",
    "#d55e00": "--red",
    "#009e73": "--green",
    "#e69f00": "--orange",
    "#cc79a7": "--pink",
    "#56b4e9": "--sky",
}
"""Colours of figures, and the variables of the page that stand for them."""
LEGIBLE = 0.85
"""Pixels of the page for each point of a figure, at least."""
MOST_POINTS = 200
"""Values of a line that a pointer finds; of a longer one every second, third, ... is."""


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn once.

    Attributes:
        svg: a file of its own, as paper wants it.
        series: id -> label and points (x and y in the picture, then both in words) of each line,
            and of the band around it, which has no points.
    """

    svg: str
    series: dict[str, tuple[str, list[list[Any]] | None]]

    def on_page(self, name: str, alt: str) -> str:
        """The figure as an ``svg`` element of an HTML page.

        Its series carry their values (``data-points``), its ids begin with its name, and its
        colours are the page's.

        Args:
            name: unique on the page.
            alt: what it shows.
        """
        text = self.svg[self.svg.index("<svg") :]
        # Within tags alone: a text between them may be a name that looks like an id or a colour.
        text = re.sub(r"<[^<>]+>", lambda tag: _of_page(tag[0], name), text)
        for gid, (label, points) in self.series.items():
            attributes = f'class="series" data-series="{html.escape(printable(label))}"'
            if points is not None:
                listed = json.dumps(points, ensure_ascii=False, separators=(",", ":"))
                attributes += f' data-points="{html.escape(listed)}"'
            text = text.replace(f'<g id="{name}-{gid}">', f"<g {attributes}>", 1)
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        width = float(re.search(r' width="([\d.]+)pt"', text)[1])  # type: ignore[index]
        text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
        # On a narrow screen the figure is scrolled rather than shrunk until its words cannot be
        # read.
        shape = f'style="min-width: {LEGIBLE * width:.0f}px"'
        return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt)}" {shape} ', 1)


def _of_page(tag: str, name: str) -> str:
    """A tag with ids that are unique on the page, and with the page's colours."""
    # Every figure has the same ids.
    tag = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", tag)
    return re.sub(
        "|".join(COLOURS),
        lambda colour: f"var({COLOURS[colour[0].lower()]})",
        tag,
        flags=re.IGNORECASE,
    )


def drawn(draw: Callable[[], Figure]) -> Drawing:
    """Draw a figure for paper and for a page."""
    # Text stays text: selectable, and found by a search.
    with usual_style(svg_fonttype="none"):
        figure = draw()
        # An SVG has 72 units an inch: so points are read from the layout that is saved.
        figure.set_dpi(72)
        series = list(_mark_series(figure))
        svg = picture(figure, "svg").decode()
        # Points are read only now: the layout moves the panels while the figure is drawn.
        return Drawing(svg, {gid: (label, read() if read else None) for gid, label, read in series})


def _mark_series(figure: Figure) -> Iterator[tuple[str, str, Callable[[], list[list[Any]]] | None]]:
    """Give lines and their bands ids; yields each id and its label.

    Of lines, also what reads their points once drawn.
    """
    for number, axes in enumerate(figure.axes):
        bars = [
            container for container in axes.containers if isinstance(container, ErrorbarContainer)
        ]
        of_bars = {id(bar.lines[0]): str(bar.get_label()) for bar in bars}
        for index, line in enumerate(axes.get_lines()):
            label = of_bars.get(id(line), str(line.get_label())).removeprefix(SERIES_OF)
            # matplotlib begins the label of what was given none with an underscore.
            if label.startswith("_") and id(line) not in of_bars:
                continue
            line.set_gid(f"line{number}-{index}")
            yield (
                str(line.get_gid()),
                "" if label.startswith("_") else label,
                lambda axes=axes, line=line: _points(axes, line),
            )
        for index, collection in enumerate(axes.collections):
            if (label := str(collection.get_label())).startswith(SERIES_OF):
                collection.set_gid(f"band{number}-{index}")
                yield str(collection.get_gid()), label.removeprefix(SERIES_OF), None


def _points(axes: Axes, line: Line2D) -> list[list[Any]]:
    """Where the values of a line are in the picture, and what they are."""
    values = np.asarray(line.get_xydata(), dtype=float)
    values = values[:: -(-len(values) // MOST_POINTS) or 1]
    places = axes.transData.transform(values)
    height = axes.figure.bbox.height
    return [
        [
            round(float(x), 1),
            round(float(height - y), 1),
            _in_words(axes.xaxis, a),
            _in_words(axes.yaxis, b),
        ]
        for (x, y), (a, b) in zip(places, values, strict=True)
        if np.isfinite((x, y)).all()
    ]


def _in_words(axis: Axis, value: float) -> str:
    """A value in its axis's words: the nearest tick's name where ticks have one, else a number."""
    formatter = axis.get_major_formatter()
    locator = axis.get_major_locator()
    if (
        isinstance(formatter, FixedFormatter)
        and isinstance(locator, FixedLocator)
        and axis.get_scale() == "linear"
    ):
        ticks = np.asarray(locator(), dtype=float)
        if len(ticks) == len(formatter.seq) and not all(
            str(name).replace(".", "").isdigit() for name in formatter.seq
        ):
            return " ".join(str(formatter.seq[int(np.abs(ticks - value).argmin())]).split())
    label = axis.get_label_text()
    return f"{label + ' ' if label else ''}{value:.4g}"
