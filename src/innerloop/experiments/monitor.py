"""What ends a training before its last step: signals and a time limit."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Stop:
    """Why training ended before its last step: ``state`` (interrupted, paused) and exit code."""

    state: str
    exit_code: int
    reason: str


@contextmanager
def stop_on_signals(max_minutes: float | None) -> Iterator[Callable[[], Stop | None]]:
    """In the context Ctrl-C, SIGTERM and a time limit ask the run to stop after the step at hand.

    Yields:
        A function for `Training.train`: what to stop for, or None. A second Ctrl-C is not caught.
    """
    received: list[int] = []
    started = time.monotonic()

    def remember(number: int, _frame: object) -> None:
        # Only noted: a step that is half done cannot be saved.
        received.append(number)
        signal.signal(
            number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        )

    def should_stop() -> Stop | None:
        if received:
            name = signal.Signals(received[0]).name
            return Stop("interrupted", 128 + received[0], f"Interrupted by {name} and saved.")
        if max_minutes is not None and time.monotonic() - started >= 60 * max_minutes:
            return Stop("paused", 0, f"Paused after {max_minutes:g} minutes and saved.")
        return None

    # Python lets the main thread alone handle signals; another is stopped by the time limit.
    is_main = threading.current_thread() is threading.main_thread()
    handled = (signal.SIGINT, signal.SIGTERM) if is_main else ()
    previous = {number: signal.signal(number, remember) for number in handled}
    try:
        yield should_stop
    finally:
        for number, handler in previous.items():
            # None is a handler that was not set from Python, which cannot be set back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
