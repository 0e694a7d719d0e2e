"""The quantities that say how features and heads differ; pure functions of tensors."""

import torch
from torch import Tensor
from torch.nn import functional as F


def unbiased_hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    """Unbiased estimate of the Hilbert-Schmidt independence criterion (Song et al., 2012, eq. 5).

    With K̃ and L̃ the two kernel matrices without their diagonals::

        HSIC = [ tr(K̃ L̃) + (1ᵀK̃1)(1ᵀL̃1) / ((n − 1)(n − 2)) − 2/(n − 2) 1ᵀK̃L̃1 ] / (n (n − 3))

    Args:
        k: (n, n) symmetric, n >= 4.
        l: (n, n) symmetric.
    """
    n = len(k)
    k, l = (matrix - torch.diag(matrix.diagonal()) for matrix in (k, l))  # noqa: E741
    # Of symmetric matrices: no product of matrices is needed.
    trace = (k * l).sum()
    rows = k.sum(0) @ l.sum(0)
    return (trace + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)) / (n * (n - 3))


def unbiased_cka(x: Tensor, y: Tensor) -> float:
    """Linear centred kernel alignment, unbiased estimator (Nguyen, Raghu and Kornblith, 2021).

    HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with K = X Xᵀ and L = Y Yᵀ. 1 for representations that
    are equal up to rotation, shift and scale, about 0 for independent ones. The biased estimator
    would be near 1 whenever features outnumber images.

    Args:
        x: (n, features) representations of n images, n >= 4.
        y: (n, other features) of the same images.

    Returns:
        A number, at most 1 up to rounding; NaN where a representation is the same for all images.
    """
    # HSIC is a small difference of large sums.
    x, y = x.double(), y.double()
    x, y = x - x.mean(0), y - y.mean(0)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    scale = unbiased_hsic(k, k) * unbiased_hsic(l, l)
    return float(unbiased_hsic(k, l) / scale.sqrt()) if scale > 0 else torch.nan


def spread_ratio(features: Tensor, labels: Tensor) -> float:
    """Mean variance within classes over the variance of class means; small if classes are apart.

    Args:
        features: (n, features).
        labels: (n,) int64; every class has the same number of images.

    Returns:
        A ratio >= 0; NaN where all class means are equal.
    """
    one_hot = F.one_hot(labels).to(features)
    means = (one_hot.T @ features) / one_hot.sum(0)[:, None]
    within = (features - means[labels]).square().sum(1).mean()
    between = (means - means.mean(0)).square().sum(1).mean()
    return float(within / between) if between > 0 else torch.nan


def safe_rates(features: Tensor) -> Tensor:
    """The rate below which gradient descent on a softmax head cannot overshoot: 4 / λ per episode.

    λ is the largest eigenvalue of F'F / n, where F are the support features with a 1 appended for
    the bias. The curvature of the mean cross-entropy is at most λ/2, so any rate below 4/λ is safe;
    a larger one need not fail.

    Args:
        features: (E, n, features) of the support sets.

    Returns:
        (E,) rates.
    """
    with_bias = F.pad(features.double(), (0, 1), value=1.0)
    gram = (
        with_bias @ with_bias.transpose(1, 2) / features.shape[1]
    )  # has the eigenvalues of F'F / n
    return 4 / torch.linalg.eigvalsh(gram)[:, -1]


def relative_change(before: Tensor, after: Tensor) -> float:
    """Norm of the difference over the norm before; NaN where that is zero."""
    norm = before.norm()
    return float((after - before).norm() / norm) if norm > 0 else torch.nan
