"""Whatever a picture's format and colours are, its pixels are those that a person sees."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from innerloop.core.errors import DataError
from innerloop.data.images import resize
from innerloop.data.pictures import MAX_PIXELS, is_picture, read_picture

SIDE = 16
COLOURED = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
SHADES = COLOURED[..., 0]


def saved(image: Image.Image, kind: str = "PNG", **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def read(file: io.BytesIO, size: int = SIDE) -> np.ndarray:
    return read_picture(file, "a/picture", size)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_size(width: int, height: int) -> io.BytesIO:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)))


def test_colours_are_three_channels_and_shades_of_grey_are_one():
    assert np.array_equal(read(saved(Image.fromarray(COLOURED))), COLOURED.transpose(2, 0, 1))
    assert np.array_equal(read(saved(Image.fromarray(SHADES))), SHADES[None])


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_a_format_without_loss_gives_the_pixels_that_were_saved(kind):
    options = {"lossless": True} if kind == "WEBP" else {}

    assert np.array_equal(
        read(saved(Image.fromarray(COLOURED), kind, **options)), COLOURED.transpose(2, 0, 1)
    )


def test_a_palette_is_looked_up():
    image = Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE), "P")
    palette = np.random.default_rng(1).integers(0, 256, (256, 3), dtype=np.uint8)
    image.putpalette(palette.tobytes())

    assert np.array_equal(read(saved(image)), palette.reshape(SIDE, SIDE, 3).transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_to_eight_and_not_cut_off(kind):
    """Pillow's own conversion makes 255 of all that is brighter."""
    values = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 257

    pixels = read(saved(Image.fromarray(values), kind))

    assert np.array_equal(pixels, np.arange(SIDE * SIDE).reshape(1, SIDE, SIDE))


@pytest.mark.parametrize("brightest", [1, 255, 4095])
@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_sixteen_bits_that_hold_fewer_are_refused_and_not_read_as_black(kind, brightest):
    values = np.zeros((SIDE, SIDE), dtype=kind)
    black = read(saved(Image.fromarray(values), "TIFF"))
    values[0, 0] = brightest

    assert not black.any()
    with pytest.raises(DataError, match=f"brightest pixel has {brightest} of 65535"):
        read(saved(Image.fromarray(values), "TIFF"))


COLOUR_TYPES = {2: 3, 4: 2, 6: 4}
"""Of a PNG: colours, grey with transparency, colours with it; and how many channels each has."""


def png_of_sixteen_bits(values: np.ndarray, colour_type: int) -> io.BytesIO:
    """Shades (height, width), the same in each colour, opaque."""
    channels = [values] * COLOUR_TYPES[colour_type]
    if colour_type != 2:
        channels[-1] = np.full_like(values, 65535)
    rows = np.stack(channels, axis=-1).astype(">u2")
    height, width = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + parts)


@pytest.mark.parametrize("colour_type", COLOUR_TYPES)
def test_colours_of_sixteen_bits_become_eight_and_few_bits_are_refused(colour_type):
    values = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) * 257
    channels = 1 if colour_type == 4 else 3

    pixels = read(png_of_sixteen_bits(values, colour_type))

    assert np.array_equal(pixels, np.tile(values // 257, (channels, 1, 1)))
    with pytest.raises(DataError, match=r"brightest pixel has \d+ of 65535"):
        read(png_of_sixteen_bits(values // 16, colour_type))
    assert not read(png_of_sixteen_bits(values * 0, colour_type)).any()


@pytest.mark.parametrize("sixteen", [False, True])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_a_tiff_in_which_zero_is_white_is_turned_round(sixteen, white_is_zero):
    kind, white = (np.uint16, 65535) if sixteen else (np.uint8, 255)
    shades = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) * (white // 255)
    held = white - shades if white_is_zero else shades
    tags = {262: 0 if white_is_zero else 1}
    # Pillow turns round what it writes, in 8 bits alone, as it does what it reads.
    written = held if sixteen or not white_is_zero else shades

    file = saved(Image.fromarray(written.astype(kind)), "TIFF", tiffinfo=tags)

    with Image.open(file) as image:
        assert isinstance(image, TiffImagePlugin.TiffImageFile)
        assert image.tag_v2[262] == tags[262]
    file.seek(0)
    assert np.array_equal(read(file)[0], np.arange(SIDE * SIDE).reshape(SIDE, SIDE))


def test_what_is_transparent_is_white_whatever_lies_under_it():
    alpha = np.full((SIDE, SIDE), 255, dtype=np.uint8)
    alpha[: SIDE // 2] = 0
    expected = COLOURED.copy()
    expected[: SIDE // 2] = 255
    shades = SHADES.copy()
    shades[: SIDE // 2] = 255

    coloured = read(saved(Image.fromarray(np.dstack([COLOURED, alpha]))))
    grey = read(saved(Image.fromarray(np.dstack([SHADES, alpha]), "LA")))

    assert np.array_equal(coloured, expected.transpose(2, 0, 1))
    assert np.array_equal(grey, shades[None])


def test_a_transparent_colour_of_a_picture_without_alpha_is_white():
    image = Image.fromarray(np.where(SHADES > 99, 200, 10).astype(np.uint8))

    pixels = read(saved(image, transparency=10))

    assert np.array_equal(pixels[0], np.where(SHADES > 99, 200, 255))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright_as_its_camera_says(orientation):
    """By the table of the Exif standard: where row 0 and column 0 of the file are to be shown."""
    shown = {
        1: SHADES,
        2: SHADES[:, ::-1],
        3: SHADES[::-1, ::-1],
        4: SHADES[::-1],
        5: SHADES.T,
        6: np.rot90(SHADES, -1),
        7: SHADES[::-1, ::-1].T,
        8: np.rot90(SHADES, 1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation

    assert np.array_equal(read(saved(Image.fromarray(SHADES), exif=exif))[0], shown[orientation])


@pytest.mark.parametrize(("height", "width"), [(30, 21), (21, 30), (1, 40)])
def test_the_middle_square_is_cut_out_and_resized_as_omniglots_drawings_are(height, width):
    pixels = np.random.default_rng(2).integers(0, 256, (height, width), dtype=np.uint8)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2

    expected = resize(pixels[top : top + side, left : left + side], 8)

    assert np.array_equal(read(saved(Image.fromarray(pixels)), 8)[0], expected)


def test_of_an_animation_it_is_the_first_picture():
    frames = [Image.new("L", (SIDE, SIDE), shade) for shade in (60, 160)]
    file = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])

    assert (read(file) == 60).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"no picture", "it is not a picture"),
        (saved(Image.fromarray(COLOURED)).getvalue()[:200], "it ends too early"),
        (saved(Image.fromarray(COLOURED), "JPEG").getvalue()[:-100], "it ends too early"),
        (saved(Image.fromarray(COLOURED.astype(np.float32)[..., 0]), "TIFF").getvalue(), "8 bits"),
        (
            saved(Image.fromarray(COLOURED.astype(np.int32)[..., 0] - 70_000), "TIFF").getvalue(),
            "more than 16 bits",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_name(content, words):
    with pytest.raises(DataError, match=rf"The picture 'a/picture' cannot be read \(.*{words}"):
        read(io.BytesIO(content))


def test_a_picture_too_large_is_refused_before_it_is_decoded():
    """It says a gigabyte of pixels and has a few bytes of them."""
    with pytest.raises(DataError, match=f"is 9,000 x 9,000 pixels, more than {MAX_PIXELS:,}"):
        read(png_of_size(9_000, 9_000))
    with pytest.raises(DataError, match=f"is of more than {MAX_PIXELS:,} pixels"):
        read(png_of_size(50_000, 50_000))


@pytest.mark.parametrize("position", range(0, 400, 7))
def test_a_damaged_byte_is_another_picture_or_a_sentence(position):
    content = bytearray(saved(Image.fromarray(COLOURED), "JPEG").getvalue())
    content[position % len(content)] ^= 0xFF
    try:
        assert read(io.BytesIO(bytes(content)), 4).dtype == np.uint8
    except DataError as error:
        assert "'a/picture'" in str(error)


def test_a_picture_is_told_by_its_suffix_in_any_case():
    assert [is_picture(name) for name in ("a.PNG", "b.jpeg", "c.txt", "png", "d.heic")] == [
        True,
        True,
        False,
        False,
        False,
    ]
