"""Turn drawings by quarter turns, each by its own."""

import numpy as np

from innerloop.core.errors import ConfigError
from innerloop.data.images import FewShotDataset

QUARTER_TURNS = 4
"""How many there are, none included."""


def refuse_unless_square(dataset: FewShotDataset, what: str = "Rotations") -> None:
    """Raise `ConfigError` if a data set's images change their shape by a quarter turn."""
    _, height, width = dataset.image_shape
    if height != width:
        raise ConfigError(f"{what} need square images: these are {dataset.image_shape}.")


def turn_in_place(pixels: np.ndarray, turns: np.ndarray) -> None:
    """Turn images counterclockwise, in place.

    Args:
        pixels: (*shape, ..., side, side).
        turns: (*shape) int in [0, 4), quarter turns of what ``pixels`` holds there.
    """
    for quarter_turns in range(1, QUARTER_TURNS):
        turned = turns == quarter_turns
        pixels[turned] = np.rot90(pixels[turned], quarter_turns, axes=(-2, -1))
