"""A data set's images in the memory of a device, from where batches are gathered by index."""

import numpy as np
import torch
from torch import Tensor

from innerloop.data.images import FewShotDataset
from innerloop.data.rotations import QUARTER_TURNS


class ResidentImages:
    """All images of a data set as bytes on a device; what it gathers are a sampler's own bits.

    Args:
        dataset: the images; Omniglot's of 28 x 28 pixels take 25 MB.
        device: where they are kept, and gathered.
    """

    def __init__(self, dataset: FewShotDataset, device: str):
        channels, height, width = dataset.image_shape
        self._shape = channels, height, width
        self._pixels = torch.tensor(dataset.all_images, device=device).flatten(2)  # (all, C, H*W)
        self._first = torch.tensor(dataset.first, device=device)
        # Every byte's float from a table: divided on a GPU, some would be rounded otherwise.
        self._levels = torch.arange(256).float().div_(255).to(device)
        self._turned = torch.tensor(_turned_places(height, width), device=device)

    def gather(self, classes: Tensor, drawings: Tensor, turns: Tensor | None) -> Tensor:
        """Some images, turned; nothing waits for the device.

        Args:
            classes: (...) int64, of the data set.
            drawings: (...) int64, which example of each.
            turns: (...) int64, quarter turns counterclockwise of square images; None: none is.

        Returns:
            (..., channels, height, width) float32 in [0, 1].
        """
        pixels = self._pixels[self._first[classes] + drawings]
        if turns is not None:
            places = self._turned[turns][..., None, :]
            pixels = pixels.gather(-1, places.expand_as(pixels))
        return self._levels[pixels.int()].unflatten(-1, self._shape[1:])


def _turned_places(height: int, width: int) -> np.ndarray:
    """(4, height * width) int64: where each pixel of a turned image comes from, by quarter turns.

    Of images that are not square, which are never turned, the second and fourth row mean nothing.
    """
    places = np.arange(height * width).reshape(height, width)
    return np.stack([np.rot90(places, quarter).ravel() for quarter in range(QUARTER_TURNS)])
