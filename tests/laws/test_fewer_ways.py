"""Fewer ways than a meta-learned head has outputs: the first outputs are its logits."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from innerloop import ANIL, BOIL, IMAML, MAML, Conv4, Learner, MAMLpp, MetaSGD, Reptile
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from laws.test_meta_gradient import random_episodes

TRAINED, WAYS = 5, 2
LEARNERS: dict[str, Callable[[nn.Module], Learner]] = {
    "MAML": partial(MAML, inner_lr=0.1, inner_steps=2),
    "FO-MAML": partial(MAML, inner_lr=0.1, inner_steps=2, first_order=True),
    "MAML in query batches": partial(MAML, inner_lr=0.1, inner_steps=2, query_batches=3),
    "MAML++": partial(MAMLpp, inner_lr=0.1, inner_steps=2),
    "ANIL": partial(ANIL, inner_lr=0.1, inner_steps=2),
    "BOIL": partial(BOIL, inner_lr=0.1, inner_steps=2),
    "Meta-SGD": partial(MetaSGD, inner_lr=0.1, inner_steps=2),
    "Reptile": partial(Reptile, inner_lr=0.1, inner_steps=2),
    "iMAML": partial(IMAML, inner_lr=0.1, inner_steps=2),
}
EPISODES = random_episodes(2, ways=WAYS, shots=2, queries=3, size=16)


def network() -> Conv4:
    torch.manual_seed(0)
    model = Conv4(TRAINED, filters=4, image_size=16).double()
    nn.init.normal_(model.head.weight)
    nn.init.normal_(model.head.bias)
    return model


def of_first_outputs(model: Conv4) -> Conv4:
    """The same network, whose head has the first rows alone."""
    cut = copy.deepcopy(model)
    cut.head = nn.Linear(model.head.in_features, WAYS).double()
    with torch.no_grad():
        cut.head.weight.copy_(model.head.weight[:WAYS])
        cut.head.bias.copy_(model.head.bias[:WAYS])
    return cut


@pytest.mark.parametrize("name", LEARNERS)
def test_it_is_as_if_the_head_had_the_first_outputs_alone(name):
    model = network()
    expected_of, learner = (LEARNERS[name](of) for of in (of_first_outputs(model), model))
    support, images = EPISODES.support, EPISODES.query.images

    expected = expected_of.adapt(support, steps=2)
    adaptation = learner.adapt(support, steps=2)
    assert torch.allclose(adaptation.support_loss, expected.support_loss, rtol=0, atol=1e-10)
    assert torch.equal(adaptation.support_accuracy, expected.support_accuracy)
    for mode in learner.batch_norm_modes:
        logits = learner.predict(adaptation, images, batch_norm=mode)
        assert logits.shape == (2, 6, WAYS)
        theirs = expected_of.predict(expected, images, batch_norm=mode)
        assert torch.allclose(logits, theirs, rtol=0, atol=1e-10)
    module = learner.as_module(adaptation, batch_norm="support")
    alone = expected_of.as_module(expected, batch_norm="support")
    assert torch.allclose(module(images[0]), alone(images[0]), rtol=0, atol=1e-10)
    assert torch.allclose(
        learner.block_outputs(adaptation, images)["logits"],
        expected_of.block_outputs(expected, images)["logits"],
        rtol=0,
        atol=1e-10,
    )


# These two have as many queries of each class.
WITH_FEW_QUERIES = [name for name in LEARNERS if name not in ("Reptile", "MAML in query batches")]


@pytest.mark.parametrize(
    ("name", "queries"),
    [(name, "of both classes") for name in LEARNERS]
    + [(name, "of the first class") for name in WITH_FEW_QUERIES],
)
def test_training_is_by_the_first_outputs_alone(name, queries):
    model = network()
    expected_of, learner = (LEARNERS[name](of) for of in (of_first_outputs(model), model))
    episodes = EPISODES
    if queries == "of the first class":
        query = LabelledImages(
            *(of[:, :3] for of in (EPISODES.query.images, EPISODES.query.labels))
        )
        episodes = EpisodeBatch(
            EPISODES.support,
            query,
            EPISODES.classes,
            EPISODES.support_drawings,
            EPISODES.query_drawings,
        )

    expected, logged = expected_of.meta_loss(episodes)
    loss, own_logged = learner.meta_loss(episodes)

    assert torch.allclose(loss, expected, rtol=0, atol=1e-10)
    for key, value in logged.items():
        assert torch.allclose(own_logged[key], value, rtol=0, atol=1e-8, equal_nan=True)
    theirs, ours = (
        {key: of for key, of in one.named_parameters() if of.requires_grad}
        for one in (expected_of, learner)
    )
    gradients = torch.autograd.grad(loss, list(ours.values()), allow_unused=True)
    by_name = dict(zip(ours, gradients, strict=True))
    others = torch.autograd.grad(expected, list(theirs.values()), allow_unused=True)
    for key, other in zip(theirs, others, strict=True):
        own = by_name[key]
        if own is None or other is None:
            assert own is other
        elif own.shape != other.shape:
            assert not bool(own[WAYS:].any())
            assert torch.allclose(own[:WAYS], other, rtol=0, atol=1e-8)
        else:
            assert torch.allclose(own, other, rtol=0, atol=1e-8)
