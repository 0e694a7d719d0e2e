"""Claims: one process at a time has a run directory, a cell of a study or a download.

A claim is two locks, both by the library filelock, which knows what each system makes hard.

On one machine it is a lock of the operating system: it ends with its process, also with one that is
killed, and nobody has to judge whether a file that was left is stale.

Machines that share a disk need not see each other's locks, as with NFS. There a second file,
``<lock>.lease``, is created by one of them alone: it names host and process, and is touched for as
long as that lives. Who has the lock of the system takes over a lease of this host at once: its
process is dead, even if its parent has not noticed yet. A lease of another host is taken over after
it was not touched for `LEASE_S`.
"""

import errno
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, LeaseSettingsMismatch, SoftFileLease, Timeout

from innerloop.core.errors import ConfigError
from innerloop.core.files import disk_errors

LEASE_S = 60.0
"""A lease of another host that was not touched for so long is stale; all hosts must agree on it."""
BEGUN_S = 1.0
"""A lease without content for so long was left so; its content follows within a millisecond."""
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
"""What a file system answers that has no locks."""
WITHOUT_END = -1.0
"""To filelock, waiting without end."""


@contextmanager
def claim(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Claim what a lock file stands for, until the end of the context or of the process.

    Where another host has it, this takes up to a minute: so long it is watched for a sign of life.

    Args:
        path: the lock file; made if it is missing, and left where it is.
        wait: until another process gives it up, instead of going on without it.

    Yields:
        Whether this process has it.

    Raises:
        ConfigError: if another version's lease is in the way.
        DiskError: if the lock file cannot be written.
    """
    with ExitStack() as held:
        locked = _on_this_machine(path, wait, held)
        ours = locked is not False and _among_machines(path, wait, held, alone_here=bool(locked))
        if not ours:
            held.close()
        yield ours


def _on_this_machine(path: Path, wait: bool, held: ExitStack) -> bool | None:
    """Whether the lock of the system is this process's; None where the file system has none."""
    lock = FileLock(path, fallback_to_soft=False)
    with disk_errors(str(path)):
        try:
            return _acquired(lock, WITHOUT_END if wait else 0.0, held)
        except NotImplementedError:  # how filelock says that the file system has no locks
            return None
        except OSError as error:
            if error.errno in NO_LOCKS:
                return None
            raise


def _among_machines(path: Path, wait: bool, held: ExitStack, *, alone_here: bool) -> bool:
    file = path.with_name(f"{path.name}.lease")
    lease = SoftFileLease(file, lease_duration=LEASE_S)
    with disk_errors(str(file)):
        if _is_dead(file, lease, alone_here):
            lease.force_break()
        # It is this process's by the first lock already, but for what another host says.
        return _acquired(lease, WITHOUT_END if wait else 1.5 * LEASE_S, held)


def _is_dead(file: Path, lease: SoftFileLease, alone_here: bool) -> bool:
    """Whether nobody alive has a lease: filelock waits for what it cannot read without end."""
    # One without content is of a kill or a full disk between its creation and its content; or
    # another host has just begun it, and is at once done.
    until = time.monotonic() + (BEGUN_S if alone_here else LEASE_S)
    while file.exists():
        if owner := lease.owner:
            return alone_here and owner.hostname == platform.node()
        if time.monotonic() > until:
            return True
        time.sleep(0.02)
    return False


def _acquired(lock: BaseFileLock, timeout: float, held: ExitStack) -> bool:
    try:
        lock.acquire(timeout=timeout)
    except Timeout:  # an OSError too, but not the disk's
        return False
    except LeaseSettingsMismatch as error:
        raise ConfigError(
            f"{lock.lock_file} was made by another version of innerloop ({error}): stop what still "
            "runs of that, and remove the file."
        ) from error
    held.callback(lock.release)
    return True
