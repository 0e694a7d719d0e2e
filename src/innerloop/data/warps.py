"""Small affine warps of images, each by its own: what a hand does to the same character."""

import math
from numbers import Real

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.images import FewShotDataset
from innerloop.data.rotations import refuse_unless_square

ANGLE = math.radians(10)
SHEAR = 0.3
SCALE = 0.2
SHIFT = 2 / 105
"""Of the image's side."""
NUMBERS = 7
"""That a warp is made of: an angle, two shears, two scales and two shifts."""


def drawn_warps(random: np.random.Generator, count: int, strength: float) -> np.ndarray:
    """Maps (count, 2, 3) float32 from places in the warped image to places in the image.

    Both are in [-1, 1] from edge to edge of a square image. Places are turned by up to 10 degrees,
    sheared by up to 0.3, scaled by 0.8 to 1.2 and shifted by up to 2 of 105 pixels, along each axis
    by itself: the ranges of Koch, Zemel and Salakhutdinov (2015, section 3.2). Of the image it is
    the inverse: 1 / 1.2 to 1 / 0.8 of its size. All are uniform in them, where the paper leaves
    each out half of the time.

    Args:
        random: whose next numbers are taken, `NUMBERS` for each warp.
        count: how many.
        strength: all ranges are times this; 0 leaves images as they are.
    """
    numbers = strength * random.uniform(-1, 1, (count, NUMBERS))
    angle, shear_x, shear_y, scale_x, scale_y, shift_x, shift_y = numbers.T
    cosine, sine = np.cos(ANGLE * angle), np.sin(ANGLE * angle)
    turns = _matrices(cosine, -sine, sine, cosine)
    ones = np.ones(count)
    shears = _matrices(ones, SHEAR * shear_x, SHEAR * shear_y, ones)
    zeros = np.zeros(count)
    scales = _matrices(1 + SCALE * scale_x, zeros, zeros, 1 + SCALE * scale_y)
    # Two of [-1, 1] make one side.
    shifts = 2 * SHIFT * np.stack([shift_x, shift_y], -1)[..., None]
    return np.concatenate([turns @ shears @ scales, shifts], -1).astype(np.float32)


def _matrices(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """(n, 2, 2) from the four numbers (n,) of each."""
    return np.stack([a, b, c, d], -1).reshape(-1, 2, 2)


def refuse_wrong_warps(strength: float, dataset: FewShotDataset) -> None:
    """Raise `ConfigError` unless images of a data set can be warped so."""
    if isinstance(strength, bool) or not isinstance(strength, Real) or not 0 <= strength <= 3:
        raise ConfigError(f"warps must be a number between 0 and 3: got {strength!r}.")
    if strength:
        refuse_unless_square(dataset, "Warps")


def warped(images: Tensor, warps: np.ndarray) -> Tensor:
    """Images (n, C, H, W), each by its warp (n, 2, 3); linear between pixels.

    Outside is what most of an image's edge is, channel by channel: the background of a drawing,
    black or white.
    """
    size = [len(images), *images.shape[1:]]
    grid = F.affine_grid(torch.from_numpy(warps), size, align_corners=False)
    outside = _edges(images).median(-1).values[..., None, None]
    return F.grid_sample(images - outside, grid, align_corners=False) + outside


def _edges(images: Tensor) -> Tensor:
    """The pixels at the edges of images (n, C, H, W), each once: (n, C, pixels)."""
    above_and_below = images[..., (0, -1), :].flatten(-2)
    sides = images[..., 1:-1, (0, -1)].flatten(-2)
    return torch.cat([above_and_below, sides], -1)
