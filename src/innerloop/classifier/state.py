"""A fitted classifier: values that never change, so that any thread can predict with it."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.classifier.calibration import (
    fit_temperature,
    nearest_others,
    probabilities,
    threshold_of,
)
from innerloop.classifier.heads import (
    HEADS,
    Examples,
    Head,
    Prototypes,
    Ridge,
    usual_head,
)
from innerloop.methods.heads.ridge import RidgeInverse

LONG = 256
"""Vectors with more features are kept in bytes: a hundred classes then fit a megabyte."""
USUAL_TEMPERATURE = 0.1
"""Where no class has two examples, nothing can be left out: cosines times ten, as
`methods.heads.prototypes` has them."""


@dataclass(frozen=True)
class Scale:
    """How columns of a table become features: centred, of unit variance, a one beside them.

    The one keeps what the length of a vector says, which is one afterwards.

    Attributes:
        mean: (F,) of the columns.
        spread: (F,) their standard deviations, one for columns that do not vary.
    """

    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Scale":
        """That of vectors (n, F)."""
        spread = values.std(axis=0)
        mean = values.mean(axis=0)
        # Of a column of equal numbers rounding is all that varies.
        flat = spread <= 1e-12 * np.maximum(1, np.abs(mean))
        return cls(mean, np.where(flat, 1.0, spread))

    def applied(self, values: np.ndarray) -> np.ndarray:
        """(n, F + 1) of vectors (n, F)."""
        columns = (values - self.mean) / self.spread / np.sqrt(len(self.mean))
        return np.concatenate([columns, np.ones((len(values), 1))], axis=1)


def codes_of(values: np.ndarray) -> np.ndarray:
    """Vectors (n, F) as they are kept: int8 where they are long, else float32."""
    if values.shape[1] <= LONG:
        return values.astype(np.float32)
    largest = np.abs(values).max(axis=1, keepdims=True)
    return np.rint(values / np.where(largest > 0, largest, 1) * 127).astype(np.int8)


def directions(values: np.ndarray) -> Tensor:
    """(n, F) float64 of length one, of vectors (n, F); a vector of zeros stays one."""
    return F.normalize(torch.from_numpy(np.ascontiguousarray(values, np.float64)), dim=1)


@dataclass(frozen=True)
class Kept:
    """A classifier's examples.

    Attributes:
        codes: (n, F) int8 or float32, see `codes_of`.
        labels: (n,) int64, places in the classes.
        names: of each, for messages.
        digests: how the SHA-256 of each picture's content begins; empty for vectors.
        thumbnails: a small JPEG of each, empty where it was loaded; none for vectors.
    """

    codes: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    digests: tuple[str, ...]
    thumbnails: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, chosen: np.ndarray) -> "Kept":
        """Those of a mask (n,), or of places in their order."""
        places = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        return Kept(
            self.codes[places],
            self.labels[places],
            tuple(self.names[place] for place in places),
            tuple(self.digests[place] for place in places if self.digests),
            tuple(self.thumbnails[place] for place in places if self.thumbnails),
        )

    def followed_by(self, others: "Kept") -> "Kept":
        """These, then others."""
        return Kept(
            np.concatenate([self.codes, others.codes]),
            np.concatenate([self.labels, others.labels]),
            self.names + others.names,
            self.digests + others.digests,
            self.thumbnails + others.thumbnails,
        )


@dataclass(frozen=True)
class State:
    """What was fitted.

    Attributes:
        classes: (ways,) labels, sorted.
        kept: the examples, class by class.
        wanted: the head that was asked for, or ``auto``.
        unknown: the threshold that was asked for: ``auto``, a cosine, or None.
        head: the fitted head.
        temperature: scores are divided by it.
        threshold: similarity to the nearest example below which nothing is known; None: everything
            is of a class.
        scale: of the columns of a table; None for pictures.
        inverse: of a ridge head that was changed, what it is computed from.
    """

    classes: np.ndarray
    kept: Kept
    wanted: str
    unknown: float | Literal["auto"] | None
    head: Head
    temperature: float
    threshold: float | None
    scale: Scale | None
    inverse: RidgeInverse | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what is computed when it is first asked for: asking changes nothing."""
        return {of.name: getattr(self, of.name) for of in fields(self)}

    @cached_property
    def examples(self) -> Examples:
        """The examples as heads take them."""
        labels = torch.from_numpy(self.kept.labels)
        return Examples(directions(self.kept.codes), labels, len(self.classes))

    @cached_property
    def left_out(self) -> np.ndarray:
        """Scores (n, ways) of each example by a head fitted without it; see `Head.left_out`."""
        if self.inverse is not None and isinstance(self.head, Ridge):
            return self.head.left_out_of(self.inverse, self.examples).numpy()
        return self.head.left_out(self.examples).numpy()

    @property
    def told(self) -> np.ndarray:
        """(n,) bool: examples of classes that have another one."""
        return ~self.examples.lone.numpy()

    def features(self, vectors: np.ndarray) -> Tensor:
        """Directions (n, F) of vectors (n, F), which are not those of the examples."""
        return directions(self.scale.applied(vectors) if self.scale else vectors)

    def probabilities(self, vectors: np.ndarray) -> np.ndarray:
        """(n, ways), each row by itself."""
        rows = [self._scores(feature) for feature in self.features(vectors)]
        scores = np.stack(rows) if rows else np.zeros((0, len(self.classes)))
        return probabilities(scores, self.temperature)

    def _scores(self, feature: Tensor) -> np.ndarray:
        # A copy begins at an aligned address: the library's rounding may depend on that.
        return self.head.scores(feature.clone()).numpy()

    def similarities(self, vectors: np.ndarray) -> np.ndarray:
        """(n,) the cosine to the nearest example."""
        known = self.examples.features
        nearest = [float((known @ feature.clone()).max()) for feature in self.features(vectors)]
        return np.array(nearest, dtype=float)


def fitted(
    classes: np.ndarray,
    kept: Kept,
    *,
    wanted: str,
    unknown: float | Literal["auto"] | None,
    scale: Scale | None,
    former: State | None = None,
    inverse: RidgeInverse | None = None,
) -> State:
    """Fit a head, a temperature and a threshold to examples.

    Args:
        classes: (ways,) labels, sorted.
        kept: the examples, class by class.
        wanted: a name of `HEADS`, or ``auto``.
        unknown: ``auto``, a cosine, or None.
        scale: of the columns of a table.
        former: whose penalty is kept, where the head is of the same kind.
        inverse: of the ridge head that is wanted, if it is known.
    """
    counts = np.bincount(kept.labels, minlength=len(classes))
    kind = usual_head(counts.tolist()) if wanted == "auto" else wanted
    settings = former.head.settings if former and former.head.kind == kind else None
    unfinished = State(classes, kept, wanted, unknown, Prototypes({}, {}), 1.0, None, scale)
    examples = unfinished.examples
    if inverse is not None and kind == Ridge.kind:
        penalty = (settings or {})["penalty"]
        head: Head = Ridge.read(inverse.weights, examples, penalty)
    else:
        head, inverse = HEADS[kind].fit(examples, settings), None
    state = replace(unfinished, head=head, inverse=inverse)
    told = state.told
    temperature = USUAL_TEMPERATURE
    if told.any():
        temperature = fit_temperature(state.left_out[told], kept.labels[told])
    limit = unknown
    if unknown == "auto":
        limit = threshold_of(nearest_others(examples.features.numpy()))
    return replace(state, temperature=temperature, threshold=limit)


def by_class(classes: np.ndarray, kept: Kept) -> tuple[np.ndarray, Kept]:
    """Classes sorted, and examples class by class, in each class in the order that they came."""
    order = np.argsort(classes, kind="stable")
    rank = np.argsort(order, kind="stable")
    relabelled = replace(kept, labels=rank[kept.labels])
    return classes[order], relabelled.where(np.argsort(relabelled.labels, kind="stable"))
