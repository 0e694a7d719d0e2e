"""The support vector machine of many classes, by its dual, which is differentiated at its solution.

Of Crammer and Singer (2001, JMLR 2); as a few-shot head Lee et al. 2019, arXiv 1904.03758. With
features x_i, labels y_i and a cost C::

    minimise over W and ξ:  ½ ‖W‖² + C Σ_i ξ_i   with  (w_{y_i} − w_k)'x_i ≥ [k ≠ y_i] − ξ_i

Its dual, in units of C, has a number for each example and class, A (n, ways). With one-hot labels
Y and G = C XX'::

    minimise over A:  ½ tr(A'GA) − tr(Y'A)   with  A ≤ Y  and  A1 = 0;   W = C X'A

A is a solution where, with the slack S = Y − A and multipliers Z (n, ways) and ν (n,)::

    GA − Y + Z + ν1' = 0,   A1 = 0,   S ≥ 0,   Z ≥ 0,   S∘Z = 0

It is found by an interior-point method: Newton's steps on these equations with S∘Z = μ for a μ that
falls to almost nothing, with Mehrotra's predictor and corrector (1992, SIAM J. Optim. 2). For every
class k the step of its column is linear in that of ν, which all classes share::

    (G + diag(Z_k / S_k)) ΔA_k + Δν = r_k,   Σ_k ΔA_k = −A1

so that no matrix is larger than (n, n). By the implicit function theorem the derivative of the
solution is that of one more such step at the solution, taken with the matrix as it is. Where an
example is on the verge of a bound, or A is not unique, it is the derivative of the path of μ, which
is smooth. All in double precision.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.core.errors import NonFiniteError

STEPS = 60
"""At most; about 15 are usual."""
LAST = 1e-15
"""μ at the end, for examples of no length; less for longer ones, whose A is smaller."""
TOLERANCE = 1e-11
"""Of the equations that have no μ, and beside it what rounding leaves of their sums."""
REGULAR = 1e-12
"""Of the mean of G's diagonal, added to it: G is singular where there are more examples than
features, or two that are equal."""


def fit_svm(features: Tensor, labels: Tensor, ways: int, cost: float) -> Tensor:
    """W (F, ways) float64, differentiable with respect to the features.

    Args:
        features: (n, F).
        labels: (n,) int64 in [0, ways).
        ways: number of classes, two or more.
        cost: C.

    Raises:
        NonFiniteError: if no solution is found.
    """
    x = features.double()
    return cost * x.T @ solve_dual(cost * x @ x.T, F.one_hot(labels, ways).double())


def solve_dual(gram: Tensor, targets: Tensor) -> Tensor:
    """A (n, ways), differentiable with respect to G.

    Args:
        gram: G (n, n) float64.
        targets: Y (n, ways) float64.

    Raises:
        NonFiniteError: if it is not found within `STEPS`.
    """
    size = gram.detach().diagonal().mean()
    gram = gram + REGULAR * size * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    with torch.no_grad():
        solution = _solved(gram.detach(), targets, LAST / (1 + size))
        system = _Newton(gram.detach(), solution)
    # The residual has a graph, the matrix has none; and S∘Z is what it should be.
    step, _ = system.step(-solution.slope(gram, targets), solution.sums)
    return solution.dual + step


@dataclass
class _Point:
    """A, S, Z (n, ways) and ν (n, 1) on the way; S is kept beside A, since it is no difference."""

    dual: Tensor
    slack: Tensor
    multipliers: Tensor
    shared: Tensor

    @property
    def sums(self) -> Tensor:
        """A1, (n, 1)."""
        return self.dual.sum(1, keepdim=True)

    @property
    def products(self) -> Tensor:
        """S∘Z."""
        return self.slack * self.multipliers

    def slope(self, gram: Tensor, targets: Tensor) -> Tensor:
        """GA − Y + Z + ν1'."""
        return gram @ self.dual - targets + self.multipliers + self.shared


class _Newton:
    """The equations' derivative at a point, taken apart."""

    def __init__(self, gram: Tensor, point: _Point):
        weights = point.multipliers / point.slack
        # What is not finite goes on as it is, and is seen at the end.
        self._factors, _ = torch.linalg.cholesky_ex(gram + torch.diag_embed(weights.T))
        inverses = torch.cholesky_inverse(self._factors)
        self._factor, _ = torch.linalg.cholesky_ex(inverses.sum(0))

    def step(self, right: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        """ΔA (n, ways) and Δν (n, 1) for right sides r (n, ways) and A1 (n, 1)."""
        alone = self._by_class(right)
        shared = torch.cholesky_solve(alone.sum(1, keepdim=True) + sums, self._factor)
        return alone - self._by_class(shared.expand_as(right)), shared

    def _by_class(self, right: Tensor) -> Tensor:
        """(G + diag(Z_k / S_k))⁻¹ r_k, a column for each class k."""
        return torch.cholesky_solve(right.T[..., None], self._factors)[..., 0].T


def _solved(gram: Tensor, targets: Tensor, last: Tensor) -> _Point:
    """The point on the path at the last μ."""
    slack = torch.full_like(targets, 1 / targets.shape[1])
    point = _Point(targets - slack, slack, torch.ones_like(slack), torch.zeros_like(slack[:, :1]))
    for _ in range(STEPS):
        slope = point.slope(gram, targets)
        wrong = torch.maximum(slope.abs().max(), point.sums.abs().max())
        # Of one picture under two labels A is large beside the slope, which is all rounding.
        rounding = torch.finfo(gram.dtype).eps * (gram.abs() @ point.dual.abs()).max()
        if wrong <= TOLERANCE + 4 * rounding and point.products.max() <= 4 * last:
            return point
        point = _advanced(point, slope, _Newton(gram, point), targets, last)
    raise NonFiniteError(
        f"The support vector machine of an episode has no solution after {STEPS} steps: its "
        "features are not finite, or of lengths too different for double precision. Lower "
        "--outer-lr and train again."
    )


def _advanced(
    point: _Point, slope: Tensor, system: _Newton, targets: Tensor, last: Tensor
) -> _Point:
    """One predictor and corrector step on."""

    def direction(products: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ΔA, ΔZ and Δν towards a change of S∘Z."""
        dual, shared = system.step(-slope - products / point.slack, point.sums)
        return dual, (products + point.multipliers * dual) / point.slack, shared

    dual, multipliers, _ = direction(-point.products)
    length = _length(point, dual, multipliers, 1.0)
    ahead = (point.slack - length * dual) * (point.multipliers + length * multipliers)
    mean = point.products.mean()
    aim = torch.maximum((ahead.mean() / mean) ** 3 * mean, last)
    dual, multipliers, shared = direction(aim - point.products + dual * multipliers)
    length = _length(point, dual, multipliers, 0.99)
    return _Point(
        point.dual + length * dual,
        point.slack - length * dual,
        point.multipliers + length * multipliers,
        point.shared + length * shared,
    )


def _length(point: _Point, dual: Tensor, multipliers: Tensor, part: float) -> Tensor:
    """A part of the way to the nearest bound of S or Z, at most the whole step."""
    slack = torch.where(dual > 0, point.slack / dual, torch.inf).min()
    other = torch.where(multipliers < 0, -point.multipliers / multipliers, torch.inf).min()
    return (part * torch.minimum(slack, other)).clamp(max=1.0)
