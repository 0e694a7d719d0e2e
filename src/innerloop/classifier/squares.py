"""From a picture's pixels to what a network takes: photos are cut, drawings are placed."""

import numpy as np
from PIL import Image

from innerloop.core.errors import DataError
from innerloop.data.images import resize
from innerloop.data.pictures import MAX_PIXELS, middle_square, padded_square

FAINT = 0.25
"""Of the strongest ink: what is weaker is not looked at when a drawing is placed."""
MARGIN = 0.1
"""Of the square's side, on each side of a drawing."""


def photo(pixels: np.ndarray, size: int) -> np.ndarray:
    """The middle square of a photo (height, width[, 3]) uint8, as (3, size, size) in [0, 1].

    A small one is drawn larger by straight lines from pixel to pixel: a network takes the edges of
    blocks for edges of things, which costs 7 points at five photos of each class.
    """
    square = middle_square(pixels)
    if len(square) < size:
        larger = Image.fromarray(square).resize((size, size), Image.Resampling.BILINEAR)
        square = np.asarray(larger)
    else:
        square = resize(square, size)
    if square.ndim == 2:
        square = np.repeat(square[..., None], 3, axis=2)
    return np.moveaxis(square, -1, 0).astype(np.float32) / 255


def drawing(pixels: np.ndarray, size: int) -> np.ndarray:
    """The ink of a drawing (height, width[, 3]) uint8, as (1, size, size): ink 1, ground 0.

    The ground is what most of the border is, dark or light, so that chalk is ink as a pencil is.
    What is drawn fills the square but for a margin, and its strongest stroke is 1: how large the
    sheet was and how thick the pen then does not matter.

    Raises:
        DataError: if it is too long for a square.
    """
    ink = ink_of(pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L")))
    drawn = ink > FAINT * ink.max()
    rows = np.flatnonzero(drawn.any(axis=1))
    columns = np.flatnonzero(drawn.any(axis=0))
    if len(rows):
        ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if max(ink.shape) ** 2 > MAX_PIXELS:
        raise DataError(
            f"what is drawn is {ink.shape[1]:,} x {ink.shape[0]:,} pixels, too long for a square: "
            "make it smaller"
        )
    square = padded_square(ink, 0)
    square = np.pad(square, max(1, round(MARGIN / (1 - 2 * MARGIN) * len(square))))
    small = resize(square, size).astype(np.float32)
    return (small / max(1.0, float(small.max())))[None]


def ink_of(grey: np.ndarray) -> np.ndarray:
    """How far each pixel (height, width) uint8 is from the ground, which is most of the border."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return np.abs(grey.astype(np.int16) - int(np.median(border))).astype(np.uint8)
