"""The outer optimiser against PyTorch's own."""

import pytest
import torch

from innerloop.fast_weights.adam import Adam


def pair_of_weights(dtype: torch.dtype) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    shapes = [(16, 3, 3, 3), (16,), (5, 16), ()]
    ours = [torch.randn(shape, dtype=dtype) for shape in shapes]
    return ours, [weight.clone() for weight in ours]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fifty_steps_are_those_of_pytorch_to_the_bit(dtype):
    """Rates that change, and a weight that has no gradient at every third step, as in MAML++."""
    ours, theirs = pair_of_weights(dtype)
    adam = Adam(ours)
    oracle = torch.optim.Adam(theirs, lr=1.0)

    for number in range(50):
        rate = 0.003 * (1 + number % 7)
        for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            idle = index == 1 and number % 3 == 0
            gradient = torch.randn_like(mine) * 10.0 ** (number % 5 - 3)
            mine.grad = None if idle else gradient
            other.grad = None if idle else gradient.clone()
        oracle.param_groups[0]["lr"] = rate
        adam.step(rate)
        oracle.step()

    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other)
        assert adam.state[mine].keys() == oracle.state[other].keys()
        for name, value in adam.state[mine].items():
            assert torch.equal(value, oracle.state[other][name])
            assert value.dtype == oracle.state[other][name].dtype


def test_a_step_without_any_gradient_changes_nothing():
    weight = torch.randn(3)
    before = weight.clone()
    adam = Adam([weight])

    adam.step(0.1)

    assert torch.equal(weight, before)
    assert not adam.state
