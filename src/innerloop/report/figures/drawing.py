"""The one place where figures become files: in our style, whatever the process is set to."""

import functools
import io
import os
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib import rc_context
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, LogFormatter, LogitFormatter, LogLocator

from innerloop.core.texts import printable

OWN_FONT = "DejaVu Sans"
"""matplotlib's, which it brings along."""
SETTINGS: Any = {
    "svg.hashsalt": "innerloop",  # with fixed ids equal runs have equal figures
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.family": [OWN_FONT],
}
NUMPY_USUAL: Any = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}


@contextmanager
def usual_style(**settings: Any) -> Iterator[None]:
    """Within the context figures look as ours do, whatever a matplotlibrc or the caller has set.

    Afterwards everything is as it was: rcParams, numpy's error state, the filters of warnings.

    Args:
        settings: more of matplotlib's, by their names with ``_`` for ``.``.
    """
    # Of the backend nothing is said: the figures are not pyplot's, and a window may be the user's.
    usual: Any = {
        name: value
        for name, value in matplotlib.rcParamsDefault.items()
        if not name.startswith(("backend", "interactive", "toolbar"))
    }
    named: Any = {name.replace("_", "."): value for name, value in settings.items()}
    with warnings.catch_warnings(), np.errstate(**NUMPY_USUAL):
        # A box where no font has a character is what there is.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        with rc_context(usual | SETTINGS | named):
            yield


def picture(figure: Figure, suffix: str) -> bytes:
    """A figure as the content of a file, to be called in `usual_style`.

    Args:
        figure: any.
        suffix: ``png`` or ``svg``.
    """
    for axis in _axes_of(figure):
        if isinstance(axis.get_major_formatter(), LogFormatter | LogitFormatter):
            _label_plainly(axis)
    texts = _printable_texts(figure)
    families, missing = fonts_for("".join(text.get_text() for text in texts))
    for text in texts:
        text.set_fontfamily(families)
    # Without the date and the version, so that equal runs have equal figures.
    how: Any = {"metadata": {"Date": None, "Creator": None}} if suffix == "svg" else {"dpi": 150}
    # As text, where its outlines would be boxes: who looks at it may have a font.
    kept: Any = {"svg.fonttype": "none" if missing else matplotlib.rcParams["svg.fonttype"]}
    content = io.BytesIO()
    with rc_context(kept):
        figure.savefig(content, format=suffix, **how)
    return content.getvalue()


def _axes_of(figure: Figure) -> Iterator[Axis]:
    for axes in figure.axes:
        yield from (axes.xaxis, axes.yaxis)


def _label_plainly(axis: Axis) -> None:
    """Plain numbers in the place of formulas, which would be shown as they are typed."""
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")
    if axis.get_scale() == "log":
        # 2 and 5 between the tens; all nine would overlap.
        axis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.set_minor_formatter("{x:g}")


def _printable_texts(figure: Figure) -> list[Text]:
    """The texts of a figure, all made `printable`; an SVG would not be whole with others."""
    for axis in _axes_of(figure):
        # The names of ticks are set anew whenever the figure is drawn.
        names = [text.get_text() for text in axis.get_ticklabels()]
        if isinstance(axis.get_major_locator(), FixedLocator) and any(map(_is_changed, names)):
            axis.set_ticklabels(list(map(printable, names)))
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    for text in texts:
        text.set_text(printable(text.get_text()))
    return texts


def _is_changed(name: str) -> bool:
    return printable(name) != name


def in_usual_style(draw: Callable[[], Figure], suffixes: Sequence[str]) -> dict[str, bytes]:
    """Draw a figure, and return the content of a file for each suffix."""
    with usual_style():
        figure = draw()
        return {suffix: picture(figure, suffix) for suffix in suffixes}


def fonts_for(text: str) -> tuple[list[str], str]:
    """Families of fonts that have the characters of a text, and the characters that none has.

    The figures' own font comes first; others of this machine only where it lacks something.
    """
    left = {character for character in text if is_shown(character)} - _characters_of(_own_file())
    families = [OWN_FONT]
    others = (font for font in fontManager.ttflist if _is_readable(font.fname))
    for font in others if left else ():
        if found := left & _characters_of(font.fname):
            families.append(font.name)
            left -= found
    return families, "".join(sorted(left))


def is_shown(character: str) -> bool:
    """Whether a character has a shape of its own."""
    return not character.isspace() and unicodedata.category(character) != "Cc"


def _is_readable(file: str) -> bool:
    """Not one of matplotlib's for formulas, nor its font of boxes, which has every character."""
    return not file.startswith(matplotlib.get_data_path()) or "DejaVu" in file


def _own_file() -> str:
    return os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


@functools.cache
def _characters_of(file: str) -> frozenset[str]:
    try:
        return frozenset(map(chr, FT2Font(file).get_charmap()))
    except (OSError, RuntimeError):  # a font that matplotlib cannot read
        return frozenset()
