"""Weights of every episode, their gradients and their steps, by hand in float64."""

import pytest
import torch
from torch import Tensor

from innerloop.core.errors import ConfigError, DataError
from innerloop.fast_weights.functional import (
    expand,
    gradient,
    hessian_product,
    step,
    with_gradient,
)

DOUBLE = torch.float64


def weights() -> dict[str, Tensor]:
    """Two episodes of a weight a (2,) and a weight b, ready to be differentiated."""
    return {
        "a": torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=DOUBLE, requires_grad=True),
        "b": torch.tensor([5.0, 6.0], dtype=DOUBLE, requires_grad=True),
    }


def test_every_episode_starts_from_the_same_weights_and_gradients_flow_back():
    theta = {"a": torch.tensor([1.0, 2.0], dtype=DOUBLE, requires_grad=True)}

    copies = expand(theta, 3)
    (copies["a"] * torch.tensor([[1.0], [10.0], [100.0]])).sum().backward()

    assert copies["a"].shape == (3, 2)
    assert theta["a"].grad is not None and theta["a"].grad.tolist() == [111.0, 111.0]


def test_a_gradient_is_each_episodes_own_and_not_a_share_of_their_mean():
    """Of the loss b a·a: 2 b a by a, and a·a by b."""
    fast = weights()
    loss = fast["b"] * fast["a"].square().sum(dim=1)

    found = gradient(loss, fast, create_graph=False)

    assert found["a"].tolist() == [[10.0, 20.0], [36.0, 48.0]]
    assert found["b"].tolist() == [5.0, 25.0]
    assert not found["a"].requires_grad


def test_a_gradient_with_its_graph_can_be_differentiated_again():
    fast = weights()

    found = gradient(fast["a"].pow(3).sum(dim=1), fast | {}, create_graph=True)
    (second,) = torch.autograd.grad(found["a"].sum(), fast["a"])

    assert second.tolist() == [[6.0, 12.0], [18.0, 24.0]]


def test_a_product_with_the_hessian_is_each_episodes_own_and_can_be_taken_again():
    """Of b a·a the Hessian is 2 b by a and a, and 2 a by a and b."""
    fast = weights()
    slope = gradient(fast["b"] * fast["a"].square().sum(dim=1), fast, create_graph=True)
    along = {
        "a": torch.tensor([[1.0, -1.0], [0.5, 2.0]], dtype=DOUBLE),
        "b": torch.tensor([3.0, -2.0], dtype=DOUBLE),
    }

    products = [hessian_product(slope, fast, along) for _ in range(2)]

    for found in products:
        assert found["a"].tolist() == [[16.0, 2.0], [-6.0, 8.0]]
        assert found["b"].tolist() == [-2.0, 19.0]


def test_the_hessian_of_what_is_linear_in_a_weight_is_zero_there():
    fast = weights()
    along = {name: torch.ones_like(weight) for name, weight in fast.items()}

    straight = gradient(fast["b"] * 3, fast, create_graph=True)
    bent = gradient(fast["b"] * 3 + fast["a"].square().sum(dim=1), fast, create_graph=True)

    assert not any(of.any() for of in hessian_product(straight, fast, along).values())
    found = hessian_product(bent, fast, along)
    assert found["a"].tolist() == [[2.0, 2.0], [2.0, 2.0]] and found["b"].tolist() == [0.0, 0.0]


def test_values_can_be_given_a_gradient_that_is_not_theirs():
    """Each episode's by its own weights; weights without one get none, and the values stay."""
    theta = {
        "a": torch.tensor([1.0, 2.0], dtype=DOUBLE, requires_grad=True),
        "b": torch.tensor(5.0, dtype=DOUBLE, requires_grad=True),
        "c": torch.tensor(7.0, dtype=DOUBLE, requires_grad=True),
    }
    copies = expand(theta, 2)
    given = {
        "a": torch.tensor([[0.1, 0.2], [0.3, 0.4]], dtype=DOUBLE),
        "b": torch.tensor([10.0, 20.0], dtype=DOUBLE, requires_grad=True),
    }

    values = with_gradient(copies["c"] * torch.tensor([1.0, 2.0]), copies, given)
    found = torch.autograd.grad(
        (values * torch.tensor([1.0, 10.0])).sum(),
        [*theta.values(), given["b"]],
        allow_unused=True,
    )

    assert values.tolist() == [7.0, 14.0]
    assert found[0].tolist() == pytest.approx([3.1, 4.2], rel=1e-15)
    assert found[1].item() == 210.0 and found[2:] == (None, None)


def test_a_weight_that_the_loss_does_not_need_has_a_gradient_of_zero():
    fast = weights()

    found = gradient(fast["b"].square(), fast, create_graph=False)

    assert found["a"].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert found["b"].tolist() == [10.0, 12.0]


@pytest.mark.parametrize("other", [False, True])
def test_a_loss_that_needs_none_of_the_weights_is_refused(other):
    """Whether it depends on nothing at all, or on something else."""
    loss = torch.ones(2, dtype=DOUBLE, requires_grad=other) * 2

    with pytest.raises(ConfigError, match="The loss depends on none of the weights"):
        gradient(loss, weights(), create_graph=False)


class Fails(torch.autograd.Function):
    """The identity, whose backward pass raises what it is told."""

    error: BaseException

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, *gradients):
        raise Fails.error


@pytest.mark.parametrize(
    ("error", "raised", "sentence"),
    [
        (RuntimeError("no such kernel\nat line 3"), ConfigError, "fails: no such kernel. Use "),
        (DataError("a broken picture"), DataError, "^a broken picture$"),
        (torch.OutOfMemoryError("too much"), torch.OutOfMemoryError, "too much"),
    ],
)
def test_what_fails_in_a_backward_pass_is_a_sentence_and_our_own_errors_stay(
    error, raised, sentence
):
    fast = weights()
    Fails.error = error
    loss = Fails.apply(fast["b"])

    with pytest.raises(raised, match=sentence):
        gradient(loss, fast, create_graph=False)  # type: ignore[arg-type]


def test_a_step_goes_against_the_gradient_and_leaves_the_weights():
    fast = weights()

    gradients = {name: torch.full_like(value, 4.0) for name, value in fast.items()}
    following = step(fast, gradients, 0.5)

    assert following["a"].tolist() == [[-1.0, 0.0], [1.0, 2.0]]
    assert following["b"].tolist() == [3.0, 4.0]
    assert fast["b"].tolist() == [5.0, 6.0]
