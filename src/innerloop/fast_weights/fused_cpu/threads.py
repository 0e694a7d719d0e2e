"""Episodes on threads: each is computed by one thread, so bits do not depend on their number."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from innerloop.fast_weights import engine

Result = TypeVar("Result")

_executors: dict[int, ThreadPoolExecutor] = {}
if hasattr(os, "register_at_fork"):
    # Threads do not live on in a forked process.
    os.register_at_fork(after_in_child=_executors.clear)


def each(function: Callable[[int], Result], number: int) -> list[Result]:
    """What a function returns for 0, 1, ..., number - 1, on the engine's threads."""
    threads = min(engine.threads(), number)
    if threads <= 1:
        return [function(episode) for episode in range(number)]
    if threads not in _executors:
        _executors[threads] = ThreadPoolExecutor(threads, "innerloop")
    return list(_executors[threads].map(function, range(number)))
