"""The laws of MetaOptNet; those of its support vector machine are in test_svm.py."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.svm import SVC, LinearSVC
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError, NonFiniteError
from innerloop.data.episodes import EpisodeBatch
from innerloop.fast_weights.fused_cpu.compiling import HOST
from innerloop.methods.catalogue import settings_of
from innerloop.methods.metaoptnet.learner import ConvexHead, MetaOptNet
from killing import campaign
from laws.agreement import engines_apart, far
from laws.test_episodic import gradients, model_of, trained
from laws.test_meta_gradient import random_episodes
from laws.test_r2d2 import assert_gradient_is_that_of_differences, joined, network
from laws.test_sums import assert_same_bits_however_divided, five_episodes
from laws.test_svm import by_projected_descent

SOLVERS = ["svm", "ridge"]


def learner(**settings: Any) -> MetaOptNet:
    chosen: dict[str, Any] = {"initial_scale": 3.0}
    return MetaOptNet(network(), **chosen | settings).double()


def features_of(ways: int, shots: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(ways + shots)
    labels = torch.arange(ways).repeat_interleave(shots)
    centres = torch.randn(ways, 16, generator=draw, dtype=torch.float64)
    support = centres[labels] + torch.randn(len(labels), 16, generator=draw, dtype=torch.float64)
    return support, labels, torch.randn(12, 16, generator=draw, dtype=torch.float64)


def logits_of(solver: Any, ways: int, shots: int, **numbers: float) -> tuple[Tensor, ...]:
    support, labels, queries = features_of(ways, shots)
    rule = ConvexHead(solver, **{"cost": 0.1, "penalty": 50.0, "scale": 4.0} | numbers).double()
    return support, labels, queries, rule.logits(rule.fit(support, labels, ways), queries).detach()


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize(("ways", "cost"), [(3, 2.0), (5, 0.1), (20, 0.01)])
def test_logits_are_scikit_learns_decisions_scaled(ways, shots, cost):
    support, labels, queries, found = logits_of("svm", ways, shots, cost=cost)
    theirs = LinearSVC(
        multi_class="crammer_singer", fit_intercept=False, C=cost, tol=1e-12, max_iter=10_000_000
    ).fit(support.numpy(), labels.numpy())
    expected = theirs.decision_function(queries.numpy())

    assert np.abs(found.numpy() - 4 * (expected - expected.mean(1, keepdims=True))).max() < 1e-6


@pytest.mark.parametrize("shots", [1, 5])
def test_of_two_classes_the_difference_of_logits_is_scikit_learns_decision(shots):
    """Without a bias, since every example comes with its negative; test_svm.py has the costs."""
    support, labels, queries, found = logits_of("svm", 2, shots)
    theirs = SVC(kernel="linear", C=0.1, tol=1e-12)
    theirs.fit(torch.cat([support, -support]).numpy(), torch.cat([labels, 1 - labels]).numpy())

    expected = 4 * theirs.decision_function(queries.numpy())
    assert np.abs((found[:, 1] - found[:, 0]).numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("penalty", [0.1, 50.0])
@pytest.mark.parametrize("shots", [1, 8])
def test_with_ridge_logits_are_scikit_learns_ridge_scaled(shots, penalty):
    support, labels, queries, found = logits_of("ridge", 5, shots, penalty=penalty)
    theirs = Ridge(alpha=penalty, fit_intercept=False, solver="svd")
    theirs.fit(support.numpy(), F.one_hot(labels).numpy())

    assert np.abs(found.numpy() - 4 * theirs.predict(queries.numpy())).max() < 1e-6


def plain_objective(made: MetaOptNet, batch: EpisodeBatch) -> Tensor:
    """The objective as a loop over episodes, through a long unrolled descent on each dual."""
    losses = []
    count = batch.support.images.shape[1]
    for number in range(len(batch)):
        images = torch.cat([batch.support.images[number], batch.query.images[number]])
        features = model_of(made).embed(images)
        labels = batch.support.labels[number]
        weights = by_projected_descent(features[:count], labels, batch.ways, 3000)
        logits = made.get_parameter("rule.scale") * features[count:] @ weights
        losses.append(F.cross_entropy(logits, batch.query.labels[number]))
    return torch.stack(losses).mean()


def test_the_objective_and_its_gradient_are_those_of_a_plain_loop():
    made, batch = learner(), random_episodes(2, size=16, shots=1)
    loss, _ = made.meta_loss(batch)
    expected = plain_objective(made, batch)

    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    ours, theirs = gradients(made, loss), gradients(made, expected)
    assert far(joined(ours), joined(theirs)) <= 1e-8
    assert theirs["rule.scale"].abs() > 1e-6


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_gradient_is_that_of_finite_differences(solver):
    names = ["model.convs.3.weight", "model.norms.2.bias", "rule.scale"]

    assert_gradient_is_that_of_differences(
        learner(solver=solver, ridge_penalty=0.5), random_episodes(2, size=16), names
    )


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_outer_step_has_the_same_bits_however_it_is_divided(solver):
    def make() -> MetaOptNet:
        return MetaOptNet(network(ways=5, image_size=28), solver=solver)

    assert_same_bits_however_divided(make, five_episodes())


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_fused_engine_has_the_reference_s_gradient(solver):
    made = MetaOptNet(network(filters=HOST.width), solver=solver)

    assert engines_apart(made, random_episodes(3, size=16)) <= 1e-5


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("mode", ["running", "support"])
def test_the_module_of_an_episode_ends_in_a_linear_layer_that_says_what_predict_says(solver, mode):
    made = trained(learner(solver=solver))
    batch = random_episodes(2, size=16, ways=5, shots=1)
    adaptation = made.adapt(batch.support, steps=1)
    plain = made.as_module(adaptation, episode=1, batch_norm=mode)

    assert isinstance(plain.get_submodule("head"), nn.Linear)
    images = batch.query.images[:, :1]
    expected = made.predict(adaptation, images, batch_norm=mode)[1]
    assert far(plain(images[1]), expected) <= 1e-10


@pytest.mark.parametrize("solver", SOLVERS)
def test_equal_examples_have_finite_weights_and_gradients_in_single_precision(solver):
    rule = ConvexHead(solver, 0.1, 50.0, 1.0)
    x = torch.randn(1, 12, generator=torch.Generator().manual_seed(0)).expand(8, -1).clone()
    x.requires_grad_()
    fitted = rule.fit(x, torch.arange(8) % 4, 4)
    found = torch.autograd.grad(rule.logits(fitted, x).square().sum(), [x, rule.scale])

    assert fitted["weight"].dtype == torch.float32
    assert all(bool(of.isfinite().all()) for of in (*fitted.values(), *found))


@pytest.mark.parametrize("solver", SOLVERS)
def test_features_that_are_not_finite_are_a_sentence(solver):
    with pytest.raises(NonFiniteError, match="features are not finite"):
        ConvexHead(solver, 0.1, 50.0, 1.0).fit(torch.full((4, 3), torch.nan), torch.arange(4), 4)


@pytest.mark.parametrize("name", ["cost", "ridge_penalty", "initial_scale"])
def test_numbers_that_are_none_are_refused(name):
    number: dict[str, Any] = {name: 0.0}
    with pytest.raises(ConfigError, match=f"{name} must be between"):
        MetaOptNet(network(), **number)
    with pytest.raises(ConfigError, match=f"{name} must be between"):
        settings_of("metaoptnet", **number)


def test_a_solver_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="solver must be one of svm, ridge"):
        settings_of("metaoptnet", solver="svn")
    with pytest.raises(ConfigError, match="solver must be one of svm, ridge"):
        MetaOptNet(network(), solver="svn")  # pyright: ignore


@pytest.mark.slow
def test_a_killed_training_ends_as_the_uninterrupted_one(tmp_path):
    tally = campaign(tmp_path, 3, method="metaoptnet")

    assert tally.failures == [] and tally.kills >= 3
    assert (tally.resumed, tally.identical) == (tally.kills, tally.runs)
