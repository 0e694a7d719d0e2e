"""The pen: where it goes along a stroke's control points, and the ink that it leaves."""

import numpy as np

CANVAS = 105
"""Omniglot's side in pixels: drawn at this size, then resized like Omniglot itself."""
KNOTS = 7
"""Control points of a stroke."""
SAMPLES_PER_SPAN = 20
"""Pen positions from one control point to the next."""


def rotation(angle: np.ndarray) -> np.ndarray:
    """(..., 2, 2) matrices that turn column vectors by ``angle`` (...)."""
    cos = np.cos(angle)
    sin = np.sin(angle)
    return np.stack([np.stack([cos, -sin], axis=-1), np.stack([sin, cos], axis=-1)], axis=-2)


def _path_matrices() -> tuple[np.ndarray, np.ndarray]:
    """Control points to pen positions, both (positions, KNOTS): straight, and Catmull-Rom curve."""
    t = np.linspace(0, KNOTS - 1, (KNOTS - 1) * SAMPLES_PER_SPAN + 1)
    span = np.minimum(t.astype(int), KNOTS - 2)
    u = t - span
    rows = np.arange(len(t))
    straight = np.zeros((len(t), KNOTS + 2))
    straight[rows, span + 1] = 1 - u
    straight[rows, span + 2] = u
    smooth = np.zeros((len(t), KNOTS + 2))
    smooth[rows, span] = (-u + 2 * u**2 - u**3) / 2
    smooth[rows, span + 1] = (2 - 5 * u**2 + 3 * u**3) / 2
    smooth[rows, span + 2] = (u + 4 * u**2 - 3 * u**3) / 2
    smooth[rows, span + 3] = (-(u**2) + u**3) / 2
    # One more knot before the first and after the last, on the line through the outermost two.
    extend = np.vstack([2 * np.eye(KNOTS)[0] - np.eye(KNOTS)[1], np.eye(KNOTS), np.zeros(KNOTS)])
    extend[-1, -2:] = [-1, 2]
    return straight @ extend, smooth @ extend


_STRAIGHT_PATH, _SMOOTH_PATH = _path_matrices()


def pen_path(knots: np.ndarray, roundness: np.ndarray) -> np.ndarray:
    """Where the pen goes along strokes.

    Args:
        knots: (drawings, strokes, KNOTS, 2) control points.
        roundness: (drawings, strokes) 1 for a smooth curve through them, 0 for straight pieces.

    Returns:
        (drawings, positions, 2), the strokes one after the other.
    """
    weight = roundness[..., None, None]
    path = weight * (_SMOOTH_PATH @ knots) + (1 - weight) * (_STRAIGHT_PATH @ knots)
    return path.reshape(len(knots), -1, 2)


def press(points: np.ndarray, pens: np.ndarray) -> np.ndarray:
    """Press a round pen down at every point.

    Args:
        points: (drawings, positions, 2) x and y, as fractions of the image.
        pens: (drawings,) int, diameter of each drawing's pen in pixels.

    Returns:
        (drawings, CANVAS, CANVAS) uint8, 255 where there is ink.
    """
    # At the edge a part of the pen lies outside: on a border, it need not be cut point by point.
    border = int(pens.max())
    side = CANVAS + 2 * border
    ink = np.zeros((len(points), side, side), dtype=np.uint8)
    x, y = (np.clip((points * CANVAS).astype(int), 0, CANVAS - 1) + border).transpose(2, 0, 1)
    first_rows = np.arange(len(points))[:, None] * side
    pixels = (first_rows + y) * side + x  # positions in the flattened array
    for pen in np.unique(pens):
        centres = np.unique(pixels[pens == pen])
        for shift in _disc(pen) @ [side, 1]:
            ink.reshape(-1)[centres + shift] = 255
    return ink[:, border:-border, border:-border]


def _disc(diameter: int) -> np.ndarray:
    """(pixels, 2) row and column of a disc's pixels, from its middle."""
    offset = np.arange(diameter) - (diameter - 1) / 2
    return np.argwhere(np.hypot(offset[:, None], offset) <= diameter / 2) - diameter // 2
