"""Whatever is done to a saved classifier or a picture, only innerloop's own errors come out.

``INNERLOOP_MUTATIONS`` says how many classifiers and, of those a tenth, pictures are tried.
"""

import hashlib
import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from innerloop import FewShotClassifier
from innerloop.classifier.pictures import pictures_of
from innerloop.classifier.places import SUMS
from innerloop.core.errors import ConfigError, DataError
from picturing import KINDS, drawing, photo

COUNT = int(os.environ.get("INNERLOOP_MUTATIONS", "600"))
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 1e308, 10**400, float("nan"), float("inf"), "", "text", "\ud800",
    [], {}, [[[]]], ["a"], ["a", "a"], [1, 2, 3], {"a": 1}, "ridge", "photos", "timm:x", "../x",
)  # fmt: skip
"""In the place of what a header should hold."""


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("saved") / "classifier.innerloop"
    examples = [drawing(kind, seed) for kind in KINDS for seed in range(4)]
    FewShotClassifier("omniglot").fit(examples, np.repeat(KINDS, 4)).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def damaged(content: bytes, chance: random.Random) -> bytes:
    """With bits turned, stretches cut, repeated or overwritten."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(changed) + 1)
        width = chance.randint(1, 16)
        kind = chance.randrange(5)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del changed[place:]
        elif kind == 2:
            del changed[place : place + width]
        elif kind == 3:
            changed[place:place] = chance.randbytes(width)
        else:
            changed[place : place + width] = chance.randbytes(width)
    return bytes(changed)


def other_header(content: bytes, chance: random.Random) -> bytes:
    """With a value of another kind, a field more or less, or a list's element exchanged."""
    header = json.loads(content)
    name = chance.choice(list(header))
    kind = chance.randrange(4)
    if kind == 0:
        del header[name]
    elif kind == 1:
        header[chance.choice(["more", "Format", ""])] = chance.choice(VALUES)
    elif kind == 2 and isinstance(header[name], list) and header[name]:
        header[name][chance.randrange(len(header[name]))] = chance.choice(VALUES)
    else:
        header[name] = chance.choice(VALUES)
    return json.dumps(header).encode()


def archive_of(contents: dict[str, bytes], *, sums: bool) -> bytes:
    """An archive; with checksums that fit, as who makes it on purpose has them."""
    files = dict(contents)
    if sums:
        lines = [
            f"{hashlib.sha256(content).hexdigest()}  {name}\n"
            for name, content in files.items()
            if name != SUMS
        ]
        files[SUMS] = "".join(lines).encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def mutated(contents: dict[str, bytes], chance: random.Random) -> bytes:
    """A classifier that came to harm, or was made to do some."""
    kind = chance.randrange(4)
    if kind == 0:
        return damaged(archive_of(contents, sums=False), chance)
    name = chance.choice(sorted(contents))
    change: Callable[[bytes, random.Random], bytes] = damaged
    if kind == 3:
        name, change = "classifier.json", other_header
    return archive_of(contents | {name: change(contents[name], chance)}, sums=True)


@pytest.mark.slow
def test_mutated_classifiers_are_refused_in_a_sentence_or_predict(contents, tmp_path):
    path = tmp_path / "classifier.innerloop"
    picture = [drawing("ring", 9)]
    loaded = 0
    for number in range(COUNT):
        path.write_bytes(mutated(contents, random.Random(number)))
        try:
            classifier = FewShotClassifier.load(path)
        except (DataError, ConfigError) as error:
            assert "\n" not in str(error), number
            continue
        loaded += 1
        p = classifier.predict_proba(picture)
        assert np.isfinite(p).all() and p.sum() == pytest.approx(1), number

    # Else nothing but the first check would have been tried.
    assert 0.02 * COUNT < loaded < 0.6 * COUNT


def odd_picture(chance: random.Random) -> Image.Image:
    """A picture of any mode and shape."""
    mode = chance.choice(
        ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"]
    )
    width, height = (chance.choice([1, 2, 3, 17, 64, 200]) for _ in range(2))
    image = photo("sea", chance.randrange(100)).resize((width, height))
    if mode in ("HSV", "LAB", "YCbCr"):
        return (
            image.convert(mode) if mode != "LAB" else Image.new("LAB", (width, height), (50, 1, 2))
        )
    return image.convert("I").convert(mode) if mode == "I;16" else image.convert(mode)


@pytest.mark.slow
def test_hostile_pictures_are_refused_in_a_sentence_or_read(tmp_path):
    read = 0
    for number in range(COUNT // 10 + 100):
        chance = random.Random(number)
        image = odd_picture(chance)
        suffix = chance.choice(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
        file = io.BytesIO()
        try:
            image.save(file, suffix)
        except (OSError, KeyError, ValueError):
            image.convert("RGB").save(file, suffix)
        content = file.getvalue() if number % 3 == 0 else damaged(file.getvalue(), chance)
        path = tmp_path / f"{number}.{suffix.lower()}"
        path.write_bytes(content)
        for given in (path, image):
            (picture,) = pictures_of([given])
            try:
                pixels = picture.read().pixels()
            except DataError as error:
                assert "\n" not in str(error) and picture.name in str(error)
                continue
            read += 1
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 2 or pixels.shape[2] == 3

    assert read > COUNT // 20


def bomb(width: int, height: int) -> bytes:
    """The header of a PNG of so many pixels, and hardly any of them."""
    import struct
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [9_000, 50_000, 2**31 - 1])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path, side: int):
    path = tmp_path / "huge.png"
    path.write_bytes(bomb(side, side))
    (picture,) = pictures_of(path)

    with pytest.raises(DataError, match=r"huge\.png"):
        picture.read().pixels()
