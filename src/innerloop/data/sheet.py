"""An episode as a picture to look at."""

import numpy as np
from PIL import Image

from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages

PAPER = 225
"""Grey between the drawings."""
RULE = 120
"""Grey of the rule between support and query."""


def episode_sheet(
    batch: EpisodeBatch, *, zoom: int = 2, gap: int = 4, inverted: bool = True
) -> Image.Image:
    """A picture of an episode: a row for each class, support left of a rule, query right.

    Args:
        batch: a batch of one episode.
        zoom: pixels on the sheet for each pixel of a drawing.
        gap: pixels between drawings.
        inverted: show ink, which is 1, black on white; not of pictures, which are as they are.
    """
    support, query = (
        _rows(part, batch.ways, zoom, gap, inverted) for part in (batch.support, batch.query)
    )
    rule = np.full((len(support), 2 * gap, support.shape[-1]), RULE, dtype=np.uint8)
    sheet = np.concatenate([support, rule, query], axis=1)
    return Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet)


def _rows(part: LabelledImages, ways: int, zoom: int, gap: int, inverted: bool) -> np.ndarray:
    """(ways * height, n * width, channels) uint8, a row for each class.

    Height and width are those of an enlarged drawing with half a gap on each side.
    """
    pixels = (part.images[0].movedim(1, -1).numpy() * 255).round().astype(np.uint8)
    shown = 255 - pixels if inverted else pixels
    drawings = shown.reshape(ways, -1, *shown.shape[1:])
    enlarged = drawings.repeat(zoom, axis=2).repeat(zoom, axis=3)
    half = (gap // 2, gap // 2)
    framed = np.pad(enlarged, ((0, 0), (0, 0), half, half, (0, 0)), constant_values=PAPER)
    _, count, height, width, channels = framed.shape
    return framed.transpose(0, 2, 1, 3, 4).reshape(ways * height, count * width, channels)
