"""Ridge regression of classes on features, in closed form, with exact leave-one-out.

With features Z (n, F), a one appended to each, and targets Y (n, ways)::

    W(λ) = argmin ‖Z W − Y‖² + λ ‖W‖² = (Z'Z + λI)⁻¹ Z'Y = Z' (ZZ' + λI)⁻¹ Y

the latter the dual form, for fewer examples than features (Saunders et al. 1998; as a few-shot head
Bertinetto et al. 2019, arXiv 1805.08136). The bias is penalised like every weight: so what is left
out of a fit, and what comes to it, has a closed form too. All in double precision.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from innerloop.core.errors import NonFiniteError

SMALLEST = 1e-12
"""Of a share that is divided by."""


def with_ones(features: Tensor) -> Tensor:
    """Z (..., F + 1) float64 of features (..., F)."""
    return torch.nn.functional.pad(features.double(), (0, 1), value=1.0)


def fit_ridge(features: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """W (F + 1, ways) float64, by the form that is the smaller.

    Args:
        features: (n, F).
        targets: (n, ways).
        penalty: λ > 0.
    """
    return ridge_weights(with_ones(features), targets.double(), penalty)


def ridge_weights(z: Tensor, targets: Tensor, penalty: float | Tensor) -> Tensor:
    """W (F, ways) of Z as it is, by the smaller form; differentiable, also with respect to λ.

    Args:
        z: Z (n, F) float64.
        targets: Y (n, ways) float64.
        penalty: λ > 0, a number or a tensor ().

    Raises:
        NonFiniteError: if there are no such weights in double precision.
    """
    if len(z) <= z.shape[1]:
        return z.T @ _solved(z @ z.T, targets, penalty)
    return _solved(z.T @ z, z.T @ targets, penalty)


def _solved(gram: Tensor, right: Tensor, penalty: float | Tensor) -> Tensor:
    """(G + λI)⁻¹ B."""
    regular = gram + penalty * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    try:
        factor = torch.linalg.cholesky(regular)
    except torch.linalg.LinAlgError as error:  # pyright: ignore[reportPrivateImportUsage]
        why = "not finite. In training, lower --outer-lr."
        if gram.isfinite().all():
            why = (
                f"so long that the penalty {penalty:g} is lost beside them. Give a larger penalty; "
                "in training, lower --outer-lr."
            )
        raise NonFiniteError(
            f"A ridge regression has no solution: its features are {why}"
        ) from error
    return torch.cholesky_solve(right, factor)


def each_left_out(
    features: Tensor, targets: Tensor, penalties: Sequence[float]
) -> Iterator[Tensor]:
    """Each example's scores (n, ways) by the fit to all others, for each penalty.

    With H = Z (Z'Z + λI)⁻¹ Z' example i, left out, is predicted (H Y − h_ii Y)_i / (1 − h_ii)
    (Allen's PRESS, 1974). Z is taken apart once, Z = U S V', so that H = U S²/(S² + λ) U'.
    """
    z = with_ones(features)
    targets = targets.double()
    dual = len(z) <= z.shape[1]
    squares, vectors = torch.linalg.eigh(z @ z.T if dual else z.T @ z)
    # What is no more than rounding has no direction.
    kept = squares > squares.max() * len(squares) * torch.finfo(squares.dtype).eps
    squares = squares[kept]
    u = vectors[:, kept] if dual else z @ vectors[:, kept] / squares.sqrt()
    projected = u.T @ targets
    for penalty in penalties:
        shares = squares / (squares + penalty)
        yield _left_out(u @ (shares[:, None] * projected), (u.square() * shares).sum(1), targets)


def blocks_of(features: Tensor, penalty: float, parts: Sequence[Tensor]) -> list[Tensor]:
    """H_SS of H = Z (Z'Z + λI)⁻¹ Z', for parts S of the examples (n, F), by the smaller form."""
    z = with_ones(features)
    if len(z) > z.shape[1]:
        return RidgeInverse.of(features, z[:, :0], penalty).blocks(features, parts)
    gram = z @ z.T
    hat = _solved(gram, gram, penalty)
    return [hat[part][:, part] for part in parts]


def _left_out(fitted: Tensor, leverages: Tensor, targets: Tensor) -> Tensor:
    h = leverages[:, None]
    return (fitted - h * targets) / (1 - h).clamp(min=SMALLEST)


@dataclass
class RidgeInverse:
    """A ridge regression that examples can be added to and taken out of, λ as it is.

    Attributes:
        inverse: (Z'Z + λI)⁻¹, (F + 1, F + 1) float64.
        products: Z'Y, (F + 1, ways) float64.
    """

    inverse: Tensor
    products: Tensor

    @classmethod
    def of(cls, features: Tensor, targets: Tensor, penalty: float) -> "RidgeInverse":
        """That of features (n, F) and targets (n, ways)."""
        z = with_ones(features)
        regular = z.T @ z + penalty * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        return cls(torch.linalg.inv(regular), z.T @ targets.double())

    @property
    def weights(self) -> Tensor:
        """W (F + 1, ways) float64."""
        return self.inverse @ self.products

    def changed(self, features: Tensor, targets: Tensor, *, add: bool) -> "RidgeInverse":
        """With more examples, or without some that it has (Woodbury's identity).

        Args:
            features: (m, F).
            targets: (m, ways), columns for the classes that are there afterwards too.
            add: whether they come, or go.
        """
        z = with_ones(features)
        sign = 1.0 if add else -1.0
        moved = self.inverse @ z.T  # (F + 1, m)
        middle = torch.eye(len(z), dtype=z.dtype, device=z.device) + sign * z @ moved
        inverse = self.inverse - sign * moved @ torch.linalg.solve(middle, moved.T)
        return RidgeInverse(inverse, self.products + sign * z.T @ targets.double())

    def blocks(self, features: Tensor, parts: Sequence[Tensor]) -> list[Tensor]:
        """As `blocks_of`, of its examples (n, F)."""
        z = with_ones(features)
        return [z[part] @ self.inverse @ z[part].T for part in parts]
