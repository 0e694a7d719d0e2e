"""The laws of R2-D2."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError, NonFiniteError
from innerloop.data.episodes import EpisodeBatch
from innerloop.fast_weights.fused_cpu.compiling import HOST
from innerloop.methods.catalogue import settings_of
from innerloop.methods.heads.episodic import EpisodicFeatures
from innerloop.methods.r2d2.learner import R2D2, RidgeRegression
from innerloop.networks.conv4 import Conv4
from killing import campaign
from laws.agreement import engines_apart, far
from laws.test_episodic import gradients, model_of, trained
from laws.test_meta_gradient import random_episodes
from laws.test_sums import assert_same_bits_however_divided, five_episodes

WAYS = 4


def network(ways: int = 3, filters: int = 6, **settings) -> Conv4:
    torch.manual_seed(3)
    chosen: dict[str, Any] = {"image_size": 16, "downsample": "max-pool", "features": "flatten"}
    chosen |= {"last_relu": False, "feature_norm": False} | settings
    return Conv4(ways, filters=filters, **chosen)


def learner(**settings) -> R2D2:
    return R2D2(network(), **settings).double()


def support_of(n: int, features: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(n)
    return torch.randn(n, features, generator=draw, dtype=torch.float64), torch.arange(n) % WAYS


@pytest.mark.parametrize("penalty", [1e-3, 0.7, 50.0])
@pytest.mark.parametrize(("n", "features"), [(8, 30), (40, 6)])
def test_logits_are_scikit_learns_ridge_scaled_and_moved(n, features, penalty):
    x, labels = support_of(n, features)
    queries, _ = support_of(11, features)
    rule = RidgeRegression(penalty, 7.0).double()
    nn.init.constant_(rule.bias, 0.4)
    theirs = Ridge(alpha=rule.log_penalty.exp().item(), fit_intercept=False, solver="svd")
    theirs.fit(x.numpy(), F.one_hot(labels, WAYS).numpy())

    found = rule.logits(rule.fit(x, labels, WAYS), queries).detach().numpy()

    assert np.abs(found - (7.0 * theirs.predict(queries.numpy()) + 0.4)).max() < 1e-6


def plain_objective(made: R2D2, batch: EpisodeBatch) -> Tensor:
    """The objective as a loop over episodes, by the primal formula."""
    losses = []
    rule, count = made.rule, batch.support.images.shape[1]
    assert isinstance(rule, RidgeRegression)
    for number in range(len(batch)):
        images = torch.cat([batch.support.images[number], batch.query.images[number]])
        features = model_of(made).embed(images)
        x, others = features[:count], features[count:]
        targets = F.one_hot(batch.support.labels[number]).double()
        regular = x.T @ x + rule.log_penalty.exp() * torch.eye(x.shape[1]).double()
        weights = torch.linalg.inv(regular) @ x.T @ targets
        logits = rule.scale * others @ weights + rule.bias
        losses.append(F.cross_entropy(logits, batch.query.labels[number]))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("shots", [1, 3])
def test_the_objective_and_its_gradient_are_those_of_a_plain_loop(shots):
    made, batch = learner(), random_episodes(3, size=16, shots=shots)
    loss, _ = made.meta_loss(batch)
    expected = plain_objective(made, batch)

    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    ours, theirs = gradients(made, loss), gradients(made, expected)
    for name, gradient in theirs.items():
        # β has none but for rounding.
        assert (ours[name] - gradient).norm() <= 1e-9 * max(gradient.norm(), 1e-3), name
    assert far(joined(ours), joined(theirs)) <= 1e-10
    assert theirs["rule.log_penalty"].abs() > 1e-4


def joined(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def assert_gradient_is_that_of_differences(
    made: EpisodicFeatures, batch: EpisodeBatch, names: list[str]
) -> None:
    found = gradients(made, made.meta_loss(batch)[0])
    for name in names:
        weight = made.get_parameter(name)
        way = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)).double()
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight.add_(sign * 1e-6 * way)
                values.append(float(made.meta_loss(batch)[0]))
                weight.sub_(sign * 1e-6 * way)
        slope = (values[0] - values[1]) / 2e-6
        assert slope == pytest.approx(float((found[name] * way).sum()), rel=1e-6, abs=1e-9), name


def test_the_gradient_is_that_of_finite_differences():
    weights = ["model.convs.3.weight", "model.norms.2.bias"]
    learnt = ["rule.log_penalty", "rule.scale", "rule.bias"]
    made = learner()

    assert_gradient_is_that_of_differences(made, random_episodes(2, size=16), weights + learnt)


def test_an_outer_step_has_the_same_bits_however_it_is_divided():
    def make() -> R2D2:
        return R2D2(network(ways=5, image_size=28))

    assert_same_bits_however_divided(make, five_episodes())


def test_the_fused_engine_has_the_reference_s_gradient():
    made = R2D2(network(filters=HOST.width))

    assert engines_apart(made, random_episodes(3, size=16)) <= 1e-5


@pytest.mark.parametrize("mode", ["running", "support"])
def test_the_module_of_an_episode_ends_in_a_linear_layer_that_says_what_predict_says(mode):
    made, batch = trained(learner()), random_episodes(2, size=16, ways=5, shots=1)
    adaptation = made.adapt(batch.support, steps=1)
    plain = made.as_module(adaptation, episode=1, batch_norm=mode)

    assert isinstance(plain.get_submodule("head"), nn.Linear)
    images = batch.query.images[:, :1]
    expected = made.predict(adaptation, images, batch_norm=mode)[1]
    assert far(plain(images[1]), expected) <= 1e-10


@pytest.mark.parametrize("log_penalty", [-1000.0, -60.0])
def test_equal_examples_are_no_obstacle_however_small_the_penalty_becomes(log_penalty):
    rule = RidgeRegression(1.0, 10.0)
    nn.init.constant_(rule.log_penalty, log_penalty)
    x = torch.randn(1, 12, generator=torch.Generator().manual_seed(0)).expand(8, -1).clone()
    x.requires_grad_()
    fitted = rule.fit(x, torch.arange(8) % WAYS, WAYS)
    found = torch.autograd.grad(
        rule.logits(fitted, x).square().sum(), [x, *rule.parameters()], allow_unused=True
    )

    assert fitted["weight"].dtype == torch.float32
    assert all(bool(of.isfinite().all()) for of in (*fitted.values(), *found))


def test_features_of_zero_have_finite_logits_and_what_is_not_finite_is_a_sentence():
    rule = RidgeRegression(1e-6, 10.0)
    labels = torch.arange(8) % WAYS

    assert rule.fit(torch.zeros(8, 3), labels, WAYS)["weight"].abs().max() == 0
    with pytest.raises(NonFiniteError, match="no solution: its features are not finite"):
        rule.fit(torch.full((8, 3), torch.nan), labels, WAYS)


def test_a_penalty_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="initial_penalty must be between"):
        R2D2(network(), initial_penalty=0.0)
    with pytest.raises(ConfigError, match="initial_scale must be between"):
        R2D2(network(), initial_scale=0.0)
    with pytest.raises(ConfigError, match="initial_penalty must be between"):
        settings_of("r2d2", initial_penalty=-1.0)


def test_a_network_that_cannot_be_cut_is_refused():
    with pytest.raises(ConfigError, match="embed"):
        R2D2(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))


@pytest.mark.slow
def test_a_killed_training_ends_as_the_uninterrupted_one(tmp_path):
    tally = campaign(tmp_path, 3, method="r2d2")

    assert tally.failures == [] and tally.kills >= 3
    assert (tally.resumed, tally.identical) == (tally.kills, tally.runs)
