"""Named, counter-based random streams: draw i of a stream depends on (seed, name, i) alone."""

import hashlib
from functools import lru_cache
from numbers import Integral
from typing import Any

import numpy as np

from innerloop.core.errors import ConfigError

EVALUATION_SEED = 0
"""Seed of validation and test episodes: the same for every run, so that comparisons are paired."""


def stream(seed: int, name: str, index: int = 0) -> np.random.Generator:
    """Make the random generator of one draw.

    There is no state to carry along: a resumed run, another meta-batch size or another rank asks
    for the same (seed, name, index) and gets the same numbers. A stream of its own for every use
    means that a change in how training samples cannot move the validation episodes.

    Args:
        seed: the run's seed, >= 0.
        name: what is drawn, for instance ``"episodes/val"``.
        index: number of the draw in the stream, >= 0.

    Returns:
        A Philox generator: key from SHA-256 of (seed, name), counter from the index.
    """
    # The index sits in the high words of the 256-bit counter, so that draws of one index
    # (which count up the low words) never run into those of the next.
    counter = np.array([0, 0, index, 0], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=_key(seed, name), counter=counter))


def refuse_wrong_stream(seed: Any, name: Any) -> None:
    """Raise `ConfigError` unless seed and name are those of a stream."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise ConfigError(f"A seed is a whole number from 0 on: got {seed!r}.")
    if not isinstance(name, str):
        raise ConfigError(f"A stream is named by a text, such as 'episodes/train': got {name!r}.")


@lru_cache(maxsize=256)
def _key(seed: int, name: str) -> np.ndarray:
    """128 bits from SHA-256 of the stream's name."""
    # SHA-256 instead of `hash`, which is another in each process.
    return np.frombuffer(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16], dtype=np.uint64)
