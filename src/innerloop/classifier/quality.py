"""How good a classifier is, from its own examples alone.

Accuracy is estimated by leaving examples out, one of each class at a time
(`innerloop.classifier.heads.Head.left_out`), and by five folds: few folds estimate one task's
accuracy best (Shimabucoro et al. 2023, arXiv 2307.02732). Of one example left out alone, as usual,
the class would be the smallest: with two of each it looks half as good as it is. How far both are
off is in `docs/own-pictures.md`.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from innerloop.classifier.calibration import ROWS, probabilities
from innerloop.classifier.heads import FOLDS, HEADS, Examples, folds
from innerloop.classifier.state import State

Z = 1.959963984540054
"""Of a 95 % interval."""
ALIKE = 0.985
"""Cosine of two pictures from which on they may be copies."""
CORRELATED = 0.97
"""Of their small pictures."""
PLAIN = 4
"""Between the lightest and the darkest pixel of a small picture of one colour, in bytes."""
SURE = 0.8
"""Probability of another class from which on an example may be labelled wrong."""
DRAWS = 20
"""Random choices of examples at each point of the learning curve."""
AHEAD = 5
"""More pictures a class that the curve is drawn out to."""


@dataclass(frozen=True)
class Mistake:
    """An example that is taken for another class when it is left out.

    Attributes:
        name: of the example.
        label: its class.
        predicted: the class that it is taken for.
        probability: of that class.
    """

    name: str
    label: Any
    predicted: Any
    probability: float


@dataclass(frozen=True)
class Pair:
    """Two examples that look the same.

    Attributes:
        names: of both.
        labels: their classes.
        cosine: of their vectors.
        identical: whether their files, or pixels, are equal.
    """

    names: tuple[str, str]
    labels: tuple[Any, Any]
    cosine: float
    identical: bool


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy with so many examples a class, over random choices of them.

    Attributes:
        shots: examples of each class; of a class with fewer all but one.
        mean: accuracy on the others.
        spread: its standard deviation over the choices.
    """

    shots: int
    mean: float
    spread: float


@dataclass(frozen=True)
class Quality:
    """See the module.

    Attributes:
        accuracy: share of the examples that are right when left out; NaN where no class has two.
        interval: 95 % interval of it (Wilson 1927).
        tested: how many examples that is of; an example without another of its class is not.
        five_folds: accuracy by five folds; NaN where no class has two.
        classes: labels.
        counts: examples of each class.
        confusion: (ways, ways) counts; rows are the classes, columns what they are taken for.
        mistakes: the surest first.
        mislabelled: those of them that are sure of another class.
        duplicates: pairs that look the same, in a class or between two.
        empty: names of pictures of one colour; of loaded ones it is not known.
        curve: the learning curve.
        outlook: accuracy that five more pictures a class would bring about, by the curve; None
            where it has fewer than two points.
    """

    accuracy: float
    interval: tuple[float, float]
    tested: int
    five_folds: float
    classes: tuple[Any, ...]
    counts: tuple[int, ...]
    confusion: np.ndarray
    mistakes: tuple[Mistake, ...]
    mislabelled: tuple[Mistake, ...]
    duplicates: tuple[Pair, ...]
    empty: tuple[str, ...]
    curve: tuple[CurvePoint, ...]
    outlook: float | None

    def __str__(self) -> str:
        from innerloop.classifier.words import sentences

        return "\n".join(sentences(self))


def quality(state: State) -> Quality:
    """How good a fitted classifier is."""
    told = state.told
    labels = state.kept.labels
    left_out = state.left_out
    guesses = left_out.argmax(axis=1)
    ways = len(state.classes)
    confusion = np.zeros((ways, ways), np.int64)
    np.add.at(confusion, (labels[told], guesses[told]), 1)
    tested = int(told.sum())
    right = int((guesses == labels)[told].sum())
    mistakes = _mistakes(state, left_out)
    curve = learning_curve(state)
    accuracy = right / tested if tested else float("nan")
    return Quality(
        accuracy,
        wilson(right, tested),
        tested,
        _by_folds(state),
        tuple(state.classes.tolist()),
        tuple(np.bincount(labels, minlength=ways).tolist()),
        confusion,
        mistakes,
        tuple(of for of in mistakes if of.probability >= SURE),
        _duplicates(state),
        _empty(state),
        curve,
        _outlook(curve, accuracy, state),
    )


def wilson(right: int, tested: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): never empty, never beyond 0 and 1."""
    if not tested:
        return float("nan"), float("nan")
    share = right / tested
    centre = (share + Z**2 / (2 * tested)) / (1 + Z**2 / tested)
    half = np.sqrt(share * (1 - share) / tested + Z**2 / (4 * tested**2)) / (1 + Z**2 / tested) * Z
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def _mistakes(state: State, left_out: np.ndarray) -> tuple[Mistake, ...]:
    p = probabilities(left_out, state.temperature)
    guesses = left_out.argmax(axis=1)
    wrong = np.flatnonzero(state.told & (guesses != state.kept.labels))
    found = [
        Mistake(
            state.kept.names[place],
            state.classes[state.kept.labels[place]],
            state.classes[guesses[place]],
            float(p[place, guesses[place]]),
        )
        for place in wrong
    ]
    return tuple(sorted(found, key=lambda mistake: -mistake.probability))


def _duplicates(state: State) -> tuple[Pair, ...]:
    """Pairs of pictures that are the same, or look the same to the network and in small.

    Of rows of a table nothing is said: equal ones are usual there.
    """
    kept = state.kept
    pairs = []
    for a, b, cosine in _alike(state.examples.features.float().numpy()) if kept.digests else ():
        identical = kept.digests[a] == kept.digests[b]
        if identical or _look_the_same(kept.thumbnails[a], kept.thumbnails[b]):
            labels = state.classes[kept.labels[a]], state.classes[kept.labels[b]]
            names = kept.names[a], kept.names[b]
            pairs.append(Pair(names, labels, min(1.0, cosine), identical))
    # Between classes first: one of such two is labelled wrong.
    return tuple(sorted(pairs, key=lambda pair: (pair.labels[0] == pair.labels[1], -pair.cosine)))


def _alike(features: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """Places and cosines of pairs whose vectors (n, F) are close."""
    for start in range(0, len(features), ROWS):
        cosines = features[start : start + ROWS] @ features.T
        for row, other in np.argwhere(cosines >= ALIKE).tolist():
            if start + row < other:
                yield start + row, other, float(cosines[row, other])


def _look_the_same(one: bytes, other: bytes) -> bool:
    """Whether two small pictures, in grey, are correlated as hardly any two different ones are."""
    if not (one and other):
        return False
    small = []
    for content in (one, other):
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            values = np.asarray(image.convert("L").resize((16, 16), Image.Resampling.BOX), float)
        small.append(values.ravel() - values.mean())
    lengths = np.linalg.norm(small[0]) * np.linalg.norm(small[1])
    return bool(small[0] @ small[1] >= CORRELATED * lengths)


def _empty(state: State) -> tuple[str, ...]:
    pairs = zip(state.kept.names, state.kept.thumbnails, strict=False)
    return tuple(name for name, of in pairs if of and _is_of_one_colour(of))


def _is_of_one_colour(thumbnail: bytes) -> bool:
    with Image.open(io.BytesIO(thumbnail), formats=("JPEG",)) as image:
        channels = image.getextrema() if image.mode == "RGB" else (image.getextrema(),)
    return all(high - low <= PLAIN for low, high in channels)  # pyright: ignore


def _by_folds(state: State) -> float:
    examples = state.examples
    parts = folds(examples.labels, FOLDS)
    right = total = 0
    for chosen in parts:
        right += _right(state, examples[~chosen], examples[chosen])
        total += int(chosen.sum())
    return right / total if total else float("nan")


def _right(state: State, examples: Examples, others: Examples) -> int:
    """How many of others a head fitted to examples has right."""
    head = HEADS[state.head.kind].fit(examples, state.head.settings)
    return int((head.scores_of(others.features).argmax(1) == others.labels).sum())


def learning_curve(state: State) -> tuple[CurvePoint, ...]:
    """Accuracy with 1, 2, ... examples a class, chosen at random, on those that were not."""
    examples = state.examples
    counts = examples.counts[examples.counts > 1]
    # No further than every class goes, or few classes would be tested, on few examples.
    most = int(counts.min()) - 1 if len(counts) else 0
    points = []
    for shots in _shots(most):
        accuracies = []
        for draw in range(DRAWS):
            chosen = _choice(examples, shots, draw)
            others = ~chosen & ~examples.lone
            if bool(others.any()):
                right = _right(state, examples[chosen], examples[others])
                accuracies.append(right / int(others.sum()))
        if accuracies:
            points.append(CurvePoint(shots, float(np.mean(accuracies)), float(np.std(accuracies))))
    return tuple(points)


def _shots(most: int) -> Sequence[int]:
    """1, 2, 3, 5, 10, 20, ... up to so many, and that."""
    usual = [1, 2, 3, 5, *(10 * 2**power for power in range(20))]
    return [shots for shots in usual if shots < most] + ([most] if most else [])


def _choice(examples: Examples, shots: int, draw: int) -> torch.Tensor:
    """A mask (n,) of so many random examples of each class, of small classes all but one."""
    generator = np.random.default_rng([draw, shots])
    chosen = torch.zeros(len(examples.labels), dtype=torch.bool)
    for label, count in enumerate(examples.counts.tolist()):
        places = (examples.labels == label).nonzero()[:, 0]
        some = min(shots, max(1, count - 1))
        chosen[places[generator.permutation(count)[:some]]] = True
    return chosen


def _outlook(curve: Sequence[CurvePoint], accuracy: float, state: State) -> float | None:
    """Accuracy at five more examples a class, if errors go on falling as a power of their number.

    The power, errors ~ shots^-c (Cortes et al. 1993), is fitted to the curve's logarithms, c from 0
    to 1: no rise, and no faster fall than means of independent examples allow. It goes on from the
    accuracy of the classifier as it is, or from the curve's last point where that is better, so
    that the curve never falls.
    """
    known = [point for point in curve if point.mean < 1]
    if len(curve) < 2:
        return None
    slope = 0.0
    if len(known) > 1:
        shots = np.log([point.shots for point in known])
        errors = np.log([1 - point.mean for point in known])
        slope = float(np.clip(np.polyfit(shots, errors, 1)[0], -1, 0))
    typical = float(np.median(state.examples.counts.numpy()))
    starts = ((typical, accuracy), (curve[-1].shots, curve[-1].mean))
    return max(1 - (1 - share) * ((typical + AHEAD) / shots) ** slope for shots, share in starts)
