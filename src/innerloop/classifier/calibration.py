"""Probabilities that can be believed, and when a picture is of none of the classes."""

import numpy as np
from scipy.optimize import minimize_scalar

COLDEST, WARMEST = 1e-3, 1e2
"""Temperatures that are looked at; scores are cosines, or near 0 and 1."""
FAILING = 0.1
"""Share of a person's own pictures that would be called unknown."""
BINS = 10
ROWS = 2048
"""Vectors that are compared with all others at once."""
COPY = 1 - 1e-6
"""Cosine from which on two vectors are the same."""
ENOUGH = 1000
"""Examples that one number is fitted to, at most."""


def probabilities(scores: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(scores / T) over the last dimension, in double precision."""
    logits = scores / temperature
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def smoothed_loss(scores: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    """Mean cross-entropy to targets of (n + 1) / (n + 2) on the right class, the rest elsewhere.

    As Platt (1999) has them: so that n examples that are all right do not say "always".

    Args:
        scores: (n, ways).
        labels: (n,).
        temperature: T.
    """
    n, ways = scores.shape
    right = (n + 1) / (n + 2)
    logits = scores / temperature
    top = logits.max(axis=1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    of_right = log_p[np.arange(n), labels]
    others = (log_p.sum(axis=1) - of_right) / (ways - 1)
    return float(-(right * of_right + (1 - right) * others).mean())


def fit_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """T with the least `smoothed_loss` on examples left out (Guo et al. 2017, arXiv 1706.04599).

    Args:
        scores: (n, ways) of each example by a head fitted without it.
        labels: (n,) what it is. Of more than a thousand examples every second, third, ... counts.
    """
    every = -(-len(labels) // ENOUGH)
    scores, labels = scores[::every], labels[::every]
    found = minimize_scalar(
        lambda power: smoothed_loss(scores, labels, float(np.exp(power))),
        bounds=(np.log(COLDEST), np.log(WARMEST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(found.x))  # pyright: ignore[reportAttributeAccessIssue]


def nearest_others(features: np.ndarray) -> np.ndarray:
    """The cosine of each vector (n, F) of length one to the nearest of the others.

    Copies of a vector say nothing of how alike others will be, and are passed over; a vector
    without any other is left out of the result.
    """
    single = features.astype(np.float32)
    nearest = np.full(len(single), -np.inf)
    for start in range(0, len(single), ROWS):
        cosines = single[start : start + ROWS] @ single.T
        cosines[cosines >= COPY] = -np.inf
        nearest[start : start + ROWS] = cosines.max(axis=1)
    return nearest[np.isfinite(nearest)]


def threshold_of(similarities: np.ndarray) -> float:
    """The similarity below which a picture is of none of the classes.

    A tenth of a person's own pictures, each compared with the others, are below it. Where there is
    nothing to compare, nothing is.
    """
    if not len(similarities):
        return -1.0
    return float(np.quantile(similarities, FAILING, method="lower"))


def expected_calibration_error(p: np.ndarray, right: np.ndarray) -> float:
    """Mean distance between confidence and accuracy, over ten bins of equal counts.

    With equal counts instead of equal widths (Nixon et al. 2019, arXiv 1904.01685) no bin is
    judged by a single picture.

    Args:
        p: (n,) probability of the class that was predicted.
        right: (n,) bool, whether it was right.
    """
    parts = bins_of(p)
    return float(sum(len(part) * abs(p[part].mean() - right[part].mean()) for part in parts)) / len(
        p
    )


def bins_of(p: np.ndarray) -> list[np.ndarray]:
    """Places of up to ten bins of as many probabilities each, in their order."""
    return [part for part in np.array_split(np.argsort(p, kind="stable"), BINS) if len(part)]
