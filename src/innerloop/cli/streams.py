"""Standard streams that can be written to, whatever the shell gave us."""

import io
import os
import sys


def make_usable() -> None:
    """Open what is closed on the null device, and show what an encoding lacks as an escape.

    With a closed stream the next file that is opened would get its number, and whatever a library
    prints by that number would land in the file, such as a run's metrics.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    # Kept open for the life of the process, as the standard streams are.
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
