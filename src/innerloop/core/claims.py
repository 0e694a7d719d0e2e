"""Claims: one process at a time has a run directory, a cell of a study or a download.

A claim is a lock on a file, by the library filelock: the operating system keeps it, so that it
ends with the process, also with one that is killed, and nobody has to judge whether a left file is
stale. Each system has another call for that (``flock``, ``LockFileEx``) with traps of its own, such
as a lock file that is removed while somebody waits for it; filelock knows them, needs no other
package, and is tried by millions of installations, which a few lines of our own would not be.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from innerloop.core.files import disk_errors


@contextmanager
def claim(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Claim what a lock file stands for, until the end of the context or of the process.

    Args:
        path: the lock file; made if it is missing, and left where it is.
        wait: until another process gives it up, instead of going on without it.

    Yields:
        Whether this process has it.

    Raises:
        DiskError: if the lock file cannot be written.
    """
    # To filelock -1 is without end, and 0 a single try.
    lock = FileLock(path, timeout=-1 if wait else 0)
    with disk_errors(str(path)):
        try:
            lock.acquire()
        except Timeout:  # an OSError too, but not the disk's
            pass
    try:
        yield lock.is_locked
    finally:
        lock.release()
