"""The laws of ProtoMAML, each against an oracle of its own."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.experiments.experiment import build_learner
from innerloop.methods.catalogue import settings_of
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.maml.learner import MAML
from innerloop.methods.protomaml.learner import ProtoMAML
from innerloop.networks.conv4 import Conv4
from killing import campaign
from laws.agreement import engines_apart
from laws.test_meta_gradient import SmallConv, flat, random_episodes, relative
from laws.test_sums import assert_same_bits_however_divided, five_episodes

EPISODES = random_episodes(3, size=16)
RATE, STEPS = 0.05, 3


def network(filters: int = 4, ways: int = 3) -> Conv4:
    torch.manual_seed(3)
    # Prototypes of large features are so sure that the loss would be flat.
    return Conv4(ways, image_size=16, filters=filters, feature_scale=0.3)


def learner(steps: int = STEPS, **settings) -> ProtoMAML:
    return ProtoMAML(network().double(), inner_lr=RATE, inner_steps=steps, **settings)


def model_of(made: ProtoMAML) -> Conv4:
    assert isinstance(made.model, Conv4)
    return made.model


def class_means(features: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([features[labels == label].mean(0) for label in range(labels.max() + 1)])


def plain_objective(
    model: Conv4, episodes: EpisodeBatch, *, first_order: bool = False, detached: bool = False
) -> Tensor:
    """ProtoMAML's objective as a plain loop over episodes and steps, by the formulas alone."""
    losses = []
    for episode in range(len(episodes)):
        images, labels = episodes.support.images[episode], episodes.support.labels[episode]
        means = class_means(model.embed(images), labels)
        means = means.detach() if detached else means
        head = {"head.weight": 2 * means, "head.bias": -means.square().sum(1)}
        # Copies, since φ_0 is a point: its inner gradient is not that of how it came about.
        weights = {name: of.clone() for name, of in (dict(model.named_parameters()) | head).items()}
        for name in head if detached else ():
            weights[name].requires_grad_()
        for _ in range(STEPS):
            loss = F.cross_entropy(functional_call(model, weights, (images,)), labels)
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            if first_order:
                gradients = [gradient.detach() for gradient in gradients]
            weights = {
                name: weight - RATE * gradient
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
            }
        logits = functional_call(model, weights, (episodes.query.images[episode],))
        losses.append(F.cross_entropy(logits, episodes.query.labels[episode]))
    return torch.stack(losses).mean()


def gradient_of(loss: Tensor, model: nn.Module) -> Tensor:
    return flat(
        torch.autograd.grad(
            loss, list(model.parameters()), allow_unused=True, materialize_grads=True
        )
    )


@pytest.mark.parametrize("first_order", [False, True])
def test_the_objective_and_its_gradient_are_those_of_a_plain_loop(first_order):
    made = learner(first_order=first_order)
    model = copy.deepcopy(model_of(made))

    loss, _ = made.meta_loss(EPISODES)
    expected = plain_objective(model, EPISODES, first_order=first_order)

    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    mine, theirs = gradient_of(loss, made.model), gradient_of(expected, model)
    assert relative(mine - theirs, theirs) <= 1e-10


@pytest.mark.parametrize("first_order", [False, True])
def test_the_gradient_goes_through_the_prototypes(first_order):
    made = learner(first_order=first_order)
    model = copy.deepcopy(model_of(made))
    detached = plain_objective(model, EPISODES, first_order=first_order, detached=True)

    loss, _ = made.meta_loss(EPISODES)

    assert loss.item() == pytest.approx(detached.item(), rel=1e-12)
    mine, theirs = gradient_of(loss, made.model), gradient_of(detached, model)
    assert relative(mine - theirs, mine) > 0.1


def test_without_a_step_it_is_a_prototypical_network():
    made = learner(steps=0)
    model = model_of(made)
    logits = made.predict(made.adapt(EPISODES.support, steps=0), EPISODES.query.images)

    for episode in range(len(EPISODES)):
        means = class_means(
            model.embed(EPISODES.support.images[episode]), EPISODES.support.labels[episode]
        )
        distances = torch.cdist(model.embed(EPISODES.query.images[episode]), means).square()
        expected = F.log_softmax(-distances, dim=1)
        found = F.log_softmax(logits[episode], dim=1)
        assert torch.allclose(found, expected, rtol=0, atol=1e-10)


def test_everything_takes_inner_steps_and_the_networks_own_head_none():
    made = learner()
    start, *_, end = made.trajectory(EPISODES.support, steps=2)

    for name, weight in end.fast_weights.items():
        assert not torch.equal(weight, start.fast_weights[name]), name
    assert not {"head.weight", "head.bias"} & made.params.keys()
    assert bool((end.support_loss[:, -1] < end.support_loss[:, 0]).all())


def test_the_fused_engine_computes_what_the_reference_does():
    pytest.importorskip("numba")
    made = ProtoMAML(network(filters=16), inner_lr=0.02, inner_steps=3)

    assert engines_apart(made, EPISODES) <= 1e-5


@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_chunks_and_processes_end_with_the_same_bits(engine):
    def make() -> ProtoMAML:
        torch.manual_seed(0)
        made = ProtoMAML(Conv4(5, filters=16), inner_lr=0.01, inner_steps=2)
        made.engine = engine
        return made

    assert_same_bits_however_divided(make, five_episodes())


@pytest.mark.parametrize(("ways", "shots"), [(5, 2), (2, 1), (3, 1), (4, 5)])
def test_ways_and_shots_are_those_of_the_episode(ways, shots):
    made, episodes = learner(), random_episodes(2, ways=ways, shots=shots, size=16)
    adaptation = made.adapt(episodes.support, steps=2)

    for mode in made.batch_norm_modes:
        logits = made.predict(adaptation, episodes.query.images, batch_norm=mode)
        assert logits.shape == (2, 4 * ways, ways) and bool(logits.isfinite().all())
    alone = made.predict(adaptation, episodes.query.images[:, :1], batch_norm="support")
    together = made.predict(adaptation, episodes.query.images, batch_norm="support")
    assert torch.allclose(alone, together[:, :1], rtol=0, atol=1e-10)
    loss, _ = made.meta_loss(episodes)
    assert bool(gradient_of(loss, made.model).isfinite().all())


def test_it_adapts_other_parts_as_maml_does_and_a_gpu_can_record_its_outer_steps():
    made = learner()
    head = made.adapting("head")
    start = head.adapt(EPISODES.support, steps=0).fast_weights["weight"]
    expected = made.adapt(EPISODES.support, steps=0).fast_weights["head.weight"]

    assert isinstance(head, FrozenFeatures)
    assert torch.allclose(start, expected, rtol=0, atol=1e-10)
    assert type(made.adapting("all")) is MAML
    logits = [
        of.predict(of.adapt(EPISODES.support, steps=2), EPISODES.query.images)
        for of in (made, made.adapting("all"))
    ]
    assert torch.equal(*logits)
    assert made.step_signature() is False


def test_an_adapted_episode_becomes_a_module():
    made, episodes = learner(), random_episodes(1, ways=5, size=16)
    adaptation = made.adapt(episodes.support, steps=2)
    expected = made.predict(adaptation, episodes.query.images, batch_norm="support")[0]

    assert torch.allclose(made.as_module(adaptation)(episodes.query.images[0]), expected)


class WithoutLinearHead(Conv4):
    """Its head is something else than a linear layer."""

    def __init__(self):
        super().__init__(3, image_size=16, filters=4)
        self.head = nn.Sequential(self.head)


def test_a_network_without_features_or_linear_head_is_refused():
    with pytest.raises(ConfigError, match=r"give SmallConv a method embed\(images\)"):
        ProtoMAML(SmallConv(F.relu))
    with pytest.raises(ConfigError, match=r"A fresh head is a torch\.nn\.Linear"):
        ProtoMAML(WithoutLinearHead())


def test_targets_of_a_regression_have_no_prototypes():
    support = EPISODES.support
    targets = type(support)(support.images, support.labels.double()[..., None])

    with pytest.raises(ConfigError, match="A head starts from prototypes of classes"):
        learner(loss_fn=F.mse_loss).adapt(targets, steps=1)


def test_a_learner_has_its_runs_settings_and_accuracy_does_not_begin_at_chance():
    config = settings_of("protomaml", filters=4, inner_steps=2, inner_lr=0.3, device="cpu")
    made = build_learner(config, 5)

    assert isinstance(made, ProtoMAML)
    assert (made.inner_steps, made.inner_lr, made.first_order) == (2, 0.3, False)
    assert (made.fresh_head_init, made.meta_learned_head) == ("prototypes", False)
    assert config.own.has_fresh_head and not config.own.starts_at_chance(config)
    maml = settings_of("maml")
    assert maml.own.starts_at_chance(maml)


def test_the_body_sees_the_support_set_once_more_than_there_are_steps(monkeypatch):
    made = learner()
    made.meta_loss(EPISODES)  # the first images are looked at once more
    passes = []
    embed = Conv4.embed
    monkeypatch.setattr(
        Conv4, "embed", lambda self, images: passes.append(len(images)) or embed(self, images)
    )

    made.meta_loss(EPISODES)

    config = settings_of("protomaml", ways=3, shots=2, queries=4, meta_batch_size=3, inner_steps=3)
    assert config.own.image_passes(config, 10) == 10 * sum(passes)


@pytest.mark.slow
def test_a_killed_training_ends_as_the_uninterrupted_one(tmp_path):
    tally = campaign(tmp_path, 3, method="protomaml")

    assert tally.failures == [] and tally.kills >= 3
    assert (tally.resumed, tally.identical) == (tally.kills, tally.runs)
