"""Pictures that are quickly drawn and told apart: shapes in ink, and shapes in colours."""

import numpy as np
from PIL import Image, ImageDraw

KINDS = ("angle", "cross", "ring")
COLOURS = {"grass": (60, 140, 50), "sea": (50, 90, 170), "sunset": (220, 110, 60)}


def drawing(kind: str, seed: int, side: int = 64) -> Image.Image:
    """A drawing of a kind, another one for each seed."""
    generator = np.random.default_rng([seed, len(kind)])
    image = Image.new("L", (side, side), "white")
    pen = ImageDraw.Draw(image)
    left, top = generator.integers(6, 16, 2).tolist()
    right, bottom = (side - generator.integers(6, 16, 2)).tolist()
    if kind == "cross":
        pen.line([(left, top), (right, bottom)], fill="black", width=3)
        pen.line([(left, bottom), (right, top)], fill="black", width=3)
    elif kind == "ring":
        pen.ellipse([left, top, right, bottom], outline="black", width=3)
    else:
        pen.line([(left, top), (left, bottom), (right, bottom)], fill="black", width=3)
    return image


def photo(kind: str, seed: int, side: int = 96) -> Image.Image:
    """A patch of a colour with grain and a lighter blot, another one for each seed."""
    generator = np.random.default_rng([seed, len(kind)])
    pixels = np.array(COLOURS[kind]) + generator.normal(0, 25, (side, side, 3))
    x, y = generator.integers(20, side - 20, 2)
    pixels[y - 15 : y + 15, x - 15 : x + 15] += 40
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
