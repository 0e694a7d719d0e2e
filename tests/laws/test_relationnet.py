"""The laws of relation networks, against the paper's equations pair by pair, in float64."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.experiments.experiment import build_learner
from innerloop.methods.catalogue import read_config, settings_of
from innerloop.methods.relationnet.learner import Relation, RelationNet
from innerloop.networks.batch_norm import (
    BatchNorm2d,
    BatchNormMode,
    batch_norm_layers,
)
from innerloop.networks.conv4 import Conv4
from laws.agreement import far
from laws.test_meta_gradient import random_episodes
from laws.test_sums import assert_same_bits_however_divided, five_episodes

MODES: tuple[BatchNormMode, ...] = ("running", "support", "transductive")


def learner_of(*, image_size: int = 16, filters: int = 4, **settings: Any) -> RelationNet:
    torch.manual_seed(4)
    network = Conv4(
        3,
        filters=filters,
        image_size=image_size,
        downsample="max-pool",
        halvings=2,
        feature_norm=False,
    )
    return RelationNet(network, **settings)


def trained(learner: RelationNet) -> RelationNet:
    """With running statistics that are not those at the start; its weights are the same."""
    for step in range(4):
        learner.begin_outer_step(step, 4)
        learner.meta_loss(random_episodes(2, size=16))
        learner.end_outer_step()
    return learner


def parts_of(learner: RelationNet) -> tuple[Conv4, Relation]:
    network, rule = learner.model, learner.rule
    assert isinstance(network, Conv4) and isinstance(rule, Relation)
    return network, rule


def pairs_of(support: Tensor, labels: Tensor, query: Tensor, ways: int) -> Tensor:
    """Maps of every query beside those of every class, pair by pair: (m * ways, 2C, H, W)."""
    pairs = []
    for image in query:
        for label in range(ways):
            total = torch.zeros_like(image)
            for maps, of in zip(support, labels.tolist(), strict=True):
                total = total + maps if of == label else total
            pairs.append(torch.cat([total, image]))
    return torch.stack(pairs)


Norms = list[Callable[[Tensor], Tensor]]


def scores_of(rule: Relation, pairs: Tensor, ways: int, norms: Norms) -> Tensor:
    """The relation module by PyTorch's operations."""
    x = pairs
    for conv, norm in zip(rule.convs, norms, strict=True):
        x = norm(conv(x)).relu()
        x = F.max_pool2d(x, 2) if x.shape[-1] > 1 else x
    return rule.score(rule.hidden(x.flatten(1)).relu()).sigmoid().view(-1, ways)


def norm_by(layer: nn.Module, mean: Tensor | None, variance: Tensor | None) -> Any:
    """PyTorch's batch norm with a layer's weights: by these statistics, or by the batch's."""
    assert isinstance(layer, BatchNorm2d)

    def norm(x: Tensor) -> Tensor:
        by_batch = mean is None
        return F.batch_norm(x, mean, variance, layer.weight, layer.bias, by_batch, 0.0, layer.eps)

    return norm


def fresh_norms(rule: Relation) -> Norms:
    return [norm_by(layer, None, None) for layer in rule.norms]


def plain_loss(learner: RelationNet, episodes: EpisodeBatch) -> Tensor:
    """The objective score by score: the mean of (r - 1)² and r² over all pairs."""
    network, rule = parts_of(learner)
    errors = []
    for episode in range(len(episodes)):
        support, query = episodes.support, episodes.query
        shots = support.images.shape[1]
        both = torch.cat([support.images[episode], query.images[episode]])
        maps = network.maps(both)
        pairs = pairs_of(maps[:shots], support.labels[episode], maps[shots:], 3)
        scores = scores_of(rule, pairs, 3, fresh_norms(rule))
        for row, label in zip(scores, query.labels[episode].tolist(), strict=True):
            for other, score in enumerate(row):
                errors.append((score - (1 if other == label else 0)) ** 2)
    return torch.stack(errors).mean()


def test_loss_and_meta_gradient_are_those_of_a_loop_over_pairs():
    learner, episodes = learner_of().double(), random_episodes(2, size=16)
    loss, logged = learner.meta_loss(episodes)
    expected = plain_loss(learner, episodes)

    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    assert set(logged) == {"query_accuracy_after"}
    names = list(learner.params)
    found = torch.autograd.grad(loss, list(learner.params.values()))
    theirs = torch.autograd.grad(expected, list(learner.params.values()))
    for of, one, other in zip(names, found, theirs, strict=True):
        assert (one - other).norm() <= 1e-10 * max(1.0, float(other.norm())), of
        assert other.norm() > 0, of


def test_the_meta_gradient_is_that_of_finite_differences():
    """Of the weights behind the last kink of a rectifier, across which differences are another."""
    learner, episodes = learner_of().double(), random_episodes(2, size=16)
    loss, _ = learner.meta_loss(episodes)
    weights = [learner.get_parameter(name) for name in ("rule.score.weight", "rule.score.bias")]
    gradients = torch.autograd.grad(loss, weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        for place in range(weight.numel()):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    weight.view(-1)[place] += sign * 1e-6
                    values.append(float(learner.meta_loss(episodes)[0]))
                    weight.view(-1)[place] -= sign * 1e-6
            slope = (values[0] - values[1]) / 2e-6
            assert slope == pytest.approx(float(gradient.view(-1)[place]), abs=1e-8)


@pytest.mark.parametrize("mode", MODES)
def test_scores_are_those_of_the_equations_as_the_mode_normalises_them(mode):
    learner, episodes = trained(learner_of().double()), random_episodes(2, size=16)
    _, rule = parts_of(learner)
    adaptation = learner.adapt(episodes.support, steps=1)

    found = learner.predict(adaptation, episodes.query.images, batch_norm=mode)

    for episode in range(2):
        images = episodes.support.images[episode : episode + 1]
        support = learner.features(images, images, mode)[0]
        asked = episodes.query.images[episode : episode + 1]
        query = learner.features(asked, images, mode)[0]
        labels = episodes.support.labels[episode]
        pairs = pairs_of(support, labels, query, 3)
        norms = normed_by(rule, mode, pairs_of(support, labels, support, 3))
        assert far(found[episode], scores_of(rule, pairs, 3, norms)) <= 1e-10


def normed_by(rule: Relation, mode: str, of_support: Tensor) -> Norms:
    """Norms by what the rule keeps, by what the support pairs show them, or by their batch."""
    if mode == "transductive":
        return fresh_norms(rule)
    norms: Norms = []
    x = of_support
    for conv, ours in zip(rule.convs, rule.norms, strict=True):
        assert isinstance(ours, BatchNorm2d)
        x = conv(x).detach()
        by_support = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        norms.append(norm_by(ours, *(ours.running() if mode == "running" else by_support)))
        x = norms[-1](x).relu()
        x = F.max_pool2d(x, 2) if x.shape[-1] > 1 else x
    return norms


@pytest.mark.parametrize("mode", MODES)
def test_other_queries_change_a_score_where_batch_norm_is_of_the_batch_alone(mode):
    learner, episodes = trained(learner_of().double()), random_episodes(2, size=16)
    adaptation = learner.adapt(episodes.support, steps=1)
    images = episodes.query.images.clone()
    before = learner.predict(adaptation, images, batch_norm=mode)
    images[:, 1:] = images[:, 1:].flip(-1) * 0.5
    after = learner.predict(adaptation, images, batch_norm=mode)

    changed = not torch.allclose(before[:, 0], after[:, 0], rtol=0, atol=1e-12)
    assert changed == (mode == "transductive")


@pytest.mark.parametrize("mode", ["running", "support"])
def test_one_image_alone_has_the_scores_that_it_has_among_others(mode):
    learner, episodes = trained(learner_of().double()), random_episodes(2, size=16)
    adaptation = learner.adapt(episodes.support, steps=1)

    together = learner.predict(adaptation, episodes.query.images, batch_norm=mode)
    alone = learner.predict(adaptation, episodes.query.images[:, 2:3], batch_norm=mode)

    assert torch.allclose(alone, together[:, 2:3], rtol=0, atol=1e-12)
    with pytest.raises(ConfigError, match="One image alone"):
        learner.predict(adaptation, episodes.query.images[:, :1], batch_norm="transductive")


@pytest.mark.parametrize("mode", MODES)
def test_the_module_of_an_episode_says_what_predict_says(mode):
    learner, episodes = trained(learner_of().double()), random_episodes(2, size=16)
    adaptation = learner.adapt(episodes.support, steps=1)
    expected = learner.predict(adaptation, episodes.query.images, batch_norm=mode)[1]

    plain = learner.as_module(adaptation, episode=1, batch_norm=mode)
    with torch.no_grad():
        for tensor in learner.state_dict().values():
            tensor.add_(1)

    assert far(plain(episodes.query.images[1]), expected) <= 1e-10


def test_block_outputs_end_with_the_scores():
    learner, episodes = trained(learner_of().double()), random_episodes(2, size=16)
    adaptation = learner.adapt(episodes.support, steps=1)

    outputs = learner.block_outputs(adaptation, episodes.query.images)

    scores = learner.predict(adaptation, episodes.query.images)
    assert torch.allclose(outputs["logits"], scores, rtol=0, atol=1e-12)
    assert list(outputs) == [*parts_of(learner)[0].blocks, "logits"]


@pytest.mark.parametrize("shape", [dict(ways=7, shots=1), dict(ways=2, shots=4)])
@pytest.mark.parametrize("mode", MODES)
def test_other_ways_and_shots_than_in_training_are_scored(shape, mode):
    learner, episodes = trained(learner_of().double()), random_episodes(2, size=16, **shape)

    adaptation = learner.adapt(episodes.support, steps=1)
    scores = learner.predict(adaptation, episodes.query.images, batch_norm=mode)

    assert scores.shape == (2, 4 * shape["ways"], shape["ways"])
    assert bool(((scores > 0) & (scores < 1)).all())


def test_statistics_of_relations_are_gathered_once_an_outer_step():
    learner, episodes = learner_of().double(), random_episodes(3, size=16)
    network, rule = parts_of(learner)
    means = []
    for episode in range(3):
        support, query = episodes.support.images[episode], episodes.query.images[episode]
        maps = network.maps(torch.cat([support, query]))
        labels = episodes.support.labels[episode]
        pairs = pairs_of(maps[: len(support)], labels, maps[len(support) :], 3)
        means.append(rule.convs[0](pairs).mean((0, 2, 3)))

    learner.begin_outer_step(0, 1)
    learner.meta_loss(episodes)
    learner.end_outer_step()

    running = batch_norm_layers(learner)["rule.norms.0"].running()
    assert far(running.mean, 0.1 * torch.stack(means).mean(0)) <= 1e-10


def test_an_outer_step_has_the_same_bits_however_its_episodes_are_divided():
    def make() -> RelationNet:
        learner = learner_of(image_size=28, filters=8)
        learner.begin_outer_step(0, 10)
        return learner

    assert_same_bits_however_divided(make, five_episodes())


@pytest.mark.parametrize(
    ("downsample", "halvings", "pooled"),
    [("max-pool", 2, 1), ("max-pool", 4, 1), ("stride", 4, 1), ("max-pool", 1, 9)],
)
def test_relations_of_maps_of_any_size_are_a_score_for_each_pair(downsample, halvings, pooled):
    network = Conv4(3, filters=4, image_size=28, downsample=downsample, halvings=halvings)
    learner = RelationNet(network)
    _, rule = parts_of(learner)
    episodes = five_episodes()

    scores = learner.predict(learner.adapt(episodes.support, steps=1), episodes.query.images)

    assert rule.hidden.in_features == 4 * pooled
    assert scores.shape == (5, 10, 5)


def test_images_of_another_size_are_a_sentence():
    learner, episodes = learner_of().double(), random_episodes(1, size=20)

    with pytest.raises(ConfigError, match=r"have shape \(4, 5, 5\), and relations are learnt of"):
        learner.adapt(episodes.support, steps=1)


def test_a_network_without_maps_is_refused():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def embed(self, images: Tensor) -> Tensor:
            return self.layer(images.flatten(1))

    with pytest.raises(ConfigError, match=r"give Flat methods embed\(images\) and maps\(images\)"):
        RelationNet(Flat())


def test_maps_that_are_none_are_refused():
    learner, episodes = learner_of().double(), random_episodes(1, size=16)
    network, _ = parts_of(learner)

    class Embedding(Conv4):
        def maps(self, images: Tensor) -> Tensor:
            return super().maps(images).flatten(1)

    network.__class__ = Embedding
    with pytest.raises(ConfigError, match=r"maps of Embedding returns \(6, 64\) for 6 images"):
        learner.adapt(episodes.support, steps=1)


def test_other_heads_are_refused_since_they_are_of_rows():
    learner = learner_of()

    assert learner.adapting() is learner
    with pytest.raises(ConfigError, match="RelationNet adapts in its own way alone"):
        learner.adapting("head", head="cosine")


def test_the_callers_network_is_left_as_it_is():
    network = Conv4(3, filters=4, image_size=16, downsample="max-pool", halvings=2)
    before = copy.deepcopy(network.state_dict())

    trained(RelationNet(network).double())

    assert network.state_dict().keys() == before.keys()


QUERIES = {(5, 1): 19, (5, 5): 15, (20, 1): 10, (20, 5): 5}


@pytest.mark.parametrize(("ways", "shots"), QUERIES)
def test_the_papers_protocol_is_a_whole_configuration_with_its_numbers(ways, shots):
    config = settings_of("relationnet", f"paper-{ways}w{shots}s")

    paper = dict(
        ways=ways,
        shots=shots,
        queries=QUERIES[ways, shots],
        meta_batch_size=1,
        outer_lr=0.001,
        halve_every=100_000,
        downsample="max-pool",
        halvings=2,
        averaging=0.0,
    )
    assert paper.items() <= config.flat().items()
    assert read_config(config.to_json()) == config
    learner = build_learner(config.replace(device="cpu"), 1)
    # 28 -> 14 -> 7 pixels, then 7 -> 3 -> 1 of 64 channels: the paper's H = 64.
    assert learner.get_parameter("rule.hidden.weight").shape == (8, 64)
    factors = [learner.begin_outer_step(step, 10**6) for step in (0, 99_999, 100_000, 250_000)]
    assert factors == [1.0, 1.0, 0.5, 0.25]
