"""What an outer step trains on, as indices from the CPU and as batches gathered on a device."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.data.minibatches import ImageSampler
from innerloop.data.resident import ResidentImages
from innerloop.data.sampling import EpisodeSampler
from innerloop.methods.door import checked

Chunk = tuple[EpisodeBatch | LabelledImages, float]
"""What is computed at once, and its part of the outer step."""


@dataclass(frozen=True)
class _Gathered(EpisodeBatch):
    """Episodes made here, of which it is known that they lie class by class."""

    @property
    def is_by_class(self) -> tuple[bool, bool]:  # pyright: ignore[reportIncompatibleVariableOverride]
        # Nothing to look at; and the device would have to be waited for.
        return True, True


class EpisodesOnDevice:
    """Meta-batches of a sampler's episodes.

    Args:
        sampler: whose episodes.
        batch: episodes of an outer step.
        device: where the images are kept and gathered.
    """

    def __init__(self, sampler: EpisodeSampler, batch: int, device: str):
        self._sampler, self._batch = sampler, batch
        self._images = ResidentImages(sampler.dataset, device)
        labels = torch.arange(sampler.ways, device=device)
        self._support_labels = labels.repeat_interleave(sampler.shots)
        self._query_labels = labels.repeat_interleave(sampler.queries)

    def indices(self, step: int) -> np.ndarray:
        """Class, quarter turns and drawings of outer step ``step``: (E, ways, 2 + drawings)."""
        plan = self._sampler.plan(step * self._batch, self._batch)
        return np.concatenate([plan.classes[..., None], plan.turns[..., None], plan.drawings], -1)

    def chunks(self, indices: Tensor, at_once: int) -> Iterator[Chunk]:
        """Its episodes, so many at once, with nothing that waits for the device.

        Args:
            indices: those of `indices`, on the device.
            at_once: episodes of a chunk; the last may have fewer.
        """
        for start in range(0, len(indices), at_once):
            part = indices[start : start + at_once]
            yield self._gathered(part), len(part) / len(indices)

    def _gathered(self, indices: Tensor) -> EpisodeBatch:
        classes, turns, drawings = indices[..., 0], indices[..., 1], indices[..., 2:]
        images = self._images.gather(
            classes[..., None].expand_as(drawings),
            drawings,
            turns[..., None].expand_as(drawings) if self._sampler.rotations else None,
        )
        ways, shots = self._sampler.ways, self._sampler.shots
        support, query = (
            checked(
                part.flatten(1, 2),
                labels.expand(len(indices), -1),
                ways,
                of_support=labels is self._support_labels,
            )
            for part, labels in (
                (images[:, :, :shots], self._support_labels),
                (images[:, :, shots:], self._query_labels),
            )
        )
        return _Gathered(support, query, classes, drawings[..., :shots], drawings[..., shots:])


class ImagesOnDevice:
    """Mini-batches of a sampler's images.

    Args:
        sampler: whose images.
        batch: images of an outer step.
        device: where they are kept and gathered.
    """

    def __init__(self, sampler: ImageSampler, batch: int, device: str):
        self._sampler, self._batch = sampler, batch
        self._images = ResidentImages(sampler.dataset, device)

    def indices(self, step: int) -> np.ndarray:
        """Class, quarter turns, drawing and label of outer step ``step``: (n, 4)."""
        plan = self._sampler.plan(step * self._batch, self._batch)
        return np.stack([plan.classes, plan.turns, plan.drawings, plan.labels], -1)

    def chunks(self, indices: Tensor, at_once: int) -> Iterator[Chunk]:
        """The mini-batch, never divided: batch norm makes its images depend on one another.

        Args:
            indices: those of `indices`, on the device.
            at_once: not looked at.
        """
        classes, turns, drawings, labels = indices.unbind(-1)
        images = self._images.gather(classes, drawings, turns if self._sampler.rotations else None)
        yield checked(images, labels, self._sampler.labels, of_support=False), 1.0


OnDevice = EpisodesOnDevice | ImagesOnDevice


def on_device(sampler: EpisodeSampler | ImageSampler, batch: int, device: str) -> OnDevice:
    """What a sampler gives, gathered on a device.

    Raises:
        ConfigError: if the sampler is of another kind.
    """
    if isinstance(sampler, EpisodeSampler):
        return EpisodesOnDevice(sampler, batch, device)
    if isinstance(sampler, ImageSampler):
        return ImagesOnDevice(sampler, batch, device)
    raise ConfigError(
        f"A training on {device} takes an EpisodeSampler or an ImageSampler: got "
        f"{type(sampler).__name__}."
    )
