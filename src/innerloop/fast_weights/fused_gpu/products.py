"""Products of matrices, one for each episode, at a precision."""

import torch
from torch import Tensor

from innerloop.fast_weights.precision import Precision, float32_products


def product(left: Tensor, right: Tensor, precision: Precision) -> Tensor:
    """(E, a, b) times (E, b, c), in the type of ``left``, or float32 where that is bfloat16.

    Factors are rounded as the precision says, sums never: of bfloat16 factors they are of float32,
    and so is the result. The type float64 has no other precision than its own.
    """
    if precision == "bfloat16" and right.dtype != torch.float64:
        return _of_rounded(left, right)
    with float32_products(precision):
        return torch.bmm(left, right)


def _of_rounded(left: Tensor, right: Tensor) -> Tensor:
    left, right = left.bfloat16(), right.bfloat16()
    if left.device.type == "cuda":
        return torch.bmm(left, right, out_dtype=torch.float32)
    # Products of two such numbers are exact in float32.
    return torch.bmm(left.float(), right.float())


def kept(factor: Tensor, precision: Precision) -> Tensor:
    """A factor of several products as it is best kept: rounded once, where it will be rounded."""
    return (
        factor.bfloat16() if precision == "bfloat16" and factor.dtype == torch.float32 else factor
    )
