import hashlib
import http.server
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from innerloop.core.errors import DataError, DiskError
from innerloop.data import omniglot
from innerloop.data.archives import ArchiveContents
from innerloop.data.download import fetch

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves ``contents`` by path; with ranges or without, and cuts the first ``cuts`` answers
    short."""

    contents: dict[str, bytes]
    ranges = True
    says_length = True
    cuts = 0
    stalls = False
    refuses: int | None = None

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents = {"/file.zip": CONTENT}
        self.requests: list[tuple[str, str | None]] = []
        self.released = threading.Event()

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        if self.server.stalls:
            self.server.released.wait()
            return
        if self.server.refuses:
            self.send_error(self.server.refuses)
            return
        content = self.server.contents.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(re.findall(r"\d+", wanted)[0]) if wanted and self.server.ranges else None
        if start is not None and start >= len(content):
            self.send_error(416)
            return
        body = content[start:]
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.server.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cuts:
            self.server.cuts -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, format: str, *args: object):
        pass


@pytest.fixture(autouse=True)
def _direct_connection(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def start() -> tuple[Server, threading.Thread]:
    server = Server()
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    return server, thread


def stop(server: Server, thread: threading.Thread) -> None:
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    server, thread = start()
    yield server
    stop(server, thread)


@pytest.fixture
def mirror() -> Iterator[Server]:
    server, thread = start()
    yield server
    stop(server, thread)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "file.zip"


@pytest.fixture
def part(target: Path) -> Path:
    target.parent.mkdir()
    return target.with_name("file.zip.part")


def is_content(path: Path) -> bool:
    return path.read_bytes() == CONTENT


def download(
    target: Path, *servers: Server, max_bytes: int = 400_000, timeout_s: float = 5.0, progress=None
):
    urls = [f"{server.root}file.zip" for server in servers]
    fetch(
        urls,
        target,
        is_genuine=is_content,
        max_bytes=max_bytes,
        otherwise="copy it",
        timeout_s=timeout_s,
        progress=progress,
    )


def test_a_file_arrives_whole_and_leaves_no_part(server: Server, target: Path):
    download(target, server)

    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_a_cut_connection_is_resumed_where_it_broke(server: Server, target: Path):
    server.cuts = 2

    download(target, server)

    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=150000-", "bytes=225000-"]


def test_the_next_mirror_goes_on_with_what_the_first_one_gave(
    server: Server, mirror: Server, part: Path, target: Path
):
    part.write_bytes(CONTENT[:1000])
    server.contents = {}

    download(target, server, mirror)

    assert target.read_bytes() == CONTENT
    assert mirror.requests == [("/file.zip", "bytes=1000-")]


def test_a_server_without_ranges_sends_everything_again(server: Server, part: Path, target: Path):
    part.write_bytes(CONTENT[:1000])
    server.ranges = False
    told = []

    download(target, server, progress=lambda *progress: told.append(progress))

    assert target.read_bytes() == CONTENT
    assert server.requests == [("/file.zip", "bytes=1000-")]
    assert told[-1] == ("file.zip", 300_000, 300_000)


def test_a_server_that_keeps_the_length_to_itself_is_fine(server: Server, target: Path):
    server.says_length = False

    download(target, server)

    assert target.read_bytes() == CONTENT


def test_a_part_above_the_limit_is_started_over(server: Server, part: Path, target: Path):
    part.write_bytes(bytes(500_000))

    download(target, server)

    assert target.read_bytes() == CONTENT
    assert server.requests == [("/file.zip", None)]


def test_a_part_longer_than_the_file_is_started_over(server: Server, part: Path, target: Path):
    part.write_bytes(bytes(350_000))

    download(target, server)

    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == ["bytes=350000-", None]


def test_a_part_of_another_file_is_started_over(server: Server, part: Path, target: Path):
    part.write_bytes(bytes(1000))

    download(target, server)

    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == ["bytes=1000-", None]


def test_a_whole_part_needs_no_server(part: Path, target: Path):
    part.write_bytes(CONTENT)

    download(target)

    assert target.read_bytes() == CONTENT


def test_wrong_content_is_refused_and_the_next_mirror_asked(
    server: Server, mirror: Server, target: Path
):
    server.contents = {"/file.zip": b"something else"}

    download(target, server, mirror)

    assert target.read_bytes() == CONTENT


def test_wrong_content_alone_is_an_error_and_stays_nowhere(server: Server, target: Path):
    server.contents = {"/file.zip": b"something else"}

    with pytest.raises(
        DataError, match=r"\(127\.0\.0\.1: its file does not have the expected content\)"
    ):
        download(target, server)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_above_the_limit_is_refused(server: Server, target: Path, says_length: bool):
    server.says_length = says_length

    with pytest.raises(DataError, match="its file is larger than 200,000 bytes"):
        download(target, server, max_bytes=200_000)
    assert list(target.parent.iterdir()) == []


def test_a_file_declared_above_the_limit_is_not_even_begun(server: Server, target: Path):
    told = []

    with pytest.raises(DataError, match="its file is larger than 200,000 bytes"):
        download(
            target, server, max_bytes=200_000, progress=lambda *progress: told.append(progress)
        )
    assert told == []


def test_a_server_that_refuses_a_range_nobody_asked_for_is_named(server: Server, target: Path):
    server.refuses = 416

    with pytest.raises(DataError, match=r"127\.0\.0\.1: 416 Requested Range Not Satisfiable"):
        download(target, server)


def test_every_mirrors_reason_is_named_in_one_sentence(
    server: Server, mirror: Server, target: Path
):
    server.contents = mirror.contents = {}

    sentence = (
        r"^No mirror delivers file\.zip \(127\.0\.0\.1: 404 Not Found; "
        r"127\.0\.0\.1: 404 Not Found\): "
        r"if this machine is offline, copy it\.$"
    )
    with pytest.raises(DataError, match=sentence):
        download(target, server, mirror)


def test_a_silent_server_is_given_up(server: Server, target: Path):
    server.stalls = True

    with pytest.raises(DataError, match=r"127\.0\.0\.1: no answer in time"):
        download(target, server, timeout_s=0.1)


def test_a_refused_connection_is_named(target: Path):
    with socket.socket() as unused:  # bound but not listening
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.zip"

        with pytest.raises(DataError, match=r"127\.0\.0\.1: Connection refused"):
            fetch([url], target, is_genuine=is_content, max_bytes=1, otherwise="copy it")


def test_a_connection_that_is_always_cut_is_given_up_and_what_came_is_kept(
    server: Server, part: Path, target: Path
):
    server.cuts = 1000

    with pytest.raises(DataError, match=r"127\.0\.0\.1: the connection was cut"):
        download(target, server)
    assert part.stat().st_size > 250_000
    assert not target.exists()


def test_a_folder_that_cannot_be_made_is_a_disk_error(server: Server, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(
        DiskError,
        match=r"Cannot write .*file\.zip \(.*\): free some space, or choose another folder",
    ):
        download(tmp_path / "file" / "file.zip", server)


def test_a_full_disk_is_a_disk_error(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch):
    def disk_full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)

    with pytest.raises(DiskError, match=r"Cannot write .*file\.zip \(No space left on device\)"):
        download(target, server)


def test_progress_is_told_bytes_so_far_and_in_all(server: Server, part: Path, target: Path):
    part.write_bytes(CONTENT[:1000])
    told = []

    download(target, server, progress=lambda *progress: told.append(progress))

    assert told[-1] == ("file.zip", 300_000, 300_000)
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})


def test_of_many_who_want_the_same_file_one_downloads_it_and_all_have_it(
    server: Server, target: Path
):
    errors = []

    def download_or_fail() -> None:
        try:
            download(target, server)
        except Exception as error:
            errors.append(error)

    wanting = [threading.Thread(target=download_or_fail) for _ in range(6)]
    for thread in wanting:
        thread.start()
    for thread in wanting:
        thread.join()

    assert errors == []
    assert server.requests == [("/file.zip", None)]
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


# Omniglot's two archives


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Two files that pass for the official archives by their MD5."""
    contents = {"images_background": b"background", "images_evaluation": b"evaluation"}
    expected = tuple(
        ArchiveContents(folder, (), digest="", md5=hashlib.md5(data).hexdigest())
        for folder, data in contents.items()
    )
    monkeypatch.setattr(omniglot, "contents", lambda: expected)
    return {f"/{folder}.zip": data for folder, data in contents.items()}


def test_both_official_archives_are_downloaded(
    server: Server, official: dict[str, bytes], tmp_path: Path
):
    server.contents = official

    omniglot.download(tmp_path, mirrors=[server.root])

    assert (tmp_path / "images_background.zip").read_bytes() == b"background"
    assert (tmp_path / "images_evaluation.zip").read_bytes() == b"evaluation"


def test_a_genuine_archive_is_not_downloaded_again(
    server: Server, official: dict[str, bytes], tmp_path: Path
):
    server.contents = official
    (tmp_path / "images_background.zip").write_bytes(b"background")

    omniglot.download(tmp_path, mirrors=[server.root])

    assert [path for path, _ in server.requests] == ["/images_evaluation.zip"]


def test_a_damaged_archive_is_downloaded_again(
    server: Server, official: dict[str, bytes], tmp_path: Path
):
    server.contents = official
    (tmp_path / "images_background.zip").write_bytes(b"backgr")

    omniglot.download(tmp_path, mirrors=[server.root])

    assert (tmp_path / "images_background.zip").read_bytes() == b"background"
