"""Heads on features of unit length: what they say of a vector, and of what was left out.

Everything is in double precision, and one vector at a time: see `innerloop.classifier.backbones`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.methods.heads.discriminant import discriminant, left_out
from innerloop.methods.heads.logistic import fit_logistic
from innerloop.methods.heads.prototypes import class_sums
from innerloop.methods.heads.ridge import (
    RidgeInverse,
    blocks_of,
    each_left_out,
    fit_ridge,
    with_ones,
)

PENALTIES = tuple(10 ** (power / 4) for power in range(-12, 7))
"""λ of ridge, from 0.001 to 32: features have length one, and one more for the bias."""
USUAL_PENALTY = 1.0
"""λ where nothing can be left out; chosen on `background-heldout` and strokes."""
LOGISTIC_PENALTIES = tuple(10.0**power for power in (-4, -3, -2))
FOLDS = 5
ROUNDS = 20
"""Folds by which examples are left out: one of each class at a time up to that many."""


@dataclass(frozen=True)
class Examples:
    """What a head is fitted to.

    Attributes:
        features: (n, F) float64, of length one.
        labels: (n,) int64, every class from 0 to ways - 1.
        ways: number of classes.
    """

    features: Tensor
    labels: Tensor
    ways: int

    @property
    def counts(self) -> Tensor:
        """Examples of each class, (ways,)."""
        return torch.bincount(self.labels, minlength=self.ways)

    @property
    def targets(self) -> Tensor:
        """(n, ways) float64: one where an example is of a class."""
        return F.one_hot(self.labels, self.ways).double()

    @property
    def lone(self) -> Tensor:
        """(n,) bool: the only example of its class; without it the class is unknown."""
        return self.counts[self.labels] == 1

    def __getitem__(self, chosen: Tensor) -> "Examples":
        return Examples(self.features[chosen], self.labels[chosen], self.ways)


class Head(ABC):
    """A fitted head.

    Attributes:
        kind: its name.
        numbers: names of what ``settings`` hold, all above zero.
        tensors: what it is, by name.
        settings: numbers that it was fitted with, by name.
    """

    kind: ClassVar[str]
    numbers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, tensors: dict[str, Tensor], settings: dict[str, float]):
        # As they are saved, so that a classifier says the same when it is loaded.
        self.tensors = {name: tensor.float().double() for name, tensor in tensors.items()}
        self.settings = settings

    @classmethod
    @abstractmethod
    def fit(cls, examples: Examples, settings: dict[str, float] | None = None) -> Self:
        """Fit to examples; numbers that are not given are chosen."""

    @staticmethod
    @abstractmethod
    def shapes(features: int, ways: int) -> dict[str, tuple[int, ...]]:
        """Shapes of ``tensors``, by name."""

    @abstractmethod
    def affine(self) -> tuple[Tensor, Tensor]:
        """Weight (ways, F) and bias (ways,) of the scores, float64."""

    def scores(self, feature: Tensor) -> Tensor:
        """(ways,) float64 of one vector (F,) float64; the largest is of the likeliest class."""
        weight, bias = self.affine()
        return weight @ feature + bias

    def scores_of(self, features: Tensor) -> Tensor:
        """(n, ways) of vectors (n, F) together, which may round otherwise than `scores`."""
        weight, bias = self.affine()
        return features @ weight.T + bias

    def left_out(self, examples: Examples) -> Tensor:
        """Scores (n, ways) of each of its examples, one of each class left out at a time.

        Of twenty examples and more of a class several, so that no more than `ROUNDS` heads are
        fitted. Were one left out alone, its class would be the smallest, and a head of two examples
        would be judged by what it says of a class with half as many as the others. A lone example
        is not left out.
        """
        scores = self.scores_of(examples.features)
        for chosen in folds(examples.labels, ROUNDS):
            head = type(self).fit(examples[~chosen], self.settings)
            scores[chosen] = head.scores_of(examples.features[chosen])
        return scores


def folds(labels: Tensor, count: int) -> list[Tensor]:
    """Masks (n,) of up to so many folds: each class dealt out in turn, lone examples to none.

    So no fold takes all of a class away, and up to so many examples of a class one of each.
    """
    fold = torch.full_like(labels, -1)
    for label in labels.unique():
        places = (labels == label).nonzero()[:, 0]
        if len(places) > 1:
            fold[places] = torch.arange(len(places)) % count
    return [fold == number for number in range(count) if (fold == number).any()]


class Prototypes(Head):
    """Each class's mean direction; scores are cosines.

    Snell et al. 2017, arXiv 1703.05175, with cosines as Chen et al. 2019, arXiv 1904.04232.
    """

    kind = "prototypes"

    @classmethod
    def fit(cls, examples: Examples, settings: dict[str, float] | None = None) -> Self:
        """Sums class by class, so that no class's prototype depends on another's examples."""
        sums = class_sums(examples.features, examples.labels, examples.ways)
        return cls({"weight": F.normalize(sums, dim=1)}, {})

    @staticmethod
    def shapes(features: int, ways: int) -> dict[str, tuple[int, ...]]:
        """See `Head.shapes`."""
        return {"weight": (ways, features)}

    def affine(self) -> tuple[Tensor, Tensor]:
        """See `Head.affine`."""
        weight = self.tensors["weight"]
        return weight, weight.new_zeros(len(weight))


class Ridge(Head):
    """Ridge regression, read as a discriminant.

    Its λ is the one with the least squared error of the regression on each example left out.
    """

    kind = "ridge"
    numbers = ("penalty",)

    @classmethod
    def fit(cls, examples: Examples, settings: dict[str, float] | None = None) -> Self:
        """See `Head.fit`."""
        targets = examples.targets
        penalty = (settings or {}).get("penalty") or _least_error(examples, targets)
        return cls.read(fit_ridge(examples.features, targets, penalty), examples, penalty)

    @classmethod
    def read(cls, weights: Tensor, examples: Examples, penalty: float) -> Self:
        """That of the weights (F + 1, ways) of a ridge regression."""
        weight = discriminant(weights, with_ones(examples.features), examples.targets, penalty)
        return cls({"weight": weight.T.contiguous()}, {"penalty": penalty})

    @staticmethod
    def shapes(features: int, ways: int) -> dict[str, tuple[int, ...]]:
        """See `Head.shapes`."""
        return {"weight": (ways, features + 1)}

    def affine(self) -> tuple[Tensor, Tensor]:
        """See `Head.affine`."""
        weight = self.tensors["weight"]
        return weight[:, :-1], weight[:, -1]

    def left_out(self, examples: Examples) -> Tensor:
        """In closed form, at the λ of the whole."""
        features, targets = examples.features, examples.targets
        penalty = self.settings["penalty"]
        parts = folds(examples.labels, ROUNDS)
        weights = fit_ridge(features, targets, penalty)
        blocks = blocks_of(features, penalty, parts)
        return left_out(weights, with_ones(features), targets, penalty, parts, blocks)

    def left_out_of(self, inverse: RidgeInverse, examples: Examples) -> Tensor:
        """As `left_out`, of the regression whose inverse is known."""
        features, penalty = examples.features, self.settings["penalty"]
        parts = folds(examples.labels, ROUNDS)
        blocks = inverse.blocks(features, parts)
        z = with_ones(features)
        return left_out(inverse.weights, z, examples.targets, penalty, parts, blocks)


def _least_error(examples: Examples, targets: Tensor) -> float:
    # Of a lone example the others know nothing.
    told = ~examples.lone
    if not bool(told.any()):
        return USUAL_PENALTY
    errors = [
        float((scores - targets)[told].square().sum())
        for scores in each_left_out(examples.features, targets, PENALTIES)
    ]
    return PENALTIES[errors.index(min(errors))]


class Logistic(Head):
    """Multinomial logistic regression, its penalty the one with the least loss over five folds."""

    kind = "logistic"
    numbers = ("penalty",)

    @classmethod
    def fit(cls, examples: Examples, settings: dict[str, float] | None = None) -> Self:
        """See `Head.fit`."""
        penalty = (settings or {}).get("penalty") or _least_loss(examples)
        weight, bias = fit_logistic(
            examples.features[None], examples.labels[None], examples.ways, penalty
        )
        return cls({"weight": weight[0], "bias": bias[0]}, {"penalty": penalty})

    @staticmethod
    def shapes(features: int, ways: int) -> dict[str, tuple[int, ...]]:
        """See `Head.shapes`."""
        return {"weight": (ways, features), "bias": (ways,)}

    def affine(self) -> tuple[Tensor, Tensor]:
        """See `Head.affine`."""
        return self.tensors["weight"], self.tensors["bias"]


def _least_loss(examples: Examples) -> float:
    parts = folds(examples.labels, FOLDS)
    if not parts:
        return LOGISTIC_PENALTIES[1]
    losses: list[float] = []
    for penalty in LOGISTIC_PENALTIES:
        total = 0.0
        for chosen in parts:
            kept = examples[~chosen]
            weight, bias = fit_logistic(kept.features[None], kept.labels[None], kept.ways, penalty)
            logits = examples.features[chosen] @ weight[0].T + bias[0]
            total += float(F.cross_entropy(logits, examples.labels[chosen], reduction="sum"))
        losses.append(total)
    return LOGISTIC_PENALTIES[losses.index(min(losses))]


HEADS: dict[str, type[Head]] = {head.kind: head for head in (Prototypes, Ridge, Logistic)}


def usual_head(counts: Sequence[int]) -> str:
    """What is taken where nobody asks for a head.

    With one example of a class there is nothing to choose λ by.
    """
    return Ridge.kind if min(counts) > 1 else Prototypes.kind
