"""Programs: the characters of an alphabet before anybody draws them, in the alphabet's style."""

from dataclasses import dataclass

import numpy as np

from innerloop.core.seeding import stream
from innerloop.data.images import resize
from innerloop.data.strokes.pen import CANVAS, KNOTS, pen_path, press, rotation

CHARACTERS_PER_ALPHABET = 25
TOO_ALIKE = 0.75
"""Cosine of two programs' coarse pictures."""
TANGLED = 0.97
"""Coverage (see `look`) of a program whose strokes run over one another."""
LOOK_PEN = 9
"""In pixels."""
TRIES = 30
"""At a character unlike the earlier ones; the last is taken as it is."""
MOTIFS = 6
"""Stroke shapes of one alphabet."""
MEAN_SIZE = 0.625
"""Longer side of drawings, as a fraction of the image."""

CURVED = {"arc": 0.45, "hook": 0.25, "loop": 0.2, "wave": 0.1}
"""Kinds of motif and how frequent they are."""
STRAIGHT = {"segment": 0.55, "corner": 0.3, "zigzag": 0.15}


@dataclass(frozen=True)
class Style:
    """What the characters of one alphabet have in common.

    Attributes:
        motifs: (MOTIFS, KNOTS, 2) control points about the origin.
        roundness: (MOTIFS,) 1 for a smooth curve through the control points, 0 for straight pieces.
        strokes: probability of one, two, three and four strokes.
        joined: probability that a stroke touches an earlier one.
    """

    motifs: np.ndarray
    roundness: np.ndarray
    strokes: np.ndarray
    joined: float


@dataclass(frozen=True)
class Program:
    """A character before anybody draws it: its longer side is 1 and its centre 0.

    Attributes:
        knots: (strokes, KNOTS, 2) control points, x to the right and y down.
        roundness: (strokes,) as in `Style`.
        size: longer side of its drawings, on average, as a fraction of the image.
    """

    knots: np.ndarray
    roundness: np.ndarray
    size: float


def make_alphabet(alphabet: int, seed: int) -> list[Program]:
    """The programs of an alphabet; tangles and lookalikes of earlier ones are thought up again."""
    random = stream(seed, "strokes/programs", alphabet)
    style = _make_style(stream(seed, "strokes/style", alphabet))
    programs: list[Program] = []
    looks = np.zeros((CHARACTERS_PER_ALPHABET, 100))
    tries = 0
    while len(programs) < CHARACTERS_PER_ALPHABET:
        program = _make_program(style, random)
        tries += 1
        picture, coverage = look(program)
        # Rows of `looks` that are still zero are like nothing.
        is_good = (looks @ picture).max() < TOO_ALIKE and coverage > TANGLED
        if is_good or tries >= TRIES:
            looks[len(programs)] = picture
            programs.append(program)
            tries = 0
    return programs


def look(program: Program) -> tuple[np.ndarray, float]:
    """What a program looks like, large and with so wide a pen that a small shift hardly matters.

    Returns:
        (100,) of norm 1, its picture on a 10 x 10 grid; and its coverage: ink over length times
        width of the strokes, a little above 1 (for the round ends) if none of it lies on other ink.
    """
    points = 0.5 + 0.8 * pen_path(program.knots[None], program.roundness[None])
    ink = press(points, np.array([LOOK_PEN]))[0]
    steps = np.diff(points.reshape(len(program.knots), -1, 2), axis=1)
    swept = np.linalg.norm(steps, axis=-1).sum() * CANVAS * LOOK_PEN
    picture = resize(ink, 10).astype(float).ravel()
    return picture / np.linalg.norm(picture), float((ink > 0).sum() / swept)


# The order of the random draws below is part of the data: another order draws other characters.


def _make_style(random: np.random.Generator) -> Style:
    curviness = random.uniform(0.3, 0.9)
    mean_strokes = random.uniform(1.2, 4.2)
    curved = random.random(MOTIFS) < curviness
    curved[:2] = [True, False]  # no alphabet is all bows or all bars
    strokes = np.exp(-((np.arange(1, 5) - mean_strokes) ** 2))
    motifs = []
    for is_curved in curved:
        frequency_of = CURVED if is_curved else STRAIGHT
        kind = random.choice(list(frequency_of), p=list(frequency_of.values()))
        motifs.append(_make_motif(kind, random))
    return Style(
        motifs=np.stack(motifs),
        roundness=np.where(curved, 1.0, random.choice([0.0, 0.0, 0.7], MOTIFS)),
        strokes=strokes / strokes.sum(),
        joined=random.uniform(0.6, 1.0),
    )


def _make_motif(kind: str, random: np.random.Generator) -> np.ndarray:
    """(KNOTS, 2) control points of one stroke shape, about 1 across and centred."""
    if kind == "arc":
        points = _bow(random.uniform(90, 230), random)
    elif kind == "loop":
        points = _bow(random.uniform(320, 420), random)
    elif kind == "wave":
        points = _wave(random)
    else:
        points = _turning_path(kind, random)
    low = points.min(axis=0)
    high = points.max(axis=0)
    return (points - (low + high) / 2) / (high - low).max()


def _bow(degrees: float, random: np.random.Generator) -> np.ndarray:
    """(KNOTS, 2) on an ellipse, along so many degrees of it."""
    angle = (np.linspace(0, 1, KNOTS) - 0.5) * np.radians(degrees)
    return np.stack([np.cos(angle), random.uniform(0.6, 1.2) * np.sin(angle)], axis=1)


def _wave(random: np.random.Generator) -> np.ndarray:
    """(KNOTS, 2) on a sine."""
    t = np.linspace(0, 1, KNOTS)
    height = random.uniform(0.15, 0.3)
    return np.stack([t, height * np.sin(2 * np.pi * random.uniform(0.9, 1.6) * t)], axis=1)


def _turning_path(kind: str, random: np.random.Generator) -> np.ndarray:
    """(KNOTS, 2) of a pen that turns as it goes.

    It turns along the last half (hook), at one corner or two (corner, zigzag), or nowhere.
    """
    turns = np.zeros(KNOTS - 1)
    if kind == "hook":
        turns[3:] = np.radians(random.uniform(35, 80))
    elif kind == "corner":
        turns[random.choice([2, 3])] = np.radians(random.uniform(60, 130))
    elif kind == "zigzag":
        turns[[2, 4]] = np.radians(random.uniform(70, 140, 2)) * [1, random.choice([-1, 1])]
    direction = np.cumsum(turns)
    lengths = np.where(np.cumsum(turns != 0) > 0, random.uniform(0.5, 1.0), 1.0)
    steps = lengths[:, None] * np.stack([np.cos(direction), np.sin(direction)], axis=1)
    return np.vstack([np.zeros(2), np.cumsum(steps, axis=0)])


def _make_program(style: Style, random: np.random.Generator) -> Program:
    count = random.choice(4, p=style.strokes) + 1
    motifs = random.integers(MOTIFS, size=count)
    strokes: list[np.ndarray] = []
    for motif in style.motifs[motifs]:
        strokes.append(_make_stroke(motif, strokes, style.joined, random))
    knots = np.stack(strokes)
    low = knots.min(axis=(0, 1))
    high = knots.max(axis=(0, 1))
    return Program(
        knots=(knots - (low + high) / 2) / (high - low).max(),
        roundness=style.roundness[motifs],
        size=MEAN_SIZE * np.exp(random.normal(0, 0.2)),
    )


def _make_stroke(
    motif: np.ndarray, earlier: list[np.ndarray], joined: float, random: np.random.Generator
) -> np.ndarray:
    """(KNOTS, 2) a motif turned, mirrored and scaled, and set onto or beside an earlier stroke."""
    turn = random.integers(4) * np.pi / 2 + random.normal(0, 0.08)
    mirror = random.choice([-1, 1], p=[0.3, 0.7])
    stroke = (motif * [mirror, 1]) @ rotation(np.array(turn)).T
    if not earlier:
        return stroke
    stroke = stroke * (random.choice([1.0, 0.75, 0.5]) * np.exp(random.normal(0, 0.1, 2)))
    if random.random() >= joined:
        return stroke + random.uniform(-0.6, 0.6, 2)
    onto = earlier[random.integers(len(earlier))]
    there = onto[random.choice([0, 2, 3, 4, KNOTS - 1])]
    here = stroke[random.choice([0, 0, 3, KNOTS - 1])]
    return stroke + (there - here)
