"""A ridge regression of classes, read as Fisher's linear discriminant.

Least squares shrinks what tells many classes apart, since to it their distances are spread like any
other. Read as a discriminant the same regression only shrinks the spread within the classes. With
its weights W = (Z'Z + λI)⁻¹ Z'Y (`innerloop.methods.heads.ridge`), the means M (F + 1, ways) and
counts N (a diagonal matrix) of the classes, and the errors E = Y − ZW::

    V = W K⁻¹ = (S + λI)⁻¹ M        K = Y'E = E'E + λW'W,  S = Z'Z − M N M'

S being the scatter within the classes: by Woodbury's identity W = (S + λI)⁻¹ M K where
K⁻¹ = N⁻¹ + M'V. So what a regression has in closed form a discriminant has, too (Hastie, Tibshirani
and Buja 1994, Flexible discriminant analysis by optimal scoring). Classes are equally likely,
whatever their counts; the scores of z are::

    k λ (V'z − ½ diag(M'V))         M'V = K⁻¹ − N⁻¹,  k = the mean of the counts

with k, because S is a sum over examples: so a temperature that suits a fit to fewer examples suits
one to all; and with λ, so that with one example of each class they are inner products less a half.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def reading(remaining: Tensor, counts: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """What turns scores of a regression into those of the discriminant: s @ R + b.

    Args:
        remaining: K (ways, ways) float64.
        counts: (ways,) float64, examples of each class.
        penalty: λ of the regression.

    Returns:
        R (ways, ways) and b (ways,), float64.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(remaining))
    scale = counts.mean() * penalty
    return scale * inverse, -0.5 * scale * (inverse.diagonal() - 1 / counts)


def discriminant(weights: Tensor, z: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """Weights (F + 1, ways) of the scores, in their last row, that of the ones, the bias, too.

    Args:
        weights: W (F + 1, ways) of the regression, float64.
        z: Z (n, F + 1), a one at the end of each row.
        targets: Y (n, ways).
        penalty: λ of the regression.
    """
    turned, bias = reading(
        _remaining(weights, targets - z @ weights, penalty), targets.sum(0), penalty
    )
    read = weights @ turned
    read[-1] += bias
    return read


def _remaining(weights: Tensor, errors: Tensor, penalty: float) -> Tensor:
    """K, as a sum of squares: of Y'E rounding would leave little where errors are small."""
    return errors.T @ errors + penalty * weights.T @ weights


def left_out(
    weights: Tensor,
    z: Tensor,
    targets: Tensor,
    penalty: float,
    parts: Sequence[Tensor],
    blocks: Sequence[Tensor],
) -> Tensor:
    """Scores (n, ways) of each example by a fit without its part.

    With H = Z (Z'Z + λI)⁻¹ Z' a part S that is left out has X = (I − H_SS)⁻¹ E_S and scores
    Y_S − X of the regression to the others, whose K is K − E_S'X.

    Args:
        weights: W (F + 1, ways) of the regression to all.
        z: Z (n, F + 1).
        targets: Y (n, ways).
        penalty: λ.
        parts: places of examples that are left out together, no example twice and no class whole;
            an example of none has zeros.
        blocks: H_SS of each part.
    """
    errors = targets - z @ weights
    remaining = _remaining(weights, errors, penalty)
    counts = targets.sum(0)
    scores = torch.zeros_like(errors)
    for part, block in zip(parts, blocks, strict=True):
        rest = torch.eye(len(block), dtype=block.dtype, device=block.device) - block
        missed = torch.linalg.solve(rest, errors[part])
        without = remaining - errors[part].T @ missed
        # Of what is symmetric but for rounding.
        without = (without + without.T) / 2
        turned, bias = reading(without, counts - targets[part].sum(0), penalty)
        scores[part] = (targets[part] - missed) @ turned + bias
    return scores
