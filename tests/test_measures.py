"""The measures of an explanation against closed forms and independent computations."""

import itertools
import math

import pytest
import torch

from innerloop.analysis.explanation.formulas import (
    relative_change,
    safe_rates,
    spread_ratio,
    unbiased_cka,
    unbiased_hsic,
)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_unbiased_hsic_is_the_mean_over_all_quadruples_of_different_images():
    """The definition as a U-statistic: the mean of K_ij (L_ij + L_qr - 2 L_iq) over distinct i, j,
    q, r."""
    x, y = random(7, 3), random(7, 4)
    k, el = x @ x.T, y @ y.T
    terms = [
        k[i, j] * (el[i, j] + el[q, r] - 2 * el[i, q])
        for i, j, q, r in itertools.permutations(range(7), 4)
    ]

    assert unbiased_hsic(k, el).item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-10)


def test_cka_of_a_representation_with_itself_is_one():
    x = random(20, 5)

    assert unbiased_cka(x, x) == pytest.approx(1.0, abs=1e-12)


def test_cka_is_indifferent_to_rotation_shift_and_scale():
    x = random(20, 5)
    orthogonal, _ = torch.linalg.qr(random(5, 5))

    assert unbiased_cka(x, 3 * x @ orthogonal + 7) == pytest.approx(1.0, abs=1e-10)


def test_cka_is_not_indifferent_to_other_linear_maps():
    x = random(200, 5)

    assert (
        unbiased_cka(x, x @ torch.diag(torch.tensor([10.0, 1, 1, 1, 1], dtype=torch.float64))) < 0.9
    )


def test_cka_of_independent_representations_is_about_zero_even_with_more_features_than_images():
    values = torch.tensor([unbiased_cka(random(40, 400), random(40, 400)) for _ in range(50)])

    assert abs(values.mean()) < 0.05  # the biased estimator gives about 0.9 here


def test_cka_of_a_constant_representation_is_not_a_number():
    assert math.isnan(unbiased_cka(random(6, 2), torch.ones(6, 2)))


def test_spread_ratio_in_closed_form():
    """Classes at -2 and 2 with members one to each side: variance 1 within, 4 between."""
    features = torch.tensor([[-3.0], [-1.0], [1.0], [3.0]])

    assert spread_ratio(features, torch.tensor([0, 0, 1, 1])) == pytest.approx(0.25)
    assert math.isnan(
        spread_ratio(torch.tensor([[-1.0], [1.0], [-1.0], [1.0]]), torch.tensor([0, 0, 1, 1]))
    )


def test_safe_rate_in_closed_form():
    """One image with features (3, 0) and the bias's 1: λ = 10."""
    assert safe_rates(torch.tensor([[[3.0, 0.0]]])).item() == pytest.approx(0.4)


def loss_after_a_step(
    features: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor, rate: float
) -> float:
    weight = weight.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        torch.nn.functional.cross_entropy(features @ weight.T, labels), weight
    )
    return torch.nn.functional.cross_entropy(
        features @ (weight - rate * gradient).detach().T, labels
    ).item()


def test_below_the_safe_rate_no_step_raises_the_loss():
    for _ in range(50):
        features, labels = 5 * random(10, 4), torch.arange(10) % 3
        rate = safe_rates(features[None]).item()
        with_bias = torch.nn.functional.pad(features, (0, 1), value=1.0)
        weight = random(3, 5)
        before = torch.nn.functional.cross_entropy(with_bias @ weight.T, labels).item()
        assert loss_after_a_step(with_bias, labels, weight, rate) <= before


def test_the_safe_rate_is_not_far_below_what_is_needed():
    """Two classes along one direction, at the flat start: the curvature there is half its bound
    over the classes."""
    features, labels = torch.tensor([[4.0], [-4.0]], dtype=torch.float64), torch.tensor([0, 0])
    with_bias = torch.nn.functional.pad(features, (0, 1), value=1.0)
    weight = torch.tensor([[0.2, 0.0], [-0.2, 0.0]], dtype=torch.float64)
    before = torch.nn.functional.cross_entropy(with_bias @ weight.T, labels).item()

    assert (
        loss_after_a_step(with_bias, labels, weight, 20 * safe_rates(features[None]).item())
        > before
    )


def test_relative_change():
    assert relative_change(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 5.0])) == pytest.approx(0.2)
    assert math.isnan(relative_change(torch.zeros(2), torch.ones(2)))
