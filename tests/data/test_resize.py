"""The resize, held against the mean of the area that a pixel covers, in plain numpy."""

import numpy as np
import pytest

from innerloop.data.images import resize


def area_means(image: np.ndarray, size: int) -> np.ndarray:
    """The mean over the area under each of size x size pixels, of a square or oblong image.

    Each source pixel is repeated until the cells of both grids are whole numbers of small ones: no
    filter, no weights, and a plain mean of what lies in a cell.
    """
    height, width = image.shape[:2]
    fine = image.astype(float).repeat(size, axis=0).repeat(size, axis=1)
    cells = fine.reshape(size, height, size, width, *image.shape[2:])
    return cells.mean(axis=(1, 3))


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize(
    ("shape", "size"), [((8, 8), 4), ((9, 9), 3), ((12, 6), 3), ((105, 105), 35), ((6, 6, 3), 2)]
)
def test_where_cells_hold_whole_pixels_each_is_their_mean(shape, size):
    image = pictures(*shape)

    found = resize(image, size)

    # Rounded once for rows and once for columns: off by one at most.
    assert found.dtype == np.uint8 and found.shape == (size, size, *shape[2:])
    assert np.abs(found - area_means(image, size)).max() <= 1.0


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_a_single_pixel_spreads_over_the_one_cell_that_covers_it(size):
    """No ringing, no blur into neighbours: what a filter wider than the cell would do."""
    image = np.zeros((8, 8), np.uint8)
    image[5, 2] = 255

    found = resize(image, size)

    cell = 8 // size
    expected = np.zeros((size, size))
    expected[5 // cell, 2 // cell] = 255 / cell**2
    assert np.abs(found - expected).max() <= 1.0
    assert np.count_nonzero(found) == 1


@pytest.mark.parametrize("factor", [2, 3])
def test_growing_repeats_each_pixel(factor):
    image = pictures(5, 5)

    assert np.array_equal(
        resize(image, 5 * factor), image.repeat(factor, axis=0).repeat(factor, axis=1)
    )


@pytest.mark.parametrize("size", [1, 7, 28, 64])
def test_a_picture_of_one_grey_keeps_it(size):
    assert (resize(np.full((105, 105), 93, np.uint8), size) == 93).all()


def test_its_own_size_changes_nothing():
    image = pictures(28, 28)

    assert np.array_equal(resize(image, 28), image)


@pytest.mark.parametrize(("side", "size"), [(105, 28), (10, 7), (9, 4)])
def test_a_pixel_on_a_border_counts_where_its_middle_lies(side, size):
    """105 is no multiple of 28: a cell of 3.75 pixels is the mean of the 3 or 4 whose middles are
    in it."""
    image = pictures(side, side)
    # In whole numbers: a middle on the border itself counts in the cell before it.
    cell = ((2 * np.arange(side) + 1) * size - 1) // (2 * side)
    expected = [
        [image[np.ix_(cell == row, cell == column)].mean() for column in range(size)]
        for row in range(size)
    ]

    assert np.abs(resize(image, size) - np.array(expected)).max() <= 1.0
