"""The mini-batches that Reptile trains on in an episode."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from innerloop.core.errors import ConfigError, DataError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.methods.door import part_of


def mini_batches(
    episodes: EpisodeBatch, count: int, *, shots: int, among: int
) -> Iterator[LabelledImages]:
    """Mini-batches of each episode's images, with as many of every class.

    Shots and queries are one set, the shots first. Its images are taken in their order, and from
    the first on again: ``k * shots`` to ``(k + 1) * shots - 1`` of each class in mini-batch k.

    Args:
        episodes: class by class, as a sampler lays them.
        count: how many mini-batches.
        shots: images of each class in one.
        among: how many images of each class are gone through; 0: all.

    Yields:
        Images (E, ways * shots, ...) and their labels.

    Raises:
        ConfigError: if an episode has fewer images of a class than are asked for.
        DataError: if it does not have as many images of each, class by class.
    """
    parts = {"support": episodes.support}
    if not 0 < among <= episodes.support_drawings.shape[2]:
        parts["query"] = episodes.query
    _refuse_other_order(episodes, parts)
    images = _by_class(episodes.ways, [part.images for part in parts.values()])
    labels = _by_class(episodes.ways, [part.labels for part in parts.values()])
    there = images.shape[2]
    among = among or there
    if not shots <= among <= there:
        raise ConfigError(
            f"inner_shots={shots} of train_shots={among} images of a class are to be trained on, "
            f"and an episode has {there}, its shots and queries: give more of them."
        )
    for number in range(count):
        # Slices, since a list of positions would be sent to a GPU, which waits for it.
        places = [(number * shots + place) % among for place in range(shots)]
        chosen = (
            torch.stack([of[:, :, place] for place in places], dim=2).flatten(1, 2)
            for of in (images, labels)
        )
        yield part_of(episodes.support, LabelledImages(*chosen))


def _refuse_other_order(episodes: EpisodeBatch, parts: Mapping[str, LabelledImages]) -> None:
    """Raise `DataError` unless what is trained on is class by class, as many images of each."""
    for what, is_by_class in zip(parts, episodes.is_by_class, strict=False):
        if not is_by_class:
            raise DataError(
                f"Reptile's mini-batches have as many images of each of {episodes.ways} classes: "
                f"order the {what} set by its labels, with as many images of each."
            )
    shapes = {tuple(part.images.shape[2:]) for part in parts.values()}
    if len(shapes) > 1:
        raise DataError(
            "Reptile's mini-batches are of support and query images together: got images of "
            f"{' and '.join(map(str, sorted(shapes)))}."
        )


def _by_class(ways: int, parts: Sequence[Tensor]) -> Tensor:
    """All images of each class, (E, ways, n, ...)."""
    return torch.cat([of.unflatten(1, (ways, -1)) for of in parts], dim=2)
