"""A claim is one process's at a time, and ends with it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from innerloop.core.claims import claim
from innerloop.core.errors import DiskError

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


def test_the_package_imports_no_module_that_only_posix_has():
    """What a lock needs of the operating system is filelock's matter."""
    posix = r"^\s*(?:import|from) (?:fcntl|resource|pwd|grp|termios|pty)\b"
    importers = [
        path for path in SOURCE.rglob("*.py") if re.search(posix, path.read_text("utf-8"), re.M)
    ]

    assert importers == []
