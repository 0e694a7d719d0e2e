"""Statistics of few trainings, for the stability study."""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np


def wilson_interval(count: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson, 1927)."""
    share = count / of
    spread = z * z / of
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def sign_flip_test(differences: Sequence[float]) -> float:
    """Exact two-sided p of paired differences: the share of sign patterns as far from zero."""
    values = np.asarray(differences, dtype=float)
    observed = abs(values.sum())
    patterns = np.array(list(product((1.0, -1.0), repeat=len(values))))
    return float(np.mean(np.abs(patterns @ values) >= observed - 1e-12))
