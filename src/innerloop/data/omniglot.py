"""Omniglot (Lake et al., 2015): find or download, verify, decode once, cache; no sampling here.

1623 characters of 50 alphabets, each drawn by 20 people: 964 in the background set, 659 in the
evaluation set.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from itertools import chain
from pathlib import Path

import numpy as np

from innerloop.core.errors import DataError, DiskError
from innerloop.core.files import expanded
from innerloop.data.archives import (
    DRAWINGS,
    MAX_ARCHIVE_BYTES,
    ArchiveContents,
    Character,
    read_bytes,
    read_characters,
)
from innerloop.data.cache import images_path, read_images, write_images
from innerloop.data.download import Progress, fetch
from innerloop.data.extracted import is_extracted, read_extracted
from innerloop.data.images import FewShotDataset, resize

MIRRORS = (
    "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",
    "https://github.com/brendenlake/omniglot/raw/master/python/",
)
HELP = "put both archives into a folder and name it with --data-dir or $INNERLOOP_DATA"


class NotFoundError(DataError):
    """Omniglot is neither here nor to be had; nothing that was found is wrong."""


@dataclass(frozen=True)
class VerifiedArchive:
    """One archive that holds exactly what it should.

    Attributes:
        path: the archive.
        alphabets: how many it holds.
        characters: how many it holds.
        drawings: how many it holds, all decoded and compared.
        digest: SHA-256 over names and pixels.
        md5: of the archive's bytes.
        is_official: whether these are the official release's bytes; an archive packed anew differs,
            and is as good.
    """

    path: Path
    alphabets: int
    characters: int
    drawings: int
    digest: str
    md5: str
    is_official: bool


@cache
def contents() -> tuple[ArchiveContents, ...]:
    """What the two archives have to hold: the committed digests."""
    stored = json.loads(
        files("innerloop.data").joinpath("omniglot.json").read_text(encoding="utf-8")
    )
    return tuple(
        ArchiveContents(
            folder,
            tuple(
                Character(f"{alphabet}/character{index + 1:02d}", entry["first"] + index, digest)
                # Episodes draw positions: in another order of classes they are other ones.
                for alphabet, entry in sorted(archive["alphabets"].items())
                for index, digest in enumerate(entry["characters"])
            ),
            archive["digest"],
            archive["md5"],
        )
        for folder, archive in stored.items()
    )


def class_names(expected: Sequence[ArchiveContents]) -> tuple[str, ...]:
    """``background/<alphabet>/characterNN`` and ``evaluation/...``, sorted as in the archives."""
    return tuple(
        f"{archive.folder.removeprefix('images_')}/{character.name}"
        for archive in expected
        for character in archive.characters
    )


def lies_in(folder: Path) -> bool:
    """Whether a folder holds Omniglot or a part of it, as archives or extracted from them."""
    return any(
        is_extracted(folder, archive) or os.path.isfile(_archive_path(folder, archive))
        for archive in contents()
    )


def load(
    data_dir: Path | None = None,
    *,
    size: int = 28,
    download: bool = True,
    expected: Sequence[ArchiveContents] | None = None,
) -> FewShotDataset:
    """Omniglot as uint8 images (1623, 20, 1, ``size``, ``size``), the drawings by file name.

    Looked for in ``data_dir``, then in ``$INNERLOOP_DATA``, then in the cache, then downloaded into
    the cache. A folder that is named has to hold the archives; there is no falling on to the next
    place then.

    Args:
        data_dir: folder of ``images_background.zip`` and ``images_evaluation.zip``, or of the
            folders extracted from them.
        size: side of the images in pixels.
        download: whether the network may be asked.
        expected: what the archives have to hold; Omniglot itself by default.

    Raises:
        NotFoundError: if no folder is named, the cache is empty, and it cannot be downloaded.
        DataError: if a named folder lacks an archive, or an archive is damaged or not Omniglot's.
    """
    expected = contents() if expected is None else expected
    if data_dir is not None:
        return _from_named(expanded(data_dir), "data_dir (--data-dir)", expected, size)
    if named := os.environ.get("INNERLOOP_DATA"):
        return _from_named(expanded(named), "$INNERLOOP_DATA", expected, size)
    path = _images_path(expected, size)
    images = read_images(path, _shape(expected, size))
    if images is not None:
        return FewShotDataset("omniglot", images, class_names(expected), f"the cache {path}")
    return _from_cached_archives(path.parent, expected, size, download)


def verify(
    directory: Path, *, expected: Sequence[ArchiveContents] | None = None
) -> tuple[VerifiedArchive, ...]:
    """Decode and compare every drawing of both archives in a folder.

    Raises:
        DataError: at the first fault, naming it.
    """
    expected = contents() if expected is None else expected
    return tuple(
        _verify_archive(_archive_path(directory, archive), archive) for archive in expected
    )


def download(
    directory: Path, *, mirrors: Sequence[str] = MIRRORS, progress: Progress | None = None
) -> None:
    """Download both archives into a folder; whichever is there already, and genuine, is kept.

    Args:
        directory: made if it is missing.
        mirrors: URLs that the archives' names are appended to, tried in turn.
        progress: told the file's name, bytes so far and bytes in all after each block.

    Raises:
        DataError: if no mirror delivers a genuine archive.
        DiskError: if the folder cannot be written.
    """
    _download(directory, mirrors, progress, contents())


def _archive_path(directory: Path, archive: ArchiveContents) -> Path:
    return directory / f"{archive.folder}.zip"


def _from_named(
    directory: Path, named_by: str, expected: Sequence[ArchiveContents], size: int
) -> FewShotDataset:
    """From a folder that the user named: it has to hold the archives."""
    for archive in expected:
        if not (is_extracted(directory, archive) or _archive_path(directory, archive).is_file()):
            raise DataError(
                f"The folder {str(directory)!r} named by {named_by} does not hold "
                f"{archive.folder}.zip, nor the folder {archive.folder} extracted from it: put "
                "both archives there (innerloop data download --data-dir FOLDER), or name another "
                "folder."
            )
    return _from_archives(directory, expected, size, f"{directory}, named by {named_by}")


def _from_cached_archives(
    directory: Path, expected: Sequence[ArchiveContents], size: int, may_download: bool
) -> FewShotDataset:
    """From the archives in the cache, which are downloaded where they are missing or damaged."""
    source = f"downloaded to {directory}"
    if all(_archive_path(directory, archive).is_file() for archive in expected):
        try:
            return _from_archives(directory, expected, size, source)
        except DataError:
            if not may_download:
                raise
    if not may_download:
        raise NotFoundError(
            f"Omniglot is not on this machine and was not to be downloaded: {HELP}."
        )
    try:
        _download(directory, MIRRORS, None, expected)
    except (DataError, DiskError) as error:
        raise NotFoundError(str(error)) from error
    return _from_archives(directory, expected, size, source)


def _from_archives(
    directory: Path, expected: Sequence[ArchiveContents], size: int, source: str
) -> FewShotDataset:
    """Decode and verify; or read the cache, if it was made from the very files at hand."""
    opened = [_opened(directory, archive) for archive in expected]
    # Of what is at hand: a cache that other files filled must not hide that these are damaged.
    made_from = hashlib.sha256(b"".join(digest for digest, _ in opened)).digest()
    cached = _images_path(expected, size)
    images = read_images(cached, _shape(expected, size), made_from)
    if images is None:
        images = np.empty(_shape(expected, size), np.uint8)
        characters = chain.from_iterable(read() for _, read in opened)
        # `strict` also asks for one character too many: only then are the whole digests compared.
        for row, ink in zip(images, characters, strict=True):
            row[:, 0] = [resize(drawing, size) for drawing in ink * np.uint8(255)]
        write_images(cached, images, made_from)
    return FewShotDataset("omniglot", images, class_names(expected), source=source)


def _opened(
    directory: Path, archive: ArchiveContents
) -> tuple[bytes, Callable[[], Iterator[np.ndarray]]]:
    """A digest of an archive, or of what was extracted from it; and what reads its drawings."""
    path = _archive_path(directory, archive)
    if not path.is_file() and is_extracted(directory, archive):
        return read_extracted(directory, archive)
    data = read_bytes(path)
    return hashlib.sha256(data).digest(), partial(read_characters, path, data, archive)


def _verify_archive(path: Path, archive: ArchiveContents) -> VerifiedArchive:
    data = read_bytes(path)
    for _ in read_characters(path, data, archive):
        pass
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return VerifiedArchive(
        path=path,
        alphabets=len({character.name.partition("/")[0] for character in archive.characters}),
        characters=len(archive.characters),
        drawings=len(archive.files),
        digest=archive.digest,
        md5=md5,
        is_official=md5 == archive.md5,
    )


def _download(
    directory: Path,
    mirrors: Sequence[str],
    progress: Progress | None,
    expected: Sequence[ArchiveContents],
) -> None:
    for archive in expected:
        target = _archive_path(directory, archive)
        is_genuine = partial(_is_genuine, archive)
        if not is_genuine(target):
            fetch(
                [f"{mirror}{target.name}" for mirror in mirrors],
                target,
                is_genuine=is_genuine,
                max_bytes=MAX_ARCHIVE_BYTES,
                otherwise=HELP,
                progress=progress,
            )


def _is_genuine(archive: ArchiveContents, path: Path) -> bool:
    """Whether a file is the official archive, or one packed anew with the same contents."""
    try:
        data = read_bytes(path)
        # The official bytes are recognised without decoding. MD5 is no proof against malice, and
        # need not be: loading compares every pixel.
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != archive.md5:
            _verify_archive(path, archive)
    except DataError:
        return False
    return True


def _shape(expected: Sequence[ArchiveContents], size: int) -> tuple[int, ...]:
    return sum(len(archive.characters) for archive in expected), DRAWINGS, 1, size, size


def _images_path(expected: Sequence[ArchiveContents], size: int) -> Path:
    digests = "".join(archive.digest for archive in expected)
    return images_path(hashlib.sha256(digests.encode()).hexdigest(), size)
