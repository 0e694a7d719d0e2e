"""From pictures to vectors: read, looked up or computed one at a time, what is broken set aside."""

import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from threadpoolctl import threadpool_limits

from innerloop.classifier.backbones import Backbone
from innerloop.classifier.cache import FeatureCache, Kept
from innerloop.classifier.pictures import Picture
from innerloop.core.errors import DataError

THUMBNAIL = 64
"""Side of a small picture in pixels, at most."""
MOST_WORKERS = 16
"""Threads that compute pictures."""
AT_ONCE = 256
"""Pictures that are kept in the cache together."""


@dataclass(frozen=True)
class Vectors:
    """What pictures became.

    Attributes:
        values: (n, F) float32, of the pictures that could be read.
        places: (n,) which of those given they are, counted from 0.
        digests: SHA-256 of the content of each.
        thumbnails: a small JPEG of each.
        faults: place -> a sentence, of the others.
    """

    values: np.ndarray
    places: list[int]
    digests: list[str]
    thumbnails: list[bytes]
    faults: dict[int, str]


def vectors_of(
    pictures: Sequence[Picture],
    backbone: Backbone,
    *,
    strict: bool = False,
    on_picture: Callable[[int], None] = lambda count: None,
) -> Vectors:
    """Vectors of pictures by a backbone.

    Args:
        pictures: in their order.
        backbone: the network.
        strict: the first picture that cannot be read is an error.
        on_picture: told how many are done.

    Raises:
        DataError: if a picture cannot be read and ``strict`` is asked for, or if none can.
    """
    found: list[tuple[int, str, Kept]] = []
    faults: dict[int, str] = {}
    cache = FeatureCache(backbone.version)
    for start in range(0, len(pictures), AT_ONCE):
        for place, outcome in _chunk(pictures, start, backbone, cache, on_picture):
            if isinstance(outcome, DataError):
                if strict:
                    raise outcome
                faults[place] = str(outcome)
            else:
                found.append((place, *outcome))
    if not found and pictures:
        first = next(iter(faults.values()))
        raise DataError(f"None of {len(pictures)} pictures can be read. {first}")
    if len({len(kept.vector) for _, _, kept in found}) > 1:
        raise DataError(
            f"The backbone {backbone.name} gives vectors of different lengths: it must give one "
            "length for all pictures; or delete the cache of features, if somebody changed it."
        )
    values = np.stack([kept.vector for _, _, kept in found]) if found else np.zeros((0, 0))
    return Vectors(
        values.astype(np.float32),
        [place for place, _, _ in found],
        [digest for _, digest, _ in found],
        [kept.thumbnail for _, _, kept in found],
        faults,
    )


Outcome = tuple[str, Kept] | DataError


def _chunk(
    pictures: Sequence[Picture],
    start: int,
    backbone: Backbone,
    cache: FeatureCache,
    on_picture: Callable[[int], None],
) -> Iterator[tuple[int, Outcome]]:
    """What pictures ``start`` and following became, in their order."""
    places = range(start, min(start + AT_ONCE, len(pictures)))
    digests: dict[int, str] = {}
    outcomes: dict[int, Outcome] = {}
    for place in places:
        try:
            digests[place] = pictures[place].read().digest
        except DataError as error:
            outcomes[place] = error
    known = cache.get(list(digests.values()))
    unknown = [place for place in digests if digests[place] not in known]
    fresh: dict[str, Kept] = {}
    done = start
    for place, made in _made_ahead(pictures, unknown, backbone):
        done += 1
        on_picture(done)
        try:
            fresh[digests[place]] = made()
        except DataError as error:
            outcomes[place] = error
    cache.put(fresh)
    known |= fresh
    for place in places:
        if place not in outcomes:
            outcomes[place] = digests[place], known[digests[place]]
    on_picture(places.stop)
    yield from ((place, outcomes[place]) for place in places)


def _made_ahead(
    pictures: Sequence[Picture], places: Sequence[int], backbone: Backbone
) -> Iterator[tuple[int, Callable[[], Kept]]]:
    """What waits for each picture's vector, by several threads, no more ahead than needed.

    A person's own function is called here alone, since nobody knows whether it bears threads.
    """
    if backbone.module is None:
        yield from ((place, partial(_made, pictures[place], backbone)) for place in places)
        return
    workers = min(MOST_WORKERS, os.cpu_count() or 1, max(1, len(places)))
    waiting: deque[tuple[int, Future[Kept]]] = deque()
    with ThreadPoolExecutor(workers, "innerloop pictures", _compute_alone) as pool:
        for place in places:
            waiting.append((place, pool.submit(_made, pictures[place], backbone)))
            if len(waiting) > workers:
                first, future = waiting.popleft()
                yield first, future.result
        yield from ((place, future.result) for place, future in waiting)


def _compute_alone() -> None:
    """Let this thread compute a picture without others.

    A network has a hundred small steps, after each of which PyTorch's threads wait for the last
    one: where another program has one of the cores that takes forty times as long. OpenMP keeps
    the number of each thread by itself: the caller's stays what it is.
    """
    torch.get_num_threads()  # else PyTorch would set its own at the first step
    threadpool_limits(1, user_api="openmp")


def _made(picture: Picture, backbone: Backbone) -> Kept:
    pixels = picture.read().pixels()
    return Kept(backbone.vector(pixels, picture.name), thumbnail(pixels))


def thumbnail(pixels: np.ndarray) -> bytes:
    """A small JPEG of a whole picture."""
    small = Image.fromarray(pixels)
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return file.getvalue()
