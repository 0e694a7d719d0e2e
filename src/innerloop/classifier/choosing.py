"""Which of several networks is taken where nobody names one.

The one that has significantly more examples right when they are left out. With few examples that
is seldom so: then what they look like decides, for how sure the networks are says little. Drawings
have two tones, ground and ink, and greys beside the ground alone, at edges and in strokes that are
thinner than a pixel; that holds on coloured or unevenly lit paper too. The limits and the rule were
chosen on drawings of `background-heldout` and strokes, and on photos in colour and in grey.
"""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import minimum_filter
from scipy.stats import binomtest

from innerloop.classifier.backbones import DRAWINGS
from innerloop.classifier.squares import ink_of
from innerloop.classifier.state import State

GROUND, INK = 0.25, 0.75
"""Of the strongest ink: what is between the two is grey."""
GREYS = 0.005
"""Share of a small picture's pixels that are grey and not beside the ground, up to which it looks
drawn: 98 of 100 drawings have 0.001 or less, 98 of 100 photos 0.009 or more."""
SIGNIFICANT = 0.05


class Choice(NamedTuple):
    """Which network is taken.

    Attributes:
        place: of it among those tried.
        reason: why, in a sentence; empty where there was no choice.
    """

    place: int
    reason: str


def choose(names: Sequence[str], states: Sequence[State], thumbnails: Sequence[bytes]) -> Choice:
    """Choose between two networks, or take the only one.

    Args:
        names: of the networks.
        states: what was fitted to the vectors of each.
        thumbnails: a small JPEG of each example.
    """
    if len(names) == 1:
        return Choice(0, "")
    drawn = look_drawn(thumbnails)
    looks = f"the pictures {'look' if drawn else 'do not look'} like drawings"
    place = next(place for place, name in enumerate(names) if (name == DRAWINGS) == drawn)
    right = _right(states)
    if not right.size:
        return Choice(place, f"The network is {names[place]}, since {looks}.")
    shares = " and ".join(
        f"{100 * of.mean():.0f} % with {name}" for name, of in zip(names, right, strict=True)
    )
    if _differ(right[0], right[1]):
        place = int(np.argmax([of.mean() for of in right]))
        return Choice(place, f"The network is {names[place]}: {shares} are right when left out.")
    return Choice(
        place,
        f"The network is {names[place]}, since {looks}; when left out, {shares} are right, which "
        "is too close to tell.",
    )


def look_drawn(thumbnails: Sequence[bytes]) -> bool:
    """Whether most of some small JPEGs have the two tones of ink on a ground."""
    return float(np.median([grey_share(of) for of in thumbnails])) <= GREYS


def grey_share(thumbnail: bytes) -> float:
    """Share of a small JPEG's pixels that are neither ground nor ink, nor beside the ground."""
    with Image.open(io.BytesIO(thumbnail), formats=("JPEG",)) as image:
        ink = ink_of(np.asarray(image.convert("L")))
    strongest = ink.max()
    grey = (ink > GROUND * strongest) & (ink < INK * strongest)
    beside_ground = minimum_filter(ink, 3) <= GROUND * strongest
    return float((grey & ~beside_ground).mean())


def _right(states: Sequence[State]) -> np.ndarray:
    """(states, n) bool: whether examples are right when left out, of those that all states have.

    A picture that one network cannot take may be one that another takes.
    """
    found = []
    for state in states:
        right = state.left_out.argmax(axis=1) == state.kept.labels
        pairs = zip(state.kept.names, right, state.told, strict=True)
        found.append({name: bool(of) for name, of, told in pairs if told})
    common = [name for name in found[0] if all(name in of for of in found)]
    return np.array([[of[name] for name in common] for of in found], bool)


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether more of one are right than of the other, by McNemar's exact test (1947)."""
    better, worse = int((one & ~other).sum()), int((other & ~one).sum())
    if better == worse:
        return False
    return bool(binomtest(better, better + worse).pvalue < SIGNIFICANT)
