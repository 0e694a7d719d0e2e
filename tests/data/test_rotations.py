import numpy as np
import pytest

from innerloop.core.errors import ConfigError
from innerloop.data.images import FewShotDataset
from innerloop.data.rotations import refuse_unless_square, turn_in_place


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_a_pixel_goes_where_its_quarter_turns_take_it(channels):
    """Counterclockwise, pixel (row, column) comes to (side - 1 - column, row)."""
    side = 5
    images = np.random.default_rng(0).integers(256, size=(6, 2, *channels, side, side))
    turns = np.array([[0, 1], [2, 3], [1, 1], [3, 0], [2, 2], [0, 3]])
    turned = images.copy()

    turn_in_place(turned, turns)

    for place in np.ndindex(turns.shape):
        for row, column in np.ndindex(side, side):
            to_row, to_column = row, column
            for _ in range(turns[place]):
                to_row, to_column = side - 1 - to_column, to_row
            original = images[place][..., row, column]
            np.testing.assert_array_equal(turned[place][..., to_row, to_column], original)


def test_images_that_a_turn_would_change_in_shape_are_refused():
    wide = FewShotDataset("wide", np.zeros((1, 1, 1, 4, 6), dtype=np.uint8), ("a/a",))

    with pytest.raises(ConfigError, match=r"Rotations need square images: these are \(1, 4, 6\)"):
        refuse_unless_square(wide)
