"""Multinomial logistic regression of many small problems, or of a large one, to convergence."""

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional as F

TOLERANCE = 1e-9
"""Largest element of the gradient at the end."""
LARGE = 1000
"""Unknowns from which on a Hessian takes longer than the steps that it saves."""
LARGE_TOLERANCE = 1e-6
"""Largest element of the gradient at the end of a large problem."""


def fit_logistic(
    features: Tensor, labels: Tensor, ways: int, penalty: float
) -> tuple[Tensor, Tensor]:
    """Minimise mean cross-entropy + λ/2 ‖W‖² per episode, by Newton's method with halved steps.

    Problems of more than `LARGE` unknowns by L-BFGS (Liu and Nocedal 1989).

    The minimum lies in the span of the features (representer theorem), so W is sought in an
    orthonormal basis of it: with n images the problem has ways * (n + 1) unknowns at most,
    whatever the number of features.

    Args:
        features: (E, n, features).
        labels: (E, n) int64 in [0, ways).
        ways: number of classes.
        penalty: λ > 0; without one, classes that can be separated have no minimum.

    Returns:
        Weights (E, ways, features) and biases (E, ways), the biases with sum zero.
    """
    # In double: float32 does not resolve the tolerance.
    basis, triangle = torch.linalg.qr(
        features.double().transpose(1, 2)
    )  # features = triangleᵀ basisᵀ
    z = F.pad(triangle.transpose(1, 2), (0, 1), value=1.0)  # (E, n, unknowns of a class)
    unknowns = ways * z.shape[2]
    if unknowns > LARGE:
        ones = zip(z, F.one_hot(labels, ways).double(), strict=True)
        solution = torch.stack([_by_lbfgs(of_one, wanted, penalty) for of_one, wanted in ones])
        return _in_features(solution, basis, features)
    at_once = max(1, 4_000_000 // unknowns**2)  # Hessians of about 32 MB
    parts = [
        _newton(some, F.one_hot(wanted, ways).double(), penalty)
        for some, wanted in zip(z.split(at_once), labels.split(at_once), strict=True)
    ]
    return _in_features(torch.cat(parts), basis, features)


def _in_features(solution: Tensor, basis: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (E, ways, features) and biases of a solution in the basis."""
    weight = solution[..., :-1] @ basis.transpose(1, 2)
    return weight.to(features.dtype), solution[..., -1].to(features.dtype)


def _by_lbfgs(z: Tensor, one_hot: Tensor, penalty: float) -> Tensor:
    """The solution (ways, unknowns of a class) of one problem, z (n, size), one_hot (n, ways).

    From zero: the gradient of the biases sums to zero, and so do they. SciPy's minimiser is on the
    CPU, so that everything is.
    """
    device = z.device
    z, one_hot = z.cpu(), one_hot.cpu()
    n, size = z.shape
    ways = one_hot.shape[1]

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        solution = torch.from_numpy(flat).view(ways, size)
        log_p = (z @ solution.T).log_softmax(1)
        penalised = solution.clone()
        penalised[:, -1] = 0
        loss = -(one_hot * log_p).sum() / n + penalty * penalised.square().sum() / 2
        gradient = (log_p.exp() - one_hot).T @ z / n + penalty * penalised
        return float(loss), gradient.flatten().numpy()

    found = minimize(
        loss_and_gradient,
        np.zeros(ways * size),
        jac=True,
        method="L-BFGS-B",
        options={"gtol": LARGE_TOLERANCE, "ftol": 1e-12, "maxiter": 1000},
    )
    return torch.from_numpy(found.x).view(ways, size).to(device)


def _newton(z: Tensor, one_hot: Tensor, penalty: float) -> Tensor:
    """Solutions (E, ways, unknowns of a class); the last unknown of a class is its bias."""
    (episodes, n, size) = z.shape
    ways = one_hot.shape[2]
    penalised = torch.full((size,), penalty, dtype=z.dtype, device=z.device)
    # Biases are free, as scikit-learn has it.
    penalised[-1] = 0.0
    # Adding one number to all biases changes nothing: this term makes the Hessian regular and
    # leaves their sum at 0.
    is_bias = torch.zeros(ways, size, dtype=z.dtype, device=z.device)
    is_bias[:, -1] = 1.0
    shift = torch.outer(is_bias.flatten(), is_bias.flatten()) / ways

    def loss_of(solution: Tensor) -> Tensor:
        log_p = (z @ solution.transpose(1, 2)).log_softmax(-1)
        return -(one_hot * log_p).sum((1, 2)) / n + (penalised * solution.square()).sum((1, 2)) / 2

    solution = torch.zeros(episodes, ways, size, dtype=z.dtype, device=z.device)
    for _ in range(100):  # fewer than ten are taken but for the smallest penalties
        p = (z @ solution.transpose(1, 2)).softmax(-1)  # (E, n, ways)
        gradient = (p - one_hot).transpose(1, 2) @ z / n + penalised * solution
        if gradient.abs().max() <= TOLERANCE:
            break
        curvature = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]  # (E, n, ways, ways)
        hessian = (
            torch.einsum("enab,enx,eny->eaxby", curvature, z, z).reshape(
                episodes, ways * size, ways * size
            )
            / n
        )
        hessian = hessian + torch.diag(penalised.repeat(ways)) + shift
        direction = torch.linalg.solve(hessian, gradient.flatten(1)).view_as(solution)
        before = loss_of(solution)
        length = torch.ones(episodes, 1, 1, dtype=z.dtype, device=z.device)
        for _ in range(30):
            # The last digits are noise: at the minimum an equal loss may seem to rise.
            rises = loss_of(solution - length * direction) > before + 1e-15
            if not rises.any():
                break
            length[rises] /= 2
        solution = solution - length * direction
    return solution
