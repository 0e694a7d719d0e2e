"""Episodes: (support, query) pairs, many at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from innerloop.core.errors import ConfigError, DataError
from innerloop.data.images import LabelledImages


@dataclass(frozen=True)
class EpisodeBatch:
    """A batch of E episodes; one episode is a batch of one.

    Attributes:
        support: images (E, ways * shots, channels, height, width) and labels (E, ways * shots), by
            class.
        query: images (E, ways * queries, channels, height, width) and labels (E, ways * queries),
            by class.
        classes: (E, ways) int64; ``classes[e, k]`` is the data set's class that has label k in
            episode e.
        support_drawings: (E, ways, shots) int64, which examples of each class are the support.
        query_drawings: (E, ways, queries) int64, which are the query.

    Raises:
        DataError: if its parts are not of the same number of episodes.
    """

    support: LabelledImages
    query: LabelledImages
    classes: Tensor
    support_drawings: Tensor
    query_drawings: Tensor

    def __post_init__(self):
        counts = {
            "support": len(self.support),
            "query": len(self.query),
            "classes": len(self.classes),
            "support_drawings": len(self.support_drawings),
            "query_drawings": len(self.query_drawings),
        }
        if len(set(counts.values())) > 1:
            words = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise DataError(f"All parts of a batch are of the same episodes: got {words}.")

    @classmethod
    def of_regression(cls, support: LabelledImages, query: LabelledImages) -> "EpisodeBatch":
        """E episodes whose labels are targets; who asks for classes finds one, of all examples.

        Args:
            support: inputs (E, shots, ...) and targets (E, shots, ...), floating.
            query: inputs (E, queries, ...) and their targets.

        Raises:
            DataError: if labels are classes, or inputs or labels not (E, examples, ...).
        """
        for part in (support, query):
            if not isinstance(part.labels, torch.Tensor):
                raise DataError(
                    f"Targets are of type {type(part.labels).__name__}: give a torch.Tensor."
                )
            if part.images.ndim < 3:
                raise DataError(
                    f"Inputs are (E, examples, ...): got shape {tuple(part.images.shape)}. Of one "
                    "episode E is 1: images[None]; of one number each example has a dimension of "
                    "its own: images[..., None]."
                )
            if part.labels.ndim < 2:
                raise DataError(
                    f"Targets are (E, examples, ...): got shape {tuple(part.labels.shape)}. Of one "
                    "episode E is 1: labels[None]."
                )
            if not part.labels.is_floating_point():
                raise DataError(
                    f"Labels are {part.labels.dtype}, and targets of a regression are floating: "
                    "give episodes of classes as EpisodeBatch(support, query, classes, "
                    "support_drawings, query_drawings)."
                )
        shots, queries = support.labels.shape[1], query.labels.shape[1]
        examples = torch.arange(shots + queries).expand(len(support), 1, -1)
        classes = torch.zeros(len(support), 1, dtype=torch.int64)
        return cls(support, query, classes, examples[..., :shots], examples[..., shots:])

    def __len__(self) -> int:
        """Number of episodes, E."""
        return len(self.classes)

    def __getitem__(self, episodes: slice) -> "EpisodeBatch":
        """The episodes of a slice."""
        return EpisodeBatch(
            self.support[episodes],
            self.query[episodes],
            self.classes[episodes],
            self.support_drawings[episodes],
            self.query_drawings[episodes],
        )

    @property
    def ways(self) -> int:
        """Classes of each episode."""
        return self.classes.shape[1]

    def chunks(self, size: int) -> Iterator["EpisodeBatch"]:
        """Split along the episodes; every chunk has ``size`` of them except perhaps the last."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def query_batches(self, count: int) -> list[LabelledImages]:
        """Split the query into ``count`` equal mini-batches, each with equally many of every class.

        Args:
            count: number of mini-batches; must divide the queries per class.

        Returns:
            ``count`` batches of images (E, ways * queries / count, ...) and their labels.

        Raises:
            ConfigError: if they cannot be equal.
            DataError: if the query set does not lie class by class, with equally many of each.
        """
        queries = self.query_drawings.shape[2]
        if queries % count:
            raise ConfigError(
                f"query_batches={count} must divide the queries per class ({queries}), so that "
                "every mini-batch holds the same number of each class."
            )
        if not self.is_by_class[1]:
            raise DataError(
                f"query_batches={count} takes the query set class by class, {queries} pictures of "
                f"each of {self.ways}: order it by its labels, or take query_batches=1."
            )
        # Queries lie class by class: cut as they lie, a mini-batch would hold few classes.
        images, labels = (
            of.unflatten(1, (self.ways, count, queries // count))
            for of in (self.query.images, self.query.labels)
        )
        return [
            LabelledImages(images[:, :, part].flatten(1, 2), labels[:, :, part].flatten(1, 2))
            for part in range(count)
        ]

    @cached_property
    def is_by_class(self) -> tuple[bool, bool]:
        """Whether support and query set lie class by class, as many of each, as drawings say.

        Looked at once: a GPU waits.
        """
        return (
            self._lies_by_class(self.support.labels, self.support_drawings),
            self._lies_by_class(self.query.labels, self.query_drawings),
        )

    def _lies_by_class(self, labels: Tensor, drawings: Tensor) -> bool:
        if labels.is_floating_point():
            return self.ways == 1
        expected = torch.arange(self.ways).repeat_interleave(drawings.shape[2]).to(labels)
        return torch.equal(labels, expected.expand(len(self), -1))

    def to(self, device: str) -> "EpisodeBatch":
        """Move images and labels to a device; the bookkeeping stays where it is."""
        return EpisodeBatch(
            self.support.to(device),
            self.query.to(device),
            self.classes,
            self.support_drawings,
            self.query_drawings,
        )
