"""A ridge regression read as a discriminant, against the definition and scikit-learn."""

import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor
from torch.nn import functional as F

from innerloop.methods.heads.discriminant import discriminant, left_out
from innerloop.methods.heads.ridge import blocks_of, fit_ridge, with_ones


def problem(counts: list[int], features: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    centres = torch.randn(len(counts), features, generator=generator)
    noise = torch.randn(len(labels), features, generator=generator)
    return (centres[labels] + noise).double(), labels


def read(features: Tensor, labels: Tensor, penalty: float) -> Tensor:
    targets = F.one_hot(labels).double()
    weights = fit_ridge(features, targets, penalty)
    return discriminant(weights, with_ones(features), targets, penalty)


def by_definition(features: Tensor, labels: Tensor, penalty: float) -> Tensor:
    z = with_ones(features)
    ways = int(labels.max()) + 1
    means = torch.stack([z[labels == label].mean(0) for label in range(ways)])
    spread = z - means[labels]
    regular = spread.T @ spread + penalty * torch.eye(z.shape[1]).double()
    weights = torch.linalg.solve(regular, means.T)
    weights[-1] -= 0.5 * (weights * means.T).sum(0)
    return len(labels) / ways * penalty * weights


@pytest.mark.parametrize("penalty", [1e-3, 0.5, 30.0])
@pytest.mark.parametrize("features", [4, 40], ids=["few features", "many features"])
@pytest.mark.parametrize("counts", [[5, 5, 5, 5], [1, 9, 2, 4], [1, 1, 1, 1]], ids=str)
def test_it_is_the_discriminant_of_the_scatter_within_classes(counts, features, penalty):
    given, labels = problem(counts, features)
    expected = by_definition(given, labels, penalty)

    assert (read(given, labels, penalty) - expected).abs().max() < 1e-8 * expected.abs().max()


def test_it_is_scikit_learns():
    given, labels = problem([6, 6, 6], 5)
    z = with_ones(given)
    shrinkage = 0.3
    other = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(z, labels)
    share = torch.tensor(other.covariance_).double()
    # What scikit-learn shrinks: (1 - s) S / n + s µ I, µ the mean of the variances.
    mean = share.trace() / len(share)
    penalty = float(shrinkage * mean * len(z) / (1 - shrinkage))

    ours = z @ read(given, labels, penalty)
    scale = 6 * penalty * (1 - shrinkage) / len(z)
    theirs = torch.tensor(other.decision_function(z))
    # Theirs has the logarithm of a third more.
    apart = ours / scale - theirs

    assert (apart - apart.mean()).abs().max() < 1e-9


def test_with_one_example_of_each_class_scores_are_inner_products_less_a_half():
    given, labels = problem([1, 1, 1, 1], 20)
    z = with_ones(F.normalize(given, dim=1))
    scores = z @ read(F.normalize(given, dim=1), labels, 0.7)

    assert (scores - (z @ z.T - 1)).abs().max() < 1e-12


@pytest.mark.parametrize("features", [4, 40], ids=["few features", "many features"])
def test_parts_are_left_out_as_by_a_fit_without_them(features):
    given, labels = problem([2, 7, 1, 4], features)
    parts = [torch.tensor([0, 3, 10]), torch.tensor([1]), torch.tensor([4, 5, 11, 12])]
    targets = F.one_hot(labels).double()
    weights, blocks = fit_ridge(given, targets, 0.2), blocks_of(given, 0.2, parts)

    found = left_out(weights, with_ones(given), targets, 0.2, parts, blocks)

    assert not found[2].any()
    for part in parts:
        others = torch.ones(len(labels), dtype=torch.bool)
        others[part] = False
        expected = with_ones(given[part]) @ by_definition(given[others], labels[others], 0.2)
        assert (found[part] - expected).abs().max() < 1e-9 * expected.abs().max()
