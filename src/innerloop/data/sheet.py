"""An episode as a picture to look at."""

import numpy as np
from PIL import Image

from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages

PAPER = 225
"""Grey between the drawings."""
RULE = 120
"""Grey of the rule between support and query."""


def episode_sheet(batch: EpisodeBatch, *, zoom: int = 2, gap: int = 4) -> Image.Image:
    """A picture of an episode: a row for each class, support left of a rule, query right.

    Args:
        batch: a batch of one episode.
        zoom: pixels on the sheet for each pixel of a drawing.
        gap: pixels between drawings.
    """
    support = _rows(batch.support, batch.ways, zoom, gap)
    query = _rows(batch.query, batch.ways, zoom, gap)
    rule = np.full((len(support), 2 * gap), RULE, dtype=np.uint8)
    return Image.fromarray(np.concatenate([support, rule, query], axis=1))


def _rows(part: LabelledImages, ways: int, zoom: int, gap: int) -> np.ndarray:
    """(ways * height, n * width) uint8: black ink on white, a row for each class.

    Height and width are those of an enlarged drawing with half a gap on each side.
    """
    ink = part.images[0, :, 0].numpy()
    grey = 255 - (ink * 255).round().astype(np.uint8)
    drawings = grey.reshape(ways, -1, *grey.shape[-2:])
    enlarged = drawings.repeat(zoom, axis=-2).repeat(zoom, axis=-1)
    half = (gap // 2, gap // 2)
    framed = np.pad(enlarged, ((0, 0), (0, 0), half, half), constant_values=PAPER)
    _, count, height, width = framed.shape
    return framed.transpose(0, 2, 1, 3).reshape(ways * height, count * width)
