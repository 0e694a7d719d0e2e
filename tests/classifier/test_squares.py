"""What networks are given of a picture."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from innerloop.classifier.squares import photo
from innerloop.data.images import resize


@pytest.mark.parametrize("side", [1, 5, 32, 100, 223])
def test_a_small_photo_is_drawn_larger_by_lines_between_its_pixels(side):
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    given = torch.from_numpy(pixels).permute(2, 0, 1)[None].double() / 255
    expected = F.interpolate(given, size=(224, 224), mode="bilinear", align_corners=False)[0]

    found = torch.from_numpy(photo(pixels, 224))

    # Pillow rounds to bytes after the rows, and again.
    assert (found - expected).abs().max() <= 1.01 / 255


@pytest.mark.parametrize("shape", [(224, 224, 3), (300, 400, 3), (1000, 500)])
def test_a_large_photo_is_the_mean_of_the_areas_of_its_middle_square(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    side = min(shape[:2])
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    square = resize(pixels[top : top + side, left : left + side], 224)
    expected = np.broadcast_to(square.reshape(224, 224, -1), (224, 224, 3)) / np.float32(255)

    assert np.array_equal(photo(pixels, 224), np.moveaxis(expected, -1, 0))
