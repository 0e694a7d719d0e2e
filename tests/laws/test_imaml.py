"""The laws of iMAML, in float64, each against an oracle of its own."""

import copy
import dataclasses
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.experiments.experiment import build_learner
from innerloop.methods.catalogue import read_config, settings_of
from innerloop.methods.imaml.conjugate_gradient import conjugate_gradient, dot
from innerloop.methods.imaml.learner import IMAML
from innerloop.networks.conv4 import Conv4
from killing import campaign
from laws.test_meta_gradient import (
    DOUBLE,
    SmallConv,
    flat,
    half_squared_error,
    random_episodes,
    relative,
)
from laws.test_sums import assert_same_bits_however_divided, five_episodes

INPUTS, EXAMPLES = 6, 10


# Conjugate gradient


def systems(count: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Positive definite matrices (E, n, n), each with eigenvalues of its own, and targets."""
    draw = torch.Generator().manual_seed(seed)
    roots = torch.randn(count, size, size, generator=draw, dtype=DOUBLE)
    scales = torch.logspace(-1, 1, count, dtype=DOUBLE)[:, None, None]
    matrices = scales * (roots @ roots.mT / size + torch.eye(size, dtype=DOUBLE))
    return matrices, torch.randn(count, size, generator=draw, dtype=DOUBLE)


def times(matrices: Tensor) -> Any:
    return lambda vectors: (matrices @ vectors[..., None])[..., 0]


@pytest.mark.parametrize("size", [1, 2, 7, 20])
def test_as_many_steps_as_unknowns_solve_every_system(size):
    matrices, targets = systems(4, size)

    found, residuals = conjugate_gradient(times(matrices), targets, size)

    expected = torch.linalg.solve(matrices, targets)
    assert relative(found - expected, expected) <= 1e-10
    assert residuals.max() <= 1e-10


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_fewer_steps_are_the_best_of_their_krylov_space(steps):
    """The minimum of ½ xAx − bx over b, Ab, ..., A^(steps − 1) b, found by solving it there; and
    the residual is that of the solution."""
    matrices, targets = systems(3, 9)

    found, residuals = conjugate_gradient(times(matrices), targets, steps)

    for matrix, target, one, residual in zip(matrices, targets, found, residuals, strict=True):
        powers = [target]
        for _ in range(steps - 1):
            powers.append(matrix @ powers[-1])
        basis = torch.linalg.qr(torch.stack(powers, dim=1)).Q
        expected = basis @ torch.linalg.solve(basis.T @ matrix @ basis, basis.T @ target)
        assert relative(one - expected, expected) <= 1e-10
        left = (target - matrix @ one).norm() / target.norm()
        assert residual.item() == pytest.approx(left.item(), rel=1e-8)


def test_steps_beyond_the_solution_and_targets_of_zero_change_nothing():
    matrices, targets = systems(3, 4)
    targets[1] = 0

    found, residuals = conjugate_gradient(times(matrices), targets, 30)

    expected = torch.linalg.solve(matrices, targets)
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)
    assert not found[1].any() and residuals[1] == 0 and residuals.max() <= 1e-10


def test_where_a_curvature_is_not_positive_an_episode_stops_and_the_others_go_on():
    """The first has none along b, and takes b; the second meets one in its second step."""
    matrices, targets = systems(3, 3)
    matrices[0] = -torch.eye(3, dtype=DOUBLE)
    matrices[1] = torch.diag(torch.tensor([3.0, 1.0, -1.0], dtype=DOUBLE))
    targets[1] = 1.0

    found, residuals = conjugate_gradient(times(matrices), targets, 3)

    assert torch.equal(found[0], targets[0])
    assert torch.allclose(found[1], targets[1], rtol=0, atol=1e-12)  # 3 / (3 + 1 − 1) of b
    expected = torch.linalg.solve(matrices[2], targets[2])
    assert relative(found[2] - expected, expected) <= 1e-10
    assert residuals.isfinite().all() and residuals[0].item() == pytest.approx(2.0)


def test_a_product_of_rows_has_the_same_bits_alone_as_among_others():
    rows = torch.randn(5, 100_001)

    # Several threads share out one long row, and of several rows each takes some.
    torch.set_num_threads(2)
    try:
        alone = dot(rows[2:3], rows.flip(0)[2:3])
        among = dot(rows, rows.flip(0))
    finally:
        torch.set_num_threads(1)
    assert torch.equal(among[2:3], alone)
    exact = (rows.double() * rows.double()).sum(dim=1)
    assert torch.allclose(dot(rows, rows).double(), exact, rtol=1e-6)


# The implicit gradient on convex problems


def linear(outputs: int = 1) -> nn.Linear:
    torch.manual_seed(5)
    return nn.Linear(INPUTS, outputs, bias=False).double()


def convex_episodes(count: int, classes: int = 0) -> EpisodeBatch:
    """Inputs (E, n, 6) with targets of a regression, or labels of some classes."""
    draw = torch.Generator().manual_seed(11)

    def labelled() -> LabelledImages:
        inputs = torch.randn(count, EXAMPLES, INPUTS, generator=draw, dtype=DOUBLE)
        if classes:
            return LabelledImages(
                inputs, torch.arange(EXAMPLES).remainder(classes).repeat(count, 1)
            )
        return LabelledImages(inputs, torch.randn(count, EXAMPLES, 1, generator=draw, dtype=DOUBLE))

    nothing = torch.zeros(count, 1, 1, dtype=torch.int64)
    return EpisodeBatch(labelled(), labelled(), nothing[:, 0], nothing, nothing)


def implicit_gradient(learner: IMAML, episodes: EpisodeBatch) -> Tensor:
    loss, _ = learner.meta_loss(episodes)
    return flat(torch.autograd.grad(loss, list(learner.params.values())))


def ridge(episodes: EpisodeBatch, episode: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hessian and right side of the support's ½ mean (xw − y)², and of the query's."""
    sets = episodes.support, episodes.query
    inputs = [of.images[episode] for of in sets]
    targets = [of.labels[episode][:, 0] for of in sets]
    hessians = [of.T @ of / EXAMPLES for of in inputs]
    sides = [of.T @ target / EXAMPLES for of, target in zip(inputs, targets, strict=True)]
    return hessians[0], sides[0], hessians[1], sides[1]


@pytest.mark.parametrize("steps", [1, 3, 400])
@pytest.mark.parametrize("proximal", [0.5, 2.0])
def test_on_ridge_regression_it_is_the_closed_form(steps, proximal):
    """φ_K = φ* + (I − α (H + λ))^K (θ − φ*) with φ* = (H + λ)⁻¹ (b + λθ), and the outer gradient is
    λ (H + λ)⁻¹ (H_q φ_K − b_q); after many steps φ_K is φ*."""
    model, episodes, rate = linear(), convex_episodes(3), 0.1
    learner = IMAML(
        model,
        inner_lr=rate,
        inner_steps=steps,
        proximal=proximal,
        cg_steps=INPUTS,
        loss_fn=half_squared_error,
    )

    loss, logged = learner.meta_loss(episodes)
    gradient = flat(torch.autograd.grad(loss, list(learner.params.values())))

    theta = model.weight.detach()[0]
    expected, losses, slopes = [], [], []
    for episode in range(3):
        hessian, side, of_query, query_side = ridge(episodes, episode)
        whole = hessian + proximal * torch.eye(INPUTS, dtype=DOUBLE)
        best = torch.linalg.solve(whole, side + proximal * theta)
        contraction = torch.eye(INPUTS, dtype=DOUBLE) - rate * whole
        last = best + torch.linalg.matrix_power(contraction, steps) @ (theta - best)
        expected.append(proximal * torch.linalg.solve(whole, of_query @ last - query_side))
        query = episodes.query
        losses.append(half_squared_error(query.images[episode] @ last, query.labels[episode, :, 0]))
        slopes.append((whole @ (last - best)).norm())
    closed = torch.stack(expected).mean(dim=0)
    assert relative(gradient - closed, closed) <= 1e-10
    assert loss.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-10)
    found = logged["inner_gradient_norm"].item()
    assert found == pytest.approx(torch.stack(slopes).mean().item(), rel=1e-6, abs=1e-12)
    assert logged["cg_residual"] <= 1e-8


def unrolled(
    model: nn.Linear, episodes: EpisodeBatch, loss_fn: Any, rate: float, proximal: float, steps: int
) -> Tensor:
    """The gradient of the query loss by plain autograd through all steps of a loop."""
    theta = model.weight
    total = torch.zeros((), dtype=DOUBLE)
    for episode in range(len(episodes)):
        adapted = theta
        support, query = episodes.support, episodes.query
        for _ in range(steps):
            outputs = support.images[episode] @ adapted.T
            loss = loss_fn(outputs, support.labels[episode])
            loss = loss + proximal / 2 * (adapted - theta).square().sum()
            (slope,) = torch.autograd.grad(loss, adapted, create_graph=True)
            adapted = adapted - rate * slope
        total = total + loss_fn(query.images[episode] @ adapted.T, query.labels[episode])
    (gradient,) = torch.autograd.grad(total / len(episodes), theta)
    return gradient.reshape(-1)


@pytest.mark.parametrize(("classes", "loss_fn"), [(0, half_squared_error), (3, F.cross_entropy)])
def test_it_is_the_limit_of_the_gradient_through_the_steps(classes, loss_fn):
    """Both go to the same at the rate of the contraction, at least by (1 − αλ)^K: the loss is
    convex, so that every curvature of the inner problem is λ or more."""
    model, episodes, rate, proximal = linear(classes or 1), convex_episodes(2, classes), 0.2, 1.0
    errors = []
    for steps in (10, 20, 40, 120):
        learner = IMAML(
            model,
            inner_lr=rate,
            inner_steps=steps,
            proximal=proximal,
            cg_steps=INPUTS * max(classes, 1),
            loss_fn=loss_fn,
        )
        through = unrolled(model, episodes, loss_fn, rate, proximal, steps)
        errors.append(relative(implicit_gradient(learner, episodes) - through, through))

    assert errors[-1] <= 1e-10
    for error, steps in zip(errors, (10, 20, 40), strict=False):
        # A derivative of a contraction's power has the number of steps as a factor.
        assert 1e-12 < error <= steps * (1 - rate * proximal) ** steps


def test_a_network_that_is_not_convex_has_the_solution_of_its_own_hessian():
    """By a Hessian (n, n) from autograd, at weights that a plain loop adapts; no step of conjugate
    gradient is spared."""
    model, episodes, proximal = SmallConv(F.softplus, filters=2), random_episodes(2, size=4), 15.0
    count = sum(weight.numel() for weight in model.parameters())
    learner = IMAML(model, inner_lr=0.05, inner_steps=4, proximal=proximal, cg_steps=count)

    found = implicit_gradient(learner, episodes)

    theta = flat(model.parameters()).detach()
    expected = []
    for episode in range(2):
        support, query = (
            (part.images[episode], part.labels[episode])
            for part in (episodes.support, episodes.query)
        )
        adapted = theta
        for _ in range(4):
            slope = torch.func.grad(loss_at)(adapted, model, *support)
            adapted = adapted - 0.05 * (slope + proximal * (adapted - theta))
        hessian: Any = torch.autograd.functional.hessian(
            lambda vector, part=support: loss_at(vector, model, *part), adapted
        )
        matrix = torch.eye(count, dtype=DOUBLE) + hessian / proximal
        target = torch.func.grad(loss_at)(adapted, model, *query)
        assert torch.linalg.eigvalsh(matrix).min() > 0
        expected.append(torch.linalg.solve(matrix, target))
    assert relative(found - torch.stack(expected).mean(0), torch.stack(expected).mean(0)) <= 1e-8


def loss_at(vector: Tensor, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    names, weights = zip(*model.named_parameters(), strict=True)
    parts = vector.split([weight.numel() for weight in weights])
    named = {
        name: part.reshape(weight.shape)
        for name, part, weight in zip(names, parts, weights, strict=True)
    }
    return F.cross_entropy(torch.func.functional_call(model, named, (images,)), labels)


def test_a_fresh_head_is_held_near_zero_and_takes_part_in_the_system():
    """As a meta-learned head whose learnt weights are zero; its own gradient is left out."""
    model, episodes = SmallConv(F.softplus), random_episodes(2)
    with torch.no_grad():
        for weight in model.head.parameters():
            weight.zero_()
    how: dict[str, Any] = dict(inner_lr=0.3, inner_steps=4, proximal=1.0, cg_steps=6)
    fresh, learnt = IMAML(model, fresh_head="head", **how), IMAML(model, **how)

    loss, _ = fresh.meta_loss(episodes)
    expected, _ = learnt.meta_loss(episodes)
    body = [weight for name, weight in learnt.params.items() if not name.startswith("head")]

    gradient = flat(torch.autograd.grad(loss, list(fresh.params.values())))
    of_body = flat(torch.autograd.grad(expected, body))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert relative(gradient - of_body, of_body) <= 1e-10


def test_adaptation_is_descent_on_the_loss_with_the_proximal_term():
    model, episodes = SmallConv(F.relu), random_episodes(2)
    learner = IMAML(model, inner_lr=0.2, proximal=0.7)

    adaptation = learner.adapt(episodes.support, steps=5)

    for episode in range(2):
        adapted = copy.deepcopy(model)
        optimiser = torch.optim.SGD(adapted.parameters(), lr=0.2)
        for _ in range(5):
            optimiser.zero_grad()
            support = episodes.support
            loss = F.cross_entropy(adapted(support.images[episode]), support.labels[episode])
            for name, weight in adapted.named_parameters():
                distance = weight - model.get_parameter(name).detach()
                loss = loss + 0.35 * distance.square().sum()
            loss.backward()
            optimiser.step()
        for name, weight in adapted.named_parameters():
            found = adaptation.fast_weights[name][episode]
            assert torch.allclose(found, weight, rtol=0, atol=1e-12)


# As every method


class Counting(SmallConv):
    """Counts the images that it is given."""

    images = 0

    def forward(self, images: Tensor) -> Tensor:
        Counting.images += len(images)
        return super().forward(images)


def test_products_with_the_hessian_are_counted_as_passes(monkeypatch):
    """A product goes through the support set's graph, forward and backward, without a call of the
    network: it is counted where it is asked for."""
    config = settings_of(
        "imaml", ways=3, shots=2, queries=4, meta_batch_size=2, inner_steps=3, cg_steps=4
    )
    learner = IMAML.from_config(config, Counting(F.softplus))
    products = []
    original = conjugate_gradient

    def counting(product: Any, target: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        def counted(vectors: Tensor) -> Tensor:
            products.append(len(vectors))
            return product(vectors)

        return original(counted, target, steps)

    monkeypatch.setattr("innerloop.methods.imaml.learner.conjugate_gradient", counting)
    Counting.images = 0
    learner.meta_loss(random_episodes(2))

    passes = Counting.images + sum(products) * 3 * 2
    assert config.own.image_passes(config, 1) == passes == 2 * ((3 + 1 + 4) * 6 + 12)


@pytest.mark.parametrize("fresh_head", [None, "head"])
@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_the_outer_gradient_has_the_same_bits_in_chunks_and_slices(fresh_head, engine):
    def make() -> IMAML:
        torch.manual_seed(0)
        learner = IMAML(Conv4(5, filters=16), inner_steps=2, cg_steps=3, fresh_head=fresh_head)
        learner.engine = engine
        return learner

    assert_same_bits_however_divided(make, five_episodes())


@pytest.mark.parametrize("fresh_head", [None, "head"])
def test_the_fused_engine_has_the_gradient_of_the_reference_in_float64(fresh_head):
    """In the median of five draws: in some a ReLU is at its kink, on one side of it by rounding."""

    def difference(seed: int) -> float:
        torch.manual_seed(seed)
        model = Conv4(3, image_size=16, filters=16, head_init="glorot")
        learner = IMAML(model, inner_lr=0.05, inner_steps=3, cg_steps=3, fresh_head=fresh_head)
        episodes = random_episodes(3, shots=4, queries=6, size=16)
        exact = copy.deepcopy(learner).double()
        learner.engine = "fused"
        found = implicit_gradient(learner, in_single(episodes)).double()
        expected = implicit_gradient(exact, episodes)
        return float(relative(found - expected, expected))

    assert statistics.median(map(difference, range(1, 6))) <= 1e-5


def in_single(episodes: EpisodeBatch) -> EpisodeBatch:
    support, query = (
        LabelledImages(of.images.float(), of.labels) for of in (episodes.support, episodes.query)
    )
    return dataclasses.replace(episodes, support=support, query=query)


def test_a_batch_of_episodes_equals_one_at_a_time():
    learner, episodes = IMAML(SmallConv(F.softplus), inner_lr=0.2), random_episodes(3)

    together = implicit_gradient(learner, episodes)
    alone = torch.stack(
        [implicit_gradient(learner, episodes[index : index + 1]) for index in range(3)]
    ).mean(dim=0)

    assert relative(together - alone, alone) <= 1e-10


def test_it_adapts_to_other_ways_and_shots_predicts_lone_images_and_becomes_a_module():
    learner = IMAML(Conv4(3, image_size=16, filters=4).double(), fresh_head="head")
    episodes = random_episodes(2, ways=5, shots=1, size=16)

    adaptation = learner.adapt(episodes.support, steps=3)
    together = learner.predict(adaptation, episodes.query.images, batch_norm="support")
    alone = learner.predict(adaptation, episodes.query.images[:, :1], batch_norm="support")
    module = learner.as_module(adaptation, episode=1)

    assert together.shape == (2, 20, 5)
    assert torch.allclose(together[:, :1], alone, rtol=0, atol=1e-12)
    assert torch.allclose(module(episodes.query.images[1]), together[1], rtol=0, atol=1e-10)
    assert "logits" in learner.block_outputs(adaptation, episodes.query.images)
    assert learner.adapting() is learner
    with pytest.raises(ConfigError, match="IMAML adapts in its own way alone"):
        learner.adapting("head")


def test_training_leaves_the_model_bit_equal():
    model, episodes = SmallConv(F.relu), random_episodes(2)
    before = copy.deepcopy(model.state_dict())

    IMAML(model).meta_loss(episodes)[0].backward()

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Never(torch.autograd.Function):
    """The identity, which cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise RuntimeError("no second derivative")


class Once(Never):
    """The identity, which can be differentiated once."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Never.apply(gradient)  # pyright: ignore[reportReturnType]


def test_a_network_that_cannot_be_differentiated_twice_is_refused_in_a_sentence():
    model = SmallConv(lambda images: Once.apply(F.softplus(images)))

    with pytest.raises(ConfigError, match=r"no second derivative\. Use operations .* twice"):
        IMAML(model).meta_loss(random_episodes(1))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(proximal=0.0), "proximal must be between 0.0001 and 1,000,000.0: got 0.0"),
        (dict(proximal=-1.0), "proximal must be between"),
        (dict(proximal=float("nan")), "proximal must be between"),
        (dict(inner_steps=0), "inner_steps must be between 1 and 1,000: got 0"),
        (dict(cg_steps=0), "cg_steps must be between 1 and 1,000: got 0"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        settings_of("imaml", **settings)
    with pytest.raises(ConfigError, match=sentence):
        IMAML(SmallConv(F.relu), **settings)


@pytest.mark.parametrize(("ways", "shots"), [(5, 1), (5, 5), (20, 1), (20, 5)])
def test_the_papers_protocol_is_a_preset_with_its_numbers(ways, shots):
    config = settings_of("imaml", f"paper-{ways}w{shots}s")
    own = config.own

    assert (own.proximal, own.cg_steps, own.fresh_head) == (2.0, 5, False)
    assert own.inner_steps == {5: 16, 20: 25}[ways]
    assert (own.inner_lr, own.meta_batch_size) == (0.1, 32)
    assert (config.training.meta_steps, config.training.outer_lr) == (20_000, 0.001)
    assert (config.episode.ways, config.episode.shots, config.episode.queries) == (
        ways,
        shots,
        shots,
    )
    assert read_config(config.to_json()) == config
    assert isinstance(build_learner(config.replace(device="cpu"), 1), IMAML)


@pytest.mark.slow
def test_a_training_that_is_killed_ends_with_the_bits_of_one_that_was_not(tmp_path: Path):
    tally = campaign(tmp_path, 3, method="imaml")

    assert tally.kills >= 3 and not tally.failures
