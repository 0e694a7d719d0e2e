"""The laws of prototypical networks."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid
from torch import Tensor
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.methods.catalogue import settings_of
from innerloop.methods.protonet.learner import MostAlike, NearestPrototype, ProtoNet
from innerloop.networks.conv4 import Conv4
from laws.test_fused import far
from laws.test_meta_gradient import random_episodes
from laws.test_sums import assert_same_bits_however_divided, five_episodes

WAYS = 4


def features_of(seed: int = 0, n: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    support = torch.randn(n, 7, generator=draw, dtype=torch.float64)
    query = torch.randn(9, 7, generator=draw, dtype=torch.float64)
    return support, torch.arange(n) % WAYS, query


def test_probabilities_are_a_softmax_of_minus_squared_distances():
    support, labels, query = features_of()
    rule = NearestPrototype()
    found = rule.logits(rule.fit(support, labels, WAYS), query).softmax(-1)

    for image, probabilities in zip(query, found, strict=True):
        squares = [
            float(((image - support[labels == label].mean(0)) ** 2).sum()) for label in range(WAYS)
        ]
        weights = [np.exp(-square) for square in squares]
        expected = torch.tensor([weight / sum(weights) for weight in weights], dtype=torch.float64)
        assert far(probabilities, expected) <= 1e-10


def test_the_nearest_prototype_is_scikit_learns_nearest_centroid():
    support, labels, query = features_of(seed=1)
    rule = NearestPrototype()
    found = rule.logits(rule.fit(support, labels, WAYS), query).argmax(-1)
    expected = NearestCentroid().fit(support.numpy(), labels.numpy()).predict(query.numpy())

    assert found.tolist() == expected.tolist()


def test_cosine_logits_are_scaled_cosines_with_mean_directions():
    support, labels, query = features_of()
    rule = MostAlike(3.0).double()
    found = rule.logits(rule.fit(support, labels, WAYS), query)

    for label in range(WAYS):
        directions = [image / image.norm() for image in support[labels == label]]
        mean = torch.stack(directions).sum(0)
        expected = [3.0 * float(image @ mean / image.norm() / mean.norm()) for image in query]
        assert far(found[:, label], torch.tensor(expected, dtype=torch.float64)) <= 1e-10


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_the_gradient_is_that_of_finite_differences(distance):
    torch.manual_seed(1)
    model = Conv4(3, filters=3, image_size=16, feature_norm=False, last_relu=False)
    learner = ProtoNet(model, distance=distance).double()
    batch = random_episodes(2, size=16)
    loss, _ = learner.meta_loss(batch)
    loss.backward()
    names = ["model.convs.3.weight", "model.norms.2.bias"]
    for name in [*names, *(["rule.scale"] if distance == "cosine" else [])]:
        weight = learner.get_parameter(name)
        gradient = weight.grad
        assert gradient is not None
        direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)).double()
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight.add_(sign * 1e-6 * direction)
                values.append(float(learner.meta_loss(batch)[0]))
                weight.sub_(sign * 1e-6 * direction)
        slope = (values[0] - values[1]) / 2e-6
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-5), name


@pytest.mark.parametrize("filters", [5, 8])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_an_outer_step_has_the_same_bits_however_it_is_divided(distance, filters):
    def make() -> ProtoNet:
        torch.manual_seed(0)
        return ProtoNet(Conv4(5, filters=filters, feature_norm=False), distance=distance)

    assert_same_bits_however_divided(make, five_episodes())


def test_more_ways_in_training_than_at_test_are_a_setting():
    config = settings_of("protonet", training_ways=20, ways=5)

    assert config.own.training_shape(config) == {"ways": 20}
    assert settings_of("protonet").own.training_shape(config) == {}
    five = settings_of("protonet", ways=5)
    assert config.own.image_passes(config, 3) == 4 * five.own.image_passes(five, 3)


def test_a_distance_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="euclidean"):
        ProtoNet(Conv4(3, filters=3, image_size=16), distance="manhattan")  # pyright: ignore
    with pytest.raises(ConfigError, match="euclidean"):
        settings_of("protonet", distance="euclidian")


def test_features_of_zero_have_a_cosine_that_is_a_number():
    rule = MostAlike()
    labels = torch.arange(4) % 2
    logits = rule.logits(rule.fit(torch.zeros(4, 3), labels, 2), torch.zeros(2, 3))

    assert bool(logits.isfinite().all())
    assert F.cross_entropy(logits, torch.tensor([0, 1])).isfinite()
