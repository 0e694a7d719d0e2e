"""The heads on their own, on few numbers in float64, each against what is worked out by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.methods.heads.gradient import gradient_step
from innerloop.methods.heads.linear import (
    episode_losses,
    initial_head,
    linear_logits,
    linear_module,
)
from innerloop.methods.heads.logistic import TOLERANCE, fit_logistic
from innerloop.methods.heads.new_head import NewHead
from innerloop.methods.heads.prototypes import prototypes, scaled_directions

DOUBLE = torch.float64
LABELS = torch.tensor([[0, 0, 1, 1, 2, 2], [2, 1, 0, 2, 1, 0]])
KINDS = ["gradient", "logistic", "cosine"]


def features(seed: int = 0, size: int = 4) -> Tensor:
    return torch.randn(2, 6, size, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def random_head(size: int = 4) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(5)
    return {
        "weight": torch.randn(2, 3, size, generator=draw, dtype=DOUBLE),
        "bias": torch.randn(2, 3, generator=draw, dtype=DOUBLE),
    }


def test_logits_are_inner_products_and_a_bias():
    head, x = random_head(), features()

    logits = linear_logits(head, x)

    for episode in range(2):
        for image in range(6):
            for way in range(3):
                product = sum(
                    a * b
                    for a, b in zip(
                        x[episode, image].tolist(),
                        head["weight"][episode, way].tolist(),
                        strict=True,
                    )
                )
                expected = product + head["bias"][episode, way].item()
                assert logits[episode, image, way].item() == pytest.approx(expected, rel=1e-12)


def test_a_loss_is_the_mean_of_an_episode_alone():
    """Logits (0, 0, 0) cost log 3; a right one of x beside zeros costs log(2 + e^x) − x."""
    logits = torch.zeros(2, 6, 3, dtype=DOUBLE)
    logits[1] = 2 * F.one_hot(LABELS[1], 3)

    losses = episode_losses(logits, LABELS)

    expected = [math.log(3), math.log(2 + math.exp(2)) - 2]
    assert losses.tolist() == pytest.approx(expected, rel=1e-12)


def test_a_step_on_a_zero_head_is_the_closed_form():
    """At zero every class has p = 1/3, so ∂L/∂w_c is the mean of (1/3 − [y = c]) x."""
    x, rate = features(), 0.3
    zero = {
        name: value.clone().requires_grad_()
        for name, value in initial_head(x, LABELS, 3, "zero").items()
    }

    stepped = gradient_step(episode_losses(linear_logits(zero, x), LABELS), zero, rate)

    error = 1 / 3 - F.one_hot(LABELS, 3).double()
    assert torch.allclose(stepped["weight"], -rate * error.transpose(1, 2) @ x / 6, atol=1e-14)
    assert torch.allclose(stepped["bias"], -rate * error.mean(dim=1), atol=1e-14)
    assert not any(value.requires_grad for value in stepped.values())


def test_a_head_of_prototypes_says_how_far_each_mean_is():
    x = features()
    head = initial_head(x, LABELS, 3, "prototypes")
    logits = linear_logits(head, x)
    for episode in range(2):
        means = torch.stack([x[episode][LABELS[episode] == label].mean(0) for label in range(3)])
        distances = torch.cdist(x[episode], means).square()
        common = logits[episode] + distances

        # What is left is the image's own length, for every class alike.
        assert torch.allclose(common, x[episode].square().sum(1, keepdim=True).expand(-1, 3))


def test_a_head_starts_from_zero_or_from_one_draw_within_glorots_bound():
    x = features(size=5)
    zero, drawn = initial_head(x, LABELS, 3, "zero"), initial_head(x, LABELS, 3, "glorot")

    bound = math.sqrt(6 / (5 + 3))
    assert zero["weight"].shape == drawn["weight"].shape == (2, 3, 5)
    assert not zero["weight"].any() and not zero["bias"].any() and not drawn["bias"].any()
    assert 0.5 * bound < drawn["weight"].abs().max() <= bound
    assert torch.equal(drawn["weight"][0], drawn["weight"][1])
    assert torch.equal(drawn["weight"], initial_head(features(1, 5), LABELS, 3, "glorot")["weight"])
    assert drawn["weight"].dtype == DOUBLE
    expected = torch.nn.init.xavier_uniform_(
        torch.empty(3, 5), generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(drawn["weight"][0], expected.double())


@pytest.mark.parametrize("episode", [0, 1])
def test_one_episodes_head_is_a_layer_with_copies_of_its_numbers(episode):
    head, x = random_head(), features()

    layer = linear_module(head, episode)
    assert (layer.in_features, layer.out_features) == (4, 3)
    with torch.no_grad():
        logits = layer(x[episode])
        layer.weight.zero_()
        layer.bias.zero_()

    assert torch.allclose(logits, linear_logits(head, x)[episode], rtol=0, atol=1e-12)
    assert head["weight"][episode].abs().sum() > 0 and head["bias"][episode].abs().sum() > 0


def test_a_head_in_closed_form_is_there_after_one_step_and_stays():
    x = features()
    weight, bias = fit_logistic(x, LABELS, 3, 0.5)
    found = {
        "logistic": {"weight": weight, "bias": bias},
        "cosine": prototypes(x, LABELS),
    }

    for kind, expected in found.items():
        zero, first, second = (
            head
            for head, _, _ in NewHead(kind, penalty=0.5).trajectory(x, LABELS, steps=2)  # type: ignore[arg-type]
        )
        assert not any(value.any() for value in zero.values())
        assert all(torch.equal(first[name], value) for name, value in expected.items())
        assert all(torch.equal(second[name], value) for name, value in expected.items())


def test_a_head_that_nothing_is_said_of_is_the_assignments():
    assert NewHead() == NewHead(kind="gradient", init="zero", rate=0.4, penalty=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_head_as_a_module_says_the_same(kind):
    found = NewHead(kind)
    *_, (head, _, _) = found.trajectory(features(), LABELS, steps=2)

    for episode in range(2):
        with torch.no_grad():
            alone = found.module(head, episode)(features(3)[episode])
        assert torch.allclose(alone, found.logits(head, features(3))[episode], atol=1e-12)


def test_prototypes_are_mean_directions_of_length_one_and_logits_are_ten_cosines():
    x = features()

    head = prototypes(x, LABELS)
    logits = linear_logits(head, scaled_directions(3 * x))

    for episode in range(2):
        unit = x[episode] / x[episode].norm(dim=1, keepdim=True)
        for way in range(3):
            mean = unit[LABELS[episode] == way].mean(dim=0)
            assert torch.allclose(head["weight"][episode, way], mean / mean.norm(), atol=1e-12)
            cosines = F.cosine_similarity(x[episode], mean.expand(6, -1))
            assert torch.allclose(logits[episode, :, way], 10 * cosines, atol=1e-12)
    assert head["bias"].shape == (2, 3) and not head["bias"].any()


def objective(x: Tensor, weight: Tensor, bias: Tensor, penalty: float) -> Tensor:
    """(E,) the loss that `fit_logistic` minimises, written out."""
    logits = x @ weight.transpose(1, 2) + bias[:, None]
    return episode_losses(logits, LABELS) + penalty / 2 * weight.square().sum((1, 2))


@pytest.mark.parametrize("size", [2, 4, 9])
@pytest.mark.parametrize("penalty", [1e-4, 0.1, 10.0])
def test_a_logistic_head_is_where_the_gradient_of_its_objective_is_zero(size, penalty):
    """More images than features, and fewer; the bias is not penalised, and its sum is zero."""
    x = features(size=size)

    weight, bias = fit_logistic(x, LABELS, 3, penalty)

    weight.requires_grad_()
    bias.requires_grad_()
    slopes = torch.autograd.grad(objective(x, weight, bias, penalty).sum(), [weight, bias])
    assert weight.shape == (2, 3, size) and weight.dtype == DOUBLE
    assert max(slope.abs().max().item() for slope in slopes) <= 2 * TOLERANCE
    assert bias.sum(dim=1).abs().max() <= 1e-9


@pytest.mark.parametrize("penalty", [1e-4, 1e-2])
def test_a_large_logistic_head_is_found_where_a_small_one_is(penalty, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x = F.normalize(torch.randn(2, 40, 30, generator=generator, dtype=DOUBLE), dim=-1)
    labels = (torch.arange(40) % 8).expand(2, -1)
    expected = fit_logistic(x, labels, 8, penalty)
    monkeypatch.setattr("innerloop.methods.heads.logistic.LARGE", 0)

    for found, exact in zip(fit_logistic(x, labels, 8, penalty), expected, strict=True):
        assert (found - exact).abs().max() < 2e-6 / penalty
        assert (found - exact).abs().max() < 1e-3 * exact.abs().max()


def test_a_logistic_head_is_found_from_where_whole_newton_steps_overshoot():
    """Features of size 100 and a tiny penalty: without halved steps Newton's method runs away."""
    x = 100 * features(size=4)

    weight, bias = fit_logistic(x, LABELS, 3, 1e-6)

    found = objective(x, weight, bias, 1e-6)
    for seed in range(5):
        draw = torch.Generator().manual_seed(seed)
        moved = weight + 1e-4 * torch.randn(weight.shape, generator=draw, dtype=DOUBLE)
        assert (objective(x, moved, bias, 1e-6) > found).all()


@pytest.mark.parametrize("episodes", [1, 2])
def test_the_episodes_of_a_logistic_head_do_not_touch(episodes):
    x = features()
    weight, bias = fit_logistic(x, LABELS, 3, 0.1)

    alone = fit_logistic(x[1:], LABELS[1:], 3, 0.1)

    assert torch.allclose(weight[1:], alone[0], atol=1e-8)
    assert torch.allclose(bias[1:], alone[1], atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_accuracies_are_those_of_the_head_that_comes_with_them(kind):
    x = features()
    found = NewHead(kind, rate=0.5)

    states = list(found.trajectory(x, LABELS, steps=3))

    assert len(states) == 4
    for head, loss, correct in states:
        logits = found.logits(head, x)
        right = (logits.argmax(dim=2) == LABELS).double().mean(dim=1)
        assert torch.allclose(loss, episode_losses(logits, LABELS), atol=1e-12)
        assert torch.allclose(correct.double(), right)
        assert not loss.requires_grad
    weights = [head["weight"] for head, _, _ in states]
    assert not weights[0].any()
    assert not torch.equal(weights[1], weights[0])
    # In closed form it is done after one step; descent goes on.
    assert torch.equal(weights[2], weights[1]) == (kind != "gradient")


def test_each_gradient_step_starts_from_the_step_before_at_the_rate_given():
    x, rate = features(), 0.5
    found = NewHead("gradient", rate=rate)

    heads = [head for head, _, _ in found.trajectory(x, LABELS, steps=4)]

    weight, bias = torch.zeros(2, 3, 4, dtype=DOUBLE), torch.zeros(2, 3, dtype=DOUBLE)
    for head in heads:
        assert torch.allclose(head["weight"], weight, atol=1e-12)
        assert torch.allclose(head["bias"], bias, atol=1e-12)
        p = (x @ weight.transpose(1, 2) + bias[:, None]).softmax(-1)
        error = p - F.one_hot(LABELS, 3)
        weight = weight - rate * error.transpose(1, 2) @ x / 6
        bias = bias - rate * error.mean(dim=1)


def test_the_penalty_and_the_start_are_those_given():
    x = features()
    for penalty in (0.1, 1.0):
        _, (head, _, _) = NewHead("logistic", penalty=penalty).trajectory(x, LABELS, steps=1)
        assert torch.allclose(head["weight"], fit_logistic(x, LABELS, 3, penalty)[0], atol=1e-9)
    ((head, _, _),) = NewHead(init="glorot").trajectory(x, LABELS, steps=0)
    assert torch.equal(head["weight"], initial_head(x, LABELS, 3, "glorot")["weight"])
