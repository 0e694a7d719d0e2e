"""The laws of features that are pretrained on all training classes."""

import copy

import pytest
import torch
from torch import Tensor, nn

from innerloop.core.errors import ConfigError
from innerloop.data.images import LabelledImages
from innerloop.methods.baselinepp.learner import BaselinePP
from innerloop.methods.heads.pretrained import PretrainedFeatures
from innerloop.methods.simpleshot.learner import SimpleShot
from innerloop.methods.tim.learner import TIM
from innerloop.methods.transfer.learner import Transfer
from innerloop.networks.batch_norm import BatchNorm2d
from innerloop.networks.conv4 import Conv4
from laws.test_meta_gradient import random_episodes, relative
from laws.test_transfer import images_of_classes, network


def gradient(learner: PretrainedFeatures | Transfer, batch: LabelledImages) -> Tensor:
    """Of the pretraining loss, with respect to all parameters, as one vector."""
    loss, _ = learner.meta_loss(batch)
    return torch.cat([of.flatten() for of in torch.autograd.grad(loss, [*learner.parameters()])])


def test_the_objective_is_the_cross_entropy_of_all_training_classes():
    """`Transfer` computes it as one network, here it is features and a layer on them."""
    ours, theirs = PretrainedFeatures(network()), Transfer(network())
    batch = images_of_classes()
    loss, logged = ours.meta_loss(batch)
    expected, expected_log = theirs.meta_loss(batch)

    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert logged == expected_log
    assert relative(gradient(ours, batch) - (exact := gradient(theirs, batch)), exact) < 1e-12
    for name, value in ours.state_dict().items():
        assert torch.allclose(value, theirs.state_dict()[name], rtol=1e-12), name


@pytest.mark.parametrize("kind", [Transfer, PretrainedFeatures, BaselinePP, SimpleShot, TIM])
def test_a_batch_norm_at_several_places_is_refused(kind):
    """One pair of running statistics would serve inputs of other layers."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList([nn.Conv2d(c, 4, 3, stride=2) for c in (1, 4)])
            self.norm = BatchNorm2d(4)
            self.head = nn.Linear(4, 12)

        def embed(self, images: Tensor) -> Tensor:
            for conv in self.convs:
                images = self.norm(conv(images)).relu()
            return images.mean((2, 3))

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.embed(images))

    with pytest.raises(ConfigError, match="Layer 'norm' runs more than once in a forward pass"):
        kind(Shared().double()).meta_loss(images_of_classes())


def test_smoothed_labels_are_spread_over_all_classes():
    learner = PretrainedFeatures(network(), label_smoothing=0.2)
    batch = images_of_classes()
    loss, _ = learner.meta_loss(batch)

    logits = learner.class_logits(learner.model.embed(batch.images))  # type: ignore[operator]
    losses = []
    for scores, label in zip(logits, batch.labels.tolist(), strict=True):
        log_p = (scores.exp() / scores.exp().sum()).log()
        targets = torch.full_like(log_p, 0.2 / len(log_p))
        targets[label] += 0.8
        losses.append(-(targets * log_p).sum())
    assert loss.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-12)


def test_the_fused_engine_has_the_gradient_of_the_reference():
    pytest.importorskip("numba")
    torch.manual_seed(3)
    model = Conv4(7, filters=16, image_size=28, head_init="glorot")
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(12, 1, 28, 28, generator=generator)
    batch = LabelledImages(images, torch.arange(12) % 7)
    fused, exact = PretrainedFeatures(model), PretrainedFeatures(copy.deepcopy(model).double())
    fused.engine = "fused"
    exact.engine = "reference"
    expected = gradient(exact, LabelledImages(images.double(), batch.labels))

    assert relative(gradient(fused, batch).double() - expected, expected) <= 1e-5


def test_a_network_whose_head_is_no_linear_layer_is_refused():
    model = network()
    model.head = nn.Sequential(nn.Linear(6, 7).double())  # type: ignore[assignment]

    with pytest.raises(ConfigError, match=r"give Conv4 a torch\.nn\.Linear as its last layer head"):
        PretrainedFeatures(model)


def test_what_is_no_mini_batch_of_the_training_classes_is_refused():
    learner, batch = PretrainedFeatures(network()), images_of_classes()
    one_more = LabelledImages(batch.images, batch.labels + 1)

    with pytest.raises(ConfigError, match="label 7 and the network 7 outputs"):
        learner.meta_loss(one_more)
    with pytest.raises(ConfigError, match="takes a mini-batch"):
        learner.meta_loss(random_episodes(2, size=16).support)


@pytest.mark.parametrize("asked", [{"rate": 0.1}, {"head": "cosine"}, {"head_init": "glorot"}])
def test_its_own_way_has_no_other_rate_and_head(asked):
    learner = PretrainedFeatures(network())

    assert learner.adapting().model is learner.model
    with pytest.raises(ConfigError, match="finds its heads in its own way: another rate or head"):
        learner.adapting("own", **asked)
    assert learner.adapting("head", **asked).model is learner.model
