"""Sums over episodes: bits that do not depend on how episodes are divided."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from innerloop.data.episodes import EpisodeBatch
from innerloop.data.sampling import EpisodeSampler
from innerloop.data.strokes import generate
from innerloop.experiments.meta_gradient import accumulate_meta_gradient, parts_of, taken
from innerloop.fast_weights.sums import blocks, insert, merged, node_of, shared, tree_mean, tree_sum
from innerloop.methods.base import Learner
from innerloop.methods.maml.learner import MAML
from innerloop.methods.mamlpp.learner import MAMLpp
from innerloop.networks.conv4 import Conv4


def noise(count: int) -> torch.Tensor:
    """Numbers of very different sizes, whose sum shows every change of order."""
    generator = torch.Generator().manual_seed(count)
    exponents = torch.randint(-12, 12, (count, 3), generator=generator)
    return torch.randn(count, 3, generator=generator) * 2.0**exponents


@pytest.mark.parametrize("count", range(1, 18))
def test_the_tree_adds_neighbours_then_their_sums(count):
    values = noise(count)
    level = list(values)
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [pair[0] + pair[1] if len(pair) == 2 else pair[0] for pair in pairs]

    assert torch.equal(tree_sum(values), level[0])
    assert torch.equal(tree_mean(values[:, 0]), level[0][0] / count)


@pytest.mark.parametrize("total", range(1, 14))
@pytest.mark.parametrize("most", [1, 2, 3, 4, 8, 100])
def test_slices_and_chunks_of_any_size_give_the_same_bits(total, most):
    values = noise(total)
    expected = tree_sum(values)
    for first, second in itertools.combinations_with_replacement(range(total + 1), 2):
        nodes = {}
        for start, stop in ((0, first), (first, second), (second, total)):
            for block in blocks(start, stop, total, most):
                assert len(block) <= most
                node = node_of(block, total)
                assert node not in nodes
                insert(nodes, node, tree_sum(values[block.start : block.stop]), torch.add)
        assert len(nodes) <= 3 * total.bit_length()

        assert torch.equal(merged(nodes, total, torch.add), expected), (first, second)


def test_an_order_that_is_not_the_trees_gives_other_bits():
    values = noise(8)
    one_by_one = values[0]
    for value in values[1:]:
        one_by_one = one_by_one + value

    assert not torch.equal(one_by_one, tree_sum(values))


def test_what_is_shared_has_the_trees_gradient_and_can_be_differentiated_twice():
    weight = torch.randn(3, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    factors = noise(5).double()

    (gradient,) = torch.autograd.grad((shared(weight, 5) * factors).sum(), weight)

    assert torch.equal(gradient, tree_sum(factors))
    assert shared(weight, 5).data_ptr() == weight.data_ptr()
    assert torch.autograd.gradgradcheck(lambda of: (shared(of, 4) ** 3).sum(0), (weight,))


LEARNERS = {
    "fomaml": lambda net: MAML(net, first_order=True, inner_steps=2),
    "maml": lambda net: MAML(net, inner_steps=2, fresh_head="head"),
    "mamlpp": lambda net: MAMLpp(net, inner_steps=2, first_order_fraction=0.0),
    "mamlpp of first order": lambda net: MAMLpp(net, inner_steps=2, learned_rates="tensor"),
}


def learner_of(kind: str, engine: str) -> Learner:
    torch.manual_seed(0)
    learner = LEARNERS[kind](Conv4(5, filters=16))
    learner.engine = engine
    learner.begin_outer_step(0, 100)
    return learner


@pytest.fixture(scope="module")
def episodes() -> EpisodeBatch:
    return five_episodes()


def five_episodes() -> EpisodeBatch:
    """Of 5 ways, 1 shot and 2 queries."""
    data = generate(20, size=28)
    sampler = EpisodeSampler(
        data, np.arange(20), ways=5, shots=1, queries=2, seed=0, stream_name="episodes/train"
    )
    return sampler.batch(0, 5)


@pytest.mark.parametrize("engine", ["fused", "reference"])
@pytest.mark.parametrize("kind", LEARNERS)
def test_the_meta_gradient_has_the_same_bits_in_chunks_and_slices(kind, engine, episodes):
    assert_same_bits_however_divided(lambda: learner_of(kind, engine), episodes)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_what_is_logged_is_a_mean_over_the_episodes_however_they_are_divided(count, episodes):
    """Also of a power of two, whose parts are added up to one before they are taken."""
    expected = accumulate_meta_gradient(learner_of("fomaml", "reference"), episodes[:count], 8)

    for most in (1, 2):
        logged = accumulate_meta_gradient(learner_of("fomaml", "reference"), episodes[:count], most)
        assert logged == expected


def assert_same_bits_however_divided(make: Callable[[], Learner], episodes: EpisodeBatch) -> None:
    """An outer step of 5 episodes, by learners alike, in chunks and in slices of processes."""
    whole = make()
    expected = accumulate_meta_gradient(whole, episodes, 8)
    whole.end_outer_step()
    for most, slices in ((1, [(0, 5)]), (2, [(0, 5)]), (4, [(0, 5)]), (4, [(0, 2), (2, 5)])):
        divided = make()
        parts = {}
        for start, stop in slices:
            parts |= parts_of(divided, episodes[start:stop], start, 5, most)
        measures = taken(divided, parts, 5)
        divided.end_outer_step()

        assert measures == expected
        for (name, one), other in zip(whole.named_parameters(), divided.parameters(), strict=True):
            # Of a frozen tensor there is none.
            if one.grad is None or other.grad is None:
                assert one.grad is None and other.grad is None, name
                continue
            assert torch.equal(one.grad, other.grad), (most, name)
        for name, value in whole.state_dict().items():
            assert torch.equal(value, divided.state_dict()[name]), (most, name)
