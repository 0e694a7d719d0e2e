"""Drawers: each writes a program with a slant, size and pen of their own and an unsteady hand."""

import numpy as np

from innerloop.core.seeding import stream
from innerloop.data.strokes.pen import CANVAS, KNOTS, pen_path, press, rotation
from innerloop.data.strokes.programs import Program

PEN = 5
"""Diameter in pixels; one drawer in ten has a pen of 4, for a mean of 4.9."""
THINNER_PEN_BELOW = -1.28
"""Of a standard normal number: the tenth part of all."""
LONGEST = 0.9
"""Of the image: no drawing leaves the canvas."""

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
KNOT_SPREAD = 0.04
"""Of a control point, in units of its stroke's longer side."""
SHIFT_SPREAD = 0.04
"""Of a whole stroke, in units of the character's."""
TURN_SPREAD = 0.09
"""Of a stroke's direction, in radians."""
STRETCH_SPREAD = 0.11
"""Of the log of a stroke's length."""


def make_drawers(count: int, alphabet: int, seed: int) -> np.ndarray:
    """(drawers, len(POSE_SPREAD) + 1) standard normal: the pose of each drawer, and the pen."""
    random = stream(seed, "strokes/drawers", alphabet)
    return random.normal(size=(count, len(POSE_SPREAD) + 1))


def draw(program: Program, drawers: np.ndarray, seed: int, character: int) -> np.ndarray:
    """One drawing by each drawer.

    Every random array has one row for each drawing, so that further drawings are further rows.

    Args:
        program: what is drawn.
        drawers: as `make_drawers` gives them.
        seed: of the drawings.
        character: number of the program, over all alphabets.

    Returns:
        (drawings, CANVAS, CANVAS) uint8, 255 where there is ink.
    """
    own = stream(seed, "strokes/pose", character).normal(size=(len(drawers), len(POSE_SPREAD)))
    # The order of `POSE_SPREAD` is that of the columns: another order draws other pictures.
    poses = (drawers[:, :-1] + own) / np.sqrt(2) * list(POSE_SPREAD.values())
    pose = dict(zip(POSE_SPREAD, poses.T, strict=True))
    roundness = np.clip(program.roundness + pose["roundness"][:, None], 0, 1)
    points = pen_path(_unsteady_knots(program, len(drawers), seed, character), roundness)
    shear = _shear(pose["slant"], pose["log_aspect"])
    points = points @ (rotation(pose["rotation"]) @ shear).swapaxes(-1, -2)
    longer_side = np.minimum(program.size * np.exp(pose["log_size"]), LONGEST)
    points = _placed(points, longer_side, np.stack([pose["x"], pose["y"]], axis=1))
    return press(points, np.where(drawers[:, -1] < THINNER_PEN_BELOW, PEN - 1, PEN))


def _unsteady_knots(program: Program, drawings: int, seed: int, character: int) -> np.ndarray:
    """(drawings, strokes, KNOTS, 2): each stroke turned, stretched and shifted, each knot moved."""
    strokes = len(program.knots)
    hand = stream(seed, "strokes/hand", character).normal(size=(drawings, strokes, KNOTS + 2, 2))
    turn, stretch = hand[:, :, KNOTS].transpose(2, 0, 1)
    change = rotation(TURN_SPREAD * turn) * np.exp(STRETCH_SPREAD * stretch)[..., None, None]
    centres = program.knots.mean(axis=1, keepdims=True)
    knots = (program.knots - centres) @ change.swapaxes(-1, -2) + centres
    longer_sides = np.ptp(program.knots, axis=1).max(axis=-1)[:, None, None]
    moves = KNOT_SPREAD * longer_sides * hand[:, :, :KNOTS]
    shifts = SHIFT_SPREAD * hand[:, :, KNOTS + 1 :]
    return knots + (moves + shifts)


def _shear(slant: np.ndarray, log_aspect: np.ndarray) -> np.ndarray:
    """(drawings, 2, 2) matrices that slant column vectors and change their aspect."""
    shear = np.zeros((len(slant), 2, 2))
    # Half of the aspect on each side leaves the area as it is.
    shear[:, 0, 0] = np.exp(log_aspect / 2)
    shear[:, 0, 1] = -slant
    shear[:, 1, 1] = np.exp(-log_aspect / 2)
    return shear


def _placed(points: np.ndarray, longer_side: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Scale drawings and set them near the middle of the image, with all their ink inside.

    Args:
        points: (drawings, positions, 2) in any unit.
        longer_side: (drawings,) of the ink, as a fraction of the image.
        shift: (drawings, 2) x and y off the middle, as fractions of the image.

    Returns:
        (drawings, positions, 2) as fractions of the image.
    """
    low = points.min(axis=1)
    high = points.max(axis=1)
    extent = high - low
    scale = longer_side - PEN / CANVAS
    extent_scaled = extent / extent.max(axis=1, keepdims=True) * scale[:, None]
    margin = 0.5 - extent_scaled / 2 - PEN / CANVAS / 2
    centre = 0.5 + np.clip(shift, -margin, margin)
    factor = (scale / extent.max(axis=1))[:, None, None]
    return (points - ((low + high) / 2)[:, None]) * factor + centre[:, None]
