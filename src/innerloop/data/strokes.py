"""strokes: a synthetic, Omniglot-like data set, generated from a seed and never downloaded.

Each alphabet has a style (how many strokes, how curved, a small pool of stroke motifs). Each of its
25 characters is a program: one to four pen strokes, every one a motif turned, scaled and set onto
an earlier stroke. Drawers then write each program with a slant, size and pen of their own and an
unsteady hand. The spreads below are set to what was measured on Omniglot's background set.
"""

from dataclasses import dataclass

import numpy as np

from innerloop.core.errors import ConfigError
from innerloop.core.seeding import stream
from innerloop.data.images import FewShotDataset, resize

CHARACTERS_PER_ALPHABET = 25
MOST_CHARACTERS = 1000 * CHARACTERS_PER_ALPHABET  # three digits number an alphabet
CANVAS = 105  # Omniglot's side in pixels: drawn at this size, then resized like Omniglot itself
TOO_ALIKE = 0.75  # cosine of two programs' coarse pictures
TANGLED = 0.97  # coverage (see `_look`) of a program whose strokes run over one another
LOOK_PEN = 9  # in pixels
TRIES = 30  # at a character unlike the earlier ones; the last is taken as it is
MOTIFS = 6  # stroke shapes of one alphabet
KNOTS = 7  # control points of a stroke
SAMPLES_PER_SPAN = 20  # pen positions from one control point to the next
PEN = 5  # diameter in pixels; one drawer in ten has a pen of 4, for a mean of 4.9
LONGEST = 0.9  # of the image: no drawing leaves the canvas

# A drawing's pose is a standard normal vector times these: half its variance is the drawer's own,
# the same in every character of the alphabet, and half is new with each drawing.
POSE_SPREAD = {
    "slant": 0.14,
    "rotation": 0.07,
    "log_aspect": 0.13,
    "log_size": 0.13,
    "x": 0.05,
    "y": 0.05,
    "roundness": 0.3,
}
KNOT_SPREAD = 0.04  # of a control point, in units of its stroke's longer side
SHIFT_SPREAD = 0.04  # of a whole stroke, in units of the character's
TURN_SPREAD = 0.09  # of a stroke's direction, in radians
STRETCH_SPREAD = 0.11  # of the log of a stroke's length

CURVED = {
    "arc": 0.45,
    "hook": 0.25,
    "loop": 0.2,
    "wave": 0.1,
}  # kinds of motif and how frequent they are
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


def generate(
    characters: int = 500, *, drawings: int = 20, size: int = 28, seed: int = 0
) -> FewShotDataset:
    """Generate the data set.

    Character i and its drawing j depend on the seed, i and j alone: asking for more of either, or
    for another image size, leaves the ones before as they were.

    Args:
        characters: number of classes, 1 to 25,000; every 25 make an alphabet.
        drawings: examples of each class, >= 1; drawing j of an alphabet's characters has one
            drawer.
        size: side of the images in pixels, >= 1.
        seed: of everything drawn, >= 0.

    Returns:
        images (characters, drawings, 1, size, size) uint8, ink 255 on 0; class names
        ``alphabet000/character00`` and on, of which the part before "/" is what splits are made by.

    Raises:
        ConfigError: if an argument is out of its range.
    """
    counts = {"characters": characters, "drawings": drawings, "size": size, "seed": seed}
    for name, value in counts.items():
        least = 0 if name == "seed" else 1
        if value < least:
            raise ConfigError(
                f"Cannot generate strokes with {name}={value}: choose {name} >= {least}."
            )
    if characters > MOST_CHARACTERS:
        raise ConfigError(
            f"Cannot generate strokes with characters={characters}: choose characters <= "
            f"{MOST_CHARACTERS}, a thousand alphabets, or use several seeds."
        )
    images = np.empty((characters, drawings, 1, size, size), dtype=np.uint8)
    names = []
    for first in range(0, characters, CHARACTERS_PER_ALPHABET):
        alphabet = first // CHARACTERS_PER_ALPHABET
        drawers = stream(seed, "strokes/drawers", alphabet).normal(
            size=(drawings, len(POSE_SPREAD) + 1)
        )
        for number, program in enumerate(_alphabet(alphabet, seed)[: characters - first]):
            drawn = _draw(program, drawers, seed, first + number)
            images[first + number, :, 0] = [resize(drawing, size) for drawing in drawn]
            names.append(f"alphabet{alphabet:03d}/character{number:02d}")
    return FewShotDataset(
        "strokes", images, tuple(names), source=f"generated by innerloop, seed {seed}"
    )


def _alphabet(alphabet: int, seed: int) -> list[Program]:
    """The programs of an alphabet; tangles and lookalikes of earlier ones are thought up again."""
    rng = stream(seed, "strokes/programs", alphabet)
    style = _style(stream(seed, "strokes/style", alphabet))
    programs: list[Program] = []
    looks = np.zeros((CHARACTERS_PER_ALPHABET, 100))
    tries = 0
    while len(programs) < CHARACTERS_PER_ALPHABET:
        program, tries = _program(style, rng), tries + 1
        look, coverage = _look(program)
        if ((looks @ look).max() < TOO_ALIKE and coverage > TANGLED) or tries >= TRIES:
            looks[len(programs)] = look
            programs.append(program)
            tries = 0
    return programs


def _look(program: Program) -> tuple[np.ndarray, float]:
    """What a program looks like, large and with so wide a pen that a small shift hardly matters.

    Returns:
        (100,) of norm 1, its picture on a 10 x 10 grid; and its coverage: ink over length times
        width of the strokes, a little above 1 (for the round ends) if none of it lies on other ink.
    """
    points = 0.5 + 0.8 * _pen_path(program.knots[None], program.roundness[None])
    ink = _ink(points, np.array([LOOK_PEN]))[0]
    steps = np.diff(points.reshape(len(program.knots), -1, 2), axis=1)
    swept = np.linalg.norm(steps, axis=-1).sum() * CANVAS * LOOK_PEN
    look = resize(ink, 10).astype(float).ravel()
    return look / np.linalg.norm(look), float((ink > 0).sum() / swept)


def _style(rng: np.random.Generator) -> Style:
    curviness, mean_strokes = rng.uniform(0.3, 0.9), rng.uniform(1.2, 4.2)
    curved = rng.random(MOTIFS) < curviness
    curved[:2] = True, False  # no alphabet is all bows or all bars
    strokes = np.exp(-((np.arange(1, 5) - mean_strokes) ** 2))
    kinds = [CURVED if bent else STRAIGHT for bent in curved]
    return Style(
        motifs=np.stack(
            [_motif(rng.choice(list(kind), p=list(kind.values())), rng) for kind in kinds]
        ),
        roundness=np.where(curved, 1.0, rng.choice([0.0, 0.0, 0.7], MOTIFS)),
        strokes=strokes / strokes.sum(),
        joined=rng.uniform(0.6, 1.0),
    )


def _motif(kind: str, rng: np.random.Generator) -> np.ndarray:
    """(KNOTS, 2) control points of one stroke shape, about 1 across and centred."""
    t = np.linspace(0, 1, KNOTS)
    if kind in ("arc", "loop"):
        angle = (t - 0.5) * np.radians(
            rng.uniform(90, 230) if kind == "arc" else rng.uniform(320, 420)
        )
        points = np.stack([np.cos(angle), rng.uniform(0.6, 1.2) * np.sin(angle)], axis=1)
    elif kind == "wave":
        points = np.stack(
            [t, rng.uniform(0.15, 0.3) * np.sin(2 * np.pi * rng.uniform(0.9, 1.6) * t)], axis=1
        )
    else:  # a pen that turns as it goes: nowhere, along the last half, or at one or two corners
        turns = np.zeros(KNOTS - 1)
        if kind == "hook":
            turns[3:] = np.radians(rng.uniform(35, 80))
        elif kind == "corner":
            turns[rng.choice([2, 3])] = np.radians(rng.uniform(60, 130))
        elif kind == "zigzag":
            turns[2], turns[4] = np.radians(rng.uniform(70, 140, 2)) * [1, rng.choice([-1, 1])]
        direction = np.cumsum(turns)
        lengths = np.where(np.cumsum(turns != 0) > 0, rng.uniform(0.5, 1.0), 1.0)
        steps = lengths[:, None] * np.stack([np.cos(direction), np.sin(direction)], axis=1)
        points = np.vstack([np.zeros(2), np.cumsum(steps, axis=0)])
    low, high = points.min(axis=0), points.max(axis=0)
    return (points - (low + high) / 2) / (high - low).max()


def _program(style: Style, rng: np.random.Generator) -> Program:
    count = rng.choice(4, p=style.strokes) + 1
    chosen = rng.integers(MOTIFS, size=count)
    strokes: list[np.ndarray] = []
    for motif in style.motifs[chosen]:
        turn = rng.integers(4) * np.pi / 2 + rng.normal(0, 0.08)
        mirror = rng.choice([-1, 1], p=[0.3, 0.7])
        scale = rng.choice([1.0, 0.75, 0.5]) * np.exp(rng.normal(0, 0.1, 2)) if strokes else 1.0
        stroke = (motif * [mirror, 1]) @ _rotation(np.array(turn)).T * scale
        if strokes and rng.random() < style.joined:
            onto = strokes[rng.integers(len(strokes))]
            stroke += (
                onto[rng.choice([0, 2, 3, 4, KNOTS - 1])] - stroke[rng.choice([0, 0, 3, KNOTS - 1])]
            )
        elif strokes:
            stroke += rng.uniform(-0.6, 0.6, 2)
        strokes.append(stroke)
    knots = np.stack(strokes)
    low, high = knots.min(axis=(0, 1)), knots.max(axis=(0, 1))
    return Program(
        knots=(knots - (low + high) / 2) / (high - low).max(),
        roundness=style.roundness[chosen],
        size=0.625 * np.exp(rng.normal(0, 0.2)),
    )


def _draw(program: Program, drawers: np.ndarray, seed: int, character: int) -> np.ndarray:
    """One drawing by each drawer: (drawings, CANVAS, CANVAS) uint8.

    Every random array has one row for each drawing, so that further drawings are further rows.
    """
    drawings, strokes = len(drawers), len(program.knots)
    own = stream(seed, "strokes/pose", character).normal(size=(drawings, len(POSE_SPREAD)))
    pose = (drawers[:, :-1] + own) / np.sqrt(2) * list(POSE_SPREAD.values())
    slant, rotation, log_aspect, log_size, x, y, roundness = pose.T

    hand = stream(seed, "strokes/hand", character).normal(size=(drawings, strokes, KNOTS + 2, 2))
    centres = program.knots.mean(axis=1, keepdims=True)
    turn, stretch = hand[:, :, KNOTS].transpose(2, 0, 1)
    stroke_turns = _rotation(TURN_SPREAD * turn) * np.exp(STRETCH_SPREAD * stretch)[..., None, None]
    knots = (program.knots - centres) @ stroke_turns.swapaxes(-1, -2) + centres
    longer_sides = np.ptp(program.knots, axis=1).max(axis=-1)[:, None, None]
    knots += (
        KNOT_SPREAD * longer_sides * hand[:, :, :KNOTS] + SHIFT_SPREAD * hand[:, :, KNOTS + 1 :]
    )

    shear = np.zeros((drawings, 2, 2))
    shear[:, 0, 0], shear[:, 0, 1], shear[:, 1, 1] = (
        np.exp(log_aspect / 2),
        -slant,
        np.exp(-log_aspect / 2),
    )
    points = _pen_path(knots, np.clip(program.roundness + roundness[:, None], 0, 1))
    points = points @ (_rotation(rotation) @ shear).swapaxes(-1, -2)

    low, high = points.min(axis=1), points.max(axis=1)
    extent = high - low
    scale = np.minimum(program.size * np.exp(log_size), LONGEST) - PEN / CANVAS
    extent_scaled = extent / extent.max(axis=1, keepdims=True) * scale[:, None]
    margin = 0.5 - extent_scaled / 2 - PEN / CANVAS / 2
    place = 0.5 + np.clip(np.stack([x, y], axis=1), -margin, margin)
    points = (points - ((low + high) / 2)[:, None]) * (scale / extent.max(axis=1))[:, None, None]
    return _ink(points + place[:, None], np.where(drawers[:, -1] < -1.28, PEN - 1, PEN))


def _rotation(angle: np.ndarray) -> np.ndarray:
    """(..., 2, 2) matrices that turn column vectors by ``angle`` (...)."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cos, -sin], axis=-1), np.stack([sin, cos], axis=-1)], axis=-2)


def _path_matrices() -> tuple[np.ndarray, np.ndarray]:
    """Control points to pen positions, both (positions, KNOTS): straight, and Catmull-Rom curve."""
    t = np.linspace(0, KNOTS - 1, (KNOTS - 1) * SAMPLES_PER_SPAN + 1)
    span = np.minimum(t.astype(int), KNOTS - 2)
    u = t - span
    straight = np.zeros((len(t), KNOTS + 2))
    smooth = np.zeros((len(t), KNOTS + 2))
    rows = np.arange(len(t))
    straight[rows, span + 1], straight[rows, span + 2] = 1 - u, u
    smooth[rows, span] = (-u + 2 * u**2 - u**3) / 2
    smooth[rows, span + 1] = (2 - 5 * u**2 + 3 * u**3) / 2
    smooth[rows, span + 2] = (u + 4 * u**2 - 3 * u**3) / 2
    smooth[rows, span + 3] = (-(u**2) + u**3) / 2
    # One more knot before the first and after the last, on the line through the outermost two.
    extend = np.vstack([2 * np.eye(KNOTS)[0] - np.eye(KNOTS)[1], np.eye(KNOTS), np.zeros(KNOTS)])
    extend[-1, -2:] = -1, 2
    return straight @ extend, smooth @ extend


_STRAIGHT_PATH, _SMOOTH_PATH = _path_matrices()


def _pen_path(knots: np.ndarray, roundness: np.ndarray) -> np.ndarray:
    """Pen positions (drawings, positions, 2) along the strokes (drawings, strokes, KNOTS, 2)."""
    weight = roundness[..., None, None]
    path = weight * (_SMOOTH_PATH @ knots) + (1 - weight) * (_STRAIGHT_PATH @ knots)
    return path.reshape(len(knots), -1, 2)


def _ink(points: np.ndarray, pens: np.ndarray) -> np.ndarray:
    """Press a round pen down at every point.

    Args:
        points: (drawings, positions, 2) x and y, as fractions of the image.
        pens: (drawings,) int, diameter of each drawing's pen in pixels.

    Returns:
        (drawings, CANVAS, CANVAS) uint8, 255 where there is ink.
    """
    border = int(pens.max())
    side = CANVAS + 2 * border
    ink = np.zeros((len(points), side, side), dtype=np.uint8)
    x, y = (np.clip((points * CANVAS).astype(int), 0, CANVAS - 1) + border).transpose(2, 0, 1)
    pixels = (
        np.arange(len(points))[:, None] * side + y
    ) * side + x  # positions in the flattened array
    for pen in np.unique(pens):
        offset = np.arange(pen) - (pen - 1) / 2
        disc = np.argwhere(np.hypot(offset[:, None], offset) <= pen / 2) - pen // 2
        centres = np.unique(pixels[pens == pen])
        for shift in disc @ [side, 1]:
            ink.reshape(-1)[centres + shift] = 255
    return ink[:, border:-border, border:-border]
