"""The laws of features by the fused engine: those of the reference in float64, with gradients."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from innerloop.fast_weights.fused_cpu.network import FusedNetwork
from innerloop.fast_weights.network import Network
from innerloop.networks.batch_norm import (
    Moments,
    batch_norm_layers,
    keep_running_statistics,
    unbiased_moments,
)
from laws.test_fused import (
    VARIANTS,
    batch_for,
    batch_of,
    conv4,
    different_weights,
    doubled,
    far,
    joined,
)


def body_of(weights: dict[str, Tensor]) -> list[Tensor]:
    return [weight for name, weight in weights.items() if not name.startswith("head.")]


def gradient_of(features: Tensor, weights: dict[str, Tensor], **how: Any) -> Tensor:
    """The gradient of a sum in which every feature of every image has another factor."""
    factors = torch.randn(features.shape, generator=torch.Generator().manual_seed(6))
    value = (features * factors.to(features)).sum()
    return joined(torch.autograd.grad(value, body_of(weights), **how))


@pytest.mark.parametrize("name", VARIANTS)
def test_features_and_their_gradient_are_those_of_the_reference(name):
    settings = VARIANTS[name]
    model, images = conv4(**settings), batch_for(settings).images
    weights = different_weights(model)
    twins = doubled(weights)
    found = FusedNetwork(model, "embed").call(weights, images)
    exact = Network(copy.deepcopy(model).double(), "embed").call(twins, images.double())

    assert "Features" in type(found.grad_fn).__name__
    assert far(found, exact) <= 1e-5
    assert far(gradient_of(found, weights), gradient_of(exact, twins)) <= 1e-5


def test_moments_come_with_features_that_have_a_graph():
    model, images = conv4(), batch_of().images
    weights = different_weights(model)
    twins = doubled(weights)
    found, seen = FusedNetwork(model, "embed").call_and_measure(weights, images, unbiased_moments)
    reference = Network(copy.deepcopy(model).double(), "embed")
    exact, moments = reference.call_and_measure(twins, images.double(), unbiased_moments)

    assert "Features" in type(found.grad_fn).__name__
    assert far(gradient_of(found, weights), gradient_of(exact, twins)) <= 1e-5
    for name, of in moments.items():
        assert (seen[name].mean - of.mean).abs().max() <= 1e-6
        assert far(seen[name].variance, of.variance) <= 1e-5


def test_moments_that_need_a_graph_are_the_reference_s():
    model, images = conv4(), batch_of().images
    _, seen = FusedNetwork(model, "embed").call_and_measure(different_weights(model), images)

    assert all(of.mean.requires_grad for of in list(seen.values())[1:])


def test_a_gradient_flows_into_statistics_that_are_given():
    model, images = conv4(), batch_of().images
    weights = different_weights(model)
    twins = doubled(weights)
    found = FusedNetwork(model, "embed").call_by_support(weights, images[:, :9], images[:, 9:])
    reference = Network(copy.deepcopy(model).double(), "embed")
    exact = reference.call_by_support(twins, images[:, :9].double(), images[:, 9:].double())

    assert far(gradient_of(found, weights), gradient_of(exact, twins)) <= 1e-5


@pytest.mark.parametrize("statistics", ["stored", "update"])
def test_features_by_what_layers_keep_have_the_gradient_of_the_reference(statistics):
    model, images = conv4(), batch_of(episodes=1).images
    keep_running_statistics(model)
    for layer in batch_norm_layers(model).values():
        layer.running().variance.fill_(0.7)
    twin = copy.deepcopy(model).double()
    weights = different_weights(model, episodes=1)
    twins = doubled(weights)
    found = FusedNetwork(model, "embed").call(weights, images, statistics)
    exact = Network(twin, "embed").call(twins, images.double(), statistics)

    assert "Features" in type(found.grad_fn).__name__
    assert far(gradient_of(found, weights), gradient_of(exact, twins)) <= 1e-5
    pairs = zip(running_of(model), running_of(twin), strict=True)
    for ours, theirs in pairs:
        assert torch.allclose(ours.double(), theirs, rtol=1e-5, atol=1e-6)


def running_of(model: Any) -> list[Tensor]:
    moments: list[Moments] = [layer.running() for layer in batch_norm_layers(model).values()]
    return [value for of in moments for value in of]


def test_a_gradient_of_features_can_have_a_graph():
    model, images = conv4(), batch_of().images
    weights = different_weights(model)
    twins = doubled(weights)
    ours = FusedNetwork(model, "embed")
    reference = Network(copy.deepcopy(model).double(), "embed")
    pairs = ((ours, weights, images), (reference, twins, images.double()))

    def second(network: Network, of: dict[str, Tensor], images: Tensor) -> Tensor:
        # Of standardised features the squares alone have a constant sum.
        loss = (network.call(of, images) ** 3).sum()
        gradients = torch.autograd.grad(loss, body_of(of), create_graph=True)
        length = torch.stack([gradient.square().sum() for gradient in gradients]).sum()
        return joined(torch.autograd.grad(length, body_of(of)))

    found, exact = (second(*pair) for pair in pairs)
    assert far(found, exact) <= 1e-4


def test_a_gradient_of_features_can_be_taken_twice():
    model, images = conv4(), batch_of().images
    weights = different_weights(model)
    features = FusedNetwork(model, "embed").call(weights, images)

    once = gradient_of(features, weights, retain_graph=True)
    assert torch.equal(once, gradient_of(features, weights))
