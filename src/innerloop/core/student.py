"""Quantiles of Student's t, for degrees of freedom that need not be whole. Needs no torch."""

import math

import numpy as np

NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)


def t_quantile(freedom: float) -> float:
    """How many standard errors a 95 % interval reaches to each side of its mean.

    With T = √ν tan Θ the density of Θ is proportional to cos^(ν - 1), which is integrated by Gauss
    and Legendre, and P(|T| < t) = 0.95 is solved by halving.

    Args:
        freedom: degrees of freedom ν, at least 1; infinite for the normal distribution.
    """
    freedom = min(freedom, 1e6)  # from here on it is the normal distribution to five digits
    low = 0.0
    high = math.atan(13 / math.sqrt(freedom))  # at one degree of freedom the quantile is 12.7
    for _ in range(50):
        middle = (low + high) / 2
        if _probability(middle, freedom) < 0.95:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(high)


def _probability(angle: float, freedom: float) -> float:
    """P(|Θ| < angle)."""
    logarithm = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    constant = math.exp(logarithm) / math.sqrt(math.pi)
    heights = np.cos(angle * (NODES + 1) / 2) ** (freedom - 1)
    return constant * angle * float(WEIGHTS @ heights)
