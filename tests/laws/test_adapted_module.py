"""An adaptation as a module: a plain network that says what the learner predicts, on its own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.images import LabelledImages
from innerloop.methods.base import Learner
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.maml.learner import MAML
from innerloop.methods.mamlpp.learner import MAMLpp
from innerloop.methods.transfer.learner import Transfer
from innerloop.networks.batch_norm import BatchNorm2d
from innerloop.networks.conv4 import Conv4
from laws.test_meta_gradient import SmallConv, random_episodes, relative

EPISODES = random_episodes(3, size=16)
MODES = ("transductive", "support")


def network(outputs: int = 3, **settings: Any) -> Conv4:
    torch.manual_seed(3)
    return Conv4(outputs, image_size=16, filters=6, head_init="glorot", **settings).double()


def trained(learner: Learner) -> Learner:
    """A learner whose stored statistics, if it has any, are not those that it started with."""
    for _ in range(20):
        if isinstance(learner, Transfer):
            images = LabelledImages(EPISODES.query.images[0], torch.arange(12) % 7)
            learner.meta_loss(images)
        else:
            learner.meta_loss(EPISODES)
        learner.end_outer_step()
    return learner


def plus_plus(**switches: Any) -> MAMLpp:
    learner = MAMLpp(network(), inner_steps=2, **switches).double()
    with torch.no_grad():
        for value in [*learner.rates.values(), *learner.affine.values()]:
            value.add_(0.2 * torch.rand(value.shape).double())
    return learner


LEARNERS: dict[str, Callable[[], Learner]] = {
    "meta-learned head": lambda: MAML(network()),
    "fresh head of fewer ways": lambda: MAML(network(7), fresh_head="head"),
    "two blocks": lambda: MAML(network()).adapting("head+2", head_init="glorot"),
    "max-pool": lambda: MAML(network(downsample="max-pool", feature_norm=False)),
    "another network": lambda: MAML(SmallConv(F.softplus)),
    "sets": plus_plus,
    "sets, fresh head": lambda: plus_plus(fresh_head="head", per_step_affine=False),
    "no sets": lambda: plus_plus(per_step_affine=False, per_step_statistics=False),
    "transfer": lambda: Transfer(network(7)),
    "transfer, logistic": lambda: Transfer(network(7), head="logistic"),
    "transfer, cosine": lambda: Transfer(network(7), head="cosine"),
    "transfer, all": lambda: trained(Transfer(network(7))).adapting("all"),
    "frozen": lambda: FrozenFeatures(network(), batch_norm_modes=MODES),
    "frozen, logistic": lambda: FrozenFeatures(network(), batch_norm_modes=MODES, head="logistic"),
    "frozen, cosine": lambda: MAML(network()).adapting("head", head="cosine"),
}


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("double", [True, False])
def test_the_module_says_what_the_learner_predicts_of_that_episode(name, double):
    learner = LEARNERS[name]()
    learner = trained(learner) if isinstance(learner, Transfer | MAMLpp) else learner
    support, query = EPISODES.support, EPISODES.query.images
    if not double:
        learner, query = learner.float(), query.float()
        support = LabelledImages(support.images.float(), support.labels)

    for steps in (0, 3):
        adaptation = learner.adapt(support, steps=steps)
        for mode in learner.batch_norm_modes:
            logits = learner.predict(adaptation, query, batch_norm=mode)[1].detach()
            module = learner.as_module(adaptation, episode=1, batch_norm=mode)
            with torch.no_grad():
                error = (module(query[1]) - logits).norm()
            assert error <= (1e-10 if double else 1e-5) * logits.norm(), (mode, steps)


@pytest.mark.parametrize("name", ["sets", "transfer", "fresh head of fewer ways"])
def test_later_training_of_the_learner_does_not_change_the_module_nor_the_other_way_round(name):
    learner = trained(LEARNERS[name]())
    adaptation = learner.adapt(EPISODES.support, steps=2)
    modules = [learner.as_module(adaptation, batch_norm=mode) for mode in learner.batch_norm_modes]
    images = EPISODES.query.images[0]
    before = [module(images).detach() for module in modules]
    state = {key: value.clone() for key, value in learner.state_dict().items()}

    with torch.no_grad():
        for value in [*learner.state_dict().values(), *adaptation.fast_weights.values()]:
            value.mul_(0).add_(1.5)

    assert all(
        torch.equal(module(images), logits) for module, logits in zip(modules, before, strict=True)
    )
    learner.load_state_dict(state)
    for module in modules:
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
        module.train()(images)
    assert all(torch.equal(value, state[key]) for key, value in learner.state_dict().items())


@pytest.mark.parametrize("name", ["sets", "transfer", "meta-learned head", "another network"])
def test_the_module_is_plain_and_an_image_alone_is_classified_as_among_others(name):
    learner = trained(LEARNERS[name]())
    adaptation = learner.adapt(EPISODES.support, steps=2)
    images = EPISODES.query.images[2]

    for mode in learner.batch_norm_modes:
        module = learner.as_module(adaptation, episode=2, batch_norm=mode)
        parts = list(module.modules())
        assert not any(isinstance(part, BatchNorm2d | Learner) for part in parts)
        assert not module.training
        norms = [part for part in parts if isinstance(part, nn.BatchNorm2d)]
        assert norms and all((n.running_mean is None) == (mode == "transductive") for n in norms)
        if mode != "transductive":
            assert torch.allclose(module(images[:1]), module(images)[:1], rtol=0, atol=1e-12)


def test_a_module_of_frozen_features_has_no_head_of_the_pretraining():
    learner = trained(Transfer(network(7)))
    module = learner.as_module(learner.adapt(EPISODES.support, steps=1))

    assert [part.out_features for part in module.modules() if isinstance(part, nn.Linear)] == [3]


def test_one_episode_of_an_adaptation_is_that_of_the_episode_alone():
    learner = MAML(network())
    together = learner.adapt(EPISODES.support, steps=2).of_episode(1)
    alone = learner.adapt(EPISODES[1:2].support, steps=2)

    assert together.steps == 2
    assert torch.allclose(together.support_loss, alone.support_loss, rtol=1e-12, atol=0)
    for name, weight in alone.fast_weights.items():
        assert relative(together.fast_weights[name] - weight, weight) <= 1e-10


@pytest.mark.parametrize("name", ["transfer", "frozen, cosine"])
def test_without_a_number_the_module_is_that_of_the_first_episode(name):
    learner = LEARNERS[name]()
    learner = trained(learner) if isinstance(learner, Transfer) else learner
    adaptation = learner.adapt(EPISODES.support, steps=1)
    images = EPISODES.query.images[0]

    with torch.no_grad():
        said = learner.as_module(adaptation)(images)
        assert torch.equal(said, learner.as_module(adaptation, episode=0)(images))
        assert not torch.equal(said, learner.as_module(adaptation, episode=1)(images))


@pytest.mark.parametrize("episode", [-1, 3])
def test_an_episode_that_is_not_there_is_refused(episode):
    learner = MAML(network())

    with pytest.raises(ConfigError, match=f"no episode {episode}: the adaptation has 3"):
        learner.as_module(learner.adapt(EPISODES.support, steps=0), episode=episode)


def test_a_batch_norm_that_the_method_does_not_know_is_refused():
    learner = MAML(network())
    adaptation = learner.adapt(EPISODES.support, steps=0)

    for refused in (
        lambda: learner.predict(adaptation, EPISODES.query.images, batch_norm="running"),
        lambda: learner.as_module(adaptation, batch_norm="running"),
    ):
        with pytest.raises(ConfigError, match="by transductive, support: got 'running'"):
            refused()


@pytest.mark.parametrize("name", LEARNERS)
def test_one_image_is_enough_unless_another_mode_is_asked_for(name):
    learner = LEARNERS[name]()
    if "running" in learner.batch_norm_modes:
        trained(learner)
    adaptation = learner.adapt(EPISODES.support, steps=2)
    if learner.batch_norm_modes == ("transductive",):
        return

    module = learner.as_module(adaptation, episode=1)

    images = EPISODES.query.images[1]
    alone = torch.cat([module(images[index : index + 1]) for index in range(len(images))])
    assert relative(alone - module(images), alone) < 1e-10
