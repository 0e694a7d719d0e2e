"""A claim is one process's at a time, and ends with it."""

import ast
import errno
import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from innerloop.core import claims
from innerloop.core.claims import claim
from innerloop.core.errors import ConfigError, DiskError

SOURCE = Path(__file__).parents[2] / "src" / "innerloop"
HOLDER = (
    "import pathlib, sys\n"
    "from innerloop.core.claims import claim\n"
    "with claim(pathlib.Path(sys.argv[1])) as ours:\n"
    "    print(ours, flush=True)\n"
    "    sys.stdin.read()\n"
)


@pytest.fixture
def lock(tmp_path) -> Path:
    return tmp_path / "lock"


def holder(lock: Path) -> subprocess.Popen:
    """Another process that claims, says whether it has it, and holds it until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_claim_is_had_once_and_again_after_it_was_given_up(lock):
    with claim(lock) as first, claim(lock) as second:
        assert (first, second) == (True, False)

    with claim(lock) as third:
        assert third


def test_losing_a_claim_does_not_end_the_winners(lock):
    with claim(lock):
        for _ in range(3):
            with claim(lock) as ours:
                assert not ours


def test_an_error_within_a_claim_ends_it(lock):
    with pytest.raises(KeyError), claim(lock):
        raise KeyError

    with claim(lock) as ours:
        assert ours


def test_a_claim_is_one_processs_and_dies_with_it(lock):
    with holder(lock) as process:
        assert process.stdout and process.stdout.readline() == "True\n"
        with claim(lock) as ours:
            assert not ours
        process.kill()

    with claim(lock) as ours:
        assert ours


def test_another_process_does_not_get_what_is_ours(lock):
    with claim(lock), holder(lock) as process:
        assert process.communicate("")[0] == "False\n"


def test_who_waits_gets_it_when_it_is_given_up(lock):
    with holder(lock) as process:
        assert process.stdout and process.stdin and process.stdout.readline() == "True\n"
        process.stdin.close()
        with claim(lock, wait=True) as ours:
            assert ours


def test_a_lock_file_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(DiskError, match=r"Cannot write .*file/lock: "),
        claim(tmp_path / "file" / "lock"),
    ):
        pass


def leased(lock: Path, *, host: str, pid: int) -> Path:
    """The lease of a process, as filelock writes it."""
    lease = lock.with_name(f"{lock.name}.lease")
    lines = (f"pid={pid}", f"host={host}", "mode=lease", "token=t", f"duration={claims.LEASE_S!r}")
    lease.write_text("".join(f"{line}\n" for line in ("filelock/2", *lines)))
    return lease


def ended_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


def test_a_claim_names_its_host_and_process_to_other_machines(lock):
    lease = lock.with_name("lock.lease")
    with claim(lock):
        text = lease.read_text()
        assert f"host={platform.node()}\n" in text and f"pid={os.getpid()}\n" in text

    assert not lease.exists()


def test_the_lease_of_a_dead_process_of_this_host_is_taken_over(lock):
    leased(lock, host=platform.node(), pid=ended_process())

    with claim(lock) as ours:
        assert ours


def test_the_lease_of_a_killed_process_that_nobody_waits_for_is_taken_over_at_once(
    lock, monkeypatch
):
    """Its number is still taken: until its parent asks for it, it is a zombie."""
    acquired = claims._acquired
    at_once = lambda lock, timeout, held: acquired(lock, 0.0, held)  # noqa: E731
    monkeypatch.setattr(claims, "_acquired", at_once)
    process = holder(lock)
    assert process.stdout and process.stdout.readline() == "True\n"
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and left a zombie

    with claim(lock) as ours:
        assert ours
    process.communicate()


@pytest.mark.parametrize("content", ["", "filelock/2\n", "pid="])
def test_a_lease_without_its_content_is_taken_over_after_a_moment(lock, content, monkeypatch):
    """A process was killed, or the disk was full, between its creation and its content."""
    acquired = claims._acquired
    at_once = lambda lock, timeout, held: acquired(lock, 0.0, held)  # noqa: E731
    monkeypatch.setattr(claims, "_acquired", at_once)
    lock.with_name("lock.lease").write_text(content)

    with claim(lock) as ours:
        assert ours


def test_a_lease_that_another_host_has_just_begun_is_its(lock, monkeypatch):
    monkeypatch.setattr(claims, "LEASE_S", 0.5)
    monkeypatch.setattr(claims, "BEGUN_S", 5.0)
    lease = lock.with_name("lock.lease")
    lease.touch()
    done = threading.Event()

    def begin() -> None:
        time.sleep(0.2)
        leased(lock, host="elsewhere", pid=1)
        while not done.wait(0.02):
            os.utime(lease)

    other = threading.Thread(target=begin)
    other.start()
    with claim(lock) as ours:
        assert not ours
    done.set()
    other.join()


def test_the_lease_of_another_version_is_a_sentence(lock, monkeypatch):
    leased(lock, host="elsewhere", pid=ended_process())
    monkeypatch.setattr(claims, "LEASE_S", 0.5)

    with (
        pytest.raises(ConfigError, match=r"lock\.lease was made by another version of innerloop"),
        claim(lock),
    ):
        pass


def test_the_lease_of_another_host_is_taken_over_only_once_it_is_old(lock, monkeypatch):
    """Its pid says nothing here: it may be that of any process."""
    monkeypatch.setattr(claims, "LEASE_S", 0.5)
    lease = leased(lock, host="elsewhere", pid=ended_process())
    done = threading.Event()

    def live() -> None:
        while not done.wait(0.02):
            os.utime(lease)

    heart = threading.Thread(target=live)
    heart.start()
    with claim(lock) as ours:
        assert not ours
    done.set()
    heart.join()

    with claim(lock) as ours:
        assert ours


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_the_file_system_has_no_locks_the_lease_alone_decides(lock, number, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(claims, "LEASE_S", 0.5)
    monkeypatch.setattr("fcntl.flock", refuse)
    with claim(lock) as first, claim(lock) as second:
        assert (first, second) == (True, False)


def test_of_many_processes_that_claim_at_once_one_has_it(lock):
    claimers = [holder(lock) for _ in range(8)]
    answers = [process.stdout.readline() for process in claimers if process.stdout]
    for process in claimers:
        process.communicate("")

    assert sorted(answers) == ["False\n"] * 7 + ["True\n"]


POSIX_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "posix"}
POSIX_NAMES = {
    "os": "fork forkpty kill killpg getuid geteuid getgid getpgid setsid mkfifo mknod chown lchown "
    "chroot uname getloadavg sched_getaffinity wait waitid WNOHANG statvfs fchmod fchown nice "
    "O_DIRECTORY O_NOFOLLOW O_NONBLOCK fchdir pread pwrite posix_fallocate sync",
    "signal": "SIGKILL SIGHUP SIGALRM SIGUSR1 SIGUSR2 SIGSTOP SIGCONT SIGCHLD SIGPIPE alarm pause "
    "setitimer pthread_kill sigwait",
    "time": "tzset clock_gettime",
}
"""What the standard library has on some systems alone, and a reader would take for granted."""


def posix_only(tree: ast.AST) -> set[str]:
    """Modules and functions in a file's tree that only POSIX has."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & POSIX_MODULES
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {alias.name for alias in node.names}
            found |= {node.module} & POSIX_MODULES
            found |= names & set(POSIX_NAMES.get(node.module, "").split())
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in POSIX_NAMES.get(node.value.id, "").split():
                found.add(f"{node.value.id}.{node.attr}")
    return found


def test_the_package_uses_nothing_that_only_posix_has():
    """What a lock needs of the operating system is filelock's matter."""
    used = {path.name: posix_only(ast.parse(path.read_text("utf-8"))) for path in files()}

    # It asks whether there is such a thing, and does without it.
    assert {name: found for name, found in used.items() if found} == {
        "ranks.py": {"os.sched_getaffinity"}
    }
    assert posix_only(ast.parse("import fcntl\nos.fork()")) == {"fcntl", "os.fork"}


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))
