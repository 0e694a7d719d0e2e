"""Mini-batches: labelled images of all of some classes, counted rather than drawn."""

from functools import lru_cache

import numpy as np
import torch

from innerloop.core.errors import ConfigError
from innerloop.core.seeding import stream
from innerloop.data.images import FewShotDataset, LabelledImages


class ImageSampler:
    """Goes through every drawing of some classes, epoch after epoch, each in an order of its own.

    The order of epoch e is a pure function of (seed, stream, e), and image i of the endless
    sequence is number i mod n of epoch i // n, where n is the number of drawings. So a resumed run
    sees the images of the uninterrupted one, and a mini-batch is full also where it crosses into
    the next epoch.

    Args:
        dataset: where the drawings come from.
        classes: indices of the classes, as ``dataset.class_indices`` gives them; label k is
            ``classes[k]``.
        seed: seed of the order.
        stream_name: which stream, for instance ``"images/train"``.
        rotations: turn each drawing, each time, by a random multiple of 90 degrees.
        rotations_as_classes: a drawing turned by q quarters has the label 4 k + q instead of k.

    Raises:
        ConfigError: if rotations are asked for and images are not square.
    """

    def __init__(
        self,
        dataset: FewShotDataset,
        classes: np.ndarray,
        *,
        seed: int,
        stream_name: str,
        rotations: bool = False,
        rotations_as_classes: bool = False,
    ):
        if rotations and dataset.image_shape[1] != dataset.image_shape[2]:
            raise ConfigError(f"Rotations need square images: these are {dataset.image_shape}.")
        if rotations_as_classes and not rotations:
            raise ConfigError("rotations_as_classes needs rotations.")
        self.dataset, self.classes = dataset, np.asarray(classes)
        self.seed, self.stream_name = seed, stream_name
        self.rotations, self.rotations_as_classes = rotations, rotations_as_classes
        self._epoch = lru_cache(maxsize=2)(self._plan_epoch)

    def __len__(self) -> int:
        """Drawings in an epoch, n."""
        return len(self.classes) * self.dataset.examples

    @property
    def labels(self) -> int:
        """How many classes a classifier of these mini-batches tells apart."""
        return len(self.classes) * (4 if self.rotations_as_classes else 1)

    def batch(self, start: int, count: int) -> LabelledImages:
        """Images ``start`` to ``start + count - 1``, (count, C, H, W), and labels (count,)."""
        plans = [
            tuple(
                part[max(start - first, 0) : start + count - first] for part in self._epoch(epoch)
            )
            for epoch in range(start // len(self), (start + count - 1) // len(self) + 1)
            for first in (epoch * len(self),)
        ]
        drawings, turns = (np.concatenate(parts) for parts in zip(*plans, strict=True))
        labels, examples = np.divmod(drawings, self.dataset.examples)
        pixels = self.dataset.images[self.classes[labels], examples]
        if self.rotations:
            for quarter_turns in (1, 2, 3):
                turned = turns == quarter_turns
                pixels[turned] = np.rot90(pixels[turned], quarter_turns, axes=(-2, -1))
        if self.rotations_as_classes:
            labels = 4 * labels + turns
        return LabelledImages(torch.from_numpy(pixels).float().div_(255), torch.from_numpy(labels))

    def _plan_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The order of the drawings (n,), and the quarter turns (n,) that each is turned by."""
        random = stream(self.seed, self.stream_name, epoch)
        return random.permutation(len(self)), random.integers(0, 4, len(self))
