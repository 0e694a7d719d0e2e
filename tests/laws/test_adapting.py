"""Asking a learner to adapt its network another way."""

from typing import Any

import pytest
import torch
from torch import nn

import innerloop
from innerloop.core.errors import ConfigError
from innerloop.data.images import LabelledImages
from innerloop.methods.base import Learner, sharing_weights
from innerloop.methods.boil.learner import BOIL
from innerloop.methods.catalogue import find_learner, names, settings_of
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.maml.learner import MAML
from innerloop.methods.mamlpp.learner import MAMLpp
from innerloop.methods.parts import PARTS, HeadInit
from innerloop.methods.transfer.learner import Transfer
from innerloop.networks.conv4 import Conv4
from laws.test_meta_gradient import SmallConv, random_episodes

EPISODES = random_episodes(2, size=16)


def network() -> Conv4:
    torch.manual_seed(3)
    return Conv4(3, image_size=16, filters=4, head_init="glorot").double()


LEARNERS = {
    "maml": lambda: MAML(network(), fresh_head="head"),
    "learnt head": lambda: MAML(network()),
    "transfer": lambda: Transfer(network()),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_every_part_that_a_learner_names_can_be_adapted_and_weights_are_shared(name):
    learner = LEARNERS[name]()
    before = {key: value.clone() for key, value in learner.state_dict().items()}

    assert learner.adaptable == PARTS
    for parts in learner.adaptable:
        other = learner.adapting(parts, rate=0.1)
        logits = other.predict(other.adapt(EPISODES.support, steps=2), EPISODES.query.images)
        assert other.model is learner.model
        assert other.batch_norm_modes == learner.batch_norm_modes
        assert torch.isfinite(logits).all()
    assert all(torch.equal(value, before[key]) for key, value in learner.state_dict().items())


@pytest.mark.parametrize("name", LEARNERS)
def test_its_own_parts_at_its_own_rate_are_its_own_way(name):
    learner = LEARNERS[name]()

    logits = [
        made.predict(made.adapt(EPISODES.support, steps=3), EPISODES.query.images)
        for made in (learner, learner.adapting(learner.own_parts), learner.adapting())
    ]

    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


@pytest.mark.parametrize("name", LEARNERS)
def test_another_rate_is_the_same_method_built_with_it(name):
    learner = LEARNERS[name]()
    other = learner.adapting(rate=0.05)
    learner.inner_lr, unchanged = 0.05, learner.inner_lr

    expected = learner.adapt(EPISODES.support, steps=3).fast_weights

    assert (type(other), unchanged) == (type(learner), 0.4)
    for key, weight in other.adapt(EPISODES.support, steps=3).fast_weights.items():
        assert torch.equal(weight, expected[key])


class HalfSteps(MAML):
    """A method of somebody else's, whose steps are half as long."""

    def _stepped(self, network, adapted, gradients, index):
        return {
            name: weight - 0.5 * self.inner_lr * gradients[name] for name, weight in adapted.items()
        }


def test_a_method_that_changes_mamls_inner_loop_does_not_lose_that_without_a_word():
    learner = HalfSteps(network(), fresh_head="head")

    assert type(learner.adapting(rate=0.1)) is HalfSteps
    assert isinstance(learner.adapting("head", rate=0.1), FrozenFeatures)
    with pytest.raises(ConfigError, match="HalfSteps adapts in its own way alone: 'all'"):
        learner.adapting("all")


class LastBlock(MAML):
    """A method of somebody else's, which is MAML of the last block and the head."""

    computes_as_maml = True

    def __init__(self, model: nn.Module, **settings: Any):
        super().__init__(model, adapts=["convs.3", "norms.3", "head"], **settings)


def test_a_method_that_says_that_its_steps_are_mamls_has_mamls_other_ways():
    learner = LastBlock(network(), fresh_head="head")
    all_of_it = learner.adapting("all")
    expected = MAML(learner.model, fresh_head="head").adapt(EPISODES.support, steps=2)

    assert type(all_of_it) is MAML
    assert learner.step_signature() is False
    for key, weight in all_of_it.adapt(EPISODES.support, steps=2).fast_weights.items():
        assert torch.equal(weight, expected.fast_weights[key])


def test_what_a_method_says_of_its_steps_says_nothing_of_its_subclasses():
    class Half(LastBlock):
        _stepped = HalfSteps._stepped

    learner = Half(network(), fresh_head="head")

    assert learner.step_signature() is None
    with pytest.raises(ConfigError, match="Half adapts in its own way alone: 'all'"):
        learner.adapting("all")


def test_another_rate_reaches_every_part():
    for make in LEARNERS.values():
        for parts in ("head", "all"):
            other = make().adapting(parts, rate=0.05, head_init="glorot")
            assert other.inner_lr == 0.05
            assert make().adapting(parts, head_init="glorot").inner_lr == 0.4


def test_a_converged_head_has_the_documented_penalty_unless_another_is_given():
    learner = MAML(network(), fresh_head="head")

    def head(**penalty: Any) -> torch.Tensor:
        other = learner.adapting("head", head="logistic", **penalty)
        return other.adapt(EPISODES.support, steps=1).fast_weights["weight"]

    assert torch.equal(head(), head(penalty=0.1))
    assert not torch.equal(head(), head(penalty=0.2))
    frozen = FrozenFeatures(network(), batch_norm_modes=("transductive",))
    assert frozen.penalty == frozen.adapting("head", head="logistic").penalty == 0.1


def test_a_fresh_head_starts_from_zero_or_from_glorots_draw_the_same_everywhere():
    def start(init: HeadInit) -> dict[str, torch.Tensor]:
        learner = MAML(network(), fresh_head="head", fresh_head_init=init)
        return learner.adapt(EPISODES.support, steps=0).fast_weights

    zero, drawn = start("zero"), start("glorot")

    expected = nn.init.xavier_uniform_(
        torch.empty(3, 4), generator=torch.Generator().manual_seed(0)
    ).double()
    assert not zero["head.weight"].any() and not drawn["head.bias"].any()
    assert torch.equal(drawn["head.weight"], expected.expand(2, -1, -1))


@pytest.mark.parametrize("ways", [3, 2])
def test_a_fresh_head_of_prototypes_is_that_of_the_networks_features(ways):
    support = EPISODES.support
    kept = support.labels[0] < ways
    support = LabelledImages(support.images[:, kept], support.labels[:, kept])
    model = network()
    learner = MAML(model, inner_lr=1e-3, fresh_head="head", fresh_head_init="prototypes")
    start = learner.adapt(support, steps=0)
    for episode in range(2):
        f = model.embed(support.images[episode])
        means = torch.stack([f[support.labels[episode] == label].mean(0) for label in range(ways)])

        assert torch.allclose(start.fast_weights["head.weight"][episode], 2 * means)
        assert torch.allclose(start.fast_weights["head.bias"][episode], -means.square().sum(1))
    after = learner.adapt(support, steps=2)
    assert bool((after.support_loss[:, -1] < after.support_loss[:, 0]).all())


def test_the_meta_gradient_goes_through_a_head_of_prototypes():
    """Finite differences of the objective, of second order, in one direction."""
    torch.manual_seed(0)
    model = network()
    learner = MAML(
        model, fresh_head="head", fresh_head_init="prototypes", inner_steps=1, inner_lr=0.01
    )
    learner.meta_loss(EPISODES)[0].backward()
    weight = model.norms[3].weight
    assert isinstance(weight, torch.Tensor) and weight.grad is not None
    found = float(weight.grad.sum())
    step = 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * step
        values.append(learner.meta_loss(EPISODES)[0].item())
        with torch.no_grad():
            weight -= sign * step

    assert found == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4)


@pytest.mark.parametrize("first_order", [False, True])
def test_training_takes_the_steps_of_evaluation_from_a_head_of_prototypes(first_order):
    """The body's inner gradient is at a given head, and not through the prototypes behind it."""
    learner = MAML(
        network(),
        inner_lr=0.01,
        first_order=first_order,
        fresh_head="head",
        fresh_head_init="prototypes",
    )
    in_training = learner.inner_loop(learner.params, EPISODES.support, steps=2).fast_weights
    evaluated = learner.adapt(EPISODES.support, steps=2).fast_weights

    for key, weight in evaluated.items():
        assert torch.allclose(in_training[key], weight, rtol=0, atol=1e-12), key


class LearntHead(MAML):
    """A method of somebody else's that makes no sense with a new head."""

    can_have_fresh_head = False


def test_a_method_may_have_no_fresh_head_and_its_sentences_know():
    with pytest.raises(ConfigError, match=r"LearntHead meta-learns its head, .* leave fresh_head"):
        LearntHead(network(), fresh_head="head")
    with pytest.raises(ConfigError, match=r"LearntHead learns .*: train with ways=5\.$"):
        LearntHead(network()).adapt(random_episodes(1, ways=5, size=16).support, steps=1)


def test_a_meta_learned_head_is_kept_unless_a_new_one_is_asked_for():
    learner = MAML(network())
    start = learner.adapting("head").adapt(EPISODES.support, steps=0)
    new = learner.adapting("head", head_init="zero").adapt(EPISODES.support, steps=0)

    assert torch.equal(start.fast_weights["head.weight"][0], learner.model.head.weight)  # type: ignore[union-attr]
    assert new.fast_weights["weight"].abs().max() == 0


def test_what_a_method_cannot_is_refused_in_a_sentence():
    plus_plus = MAMLpp(network()).double()
    own_way: tuple[tuple[Learner, dict], ...] = (
        (Learner(), {"parts": "head"}),
        (plus_plus, {"parts": "head"}),
        (plus_plus, {"rate": 0.1}),
    )

    assert plus_plus.adapting() is plus_plus
    assert plus_plus.adaptable == ("own",)
    for learner, asked in own_way:
        with pytest.raises(ConfigError, match=r"in its own way"):
            learner.adapting(**asked)


@pytest.mark.parametrize("method", names())
def test_settings_say_what_the_learner_says_of_being_explained(method):
    config = settings_of(method)

    adaptable = find_learner(method).adaptable
    assert config.own.can_be_explained == (set(PARTS) <= set(adaptable))


@pytest.mark.parametrize("name", LEARNERS)
def test_a_head_in_closed_form_takes_no_steps_beside_it(name):
    with pytest.raises(ConfigError, match="A logistic head is found on frozen features"):
        LEARNERS[name]().adapting("head+1", head="logistic")


WRONG_WAYS: list[tuple[dict[str, Any], str]] = [
    (dict(parts="everything"), "must be one of own, head, .*: got 'everything'"),
    (dict(parts="ALL"), "got 'ALL'"),
    (dict(parts=""), "got ''"),
    (dict(parts="haed+1"), "got 'haed"),
    (dict(parts="head+x"), "got 'head"),
    (dict(parts="head", head="linear"), "head must be one of gradient, logistic, cosine"),
    (dict(parts="head", head_init="ones"), "head_init must be one of zero, glorot, prototypes"),
    (dict(parts="head", head="cosine", rate=0.1), "takes no inner steps"),
    (dict(parts="head", head="cosine", head_init="glorot"), "takes no inner steps"),
    (dict(parts="body", head_init="zero"), "takes a fixed uniform head"),
    (dict(parts="own", penalty=-3.0), "penalty must be between"),
    (dict(parts="head", rate=-1.0), "inner_lr must be between"),
]


@pytest.mark.parametrize(("asked", "sentence"), WRONG_WAYS)
@pytest.mark.parametrize("method", names())
def test_ways_that_there_are_not_are_refused_by_every_method(method, asked, sentence):
    config = settings_of(method, filters=4)
    learner = find_learner(method).from_config(config, network())

    with pytest.raises(ConfigError, match=sentence):
        learner.adapting(**asked)


@pytest.mark.parametrize("parts", ["head", "head+1", "all", "body", "own"])
@pytest.mark.parametrize("name", LEARNERS)
def test_another_way_is_computed_by_the_same_engine_and_precision(name, parts):
    learner = LEARNERS[name]()
    learner.engine, learner.precision = "reference", "float32"

    other = learner.adapting(parts, rate=0.1)

    assert (other.engine, other.precision) == ("reference", "float32")


def test_a_new_head_starts_as_the_methods_own_does():
    learner = Transfer(network(), head_init="glorot")

    heads = [
        learner.adapting(parts, rate=0.1).adapt(EPISODES.support, steps=0).fast_weights
        for parts in ("own", "head", "head+1", "all")
    ]

    weights = [head.get("weight", head.get("head.weight")) for head in heads]
    assert weights[0].any() and all(torch.equal(of, weights[0]) for of in weights)


def test_a_zero_head_that_stays_is_refused():
    sentence = "starts from zero and takes no inner step tells nothing apart"

    with pytest.raises(ConfigError, match=sentence):
        MAML(network(), fresh_head="head", adapts=["convs"])
    with pytest.raises(ConfigError, match=sentence):
        BOIL(network()).adapting(head_init="zero")
    with pytest.raises(ConfigError, match="takes no inner step would learn nothing"):
        MAML(network(), fresh_head="head", inner_steps=0).meta_loss(EPISODES)
    assert BOIL(network()).adapting(head_init="glorot").adapt(EPISODES.support, steps=1)


def test_parts_of_a_network_without_names_are_refused():
    with pytest.raises(ConfigError, match="blocks of SmallConv have no names"):
        MAML(SmallConv(torch.relu)).adapting("head+1")


def test_a_learner_that_shares_weights_has_a_list_of_submodules_of_its_own():
    learner = FrozenFeatures(network())
    same = sharing_weights(learner)

    same.model = nn.Identity()

    assert isinstance(learner.model, Conv4)


def squared(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (outputs - nn.functional.one_hot(labels, outputs.shape[1])).square().mean()


def test_a_learners_own_loss_is_that_of_its_other_ways():
    learner = MAML(network(), loss_fn=squared)

    assert learner.adapting("all").loss_fn is squared  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="fitted by cross-entropy alone"):
        learner.adapting("head", head="cosine")


def test_what_it_adapts_is_kept_under_another_head():
    learner = MAML(network(), adapts=["head"])

    other = learner.adapting("own", head_init="glorot")
    start, *_, end = other.trajectory(EPISODES.support, steps=2)

    moved = {
        name
        for name, weight in end.fast_weights.items()
        if not torch.equal(weight, start.fast_weights[name])
    }
    assert moved == {"head.weight", "head.bias"}


def test_features_are_those_of_what_a_tensor_holds_now():
    learner = Transfer(network())
    adaptation = learner.adapt(EPISODES.support, steps=2)
    images = EPISODES.query.images.clone()
    learner.predict(adaptation, images)

    images.copy_(EPISODES.query.images.flip(1))
    assert torch.equal(
        learner.predict(adaptation, images),
        learner.predict(adaptation, EPISODES.query.images.flip(1)),
    )
    before = learner.predict(adaptation, images)
    with torch.no_grad():
        learner.model.convs[0].weight.mul_(1.5)  # type: ignore[index,union-attr]
    assert not torch.equal(learner.predict(adaptation, images), before)


@pytest.mark.parametrize(
    ("of", "fixed"),
    [
        ("ANIL", {"adapts": ["head"]}),
        ("BOIL", {"adapts": ["head"]}),
        ("ProtoMAML", {"fresh_head": "head"}),
        ("ProtoMAML", {"fresh_head_init": "zero"}),
    ],
)
def test_a_part_that_makes_the_method_is_no_setting(of, fixed):
    model = innerloop.Conv4(3, filters=4)
    (name,) = fixed

    with pytest.raises(ConfigError, match=f"{of} has a {name} of its own"):
        getattr(innerloop, of)(model, **fixed)
