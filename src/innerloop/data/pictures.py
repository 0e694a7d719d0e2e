"""One picture of a file, whatever its format and colours, as square bytes that a network takes."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from innerloop.core.errors import DataError
from innerloop.data.images import resize

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Pillow's names; other decoders of its are never offered a stranger's bytes."""
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".pbm", ".pgm", ".ppm", ".pnm"),
)
MAX_PIXELS = 64_000_000
"""Of a picture that is decoded; more than most cameras make, and 200 MB in colour."""
GREY = ("1", "L", "LA", "La")
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
WHITE = 65535
TWELVE_BITS = 4095
"""What scientific cameras have at most, in files of 16 bits; of 255 it would be 16."""
PHOTOMETRIC = 262
"""A tag of TIFF: 0 where zero is white."""
ROWS = 256
"""Of a transparent picture that are laid on white together."""


class Unusable(ValueError):
    """Why a picture that is sound is not taken."""


def is_picture(name: str) -> bool:
    """Whether a file's name is that of a picture."""
    return PurePath(name).suffix.lower() in SUFFIXES


@contextmanager
def without_warnings() -> Iterator[None]:
    """Within the context Pillow does not warn of oddities: what matters is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_picture(file: BinaryIO, path: str, size: int) -> np.ndarray:
    """Decode a picture, cut its middle square, and resize that.

    Args:
        file: open at its beginning.
        path: what errors call it.
        size: side of the result in pixels.

    Returns:
        (channels, size, size) uint8, as many channels as `decoded` finds.

    Raises:
        DataError: if it is no picture, is damaged, or is too large.
    """
    resized = resize(middle_square(decoded(file, path)), size)
    return resized[None] if resized.ndim == 2 else np.moveaxis(resized, -1, 0)


def decoded(file: BinaryIO, path: str) -> np.ndarray:
    """A picture's pixels, upright and laid on white.

    A picture of shades of grey alone, by its format, has one channel; every other one has three.
    Of an animation it is the first picture. 16 bits become 8.

    Args:
        file: open at its beginning.
        path: what errors call it.

    Returns:
        (height, width) or (height, width, 3) uint8.

    Raises:
        DataError: if it is no picture, is damaged, or is too large.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            _refuse_huge(image, path)
            stored = _stored(image)
            # Nobody else has it: a copy would be as large again.
            ImageOps.exif_transpose(image, in_place=True)
            return np.asarray(_in_eight_bits(image, stored))
    except DataError:
        raise
    # A decoder may raise anything at bytes that somebody made up.
    except Exception as error:
        file.seek(0)
        raise unreadable(error, path, empty=not file.read(1)) from error


def unreadable(error: Exception, path: str, *, empty: bool = False) -> DataError:
    """Why a picture could not be decoded, in words that are not a library's.

    Args:
        error: what was raised.
        path: what errors call it.
        empty: whether its file has no bytes.
    """
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return DataError(
            f"The picture {path!r} is of more than {MAX_PIXELS:,} pixels: make it smaller."
        )
    reason = "it is damaged"
    if empty:
        reason = "it is empty"
    elif isinstance(error, UnidentifiedImageError):
        reason = "it is not a picture"
    elif isinstance(error, Unusable):
        reason = str(error)
    elif isinstance(error, MemoryError):
        reason = "there is too little memory for it"
    elif "truncated" in str(error).lower():
        reason = "it ends too early"
    return DataError(f"The picture {path!r} cannot be read ({reason}): remove or replace it.")


def pixels_of(image: Image.Image, path: str) -> np.ndarray:
    """As `decoded`, of a picture that Pillow has opened.

    Raises:
        DataError: if it is too large.
    """
    _refuse_huge(image, path)
    stored = _stored(image)
    return np.asarray(_in_eight_bits(ImageOps.exif_transpose(image), stored))


def _refuse_huge(image: Image.Image, path: str) -> None:
    if not (image.width and image.height):
        raise DataError(f"The picture {path!r} has no pixels: remove or replace it.")
    if image.width * image.height > MAX_PIXELS:  # before any pixel is decoded
        raise DataError(
            f"The picture {path!r} is {image.width:,} x {image.height:,} pixels, more than "
            f"{MAX_PIXELS:,}: make it smaller."
        )


class _Stored(NamedTuple):
    """How a file has its pixels, which is not known any more once they are decoded."""

    cut: bool
    """In 16 bits a channel, of which Pillow keeps the upper 8."""
    grey: bool
    """Grey with transparency, which Pillow may give as colour."""
    white_is_zero: bool
    """The smaller, the brighter; Pillow turns that round in 8 bits alone."""


def _stored(image: Image.Image) -> _Stored:
    """Of a picture that is not decoded yet."""
    tiles = getattr(image, "tile", None)
    how = tiles[0][3] if tiles else ""
    raw = str(how[0] if isinstance(how, tuple) and how else how)
    tags = getattr(image, "tag_v2", {})
    return _Stored(
        ";16" in raw and image.mode not in SIXTEEN_BITS,
        raw.startswith("LA"),
        tags.get(PHOTOMETRIC) == 0,
    )


def _in_eight_bits(image: Image.Image, stored: _Stored) -> Image.Image:
    """The picture in mode L or RGB, without transparency."""
    if image.mode in (*SIXTEEN_BITS, "I"):
        return _from_sixteen_bits(image, stored.white_is_zero)
    if image.mode == "F":
        raise Unusable("its pixels are floating-point numbers: save it in 8 bits a channel")
    if stored.cut:
        _refuse_few_bits(_brightest(image) * 257)
    mode = "L" if image.mode in GREY or stored.grey else "RGB"
    if image.has_transparency_data:
        return _on_white(image, mode)
    return image if image.mode == mode else image.convert(mode)


def _on_white(image: Image.Image, mode: str) -> Image.Image:
    """A transparent picture on white, in some rows at a time: all at once is five times as much."""
    result = Image.new(mode, image.size)
    for top in range(0, image.height, ROWS):
        box = (0, top, image.width, min(top + ROWS, image.height))
        # By way of RGBA: what lies under transparent pixels is not to be seen.
        coloured = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", coloured.size, "white")
        result.paste(Image.alpha_composite(white, coloured).convert(mode), (0, top))
    return result


def _brightest(image: Image.Image) -> int:
    """Of all channels but transparency."""
    colours = image.convert("RGB") if image.mode in ("RGBA", "LA", "CMYK") else image
    return int(np.asarray(colours).max())


def _refuse_few_bits(brightest: int) -> None:
    """Raise `Unusable` for values of 12 bits or fewer in 16."""
    if 0 < brightest <= TWELVE_BITS:
        raise Unusable(
            f"its brightest pixel has {brightest} of {WHITE}, as if its values were of fewer "
            "bits; it would be almost black: save it in 8 bits a channel"
        )


def _from_sixteen_bits(image: Image.Image, white_is_zero: bool) -> Image.Image:
    """Scaled: Pillow's own conversion would cut off all that is brighter than 255."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > WHITE:
        raise Unusable("its pixels have more than 16 bits: save it in 8 bits a channel")
    _refuse_few_bits(int(values.max()))
    if white_is_zero:
        values = WHITE - values
    # 65535 is 255 * 257; with half of that added, the division rounds.
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def middle_square(pixels: np.ndarray) -> np.ndarray:
    """The middle of a picture (height, width, ...), as wide and high as its shorter side."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top = (height - side) // 2
    left = (width - side) // 2
    return pixels[top : top + side, left : left + side]


def padded_square(pixels: np.ndarray, colour: int) -> np.ndarray:
    """A picture (height, width, ...) in the middle of a square of one colour."""
    height, width = pixels.shape[:2]
    side = max(height, width)
    square = np.full((side, side, *pixels.shape[2:]), colour, pixels.dtype)
    top = (side - height) // 2
    left = (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square
