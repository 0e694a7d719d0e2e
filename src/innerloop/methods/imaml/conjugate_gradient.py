"""Conjugate gradient for many symmetric systems at once."""

from collections.abc import Callable

import torch
from torch import Tensor

from innerloop.fast_weights.functional import FastWeights
from innerloop.fast_weights.sums import tree_sum


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], target: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Solve A_e x_e = b_e for every episode e by steps of conjugate gradient from x = 0.

    Hestenes and Stiefel (1952). With r_0 = p_0 = b::

        a = ⟨r, r⟩ / ⟨p, A p⟩       x ← x + a p       r' = r − a A p
        p ← r' + (⟨r', r'⟩ / ⟨r, r⟩) p

    For positive definite A the error falls in every step, and is zero after as many as A has
    different eigenvalues, but for rounding. A Hessian of a network need not be positive: an episode
    that meets a direction with ⟨p, A p⟩ <= 0 stays where it is, and at the first step takes x = b,
    as truncated Newton methods do. So nothing is ever divided by zero.

    Args:
        product: (E, n) -> (E, n), each row times its episode's A.
        target: b, (E, n).
        steps: how many; each takes one product.

    Returns:
        x (E, n); and (E,), |b − A x| / |b|, zero where b is.
    """
    solution = torch.zeros_like(target)
    residual = direction = target
    square = first = dot(target, target)
    for step in range(steps):
        curved = product(direction)
        curvature = dot(direction, curved)
        goes_on = curvature > 0
        # Where it does not go on the quotients are thrown away, whatever they are.
        length = torch.where(goes_on, square / curvature, 1.0 if step == 0 else 0.0)
        solution = solution + length[:, None] * direction
        residual = residual - length[:, None] * curved
        following = dot(residual, residual)
        share = torch.where(goes_on, following / square, 0.0)
        # A direction of zero has no curvature: an episode that stopped stays so.
        direction = torch.where(goes_on[:, None], residual + share[:, None] * direction, 0.0)
        square = following
    return solution, torch.where(first > 0, (square / first).sqrt(), 0.0)


def dot(one: Tensor, other: Tensor) -> Tensor:
    """⟨a_e, b_e⟩ (E,) of rows (E, n), with bits that do not depend on how many rows there are."""
    return tree_sum((one * other).T)


def rows_of(weights: FastWeights) -> Tensor:
    """All weights of an episode in one row, (E, n)."""
    return torch.cat([of.reshape(len(of), -1) for of in weights.values()], dim=1)


def by_name(rows: Tensor, like: FastWeights) -> FastWeights:
    """What `rows_of` took together, in the shapes of other weights of the same names."""
    parts = rows.split([of[0].numel() for of in like.values()], dim=1)
    return {
        name: part.reshape(of.shape) for (name, of), part in zip(like.items(), parts, strict=True)
    }
