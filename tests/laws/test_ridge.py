"""Ridge regression against scikit-learn's, refitting, and the other of its two forms."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor
from torch.nn import functional as F

from innerloop.core.errors import NonFiniteError
from innerloop.methods.heads.ridge import (
    RidgeInverse,
    blocks_of,
    each_left_out,
    fit_ridge,
    ridge_weights,
    with_ones,
)

SHAPES = {"fewer examples than features": (12, 40), "more examples than features": (60, 7)}


@pytest.fixture(params=SHAPES, ids=list(SHAPES))
def problem(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    n, features = SHAPES[request.param]
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 4
    return torch.randn(n, features, generator=generator), F.one_hot(labels, 4)


@pytest.mark.parametrize("penalty", [1e-3, 0.5, 30.0])
def test_it_is_scikit_learns(problem, penalty):
    features, targets = problem
    expected = Ridge(alpha=penalty, fit_intercept=False, solver="svd")
    expected.fit(with_ones(features).numpy(), targets.numpy())

    found = fit_ridge(features, targets, penalty).T.numpy()

    assert np.abs(found - expected.coef_).max() < 1e-9


def test_its_derivative_is_that_of_differences(problem):
    """With respect to the features and to the penalty, in both forms."""
    features, targets = problem
    given = features[:, :8].double().requires_grad_()
    penalty = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def weights(z: Tensor, penalty: Tensor) -> Tensor:
        return ridge_weights(z, targets.double(), penalty)

    assert torch.autograd.gradcheck(weights, (given, penalty), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("faulty", [torch.nan, torch.inf])
def test_what_has_no_solution_is_a_sentence(problem, faulty):
    features, targets = problem
    features = features[:1].expand_as(features).clone()
    features[:, 0] = faulty

    with pytest.raises(NonFiniteError, match="its features are not finite"):
        fit_ridge(features, targets, 1e-6)


def test_features_beside_which_the_penalty_is_lost_are_a_sentence(problem):
    features, targets = problem
    features = 1e12 * features[:1].expand_as(features)

    with pytest.raises(NonFiniteError, match="so long that the penalty 1e-06 is lost beside them"):
        fit_ridge(features, targets, 1e-6)


def test_leaving_one_out_is_refitting_to_the_others(problem):
    features, targets = problem
    penalties = (1e-3, 0.5, 30.0)
    for penalty, found in zip(penalties, each_left_out(features, targets, penalties), strict=True):
        for place in range(len(features)):
            others = torch.arange(len(features)) != place
            weights = fit_ridge(features[others], targets[others], penalty)
            expected = with_ones(features[place]) @ weights

            assert (found[place] - expected).abs().max() < 1e-9


def test_equal_examples_and_columns_of_zeros_are_no_obstacle():
    features = torch.zeros(6, 5)
    features[:3, 0] = 1
    targets = F.one_hot(torch.tensor([0, 0, 0, 1, 1, 1]))

    (found,) = each_left_out(features, targets, [0.1])

    assert found.argmax(1).tolist() == [0, 0, 0, 1, 1, 1]
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("moved", [1, 5])
def test_examples_that_come_and_go_give_what_refitting_gives(problem, moved):
    features, targets = problem
    whole = RidgeInverse.of(features, targets, 0.1)
    part = RidgeInverse.of(features[moved:], targets[moved:], 0.1)

    more = part.changed(features[:moved], targets[:moved], add=True)
    fewer = whole.changed(features[:moved], targets[:moved], add=False)

    assert (more.weights - fit_ridge(features, targets, 0.1)).abs().max() < 1e-9
    assert (fewer.weights - fit_ridge(features[moved:], targets[moved:], 0.1)).abs().max() < 1e-9


def test_a_hundred_changes_do_not_add_up():
    generator = torch.Generator().manual_seed(1)
    features, labels = torch.randn(120, 30, generator=generator), torch.arange(120) % 3
    targets = F.one_hot(labels)
    found = RidgeInverse.of(features[:20], targets[:20], 0.01)
    for place in range(20, 120):
        found = found.changed(features[place, None], targets[place, None], add=True)

    assert (found.weights - fit_ridge(features, targets, 0.01)).abs().max() < 1e-8
    z = with_ones(features)
    hat = z @ torch.linalg.solve(z.T @ z + 0.01 * torch.eye(31), z.T)
    part = torch.arange(5, 17)
    for blocks in (found.blocks(features, [part]), blocks_of(features, 0.01, [part])):
        assert (blocks[0] - hat[part][:, part]).abs().max() < 1e-8
    few = torch.arange(20)
    hat = z[few] @ torch.linalg.solve(z[few].T @ z[few] + 0.01 * torch.eye(31), z[few].T)
    (block,) = blocks_of(features[few], 0.01, [part])
    assert (block - hat[part][:, part]).abs().max() < 1e-8
