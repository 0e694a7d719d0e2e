"""How far a mean over episodes and training seeds is known. Needs no torch.

The accuracy of training seed s in episode i, whose classes are c_1 ... c_N, is taken to be::

    y[s, i] = μ + a_s + mean over the episode's classes of (u_c + b_sc) + e_i + ε_si

with all but μ random, of mean zero, and independent of one another: other training seeds, classes
and episodes would give other values of them. How large each is follows from sums of squares
(moments), and how many degrees of freedom that estimate has from Satterthwaite (1946).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from innerloop.core.student import t_quantile

FEWEST = 3.0
"""Degrees of freedom that an estimate over episodes has at least.

Where 30 episodes of 20 classes hardly tell classes from episodes, Satterthwaite's would be 1, and
intervals three to six times too wide (``benchmarks/intervals.py``).
"""


@dataclass(frozen=True)
class Variance:
    """An estimated variance of a mean.

    Attributes:
        value: the estimate.
        freedom: its degrees of freedom.
    """

    value: float
    freedom: float

    @property
    def half_width(self) -> float:
        """Half the width of the mean's 95 % interval, by Student's t."""
        # Also where the value is not a number, of accuracies that were not measured.
        return t_quantile(self.freedom) * math.sqrt(self.value) if self.value > 0 else self.value


class Design:
    """Which episodes share classes, and so how far a mean over them is known.

    Args:
        episodes: how many, at least two.
        classes: (episodes, ways) integers, the classes of each; None where they are not known: the
            episodes then count as independent.

    Attributes:
        episodes: how many.
        covers_classes: whether the classes are known and not the same ones in every episode: where
            they never change, nothing tells how far others would be from them.
    """

    def __init__(self, episodes: int, classes: np.ndarray | None = None):
        self.episodes = episodes
        shares = np.zeros((episodes, 1)) if classes is None else _shares(np.asarray(classes))
        mean = shares.mean(axis=0)
        self._shares = shares - mean
        self._of_mean = float(mean @ mean)
        self._traces = _traces(self._shares)
        free, first, second, *_ = self._traces
        self.covers_classes = bool(first > 1e-9)
        # Where no two episodes share a class, a class's part is a part of its episode.
        self._determinant = float(free * second - first**2)
        self._is_shared = self._determinant > 1e-9 * free * second

    def variance(self, values: np.ndarray, copies: int | None = None) -> Variance:
        """The variance of a mean over the episodes, by the episodes and their classes.

        Args:
            values: (copies, episodes).
            copies: how many of them are free; by default all.
        """
        copies = len(values) if copies is None else copies
        deviations = values - values.mean(axis=1, keepdims=True)
        squares = float(np.sum(deviations**2)) / copies
        squares_by_class = float(np.sum((deviations @ self._shares) ** 2)) / copies
        by_class, by_episode = self._components(squares, squares_by_class)
        value = by_class * self._of_mean + by_episode / self.episodes
        if not by_class > 0:
            return Variance(value, copies * (self.episodes - 1))
        freedom = copies * value**2 / self._scatter(by_class, by_episode)
        return Variance(value, max(FEWEST, freedom))

    def _components(self, squares: float, squares_by_class: float) -> tuple[float, float]:
        """Variances of a class's and of an episode's own part; neither is below zero.

        With H the shared classes of every two episodes, the expected sums of squares are linear in
        the two: (class) tr H + (episode) (n - 1), and (class) tr H² + (episode) tr H.
        """
        free, first, second, *_ = self._traces
        if not self._is_shared:
            return 0.0, squares / free
        by_class = (free * squares_by_class - first * squares) / self._determinant
        by_episode = (second * squares - first * squares_by_class) / self._determinant
        if by_class < 0:
            return 0.0, squares / free
        if by_episode < 0:
            return squares / first, 0.0
        return by_class, by_episode

    def _scatter(self, by_class: float, by_episode: float) -> float:
        """Half the estimate's variance if all parts are normal: tr((B Ω)²).

        The estimate is a quadratic form of matrix B in deviations of covariance Ω, and both are
        linear in H, so that the trace is one of powers of H.
        """
        free, first, second, *_ = self._traces
        form = [
            (second / self.episodes - first * self._of_mean) / self._determinant,
            (free * self._of_mean - first / self.episodes) / self._determinant,
        ]
        product = np.convolve(form, [by_episode, by_class])
        return float(np.convolve(product, product) @ self._traces)


def _shares(classes: np.ndarray) -> np.ndarray:
    """(episodes, distinct classes): the share of each class in each episode."""
    names, places = np.unique(classes, return_inverse=True)
    episodes, ways = classes.shape
    shares = np.zeros((episodes, len(names)))
    np.add.at(shares, (np.arange(episodes)[:, None], places.reshape(classes.shape)), 1 / ways)
    return shares


def _traces(shares: np.ndarray) -> np.ndarray:
    """Traces of H⁰ ... H⁴ without the mean, H being the product of shares (episodes, classes)."""
    # Both products have the same traces, and the smaller one is enough.
    few_episodes = len(shares) < shares.shape[1]
    product = shares @ shares.T if few_episodes else shares.T @ shares
    squared = product @ product
    return np.array(
        [
            len(shares) - 1,
            np.trace(product),
            np.sum(product * product),
            np.sum(product * squared),
            np.sum(squared * squared),
        ]
    )


def half_width(values: np.ndarray, design: Design) -> float:
    """Half the width of the 95 % interval of a mean over training seeds and episodes.

    The squares of the two parts add. That of few seeds has a t quantile of its own: degrees of
    freedom in common would make the interval too narrow whenever few seeds happen to agree.

    Args:
        values: (seeds, episodes), every seed on the same episodes; of one seed, the interval is
            that of this seed's mean.
        design: of the episodes.
    """
    return math.hypot(half_width_of_episodes(values, design), half_width_of_seeds([values], design))


def half_width_of_episodes(values: np.ndarray, design: Design) -> float:
    """The part of episodes and classes in the `half_width` of values (seeds, episodes)."""
    return design.variance(values.mean(axis=0, keepdims=True)).half_width


def half_width_of_seeds(methods: Sequence[np.ndarray], design: Design) -> float:
    """The part of training seeds in the interval of a mean or, of two methods, a difference.

    Args:
        methods: values (seeds, episodes) of each, whose seeds have nothing in common; a method with
            one seed has no part.
        design: of the episodes.
    """
    parts = [_of_seeds(values, design) for values in methods if len(values) > 1]
    value = sum(part.value for part in parts)
    scatter = sum(part.value**2 / part.freedom for part in parts)
    return Variance(value, value**2 / scatter).half_width if scatter else value


def _of_seeds(values: np.ndarray, design: Design) -> Variance:
    """The part of training seeds in the variance of the mean of values (seeds, episodes)."""
    seeds = len(values)
    of_means = float(values.mean(axis=1).var(ddof=1))
    # Seeds differ on the same episodes also because each finds others of them hard. That is in the
    # part of the episodes already.
    apart = design.variance(values - values.mean(axis=0), copies=seeds - 1).value
    return Variance(max(0.0, of_means - apart) / seeds, seeds - 1)
