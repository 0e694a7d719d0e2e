"""Draw the pictures of docs/engine.md: how activations lie, and what a tile of registers does.

python benchmarks/engine_pictures.py
"""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
INK, PALE, BLUE, ORANGE, GREEN = "#222222", "#e6e6e6", "#4c78a8", "#f58518", "#54a24b"


def box(axes: Axes, x: float, y: float, width: float, height: float, colour: str, text: str = ""):
    axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor="white", lw=1.5))
    if text:
        ink = INK if colour == PALE else "white"
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", color=ink, size=9)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=INK))


def plain(axes: Axes, width: float, height: float) -> None:
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.set_aspect("equal")
    axes.axis("off")


def layout() -> Figure:
    """A 3 x 3 grid, of which each position is a block of images by channels."""
    figure = Figure(figsize=(8.4, 3.5))
    axes = figure.add_axes((0, 0, 1, 1))
    plain(axes, 16.8, 7)
    taps = {0: "4", 1: "5", 3: "7", 4: "8"}
    axes.text(1.8, 6.4, "grid of positions", ha="center", size=10)
    for position in range(9):
        row, column = divmod(position, 3)
        colour = ORANGE if position in taps else PALE
        box(axes, 0.3 + column, 4.9 - row, 1, 1, colour, str(position))
    axes.text(
        1.8,
        2.3,
        "orange: what output\nposition 0 sees; five of\nnine taps fall off the image",
        ha="center",
        va="top",
        size=9,
    )
    axes.text(
        10, 6.4, "memory: one block of images x channels for each position", ha="center", size=10
    )
    for position in range(6):
        colour = ORANGE if position in taps else PALE
        x = 4.3 + 2.0 * position
        box(axes, x, 3.9, 1.9, 1.9, colour, f"position {position}\nimages\nx channels")
    axes.text(16.4, 4.85, "...", size=12, va="center")
    axes.text(4.3, 2.9, "output position 0  =", size=10, va="center")
    for number, (position, tap) in enumerate(taps.items()):
        x = 8.0 + 2.2 * number
        box(axes, x, 2.4, 0.9, 1.0, ORANGE, f"x[{position}]")
        box(axes, x + 0.95, 2.4, 0.9, 1.0, BLUE, f"w[{tap}]")
        if number < 3:
            axes.text(x + 2.02, 2.9, "+", size=11, ha="center", va="center")
    axes.text(
        4.3,
        1.3,
        "Nothing is gathered and nothing padded: a sum of products of blocks that lie as they are.",
        size=9.5,
    )
    return figure


def tile() -> Figure:
    """Six rows of the result in registers, while inner index and pairs run."""
    figure = Figure(figsize=(8.4, 3.6))
    axes = figure.add_axes((0, 0, 1, 1))
    plain(axes, 16.8, 7.2)
    for row in range(6):
        box(axes, 1.2, 4.4 - 0.65 * row, 2.6, 0.6, PALE)
        box(axes, 2.4, 4.4 - 0.65 * row, 0.4, 0.6, ORANGE)
    axes.text(2.5, 5.3, "x: 6 images x inputs", ha="center", size=10)
    axes.text(
        2.5,
        0.6,
        "one number of each row,\nin every lane of a register",
        ha="center",
        va="center",
        size=9,
    )
    for k in range(6):
        for vector in range(4):
            box(axes, 5.6 + 1.05 * vector, 4.4 - 0.65 * k, 1.0, 0.6, BLUE if k == 2 else PALE)
    axes.text(7.7, 5.3, "w: inputs x outputs", ha="center", size=10)
    axes.text(7.7, 0.6, "one row of outputs,\nin registers", ha="center", va="center", size=9)
    for row in range(6):
        for vector in range(4):
            box(axes, 12.0 + 1.05 * vector, 4.4 - 0.65 * row, 1.0, 0.6, GREEN)
    axes.text(14.1, 5.3, "y: 6 images x outputs", ha="center", size=10)
    axes.text(
        14.1,
        0.6,
        "24 registers, written to memory\nafter all taps and inputs",
        ha="center",
        va="center",
        size=9,
    )
    axes.text(4.7, 2.8, "x", size=14, ha="center", va="center")
    arrow(axes, (10.1, 2.8), (11.7, 2.8))
    axes.text(10.9, 3.2, "+=", size=11, ha="center")
    axes.text(
        8.4,
        6.6,
        "a tile of AVX-512 registers, 16 numbers each; AVX2 has 6 x 2 of 8",
        ha="center",
        size=10,
    )
    return figure


def main() -> None:
    for name, figure in {"engine-layout": layout(), "engine-tile": tile()}.items():
        figure.savefig(FIGURES / f"{name}.png", dpi=150, facecolor="white")


if __name__ == "__main__":
    main()
