"""The mini-batches that Reptile trains on in an episode."""

from collections.abc import Iterator

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
        DataError: if it does not have as many images of each.
    """
    images = _by_class(episodes, episodes.support.images, episodes.query.images)
    labels = _by_class(episodes, episodes.support.labels, episodes.query.labels)
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


def _by_class(episodes: EpisodeBatch, support: Tensor, query: Tensor) -> Tensor:
    """Shots and queries of each class, (E, ways, shots + queries, ...)."""
    ways = episodes.ways
    if support.shape[1] % ways or query.shape[1] % ways:
        raise DataError(
            f"Reptile's mini-batches have as many images of each of {ways} classes: got episodes "
            f"of {support.shape[1]} support and {query.shape[1]} query images."
        )
    return torch.cat([of.unflatten(1, (ways, -1)) for of in (support, query)], dim=2)
