"""Files are whole or not there, for one writer and for many at once."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import threading

import pytest

from innerloop import cli
from innerloop.core.errors import ConfigError, DataError, DiskError
from innerloop.core.files import (
    disk_errors,
    json_text,
    parse_json_object,
    read_json,
    refuse_unwritable,
    write_atomic,
    write_folder,
)


def test_what_is_written_is_there_and_nothing_else(tmp_path):
    write_atomic(tmp_path / "file", "größer")
    write_atomic(tmp_path / "file", b"\x00\xff")

    assert (tmp_path / "file").read_bytes() == b"\x00\xff"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_disk_that_refuses_leaves_the_file_as_it_was(tmp_path, monkeypatch, function, number):
    write_atomic(tmp_path / "file", "before")

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, function, refuse)
    with pytest.raises(
        DiskError,
        match=f"Cannot write .*file: {os.strerror(number)}. What was saved before is intact",
    ):
        write_atomic(tmp_path / "file", "after")

    assert (tmp_path / "file").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_bytes_are_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    calls = []
    for function in ("fsync", "replace"):
        real = getattr(os, function)
        monkeypatch.setattr(
            os, function, lambda *a, real=real, name=function: (calls.append(name), real(*a))
        )

    write_atomic(tmp_path / "file", "content")

    assert calls == ["fsync", "replace"]


def test_errors_of_the_disk_have_exit_code_4_and_others_pass():
    with (
        pytest.raises(DiskError, match="Cannot write x: Is a directory") as caught,
        disk_errors("x"),
    ):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    assert caught.value.exit_code == 4

    with pytest.raises(KeyError), disk_errors("x"):
        raise KeyError("not of the disk")


def test_what_is_written_may_be_read_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", "content")
    finally:
        os.umask(before)

    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_many_writers_of_one_file_leave_the_whole_content_of_one(tmp_path):
    """With one temporary name for all, one writer's half would be renamed by another."""
    contents = [bytes([number]) * 2_000_000 for number in range(8)]
    errors = []

    def write(content: bytes) -> None:
        try:
            for _ in range(5):
                write_atomic(tmp_path / "file", content)
        except Exception as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert errors == []
    assert (tmp_path / "file").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_interruption_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    write_atomic(tmp_path / "file", "before")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", "after")

    assert (tmp_path / "file").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_writer_leaves_is_hidden_and_disturbs_nobody(tmp_path):
    killed = (
        "import os, pathlib, signal, sys\n"
        "from innerloop.core.files import write_atomic\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomic(pathlib.Path(sys.argv[1]), 'half')\n"
    )
    ended = subprocess.run([sys.executable, "-c", killed, str(tmp_path / "file")])
    write_atomic(tmp_path / "file", "whole")

    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / "file").read_text() == "whole"
    (left,) = [path for path in tmp_path.iterdir() if path.name != "file"]
    assert left.match(".file.*.tmp")


def test_of_files_that_belong_together_none_is_new_where_one_cannot_be_written(
    tmp_path, monkeypatch
):
    write_folder(tmp_path, {"page.html": "before", "figures/one.svg": "before"})
    sync = os.fsync
    calls = iter([sync])

    def full(handle: int) -> None:
        if (call := next(calls, None)) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        call(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match=r"Cannot write .*one\.svg: No space left on device"):
        write_folder(tmp_path, {"page.html": "after", "figures/one.svg": "after"})

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name: path.read_text() for path in files} == {
        "page.html": "before",
        "one.svg": "before",
    }


def test_a_disk_full_for_any_other_file_is_a_sentence_and_4(monkeypatch, capsys):
    """As where the standard output is a file on it."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("innerloop.cli.app._run", full)

    assert cli.main(["doctor"]) == 4
    assert capsys.readouterr().err == (
        "innerloop: Cannot write: No space left on device; free some space.\n"
    )


# JSON


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"Cannot read .*nothing\.json"):
        read_json(tmp_path / "nothing.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff"])
def test_a_file_that_is_no_json_object_is_named(tmp_path, content):
    (tmp_path / "some.json").write_bytes(content)

    with pytest.raises(DataError, match=r"some\.json"):
        read_json(tmp_path / "some.json")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "^source is not JSON: .*"),
        ("[" * 100_000, "^source is not JSON: .*"),
        ("[]", "^source must hold one JSON object, not a list"),
        ("null", "^source must hold one JSON object, not a NoneType"),
    ],
)
def test_what_is_no_json_object_is_a_sentence(text, sentence):
    with pytest.raises(ConfigError, match=sentence):
        parse_json_object(text, "source")


def test_what_is_not_finite_is_null_however_deep_it_is():
    text = json_text({"a": [math.inf, (math.nan, 1.5)], "b": {"c": -math.inf, "d": True}})

    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": [None, [None, 1.5]],
        "b": {"c": None, "d": True},
    }


def test_a_place_is_tried_before_anything_is_computed_and_left_as_it_was(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for free in ("new", "a/b/new", "file"):
        refuse_unwritable(tmp_path / free)
    for taken in ("file/new", "file/a/new"):
        with pytest.raises(DiskError, match=r"Cannot write .*new \(.*file: .*another place"):
            refuse_unwritable(tmp_path / taken)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DiskError, match=os.strerror(errno.EACCES)) as error:
        refuse_unwritable(tmp_path / "new")
    assert "intact" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
