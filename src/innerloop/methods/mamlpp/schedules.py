"""MAML++'s schedules: which step losses count, and how the outer rate falls."""

import math

EPOCHS = 100
"""A run counts as this many epochs, whatever its length; schedules that the paper steps by the
epoch are stepped so."""


def multi_step_weights(steps: int, epoch: int, epochs: int) -> list[float]:
    """Weights v_0 ... v_{N−1} of the query losses after each inner step, annealed: epoch e of E.

    ::

        v_i     = max(1/N − e / (N E), 0.03/N)                                  i < N − 1
        v_{N−1} = min(1/N + e (N − 1) / (N E), 1 − (N − 1) 0.03/N)

    and from e = E on the last loss alone: the authors' code, the paper gives no formula. They sum
    to one. At integer e < E the floor is not reached for E up to 33; at e = E the weights jump.

    Args:
        steps: N >= 1.
        epoch: e >= 0.
        epochs: E >= 0.
    """
    if epoch >= epochs:
        return [0.0] * (steps - 1) + [1.0]
    early = max(1 / steps - epoch / (steps * epochs), 0.03 / steps)
    last = min(1 / steps + epoch * (steps - 1) / (steps * epochs), 1 - (steps - 1) * 0.03 / steps)
    return [early] * (steps - 1) + [last]


def cosine_factor(epoch: int, floor: float) -> float:
    """Factor on the outer rate in an epoch of the run: from 1 along a cosine to ``floor``."""
    falling = (1 + math.cos(math.pi * epoch / EPOCHS)) / 2
    return floor + (1 - floor) * falling
