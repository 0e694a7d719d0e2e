"""Batch norms of a rule: whose statistics normalise its logits, in training and in predictions."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.data.episodes import EpisodeBatch
from innerloop.fast_weights.functional import expand
from innerloop.methods.heads.episodic import EpisodicFeatures
from innerloop.methods.heads.rule import Fitted, Rule, RuleHead
from innerloop.networks.batch_norm import BatchNorm2d, keep_running_statistics
from innerloop.networks.conv4 import Conv4
from laws.test_meta_gradient import random_episodes

FEATURES = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1)).double()
ASKED = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(2)).double() * 3 + 1
LABELS = torch.tensor([0, 0, 1, 1, 2, 2]).expand(2, -1)


class Normed(Rule):
    """Inner products of normalised features with class sums."""

    def __init__(self, features: int):
        super().__init__()
        self.norm = BatchNorm2d(features)

    def fit(self, features: Tensor, labels: Tensor, ways: int) -> Fitted:
        return {"sums": F.one_hot(labels, ways).to(features).T @ features}

    def logits(self, fitted: Fitted, features: Tensor) -> Tensor:
        return self.norm(features[:, :, None, None]).flatten(1) @ fitted["sums"].T


def normed() -> Normed:
    rule = Normed(4).double()
    keep_running_statistics(rule)
    mean, variance = rule.norm.running()
    mean.copy_(torch.tensor([0.5, -1.0, 2.0, 0.0]))
    variance.copy_(torch.tensor([2.0, 0.5, 1.0, 3.0]))
    return rule


def by_hand(rule: Normed, episode: int, mode: str) -> Tensor:
    """The logits of an episode's `ASKED`, in a few lines."""
    support, asked = FEATURES[episode], ASKED[episode]
    mean, variance = {
        "running": rule.norm.running(),
        "support": (support.mean(0), support.var(0, correction=0)),
        "transductive": (asked.mean(0), asked.var(0, correction=0)),
    }[mode]
    standardised = (asked - mean) / (variance + rule.norm.eps).sqrt()
    sums = torch.stack([support[LABELS[0] == label].sum(0) for label in range(3)])
    return standardised * (1 + episode) @ sums.T


def head_of(rule: Normed, mode: Any) -> RuleHead:
    weights = expand(dict(rule.named_parameters()), 2)
    # Each episode has another weight.
    scales = torch.tensor([1.0, 2.0]).double()[:, None]
    return RuleHead(rule, weights | {"norm.weight": weights["norm.weight"] * scales}, mode)


@pytest.mark.parametrize("mode", ["running", "support", "transductive"])
def test_logits_are_normalised_as_the_mode_says(mode):
    rule = normed()
    how = head_of(rule, mode)
    head = how.fit(FEATURES, LABELS, 3)

    logits = how.logits(head, ASKED)

    expected = torch.stack([by_hand(rule, episode, mode) for episode in range(2)])
    assert torch.allclose(logits, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["running", "support", "transductive"])
def test_the_module_of_an_episode_has_its_weights_and_statistics(mode):
    rule = normed()
    how = head_of(rule, mode)
    head = how.fit(FEATURES, LABELS, 3)

    plain = how.module(head, 1).eval()
    with torch.no_grad():
        rule.norm.running().mean.zero_()

    assert torch.allclose(plain(ASKED[1]), by_hand(normed(), 1, mode), rtol=0, atol=1e-12)
    assert not any(isinstance(of, BatchNorm2d) for of in plain.modules())


@pytest.mark.parametrize("mode", ["running", "support"])
def test_logits_do_not_depend_on_what_else_is_asked(mode):
    how = head_of(normed(), mode)
    head = how.fit(FEATURES, LABELS, 3)

    together, alone = how.logits(head, ASKED), how.logits(head, ASKED[:, :1])

    assert torch.allclose(alone, together[:, :1], rtol=0, atol=1e-12)


class Rows(nn.Module):
    """A network that gives a picture's first pixels as its features."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1).double())

    def embed(self, images: Tensor) -> Tensor:
        return self.scale * images.flatten(1)[:, :4]

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(images)


def step(learner: EpisodicFeatures, episodes: EpisodeBatch) -> Tensor:
    learner.begin_outer_step(0, 1)
    loss, _ = learner.meta_loss(episodes)
    learner.end_outer_step()
    return loss


def test_training_normalises_by_what_is_asked_and_gathers_that_once_an_outer_step():
    learner, episodes = EpisodicFeatures(Rows(), Normed(4).double()), random_episodes(3)

    loss = step(learner, episodes)

    losses, means, variances = [], [], []
    for episode in range(3):
        support = Rows().embed(episodes.support.images[episode])
        query = Rows().embed(episodes.query.images[episode])
        labels = episodes.support.labels[episode]
        sums = torch.stack([support[labels == label].sum(0) for label in range(3)])
        logits = nn.BatchNorm1d(4).double()(query) @ sums.T
        losses.append(F.cross_entropy(logits, episodes.query.labels[episode]))
        means.append(query.mean(0))
        variances.append(query.var(0))
    assert torch.allclose(loss, torch.stack(losses).mean(), rtol=0, atol=1e-12)
    norm = learner.get_submodule("rule.norm")
    assert isinstance(norm, BatchNorm2d)
    mean, variance = norm.running()
    assert torch.allclose(mean, 0.1 * torch.stack(means).mean(0), rtol=0, atol=1e-12)
    expected = 0.9 + 0.1 * torch.stack(variances).mean(0)
    assert torch.allclose(variance, expected, rtol=0, atol=1e-12)


def test_training_by_the_support_set_has_a_gradient_through_its_moments():
    episodes = random_episodes(2)
    learner = EpisodicFeatures(Rows(), Normed(4).double(), batch_norm_modes=("support",))
    scale = learner.get_parameter("model.scale")

    def loss_at(value: float) -> Tensor:
        with torch.no_grad():
            scale.fill_(value)
        return learner.meta_loss(episodes)[0]

    (gradient,) = torch.autograd.grad(loss_at(1.0), scale)

    difference = (loss_at(1 + 1e-5) - loss_at(1 - 1e-5)).item() / 2e-5
    assert gradient.item() == pytest.approx(difference, rel=1e-7)


def test_a_rule_without_norms_keeps_nothing_of_them():
    learner = EpisodicFeatures(Conv4(3, filters=4, image_size=16), Rule())

    assert not any(name.startswith("rule.") for name in learner.state_dict())
