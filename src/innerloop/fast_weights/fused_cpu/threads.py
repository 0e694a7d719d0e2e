"""Episodes on threads: each is computed by one thread, so bits do not depend on their number."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from innerloop.fast_weights import engine

Result = TypeVar("Result")

_helpers: dict[int, ThreadPoolExecutor] = {}
if hasattr(os, "register_at_fork"):
    # Threads do not live on in a forked process.
    os.register_at_fork(after_in_child=_helpers.clear)


def each(function: Callable[[int], Result], number: int) -> list[Result]:
    """What a function returns for 0, 1, ..., number - 1, on the engine's threads.

    The calling thread works too: it would otherwise be woken once more for every call.
    """
    count = min(engine.threads(), number) - 1
    results: dict[int, Result] = {}
    # One iterator for all: whoever is free takes the next.
    numbers = iter(range(number))

    def work() -> None:
        for one in numbers:
            results[one] = function(one)

    if count <= 0:
        work()
    else:
        if count not in _helpers:
            _helpers[count] = ThreadPoolExecutor(count, "innerloop")
        helping = [_helpers[count].submit(work) for _ in range(count)]
        try:
            work()
        finally:
            # One that has not begun would find nothing left to do.
            helping = [helper for helper in helping if not helper.cancel()]
            wait(helping)
        for helper in helping:
            helper.result()
    return [results[one] for one in range(number)]
