"""The laws of MAML, in float64, each against an oracle of its own."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.functional import FastWeights, expand
from innerloop.fast_weights.network import Network
from innerloop.methods.maml.learner import MAML
from innerloop.networks.batch_norm import BatchNorm2d
from innerloop.networks.conv4 import Conv4

DOUBLE = torch.float64


class Point(nn.Module):
    """One parameter θ; every "image" is ignored and the output is θ, once per example."""

    def __init__(self, theta: float):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=DOUBLE))

    def forward(self, images: Tensor) -> Tensor:
        return self.theta.expand(len(images))


class SmallConv(nn.Module):
    """Two convolutions with batch norm and a smooth or kinked activation, then a head."""

    def __init__(self, activation: Callable[[Tensor], Tensor], ways: int = 3, filters: int = 4):
        super().__init__()
        self.conv1 = nn.Conv2d(1, filters, 3, stride=2, padding=1, bias=False)
        self.norm1 = BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, stride=2, padding=1, bias=False)
        self.norm2 = BatchNorm2d(filters)
        self.head = nn.Linear(filters, ways)
        self.activation = activation
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        x = self.activation(self.norm1(self.conv1(images)))
        x = self.activation(self.norm2(self.conv2(x)))
        return self.head(x.mean(dim=(2, 3)))


def half_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * ((outputs - targets) ** 2).mean()


def point_episode(support: float, query: float) -> EpisodeBatch:
    def labelled(target: float) -> LabelledImages:
        return LabelledImages(
            torch.zeros(1, 1, 1, 1, 1, dtype=DOUBLE), torch.full((1, 1), target, dtype=DOUBLE)
        )

    nothing = torch.zeros(1, 1, 1, dtype=torch.int64)
    return EpisodeBatch(labelled(support), labelled(query), nothing[:, 0], nothing, nothing)


def random_episodes(
    count: int, ways: int = 3, shots: int = 2, queries: int = 4, size: int = 8
) -> EpisodeBatch:
    generator = torch.Generator().manual_seed(7)

    def labelled(n: int) -> LabelledImages:
        images = torch.rand(count, ways * n, 1, size, size, generator=generator, dtype=DOUBLE)
        return LabelledImages(images, torch.arange(ways).repeat_interleave(n).expand(count, -1))

    def drawings(n: int) -> Tensor:
        return torch.arange(n).expand(count, ways, n)

    return EpisodeBatch(
        labelled(shots),
        labelled(queries),
        torch.arange(ways).expand(count, -1),
        drawings(shots),
        drawings(queries),
    )


def meta_gradient(learner: MAML, episodes: EpisodeBatch) -> Tensor:
    """∂ objective / ∂θ as one vector."""
    loss, _ = learner.outer_loop(episodes)
    return flat(torch.autograd.grad(loss, list(learner.params.values())))


def flat(tensors) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def relative(difference: Tensor, whole: Tensor) -> float:
    return (difference.norm() / whole.norm()).item()


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("first_order", [False, True])
def test_meta_gradient_matches_the_closed_form(steps, first_order):
    """On ½(φ − s)² the inner loop contracts to s: ∂L_query/∂θ = (1 − α)^K (φ_K − q); FO-MAML drops
    (1 − α)^K."""
    theta, support, query, alpha = 0.7, 2.0, -1.3, 0.1
    learner = MAML(
        Point(theta),
        inner_lr=alpha,
        inner_steps=steps,
        first_order=first_order,
        loss_fn=half_squared_error,
    )

    gradient = meta_gradient(learner, point_episode(support, query))

    contraction = (1 - alpha) ** steps
    adapted = support + contraction * (theta - support)
    expected = (adapted - query) * (1.0 if first_order else contraction)
    assert gradient.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("first_order", [False, True])
def test_adapted_weights_have_the_derivative_of_their_order(steps, first_order):
    """φ_K = s + (1 − α)^K (θ − s), so ∂φ_K/∂θ = (1 − α)^K; FO-MAML takes it for one."""
    theta, support, alpha = 0.7, 2.0, 0.1
    learner = MAML(
        Point(theta), inner_lr=alpha, first_order=first_order, loss_fn=half_squared_error
    )

    adaptation = learner.inner_loop(
        learner.params, point_episode(support, 0.0).support, steps=steps
    )
    adapted = adaptation.fast_weights["theta"].sum()
    (derivative,) = torch.autograd.grad(adapted, learner.params["theta"])

    contraction = (1 - alpha) ** steps
    assert adapted.item() == pytest.approx(support + contraction * (theta - support), rel=1e-12)
    assert derivative.item() == pytest.approx(1.0 if first_order else contraction, rel=1e-12)
    losses = [0.5 * ((1 - alpha) ** index * (theta - support)) ** 2 for index in range(steps + 1)]
    assert adaptation.support_loss[0].tolist() == pytest.approx(losses, rel=1e-12)


def finite_difference_error(model: nn.Module, episodes: EpisodeBatch, *, directions: int) -> float:
    """Largest error of the second-order meta-gradient along random directions, over its norm; h =
    1e-5."""
    learner = MAML(model, inner_lr=0.3, inner_steps=3, first_order=False)
    exact = meta_gradient(learner, episodes)
    theta = flat(learner.params.values()).detach()
    generator = torch.Generator().manual_seed(3)
    errors = []
    for _ in range(directions):
        direction = torch.randn(len(theta), generator=generator, dtype=DOUBLE)
        direction /= direction.norm()
        values = []
        for sign in (1, -1):
            nn.utils.vector_to_parameters(theta + sign * 1e-5 * direction, learner.params.values())
            values.append(learner.outer_loop(episodes)[0].item())
        errors.append(abs((values[0] - values[1]) / 2e-5 - (exact @ direction).item()))
    return max(errors) / exact.norm().item()


def test_second_order_meta_gradient_equals_central_differences():
    error = finite_difference_error(SmallConv(F.softplus), random_episodes(2), directions=20)

    assert error <= 1e-6


def test_second_order_meta_gradient_equals_central_differences_through_relu():
    """Small enough that both ends of a difference keep the same active set; a crossed kink would
    break it."""
    error = finite_difference_error(
        SmallConv(F.relu, filters=2), random_episodes(1, size=4), directions=20
    )

    assert error <= 1e-6


def test_first_order_gradient_is_the_query_gradient_at_the_adapted_weights():
    """Taken by a separate plain loop: adapt in place with SGD, then one backward pass."""
    model, episodes = SmallConv(F.relu), random_episodes(1)
    gradient = meta_gradient(MAML(model, inner_lr=0.3, inner_steps=4, first_order=True), episodes)

    adapted = copy.deepcopy(model)
    optimiser = torch.optim.SGD(adapted.parameters(), lr=0.3)
    for _ in range(4):
        optimiser.zero_grad()
        F.cross_entropy(adapted(episodes.support.images[0]), episodes.support.labels[0]).backward()
        optimiser.step()
    optimiser.zero_grad()
    F.cross_entropy(adapted(episodes.query.images[0]), episodes.query.labels[0]).backward()

    expected = flat([weight.grad for weight in adapted.parameters()])
    assert relative(gradient - expected, expected) <= 1e-10


def test_second_order_differs_from_first_order():
    """Without create_graph, MAML silently turns into FO-MAML."""
    model, episodes = SmallConv(F.softplus), random_episodes(1)

    first = meta_gradient(MAML(model, first_order=True), episodes)
    second = meta_gradient(MAML(model), episodes)  # MAML is of second order unless told otherwise

    assert relative(first - second, second) > 0.01


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("fresh_head", [None, "head"])
def test_a_batch_of_episodes_equals_one_at_a_time(first_order, fresh_head):
    learner = MAML(SmallConv(F.softplus), first_order=first_order, fresh_head=fresh_head)
    episodes = random_episodes(3)

    together = meta_gradient(learner, episodes)
    alone = torch.stack(
        [meta_gradient(learner, episodes[index : index + 1]) for index in range(3)]
    ).mean(dim=0)

    assert relative(together - alone, alone) <= 1e-10


def call_looped(model: nn.Module, weights: FastWeights, images: Tensor) -> Tensor:
    return Network(model, vectorised=False).call(weights, images)


def call_vmapped(model: nn.Module, weights: FastWeights, images: Tensor) -> Tensor:
    return Network(model, vectorised=True).call(weights, images)


def three_different(model: nn.Module) -> FastWeights:
    """Weights of three episodes, each its own."""
    same = expand(dict(model.named_parameters()), 3)
    return {
        name: (weight + 0.1 * torch.randn(weight.shape)).detach().requires_grad_()
        for name, weight in same.items()
    }


def test_the_vectorised_pass_equals_the_loop_over_episodes():
    model, images = SmallConv(F.relu), random_episodes(3).query.images
    weights = three_different(model)

    looped, vectorised = call_looped(model, weights, images), call_vmapped(model, weights, images)

    assert relative(looped - vectorised, looped) <= 1e-12


def test_the_vectorised_pass_equals_the_loop_for_our_own_network():
    """What a GPU runs; vmap refuses some operations that a plain pass allows."""
    model, images = (
        Conv4(3, image_size=16, filters=4).double(),
        random_episodes(3, size=16).query.images,
    )
    weights = three_different(model)

    looped, vectorised = call_looped(model, weights, images), call_vmapped(model, weights, images)

    assert relative(looped - vectorised, looped) <= 1e-12


def test_the_vectorised_pass_has_the_gradients_of_the_loop():
    model, images = SmallConv(F.relu), random_episodes(3).query.images
    weights = three_different(model)

    looped = torch.autograd.grad(
        call_looped(model, weights, images).square().sum(), list(weights.values())
    )
    vectorised = torch.autograd.grad(
        call_vmapped(model, weights, images).square().sum(), list(weights.values())
    )

    assert relative(flat(looped) - flat(vectorised), flat(looped)) <= 1e-10


def test_zero_steps_is_the_plain_model():
    model, episodes = SmallConv(F.relu), random_episodes(2)
    learner = MAML(model)

    adaptation = learner.adapt(episodes.support, steps=0)

    expected = torch.stack([model(images) for images in episodes.query.images])
    assert torch.equal(learner.predict(adaptation, episodes.query.images), expected)


def test_every_step_starts_from_the_step_before():
    """A public solution restarts from θ at every step: its φ_2 then equals its φ_1."""
    learner, episodes = MAML(SmallConv(F.relu)), random_episodes(1)

    two_at_once = learner.adapt(episodes.support, steps=2).fast_weights
    one = learner.adapt(episodes.support, steps=1).fast_weights
    then_one = learner.inner_loop(
        {name: w[0] for name, w in one.items()}, episodes.support, steps=1
    ).fast_weights

    assert (
        relative(flat(two_at_once.values()) - flat(then_one.values()), flat(then_one.values()))
        <= 1e-12
    )
    assert relative(flat(two_at_once.values()) - flat(one.values()), flat(one.values())) > 1e-3


@pytest.mark.parametrize("first_order", [False, True])
def test_training_and_adapting_leave_the_model_bit_equal(first_order):
    model, episodes = SmallConv(F.relu), random_episodes(2)
    before = copy.deepcopy(model.state_dict())
    learner = MAML(model, first_order=first_order)

    learner.outer_loop(episodes)[0].backward()
    learner.meta_loss(episodes)[0].backward()
    adaptation = learner.adapt(episodes.support, steps=3)
    learner.predict(adaptation, episodes.query.images, batch_norm="support")

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_episodes_do_not_leak_into_one_another():
    learner, episodes = MAML(SmallConv(F.relu)), random_episodes(2)
    first = learner.adapt(episodes[0:1].support, steps=3).fast_weights

    learner.adapt(episodes[1:2].support, steps=3)
    again = learner.adapt(episodes[0:1].support, steps=3).fast_weights

    assert all(torch.equal(first[name], again[name]) for name in first)


def test_permuting_labels_with_the_rows_of_the_head_permutes_the_logits():
    model, episodes = SmallConv(F.relu), random_episodes(1)
    order = torch.tensor([2, 0, 1])
    relabelled = LabelledImages(episodes.support.images, order[episodes.support.labels])
    logits = predict(MAML(model), episodes.support, episodes.query.images)

    permuted = copy.deepcopy(model)
    with torch.no_grad():
        permuted.head.weight[order] = model.head.weight
        permuted.head.bias[order] = model.head.bias
    with_rows = predict(MAML(permuted), relabelled, episodes.query.images)
    labels_alone = predict(MAML(model), relabelled, episodes.query.images)

    assert torch.allclose(with_rows[..., order], logits, rtol=0, atol=1e-12)
    assert not torch.allclose(labels_alone[..., order], logits, rtol=0, atol=1e-3)


def test_with_a_fresh_head_permuting_the_labels_alone_permutes_the_logits():
    model, episodes = SmallConv(F.relu), random_episodes(1)
    order = torch.tensor([2, 0, 1])
    relabelled = LabelledImages(episodes.support.images, order[episodes.support.labels])
    learner = MAML(model, fresh_head="head")

    logits = predict(learner, episodes.support, episodes.query.images)
    permuted = predict(learner, relabelled, episodes.query.images)

    assert torch.allclose(permuted[..., order], logits, rtol=0, atol=1e-12)


def predict(learner: MAML, support: LabelledImages, images: Tensor) -> Tensor:
    return learner.predict(learner.adapt(support, steps=3), images)


def test_a_fresh_head_is_not_part_of_theta_and_starts_at_zero():
    learner, episodes = MAML(SmallConv(F.relu), fresh_head="head"), random_episodes(2)

    learner.outer_loop(episodes)[0].backward()
    start = learner.adapt(episodes.support, steps=0)

    assert not any(name.startswith("head") for name in learner.params)
    assert learner.model.get_parameter("head.weight").grad is None
    assert start.fast_weights["head.weight"].abs().max() == 0


def test_query_batches_change_nothing_where_no_batch_statistics_enter():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    episodes = random_episodes(2)

    whole, _ = MAML(model, query_batches=1).outer_loop(episodes)
    parts, _ = MAML(model, query_batches=4).outer_loop(episodes)

    assert parts.item() == pytest.approx(whole.item(), rel=1e-12)


def test_query_batches_are_equal_and_balanced():
    for part in random_episodes(2).query_batches(2):
        assert part.labels.tolist() == [[0, 0, 1, 1, 2, 2]] * 2


def test_training_objective_is_the_outer_loops_objective():
    learner, episodes = MAML(SmallConv(F.relu), first_order=False), random_episodes(2)

    lean, logged = learner.meta_loss(episodes)
    full, metrics = learner.outer_loop(episodes)

    assert torch.equal(lean, full)
    assert metrics.keys() == {
        "support_accuracy_before",
        "support_accuracy_after",
        "query_accuracy_before",
        "query_accuracy_after",
    }
    assert torch.equal(logged["query_accuracy_after"], metrics["query_accuracy_after"].mean())
    assert torch.equal(logged["support_accuracy_before"], metrics["support_accuracy_before"].mean())


def test_support_statistics_make_predictions_independent_of_the_other_query_images():
    learner, episodes = MAML(SmallConv(F.relu)), random_episodes(1)
    adaptation = learner.adapt(episodes.support, steps=2)

    together = learner.predict(adaptation, episodes.query.images, batch_norm="support")
    alone = learner.predict(adaptation, episodes.query.images[:, :1], batch_norm="support")
    transductive = learner.predict(
        adaptation, episodes.query.images[:, :2], batch_norm="transductive"
    )

    assert torch.allclose(together[:, :1], alone, rtol=0, atol=1e-12)
    assert not torch.allclose(together[:, :2], transductive, rtol=0, atol=1e-3)


def test_support_statistics_on_the_support_set_itself_are_its_own():
    learner, episodes = MAML(SmallConv(F.relu)), random_episodes(1)
    adaptation = learner.adapt(episodes.support, steps=2)

    by_support = learner.predict(adaptation, episodes.support.images, batch_norm="support")
    by_itself = learner.predict(adaptation, episodes.support.images, batch_norm="transductive")

    assert torch.allclose(by_support, by_itself, rtol=0, atol=1e-12)


def test_gradient_flows_through_support_statistics():
    learner, episodes = MAML(SmallConv(F.softplus)), random_episodes(1)
    support = LabelledImages(
        episodes.support.images.clone().requires_grad_(), episodes.support.labels
    )
    adaptation = learner.adapt(support, steps=0)

    logits = learner.predict(adaptation, episodes.query.images, batch_norm="support")
    (gradient,) = torch.autograd.grad(logits.square().sum(), support.images)

    assert gradient.abs().max() > 0


def test_more_ways_than_a_learnt_head_has_outputs_are_refused_with_the_reason():
    learner = MAML(SmallConv(F.relu, ways=3))

    with pytest.raises(ConfigError, match=r"5-way and the network has 3 outputs.*fresh head"):
        learner.adapt(random_episodes(1, ways=5).support, steps=1)


def test_a_fresh_head_takes_the_ways_of_the_episode():
    learner = MAML(SmallConv(F.relu, ways=3), fresh_head="head")
    episodes = random_episodes(1, ways=5)

    logits = predict(learner, episodes.support, episodes.query.images)

    assert logits.shape == (1, 20, 5)


def test_negative_steps_are_refused():
    with pytest.raises(ConfigError, match="at least 0: got -1"):
        MAML(SmallConv(F.relu)).adapt(random_episodes(1).support, steps=-1)


def test_conv4_batched_equals_one_by_one_in_float32():
    learner = MAML(Conv4(3, image_size=16, filters=8), first_order=True, fresh_head="head")
    episodes = random_episodes(3, size=16)
    single = EpisodeBatch(
        LabelledImages(episodes.support.images.float(), episodes.support.labels),
        LabelledImages(episodes.query.images.float(), episodes.query.labels),
        episodes.classes,
        episodes.support_drawings,
        episodes.query_drawings,
    )

    together = meta_gradient(learner, single)
    alone = torch.stack(
        [meta_gradient(learner, single[index : index + 1]) for index in range(3)]
    ).mean(dim=0)

    assert relative(together - alone, alone) <= 1e-4


def test_functional_call_leaves_shared_modules_alone():
    """The oracle of `call`: the same as loading each episode's weights into a copy of the model."""
    model, images = SmallConv(F.relu), random_episodes(2).query.images
    weights = {
        name: torch.randn(2, *weight.shape, dtype=DOUBLE)
        for name, weight in model.named_parameters()
    }

    found = call_looped(model, weights, images)

    for episode in range(2):
        loaded = copy.deepcopy(model)
        loaded.load_state_dict({name: weight[episode] for name, weight in weights.items()})
        assert torch.allclose(found[episode], loaded(images[episode]), rtol=0, atol=1e-12)
        assert torch.equal(functional_call(model, {}, (images[episode],)), model(images[episode]))
