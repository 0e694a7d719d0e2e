import copy
import hashlib
import io
import json
import os
import shutil
import struct
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from innerloop.core.errors import DataError
from innerloop.data import omniglot, splits
from innerloop.data.archives import (
    DIGITS,
    ArchiveContents,
    Character,
    archive_digest,
    character_digest,
    read_bytes,
    read_characters,
)
from innerloop.data.cache import cache_directory
from innerloop.data.images import FewShotDataset, resize

REAL = os.environ.get("INNERLOOP_DATA")
needs_real_archives = pytest.mark.skipif(
    not REAL, reason="INNERLOOP_DATA names no folder with Omniglot's archives"
)


def png(ink: np.ndarray, mode: str = "1") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(~ink).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rest = b"IDAT" + zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        for body in (chunk, rest)
    )


def write_zip(path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)


class Fake:
    """Two small archives of random drawings, and what they are expected to hold."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.ink: dict[str, np.ndarray] = {}
        self.expected = (
            self._archive(
                "images_background", ["Alif/character01", "Alif/character02", "Beth/character01"], 7
            ),
            self._archive("images_evaluation", ["Gimel/character01"], 40),
        )

    def _archive(self, folder: str, names: list[str], first: int) -> ArchiveContents:
        random = np.random.default_rng(first)
        entries, characters, digests = [], [], []
        for number, name in enumerate(names, start=first):
            ink = random.random((20, 105, 105)) < 0.1
            self.ink[f"{folder.removeprefix('images_')}/{name}"] = ink
            digests.append(character_digest(name, ink))
            characters.append(Character(name, number, digests[-1][:DIGITS]))
            entries += [
                (f"{folder}/{name}/{number:04d}_{drawer:02d}.png", png(drawing))
                for drawer, drawing in enumerate(ink, start=1)
            ]
        write_zip(self.directory / f"{folder}.zip", entries)
        return ArchiveContents(folder, tuple(characters), archive_digest(digests), md5="")

    @property
    def path(self) -> Path:
        return self.directory / "images_background.zip"

    @property
    def entries(self) -> list[tuple[str | zipfile.ZipInfo, bytes]]:
        with zipfile.ZipFile(self.path) as archive:
            return [(name, archive.read(name)) for name in archive.namelist()]

    def add(self, name: str | zipfile.ZipInfo, content: bytes = b"") -> None:
        write_zip(self.path, [*self.entries, (name, content)])

    def change_first(self, content: bytes) -> None:
        (name, _), *rest = self.entries
        write_zip(self.path, [(name, content), *rest])

    def read(self) -> list[np.ndarray]:
        return list(read_characters(self.path, read_bytes(self.path), self.expected[0]))

    def load(self, data_dir: Path | None = None, **options) -> FewShotDataset:
        return omniglot.load(data_dir, expected=self.expected, **options)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the user's cache, data folder or network."""
    monkeypatch.delenv("INNERLOOP_DATA", raising=False)
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(omniglot, "MIRRORS", ())
    return tmp_path / "cache" / "omniglot"


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Fake:
    """Read-only."""
    return Fake(tmp_path_factory.mktemp("intact"))


@pytest.fixture
def fake(intact: Fake, tmp_path: Path) -> Fake:
    """A copy to damage."""
    fake = copy.copy(intact)
    fake.directory = shutil.copytree(intact.directory, tmp_path / "data")
    return fake


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FewShotDataset, Path]]:
    """The real data set, decoded once, and the cache that this left."""
    assert REAL is not None
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNERLOOP_CACHE", str(cache))
        yield omniglot.load(Path(REAL), download=False), cache


# What is read


def test_ink_is_white_on_black_and_each_drawing_is_resized_once(fake: Fake):
    dataset = fake.load(fake.directory)

    ink = fake.ink["background/Alif/character02"][3]
    assert dataset.images.shape == (4, 20, 1, 28, 28)
    assert np.array_equal(
        dataset.images[1, 3, 0], resize(np.where(ink, np.uint8(255), np.uint8(0)), 28)
    )


def test_at_the_archives_own_size_pixels_are_the_drawings(fake: Fake):
    dataset = fake.load(fake.directory, size=105)

    expected = np.stack([fake.ink[name] for name in dataset.class_names])
    assert np.array_equal(dataset.images[:, :, 0], expected * np.uint8(255))


def test_classes_are_named_by_part_alphabet_and_character_in_order(fake: Fake):
    dataset = fake.load(fake.directory)

    assert dataset.name == "omniglot"
    assert dataset.class_names == (
        "background/Alif/character01",
        "background/Alif/character02",
        "background/Beth/character01",
        "evaluation/Gimel/character01",
    )


def test_drawings_are_in_the_order_of_their_file_names_whatever_the_archives_order(fake: Fake):
    before = fake.load(fake.directory)

    write_zip(fake.path, fake.entries[::-1])

    assert fake.load(fake.directory).fingerprint == before.fingerprint


@pytest.mark.parametrize(
    "name",
    [
        "images_background/",
        "images_background/Alif/",
        "__MACOSX/._images_background",
        "a/.DS_Store",
    ],
)
def test_folders_and_the_clutter_of_macos_are_passed_over(fake: Fake, name: str):
    fake.add(name)

    assert len(fake.read()) == 3


def test_the_committed_contents_have_the_published_counts():
    background, evaluation = omniglot.contents()

    assert (len(background.characters), len(evaluation.characters)) == (964, 659)
    assert (len(background.files), len(evaluation.files)) == (19280, 13180)
    assert sorted(c.number for a in (background, evaluation) for c in a.characters) == list(
        range(1, 1624)
    )


def test_class_names_of_the_committed_contents_are_sorted():
    names = omniglot.class_names(omniglot.contents())

    assert list(names) == sorted(set(names))


def test_the_committed_file_has_whole_archive_digests():
    stored = json.loads(files("innerloop.data").joinpath("omniglot.json").read_text())

    assert {len(archive["digest"]) for archive in stored.values()} == {64}


def test_a_character_digest_is_sha256_of_name_and_packed_pixels():
    ink = np.zeros((20, 105, 105), bool)
    ink[0, 0, 0] = True

    packed = b"\x80" + bytes(20 * 105 * 105 // 8)

    assert (
        character_digest("A/character01", ink)
        == hashlib.sha256(b"A/character01\0" + packed).hexdigest()
    )


# What is refused


def test_a_missing_archive_is_named(fake: Fake):
    fake.path.unlink()

    with pytest.raises(
        DataError, match=r"There is no archive .*images_background\.zip: put it there"
    ):
        fake.read()


def test_an_archive_that_is_a_folder_is_refused(fake: Fake):
    fake.path.unlink()
    fake.path.mkdir()

    with pytest.raises(
        DataError, match=r"Cannot read the archive .*images_background\.zip \(Is a directory\)"
    ):
        fake.read()


def test_a_file_that_is_not_a_zip_is_refused(fake: Fake):
    fake.path.write_bytes(b"<html>Not found</html>")

    with pytest.raises(
        DataError,
        match=r"images_background\.zip is not a zip archive, or only the beginning of one",
    ):
        fake.read()


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_a_truncated_archive_is_refused(fake: Fake, kept: float):
    data = fake.path.read_bytes()
    fake.path.write_bytes(data[: int(kept * len(data))])

    with pytest.raises(DataError, match="not a zip archive, or only the beginning of one"):
        fake.read()


@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "images_background/../../evil.png",
        "/etc/evil.png",
        "images\\evil.png",
        "C:/evil.png",
    ],
)
def test_unsafe_names_are_refused(fake: Fake, name: str):
    fake.add(name)

    with pytest.raises(DataError, match=r"evil\.png' has an unsafe name: replace it"):
        fake.read()


def test_a_name_with_a_nul_is_refused(fake: Fake):
    fake.add("__MACOSX/a#evil.png")
    fake.path.write_bytes(fake.path.read_bytes().replace(b"a#evil", b"a\0evil"))

    with pytest.raises(DataError, match="has an unsafe name"):
        fake.read()


@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile, writing the bad archive
def test_a_duplicate_name_is_refused(fake: Fake):
    name, content = fake.entries[5]
    fake.add(name, content)

    with pytest.raises(
        DataError, match=r"holds 'images_background/Alif/character01/0007_06\.png' 2 times"
    ):
        fake.read()


def test_a_hundred_thousand_entries_are_refused_before_any_is_looked_at(fake: Fake):
    entry = b"PK\x01\x02".ljust(46, b"\0")
    end = b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 0xFFFF, 0xFFFF, 100_000 * len(entry), 0, 0)
    fake.path.write_bytes(entry * 100_000 + end)

    with pytest.raises(DataError, match="has more than 50,000 entries: replace it"):
        fake.read()


def test_a_huge_archive_is_refused_without_reading_all_of_it(fake: Fake):
    with fake.path.open("wb") as file:
        file.truncate(2**40)

    with pytest.raises(DataError, match="is larger than 33,554,432 bytes, no Omniglot archive is"):
        fake.read()


def test_a_huge_declared_size_is_refused(fake: Fake):
    fake.change_first(bytes(100_000))

    with pytest.raises(
        DataError, match=r"0007_01\.png' is 100,000 bytes, above the limit of 16,384"
    ):
        fake.read()


def test_a_bomb_of_small_declared_size_is_not_inflated(fake: Fake, traced_memory):
    fake.change_first(bytes(80_000_000))
    data = fake.path.read_bytes()
    fake.path.write_bytes(data.replace(struct.pack("<I", 80_000_000), struct.pack("<I", 300)))
    tracemalloc.reset_peak()

    with pytest.raises(DataError, match=r"0007_01\.png' is damaged"):
        fake.read()

    peak = tracemalloc.get_traced_memory()[1]
    assert peak < 50_000_000


@pytest.fixture
def traced_memory():
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_an_encrypted_entry_is_refused(fake: Fake):
    data = bytearray(fake.path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    fake.path.write_bytes(data)

    with pytest.raises(DataError, match=r"0007_01\.png' is encrypted"):
        fake.read()


def test_a_symbolic_link_is_refused(fake: Fake):
    link = zipfile.ZipInfo("images_background/link")
    link.external_attr = 0o120777 << 16
    fake.add(link, b"/etc/passwd")

    with pytest.raises(DataError, match="'images_background/link' is a symbolic link"):
        fake.read()


def test_a_foreign_file_is_named(fake: Fake):
    fake.add("images_background/README.txt", b"hello")

    with pytest.raises(
        DataError,
        match=r"holds 1 files that are not Omniglot's, .* 'images_background/README\.txt'",
    ):
        fake.read()


def test_a_missing_drawing_is_named(fake: Fake):
    write_zip(fake.path, fake.entries[:-2])

    with pytest.raises(
        DataError, match=r"lacks 2 of 60 drawings, the first is .*Beth/character01/0009_19\.png'"
    ):
        fake.read()


def test_an_archive_without_entries_lacks_all_drawings(fake: Fake):
    write_zip(fake.path, [])

    with pytest.raises(DataError, match="lacks 60 of 60 drawings"):
        fake.read()


def test_the_other_archive_under_this_ones_name_is_refused(fake: Fake):
    fake.path.write_bytes((fake.directory / "images_evaluation.zip").read_bytes())

    with pytest.raises(DataError, match="holds 20 files that are not Omniglot's"):
        fake.read()


def test_one_changed_pixel_is_found_and_its_character_named(fake: Fake):
    ink = fake.ink["background/Alif/character01"][0].copy()
    ink[104, 104] ^= True
    fake.change_first(png(ink))

    with pytest.raises(
        DataError, match="drawings in images_background/Alif/character01 are not those of Omniglot"
    ):
        fake.read()


def test_two_swapped_drawings_are_found(fake: Fake):
    (first, a), (second, b), *rest = fake.entries
    write_zip(fake.path, [(first, b), (second, a), *rest])

    with pytest.raises(
        DataError, match="drawings in images_background/Alif/character01 are not those of Omniglot"
    ):
        fake.read()


def test_the_whole_digest_is_compared_too_when_loading(fake: Fake):
    fake.expected = (fake.expected[0], replace(fake.expected[1], digest="0" * 64))

    with pytest.raises(
        DataError,
        match=r"images_evaluation\.zip: its drawings as a whole are not those of Omniglot",
    ):
        fake.load(fake.directory)


def test_a_flipped_bit_in_the_archive_is_found_and_its_file_named(fake: Fake):
    data = bytearray(fake.path.read_bytes())
    data[data.index(b"\x89PNG") + 100] ^= 1
    fake.path.write_bytes(data)

    with pytest.raises(DataError, match=r"0007_01\.png' is damaged \(.*CRC"):
        fake.read()


def test_an_unknown_compression_is_refused(fake: Fake):
    data = bytearray(fake.path.read_bytes())
    data[data.index(b"PK\x01\x02") + 10] = 99
    data[data.index(b"PK\x03\x04") + 8] = 99
    fake.path.write_bytes(data)

    with pytest.raises(DataError, match=r"0007_01\.png' has a compression other than deflate"):
        fake.read()


def test_a_file_that_is_not_an_image_is_refused(fake: Fake):
    fake.change_first(b"not an image")

    with pytest.raises(DataError, match=r"0007_01\.png' is not a PNG image"):
        fake.read()


def test_an_image_of_another_format_is_refused(fake: Fake):
    buffer = io.BytesIO()
    Image.new("1", (105, 105)).save(buffer, "BMP")
    fake.change_first(buffer.getvalue())

    with pytest.raises(DataError, match=r"0007_01\.png' is not a PNG image"):
        fake.read()


def test_a_header_of_50_000_by_50_000_pixels_is_refused(fake: Fake):
    fake.change_first(png_header(50_000, 50_000))

    with pytest.raises(
        DataError, match=r"0007_01\.png' is not a PNG image \(Image size \(2500000000 pixels\)"
    ):
        fake.read()


@pytest.mark.parametrize(
    "size", [(10_000, 10_000), (105, 104), (28, 28)]
)  # Pillow only warns of the first
def test_an_image_of_another_size_is_refused_before_it_is_decoded(
    fake: Fake, size: tuple[int, int]
):
    fake.change_first(png_header(*size))

    with pytest.raises(
        DataError, match=rf"is {size[0]} x {size[1]} of mode '1', Omniglot's drawings are 105 x 105"
    ):
        fake.read()


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_an_image_of_another_mode_is_refused(fake: Fake, mode: str):
    fake.change_first(png(fake.ink["background/Alif/character01"][0], mode))

    with pytest.raises(DataError, match=rf"is 105 x 105 of mode '{mode}'"):
        fake.read()


def test_a_truncated_image_is_refused(fake: Fake):
    fake.change_first(fake.entries[0][1][:200])

    with pytest.raises(
        DataError, match=r"the image 'images_background/Alif/character01/0007_01\.png' is damaged"
    ):
        fake.read()


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_archive_is_refused_or_read_right_and_nothing_else_is_raised(
    intact: Fake, seed: int
):
    random = np.random.default_rng(seed)
    data = np.frombuffer(intact.path.read_bytes(), np.uint8).copy()
    where = (
        random.integers(len(data) - (6000 if seed % 2 else 0), size=4)
        if seed % 4
        else -random.integers(1, 6000, 4)
    )
    data[where] = random.integers(256, size=4)

    try:
        ink = list(read_characters(intact.path, data.tobytes(), intact.expected[0]))
    except DataError:
        return
    assert np.array_equal(np.stack(ink), np.stack(list(intact.ink.values())[:3]))


# Where it is looked for


def test_an_explicit_folder_goes_before_the_environment(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("INNERLOOP_DATA", "/nowhere")

    assert "data_dir" in fake.load(fake.directory).source


def test_the_environment_goes_before_the_cache(fake: Fake, monkeypatch: pytest.MonkeyPatch):
    fake.load(fake.directory)
    monkeypatch.setenv("INNERLOOP_DATA", str(fake.directory))

    assert fake.load().source == f"{fake.directory}, named by $INNERLOOP_DATA"


def test_a_named_folder_without_an_archive_is_an_error_even_with_a_full_cache(fake: Fake):
    fake.load(fake.directory)
    (fake.directory / "images_evaluation.zip").unlink()

    with pytest.raises(
        DataError, match=r"folder .* named by data_dir .* does not hold images_evaluation\.zip"
    ) as caught:
        fake.load(fake.directory)
    assert not isinstance(caught.value, omniglot.NotFoundError)


def test_a_folder_of_the_environment_without_the_archives_is_an_error(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("INNERLOOP_DATA", "/nowhere")

    with pytest.raises(
        DataError,
        match=r"folder '/nowhere' named by \$INNERLOOP_DATA does not hold images_background",
    ):
        fake.load()


def test_without_archives_cache_and_permission_to_download_it_says_so(fake: Fake):
    with pytest.raises(
        omniglot.NotFoundError, match="not on this machine and was not to be downloaded: put both"
    ):
        fake.load(download=False)


def test_without_a_mirror_that_answers_it_says_so(fake: Fake, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        omniglot, "MIRRORS", ("http://127.0.0.1:9/",)
    )  # the discard port: nothing listens

    with pytest.raises(
        omniglot.NotFoundError, match=r"No mirror delivers images_background\.zip \(127\.0\.0\.1: "
    ):
        fake.load()


def test_archives_packed_anew_are_downloaded_loaded_and_cached(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        omniglot, "MIRRORS", (fake.directory.as_uri() + "/",)
    )  # urllib reads file: too

    downloaded = fake.load()
    again = fake.load(download=False)

    assert downloaded.source.startswith("downloaded to ")
    assert again.source.startswith("the cache ")
    assert again.fingerprint == downloaded.fingerprint


def test_damaged_archives_in_the_cache_are_downloaded_again(
    fake: Fake, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(omniglot, "MIRRORS", (fake.directory.as_uri() + "/",))
    cache.mkdir(parents=True)
    for name in ("images_background.zip", "images_evaluation.zip"):
        (cache / name).write_bytes(b"damaged")

    assert len(fake.load().images) == 4


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home: nothing says what ~ is."""
    monkeypatch.delenv("INNERLOOP_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)


def test_without_home_there_is_no_cache(fake: Fake, homeless):
    assert cache_directory() == Path(os.devnull, "omniglot")
    assert len(fake.load(fake.directory).images) == 4


def test_a_tilde_that_is_no_home_is_no_cache_either(monkeypatch: pytest.MonkeyPatch):
    """What earlier versions of platformdirs say of a user without a home."""
    monkeypatch.delenv("INNERLOOP_CACHE")
    monkeypatch.setattr(
        "innerloop.data.cache.user_cache_path", lambda *_, **__: Path("~/.cache/innerloop")
    )

    assert cache_directory() == Path(os.devnull, "omniglot")


@pytest.mark.skipif(sys.platform != "linux", reason="each system has its own place")
def test_the_cache_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("INNERLOOP_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/ada")

    assert cache_directory() == Path("/home/ada/.cache/innerloop/omniglot")


@pytest.mark.skipif(sys.platform != "linux", reason="each system has its own place")
def test_the_cache_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("INNERLOOP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")

    assert cache_directory() == Path("/xdg/innerloop/omniglot")


# The cache


@pytest.fixture
def undecodable(monkeypatch: pytest.MonkeyPatch):
    """A function after whose call no archive may be decoded."""

    def forbid():
        def fail(*_):
            raise AssertionError("decoded again")

        monkeypatch.setattr(omniglot, "read_characters", fail)

    return forbid


def test_the_second_load_decodes_nothing(fake: Fake, undecodable):
    first = fake.load(fake.directory)
    undecodable()

    assert fake.load(fake.directory).fingerprint == first.fingerprint


def test_the_cache_alone_is_enough(fake: Fake, cache: Path):
    first = fake.load(fake.directory)

    again = fake.load(download=False)

    assert again.fingerprint == first.fingerprint
    assert again.source.startswith(f"the cache {cache}")


def test_the_cached_images_can_be_written_to(fake: Fake):
    fake.load(fake.directory)

    assert fake.load(download=False).images.flags.writeable  # torch warns of arrays that cannot


def test_the_cache_is_one_file_for_each_size(fake: Fake, cache: Path):
    fake.load(fake.directory, size=28)
    fake.load(fake.directory, size=14)

    assert len(list(cache.iterdir())) == 2
    assert fake.load(download=False, size=14).images.shape == (4, 20, 1, 14, 14)


def test_tampering_with_an_archive_is_found_although_the_cache_is_full(fake: Fake):
    fake.load(fake.directory)
    fake.change_first(png(np.zeros((105, 105), bool)))

    with pytest.raises(
        DataError, match="drawings in images_background/Alif/character01 are not those of Omniglot"
    ):
        fake.load(fake.directory)


@pytest.mark.parametrize("position", [0, 40, 1000, -1])
def test_a_damaged_cache_is_rebuilt_from_the_archives(
    fake: Fake, cache: Path, position: int, undecodable
):
    first = fake.load(fake.directory)
    (file,) = cache.iterdir()
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)

    assert fake.load(fake.directory).fingerprint == first.fingerprint
    undecodable()
    assert fake.load(fake.directory).fingerprint == first.fingerprint


@pytest.mark.parametrize(
    "content", [b"", b"short", bytes(10_000_000), hashlib.sha256(bytes(99)).digest() + bytes(99)]
)
def test_a_damaged_cache_without_archives_is_passed_over(fake: Fake, cache: Path, content: bytes):
    fake.load(fake.directory)
    (file,) = cache.iterdir()
    file.write_bytes(content)

    with pytest.raises(omniglot.NotFoundError, match="not on this machine"):
        fake.load(download=False)


def test_a_cache_that_cannot_be_written_is_done_without(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "file"))

    assert len(fake.load(fake.directory).images) == 4


def test_a_write_that_fails_leaves_no_file(
    fake: Fake, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)

    assert len(fake.load(fake.directory).images) == 4
    assert list(cache.iterdir()) == []


def test_archives_in_the_cache_serve_another_size(fake: Fake, cache: Path):
    cache.mkdir(parents=True)
    for file in fake.directory.iterdir():
        file.rename(cache / file.name)

    assert fake.load(download=False).source == f"downloaded to {cache}"


def test_damaged_archives_in_the_cache_are_an_error_if_they_cannot_be_downloaded(
    fake: Fake, cache: Path
):
    cache.mkdir(parents=True)
    for file in fake.directory.iterdir():
        file.rename(cache / file.name)
    (cache / "images_background.zip").write_bytes(b"damaged")

    with pytest.raises(DataError, match="is not a zip archive"):
        fake.load(download=False)


# verify, and the real archives


def test_verify_counts_what_it_compared(fake: Fake):
    background, evaluation = omniglot.verify(fake.directory, expected=fake.expected)

    assert (background.alphabets, background.characters, background.drawings) == (2, 3, 60)
    assert (evaluation.alphabets, evaluation.characters, evaluation.drawings) == (1, 1, 20)
    assert background.digest == fake.expected[0].digest
    assert background.md5 == hashlib.md5(fake.path.read_bytes()).hexdigest()
    assert not background.is_official


def test_verify_finds_a_fault(fake: Fake):
    fake.change_first(b"not an image")

    with pytest.raises(DataError, match="is not a PNG image"):
        omniglot.verify(fake.directory, expected=fake.expected)


@pytest.mark.slow
@needs_real_archives
def test_omniglot_has_1623_characters_of_20_drawings(real):
    dataset, _ = real

    assert dataset.images.shape == (1623, 20, 1, 28, 28)
    assert 0.05 < dataset.images.mean() / 255 < 0.12  # a few strokes, not their negative


@pytest.mark.slow
@needs_real_archives
def test_every_committed_split_of_omniglot_names_its_classes(real):
    dataset, _ = real

    for name in splits.OMNIGLOT_SPLITS:
        for part in splits.find_split(name, dataset).parts.values():
            dataset.class_indices(part)


@pytest.mark.slow
@needs_real_archives
def test_a_known_drawing_of_omniglot_is_where_it_should_be(real):
    dataset, _ = real
    with zipfile.ZipFile(Path(str(REAL)) / "images_evaluation.zip") as archive:
        image = Image.open(
            io.BytesIO(archive.read("images_evaluation/ULOG/character26/1623_20.png"))
        )

    ink = 255 - np.asarray(image.convert("L"))

    assert np.array_equal(
        dataset.images[dataset.class_names.index("evaluation/ULOG/character26"), 19, 0],
        resize(ink, 28),
    )


@pytest.mark.slow
@needs_real_archives
def test_omniglots_second_load_decodes_nothing(real, monkeypatch: pytest.MonkeyPatch, undecodable):
    dataset, cache = real
    monkeypatch.setenv("INNERLOOP_CACHE", str(cache))
    undecodable()

    assert omniglot.load(Path(str(REAL))).fingerprint == dataset.fingerprint
    assert omniglot.load(download=False).fingerprint == dataset.fingerprint
