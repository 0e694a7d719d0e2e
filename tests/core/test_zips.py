"""The guard of zip archives, by both who read archives that somebody else made.

Each attack is on an archive that is read without a complaint of the guard before.
"""

import hashlib
import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from innerloop.assignment.check import check
from innerloop.assignment.pack import SUMS
from innerloop.core.errors import DataError
from innerloop.core.zips import Limits, open_archive
from innerloop.data.archives import (
    DIGITS,
    DRAWINGS,
    SIDE,
    ArchiveContents,
    Character,
    archive_digest,
    character_digest,
    read_bytes,
    read_characters,
)

CENTRAL = b"PK\x01\x02"
LOCAL = b"PK\x03\x04"
BOMB_BYTES = 80_000_000


def write_zip(path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]], **options) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content, **options)


def entries_of(path: Path) -> list[tuple[str | zipfile.ZipInfo, bytes]]:
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


class Omniglot:
    """An archive of one character, read by the data set's reader."""

    name = "letters/Alif/character01"

    def __init__(self, path: Path):
        ink = np.zeros((DRAWINGS, SIDE, SIDE), dtype=bool)
        picture = io.BytesIO()
        Image.fromarray(~ink[0]).save(picture, "PNG")
        digest = character_digest("Alif/character01", ink)
        character = Character("Alif/character01", 1, digest[:DIGITS])
        self.path = path
        self.expected = ArchiveContents("letters", (character,), archive_digest([digest]), md5="")
        write_zip(path, [(name, picture.getvalue()) for name in character.files("letters")])

    def read(self) -> None:
        list(read_characters(self.path, read_bytes(self.path), self.expected))

    def is_accepted(self) -> bool:
        self.read()
        return True


class HandIn:
    """An archive with right checksums, read by `innerloop bundle --check`."""

    name = "Ada_7_Assignment2"

    def __init__(self, path: Path):
        self.path = path
        content = {"a.txt": b"some text", "b/c.txt": b"more of it"}
        sums = "".join(
            f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in content.items()
        )
        content[SUMS] = sums.encode()
        write_zip(path, [(f"{self.name}/{name}", data) for name, data in content.items()])

    def read(self) -> None:
        check(self.path, say=lambda _: None)

    def is_accepted(self) -> bool:
        """The guard and the checksums are passed; what comes next is no matter of archives."""
        with pytest.raises(DataError, match=r"holds no report\.html"):
            self.read()
        return True


User = Omniglot | HandIn


@pytest.fixture(params=[Omniglot, HandIn])
def user(request, tmp_path) -> User:
    return request.param(tmp_path / "archive.zip")


def with_entry(name: str, attributes: int = 0) -> Callable[[User], None]:
    def attack(user: User) -> None:
        entry = zipfile.ZipInfo(name.format(user.name))
        entry.external_attr = attributes
        write_zip(user.path, [*entries_of(user.path), (entry, b"x")])

    return attack


def with_bytes(old: bytes, new: bytes) -> Callable[[User], None]:
    def attack(user: User) -> None:
        data = user.path.read_bytes()
        assert old in data
        user.path.write_bytes(data.replace(old, new))

    return attack


def with_nul(user: User) -> None:
    with_entry("{}/a#b")(user)
    with_bytes(b"a#b", b"a\0b")(user)


def with_field(offset: int, value: bytes) -> Callable[[User], None]:
    """Change a field of the first entry in the archive's directory."""

    def attack(user: User) -> None:
        data = bytearray(user.path.read_bytes())
        place = data.index(CENTRAL) + offset
        data[place : place + len(value)] = value
        user.path.write_bytes(data)

    return attack


def twice(user: User) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        write_zip(user.path, [*entries_of(user.path), entries_of(user.path)[0]])


def with_many_entries(user: User) -> None:
    entry = CENTRAL.ljust(46, b"\0")
    size = 100_000 * len(entry)
    end = b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 0xFFFF, 0xFFFF, size, 0, 0)
    user.path.write_bytes(entry * 100_000 + end)


def with_bomb(compression: int) -> Callable[[User], None]:
    """The first file inflates to much more than its directory says."""

    def attack(user: User) -> None:
        (name, _), *rest = entries_of(user.path)
        with zipfile.ZipFile(user.path, "w") as archive:
            archive.writestr(name, bytes(BOMB_BYTES), compression)
            for other, content in rest:
                archive.writestr(other, content)
        with_bytes(struct.pack("<I", BOMB_BYTES), struct.pack("<I", 300))(user)

    return attack


def cut_short(user: User) -> None:
    user.path.write_bytes(user.path.read_bytes()[:-30])


def with_other_content(user: User) -> None:
    """One bit in the first file's compressed bytes, behind its local header."""
    data = bytearray(user.path.read_bytes())
    name_length, extra_length = struct.unpack("<2H", data[26:30])
    data[30 + name_length + extra_length + 3] ^= 1
    user.path.write_bytes(data)


def no_archive(user: User) -> None:
    user.path.write_bytes(b"<html>Not found</html>")


UNSAFE = "has an unsafe name"
ATTACKS = [
    *[
        pytest.param(with_entry(name), UNSAFE, id=name)
        for name in (
            "../out.txt",
            "{}/../../out.txt",
            "{}/..",
            "/out.txt",
            "//host/out.txt",
            "{}\\out.txt",
            "..\\out.txt",
            "C:/out.txt",
            "C:out.txt",
            "{}/out.txt:stream",
            "{}//out.txt",
            "{}/./out.txt",
            "./{}/out.txt",
        )
    ],
    pytest.param(with_nul, UNSAFE, id="nul"),
    pytest.param(with_field(8, b"\1"), "is encrypted", id="encrypted"),
    pytest.param(with_entry("{}/link", 0o120777 << 16), "is a symbolic link", id="link"),
    pytest.param(twice, "2 times", id="twice"),
    pytest.param(with_many_entries, "has more than 50,000 entries", id="many-entries"),
    pytest.param(
        with_field(24, b"\xf0\xff\xff\xff"),
        r"would unpack to 4,\d+,\d+,\d+ bytes, above the limit of",
        id="declared-huge",
    ),
    pytest.param(with_bomb(zipfile.ZIP_DEFLATED), "is damaged", id="bomb"),
    pytest.param(with_bomb(zipfile.ZIP_BZIP2), "compression other than deflate", id="bzip2-bomb"),
    pytest.param(with_bomb(zipfile.ZIP_LZMA), "compression other than deflate", id="lzma-bomb"),
    pytest.param(with_field(10, b"\x63"), "compression other than deflate", id="compression-99"),
    pytest.param(with_other_content, "is damaged", id="flipped-bit"),
    pytest.param(with_field(24, b"\xff\x01"), "is damaged", id="declared-larger"),
    pytest.param(cut_short, "is not a zip archive", id="cut-short"),
    pytest.param(no_archive, "is not a zip archive", id="no-archive"),
]


def test_an_honest_archive_is_accepted(user):
    assert user.is_accepted()


def test_folders_are_no_files(user):
    write_zip(user.path, [(f"{user.name}/", b""), (f"{user.name}/d/", b""), *entries_of(user.path)])

    assert user.is_accepted()


@pytest.mark.parametrize(("attack", "sentence"), ATTACKS)
def test_a_hostile_archive_is_refused_in_a_sentence(user, attack, sentence, tmp_path):
    attack(user)
    before = sorted(tmp_path.parent.iterdir())
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=rf"archive\.zip.*{sentence}.*\.$") as caught:
            user.read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert "\n" not in str(caught.value)
    assert peak < BOMB_BYTES / 2, "nothing is inflated beyond what is asked for"
    assert sorted(tmp_path.parent.iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["archive.zip"]


def test_entries_are_counted_where_blocks_of_the_file_meet(monkeypatch):
    """A header that two blocks share counts once, wherever it is cut."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for number in range(5):
            archive.writestr(f"{number}", b"")
    limits = Limits(entries=4, file_bytes=10, total_bytes=10)

    for size in range(1, 60):
        monkeypatch.setattr("innerloop.core.zips.BLOCK_BYTES", size)
        with pytest.raises(DataError, match="has more than 4 entries"):
            with open_archive(data, "it", limits):
                pass
        with open_archive(data, "it", Limits(5, 10, 10)) as archive:
            assert archive.names == list("01234")


@pytest.mark.parametrize(("size", "is_read"), [(10, True), (11, False)])
def test_the_limits_are_the_last_that_is_accepted(size, is_read):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("file", bytes(size))

    with open_archive(data, "it", Limits(1, 10, 20)) as archive:
        if is_read:
            assert archive.read("file") == bytes(size)
        else:
            with pytest.raises(DataError, match=r"it: 'file' is 11 bytes, above the limit of 10\."):
                archive.read("file")
    with pytest.raises(
        DataError, match=rf"it would unpack to {size} bytes, above the limit of 9: "
    ):
        with open_archive(data, "it", Limits(1, 10, 9), remedy="get another"):
            pass
