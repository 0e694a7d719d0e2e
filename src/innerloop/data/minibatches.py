"""Mini-batches: labelled images of all of some classes, counted rather than drawn."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from innerloop.core.errors import ConfigError
from innerloop.core.seeding import refuse_wrong_stream, stream
from innerloop.data.images import (
    FewShotDataset,
    LabelledImages,
    refuse_no_dataset,
    refuse_no_flags,
    refuse_wrong_classes,
    refuse_wrong_range,
)
from innerloop.data.rotations import QUARTER_TURNS, refuse_unless_square, turn_in_place
from innerloop.data.warps import drawn_warps, refuse_wrong_warps, warped


@dataclass(frozen=True)
class ImagePlan:
    """What n images of a mini-batch are, before any pixel is touched; (n,) int64 each.

    Attributes:
        classes: of the data set.
        drawings: which example of its class.
        turns: quarter turns; drawn also where nothing is turned.
        labels: what a classifier is to say.
    """

    classes: np.ndarray
    drawings: np.ndarray
    turns: np.ndarray
    labels: np.ndarray


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
        warps: strength of the affine warp of each drawing, each time another; 0 is none.

    Raises:
        ConfigError: if classes are not of the data set, or rotations are asked for and images are
            not square.
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
        warps: float = 0.0,
    ):
        refuse_no_dataset(dataset)
        refuse_wrong_stream(seed, stream_name)
        refuse_no_flags(rotations=rotations, rotations_as_classes=rotations_as_classes)
        if rotations:
            refuse_unless_square(dataset)
        refuse_wrong_warps(warps, dataset)
        if rotations_as_classes and not rotations:
            raise ConfigError("rotations_as_classes needs rotations.")
        self.dataset = dataset
        self.classes = refuse_wrong_classes(dataset, classes)
        # Where the drawings of each class end, if those of all classes are counted through.
        self._ends = np.cumsum(dataset.counts[self.classes])
        self.seed = seed
        self.stream_name = stream_name
        self.rotations = rotations
        self.rotations_as_classes = rotations_as_classes
        self.warps = warps

    def __len__(self) -> int:
        """Drawings in an epoch, n."""
        return int(self._ends[-1])

    @property
    def labels(self) -> int:
        """How many classes a classifier of these mini-batches tells apart."""
        return len(self.classes) * (QUARTER_TURNS if self.rotations_as_classes else 1)

    def batch(self, start: int, count: int) -> LabelledImages:
        """Images ``start`` to ``start + count - 1``, (count, C, H, W), and labels (count,)."""
        plan = self.plan(start, count)
        pixels = self.dataset.pixels(plan.classes, plan.drawings)
        if self.rotations:
            turn_in_place(pixels, plan.turns)
        images = torch.from_numpy(pixels).float().div_(255)
        if self.warps:
            images = warped(images, self._warps(start, count))
        return LabelledImages(images, torch.from_numpy(plan.labels))

    def plan(self, start: int, count: int) -> ImagePlan:
        """What images ``start`` to ``start + count - 1`` are."""
        refuse_wrong_range(start, count)
        drawings, turns = self._counted(start, count)
        labels = np.searchsorted(self._ends, drawings, side="right")
        classes = self.classes[labels]
        first = self._ends[labels] - self.dataset.counts[classes]
        if self.rotations_as_classes:
            labels = QUARTER_TURNS * labels + turns
        return ImagePlan(classes, drawings - first, turns, labels)

    def _counted(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The drawings (count,), counted through all classes, and their quarter turns (count,)."""
        parts = [
            [of[part] for of in _plan_epoch(self.seed, self.stream_name, epoch, len(self))]
            for epoch, part in self._epochs(start, count)
        ]
        drawings, turns = zip(*parts, strict=True)
        return np.concatenate(drawings), np.concatenate(turns)

    def _warps(self, start: int, count: int) -> np.ndarray:
        """The warps (count, 2, 3) of these images."""
        return np.concatenate(
            [
                _warps_of_epoch(self.seed, self.stream_name, epoch, len(self), self.warps)[part]
                for epoch, part in self._epochs(start, count)
            ]
        )

    def _epochs(self, start: int, count: int) -> Iterator[tuple[int, slice]]:
        """Every epoch that some images are in, and which of its images they are."""
        for epoch in range(start // len(self), (start + count - 1) // len(self) + 1):
            first = epoch * len(self)
            yield epoch, slice(max(start - first, 0), start + count - first)


# Two epochs, since a mini-batch may cross from one into the next. Not kept by the sampler, which
# goes to worker processes as it is.
@lru_cache(maxsize=2)
def _plan_epoch(
    seed: int, stream_name: str, epoch: int, drawings: int
) -> tuple[np.ndarray, np.ndarray]:
    """The order of the drawings (n,), and the quarter turns (n,) that each is turned by."""
    random = stream(seed, stream_name, epoch)
    order = random.permutation(drawings)
    # The turns after the order, so that the order is the same without them.
    return order, random.integers(0, QUARTER_TURNS, drawings)


@lru_cache(maxsize=2)
def _warps_of_epoch(
    seed: int, stream_name: str, epoch: int, drawings: int, strength: float
) -> np.ndarray:
    """The warp of every image of an epoch, (n, 2, 3)."""
    return drawn_warps(stream(seed, f"{stream_name}/warps", epoch), drawings, strength)
