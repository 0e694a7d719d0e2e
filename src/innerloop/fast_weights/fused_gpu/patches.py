"""A 3x3 convolution's patches: what each output position sees, as a row of a matrix.

Images are (E, n, height, width, channels). Patches are (E, n x positions, 9 x channels): a row for
each output position of each image, in it tap after tap (tap = 3 row + column), in it the channels.
So a row is what a weight matrix (9 x channels, outputs) takes, and taps that fall off the image
are zeros.
"""

from torch import Tensor
from torch.nn import functional as F


def patches_of(images: Tensor, stride: int) -> Tensor:
    """(E, n, height, width, channels) -> (E, n x positions, 9 x channels)."""
    padded = F.pad(images, (0, 0, 1, 1, 1, 1))
    # (E, n, rows, columns, channels, 3, 3): views, until they are laid out as rows.
    windows = padded.unfold(2, 3, stride).unfold(3, 3, stride)
    return windows.movedim(4, 6).flatten(4).flatten(1, 3)


def from_patches(patches: Tensor, sides: tuple[int, int], stride: int) -> Tensor:
    """The adjoint of `patches_of`: what lies on one pixel is added up, tap after tap.

    Args:
        patches: (E, n x positions, 9 x channels).
        sides: height and width of the images.
        stride: of the convolution.

    Returns:
        (E, n, height, width, channels).
    """
    height, width = sides
    rows, columns = -(-height // stride), -(-width // stride)
    taps = patches.unflatten(2, (9, -1)).unflatten(1, (-1, rows, columns))
    episodes, images, *_, channels = taps.shape
    padded = taps.new_zeros(episodes, images, height + 2, width + 2, channels)
    for tap in range(9):
        row, column = divmod(tap, 3)
        end = row + (rows - 1) * stride + 1, column + (columns - 1) * stride + 1
        padded[:, :, row : end[0] : stride, column : end[1] : stride] += taps[:, :, :, :, tap]
    return padded[:, :, 1 : height + 1, 1 : width + 1]
