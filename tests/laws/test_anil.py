"""The laws of ANIL, each against an oracle of its own."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.experiments.experiment import build_learner
from innerloop.fast_weights.network import Network
from innerloop.methods.anil.learner import ANIL
from innerloop.methods.catalogue import find_card, settings_of
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.maml.learner import MAML
from innerloop.networks.conv4 import Conv4
from killing import campaign
from laws.agreement import engines_apart
from laws.test_meta_gradient import SmallConv, flat, random_episodes, relative
from laws.test_sums import assert_same_bits_however_divided, five_episodes

EPISODES = random_episodes(3, size=16)
RATE, STEPS = 0.3, 3


def network(filters: int = 4, ways: int = 3) -> Conv4:
    torch.manual_seed(3)
    return Conv4(ways, image_size=16, filters=filters, head_init="glorot")


def learner(fresh_head: str | None = None, **settings) -> ANIL:
    chosen = dict(inner_lr=RATE, inner_steps=STEPS, fresh_head=fresh_head) | settings
    return ANIL(network().double(), **chosen)


def gradient_of(loss: Tensor, model: nn.Module) -> Tensor:
    weights = list(model.parameters())
    return flat(torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True))


def plain_objective(model: Conv4, episodes: EpisodeBatch, *, fresh: bool, first_order: bool):
    """ANIL's objective as a plain loop over episodes and steps, by the formulas alone."""
    losses = []
    for episode in range(len(episodes)):
        weight, bias = model.head.weight, model.head.bias
        if fresh:
            weight, bias = (torch.zeros_like(of, requires_grad=True) for of in (weight, bias))
        for _ in range(STEPS):
            logits = model.embed(episodes.support.images[episode]) @ weight.T + bias
            loss = F.cross_entropy(logits, episodes.support.labels[episode])
            of_weight, of_bias = torch.autograd.grad(loss, [weight, bias], create_graph=True)
            if first_order:
                of_weight, of_bias = of_weight.detach(), of_bias.detach()
            weight, bias = weight - RATE * of_weight, bias - RATE * of_bias
        logits = model.embed(episodes.query.images[episode]) @ weight.T + bias
        losses.append(F.cross_entropy(logits, episodes.query.labels[episode]))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("fresh_head", [None, "head"])
def test_the_objective_and_its_gradient_are_those_of_a_plain_loop(fresh_head, first_order):
    made = learner(fresh_head, first_order=first_order)
    model = made.model
    assert isinstance(model, Conv4)

    loss, _ = made.meta_loss(EPISODES)
    expected = plain_objective(
        model, EPISODES, fresh=fresh_head is not None, first_order=first_order
    )

    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    mine, theirs = gradient_of(loss, model), gradient_of(expected, model)
    assert relative(mine - theirs, theirs) <= 1e-10


@pytest.mark.parametrize("fresh_head", [None, "head"])
def test_it_is_maml_that_adapts_the_head_alone(fresh_head):
    made = learner(fresh_head)
    other = MAML(
        made.model, inner_lr=RATE, inner_steps=STEPS, fresh_head=fresh_head, adapts=["head"]
    )
    mine, theirs = (of.outer_loop(EPISODES) for of in (made, other))

    gradient, expected = (gradient_of(loss, made.model) for loss, _ in (mine, theirs))
    assert relative(gradient - expected, expected) <= 1e-10
    for name, value in mine[1].items():
        assert torch.equal(value, theirs[1][name]), name


@pytest.mark.parametrize("fresh_head", [None, "head"])
def test_the_body_takes_no_inner_step_and_gets_an_outer_gradient(fresh_head):
    made = learner(fresh_head)
    adapted = made.adapt(EPISODES.support, steps=STEPS).fast_weights
    made.meta_loss(EPISODES)[0].backward()

    for name, weight in made.params.items():
        moved = not torch.equal(adapted[name], weight.expand_as(adapted[name]))
        assert moved == name.startswith("head."), name
        assert weight.grad is not None and weight.grad.abs().max() > 0, name


@pytest.mark.parametrize("first_order", [False, True])
def test_the_support_features_teach_the_body_but_not_in_first_order(first_order):
    """From zero one step gives W = α/n Σ (one-hot_i − 1/N) f_i: a function of the features."""
    made = learner("head", first_order=first_order)
    adapted = made.inner_loop(made.params, EPISODES.support, steps=1).fast_weights["head.weight"]

    assert isinstance(made.model, Conv4)
    features = made.model.embed(EPISODES.support.images[0])
    targets = F.one_hot(EPISODES.support.labels[0]).double() - 1 / 3
    expected = RATE * targets.T @ features / len(features)
    assert torch.allclose(adapted[0], expected, rtol=0, atol=1e-12)
    mine, theirs = (gradient_of(of.square().sum(), made.model) for of in (adapted[0], expected))
    assert relative(mine - (0 if first_order else theirs), theirs) <= 1e-10


def test_the_body_sees_each_set_of_images_once_however_many_steps_there_are(monkeypatch):
    made = learner("head", inner_steps=7)
    made.meta_loss(EPISODES)  # the first images are looked at once more
    passes = []
    embed = Conv4.embed
    monkeypatch.setattr(
        Conv4, "embed", lambda self, images: passes.append(len(images)) or embed(self, images)
    )

    made.meta_loss(EPISODES)

    support, query = EPISODES.support.labels.shape[1], EPISODES.query.labels.shape[1]
    assert sorted(passes) == sorted([support, query] * len(EPISODES))
    config = settings_of("anil", ways=3, shots=2, queries=4, meta_batch_size=3, inner_steps=7)
    assert config.own.image_passes(config, 10) == 10 * sum(passes)


def test_features_without_a_graph_or_by_other_statistics_do_not_serve():
    made, images = learner(), EPISODES.query.images
    network, plain = made._network(), Network(made.model)
    weights = made._start(network, made.params, EPISODES.support)
    with torch.no_grad():
        network.call(weights, images)
    outputs, expected = (of.call(weights, images) for of in (network, plain))
    _, statistics = network.call_and_measure(weights, EPISODES.support.images)
    by_support = network.call(weights, images, statistics)

    mine, theirs = (gradient_of(of.square().sum(), made.model) for of in (outputs, expected))
    assert relative(mine - theirs, theirs) <= 1e-10
    assert relative(by_support - plain.call(weights, images, statistics), by_support) <= 1e-12
    assert relative(by_support - outputs, by_support) > 1e-3


@pytest.mark.parametrize("mode", ["transductive", "support"])
def test_predictions_are_those_of_new_heads_on_frozen_features(mode):
    made = learner("head")
    frozen = FrozenFeatures(made.model, batch_norm_modes=("transductive", "support"), inner_lr=RATE)
    logits = [
        of.predict(of.adapt(EPISODES.support, steps=4), EPISODES.query.images, batch_norm=mode)
        for of in (made, frozen)
    ]

    assert torch.allclose(*logits, rtol=0, atol=1e-10)
    if mode == "support":
        adaptation = made.adapt(EPISODES.support, steps=4)
        lone = made.predict(adaptation, EPISODES.query.images[:, :1], batch_norm=mode)
        assert torch.allclose(lone, logits[0][:, :1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("fresh_head", [None, "head"])
def test_the_fused_engine_computes_what_the_reference_does(fresh_head):
    pytest.importorskip("numba")
    made = ANIL(network(filters=16), inner_lr=0.05, inner_steps=3, fresh_head=fresh_head)

    assert engines_apart(made, EPISODES) <= 1e-5


@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_chunks_and_processes_end_with_the_same_bits(engine):
    def make() -> ANIL:
        torch.manual_seed(0)
        made = ANIL(Conv4(5, filters=16), inner_steps=2, fresh_head="head")
        made.engine = engine
        return made

    assert_same_bits_however_divided(make, five_episodes())


def test_it_adapts_other_parts_as_maml_does_and_a_gpu_can_record_its_outer_steps():
    made = learner("head")
    logits = [
        of.predict(of.adapt(EPISODES.support, steps=3), EPISODES.query.images)
        for of in (made, made.adapting("head"), made.adapting("all"))
    ]

    assert torch.allclose(logits[0], logits[1], rtol=0, atol=1e-10)
    assert not torch.allclose(logits[0], logits[2], rtol=0, atol=1e-3)
    assert type(made.adapting("all")) is MAML
    assert made.step_signature() is False


def test_an_episode_becomes_a_module_and_shows_its_blocks():
    made = learner("head")
    adaptation = made.adapt(EPISODES.support, steps=2)
    expected = made.predict(adaptation, EPISODES.query.images, batch_norm="support")[0]

    assert torch.allclose(made.as_module(adaptation)(EPISODES.query.images[0]), expected)
    outputs = made.block_outputs(adaptation, EPISODES.query.images)
    logits = made.predict(adaptation, EPISODES.query.images)
    assert torch.allclose(outputs["logits"], logits, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("ways", "shots"), [(5, 2), (2, 1), (3, 1)])
def test_a_fresh_head_takes_other_ways_and_shots(ways, shots):
    made, episodes = learner("head"), random_episodes(2, ways=ways, shots=shots, size=16)

    logits = made.predict(made.adapt(episodes.support, steps=2), episodes.query.images)

    assert logits.shape[-1] == ways and bool(logits.isfinite().all())


def test_more_ways_than_a_learnt_head_was_trained_for_are_refused():
    with pytest.raises(ConfigError, match=r"5-way and the network has 3 outputs.*fresh head"):
        learner().adapt(random_episodes(1, ways=5, size=16).support, steps=1)


def test_a_network_without_features_is_refused():
    with pytest.raises(ConfigError, match=r"give SmallConv a method embed\(images\)"):
        ANIL(SmallConv(F.relu))


class Regressor(nn.Module):
    """Two numbers in, a number out; features between."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(2, 5)
        self.head = nn.Linear(5, 1)
        self.double()

    def embed(self, inputs: Tensor) -> Tensor:
        return self.body(inputs).tanh()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.embed(inputs))


def test_a_regression_learns_by_its_own_loss():
    torch.manual_seed(0)
    inputs = torch.randn(2, 6, 2, dtype=torch.float64)
    targets = inputs.sum(-1, keepdim=True)
    made = ANIL(Regressor(), inner_lr=0.1, inner_steps=2, loss_fn=F.mse_loss)
    support = type(EPISODES.support)(inputs, targets)

    losses = made.adapt(support, steps=20).support_loss

    assert bool((losses[:, 1:] < losses[:, :-1]).all())


def test_the_papers_protocol_is_that_of_finn_et_al_for_20_ways():
    assert list(find_card("anil").presets) == ["paper-20w1s", "paper-20w5s"]
    for shots in (1, 5):
        config = settings_of("anil", f"paper-20w{shots}s")
        other = settings_of("maml", f"paper-20w{shots}s").flat()
        changed = {name for name, value in config.flat().items() if other[name] != value}
        assert changed == {"method"}
        made = build_learner(config.replace(device="cpu"), 1)
        assert made.get_parameter("model.head.weight").shape == (20, 64)
        assert made.meta_learned_head


def test_a_learner_has_its_runs_settings():
    config = settings_of("anil", filters=4, inner_steps=2, inner_lr=0.3, device="cpu")
    made = build_learner(config, 5)

    assert isinstance(made, ANIL)
    assert (made.inner_steps, made.inner_lr, made.first_order) == (2, 0.3, False)
    assert not made.meta_learned_head
    assert isinstance(made._network(), Network)


@pytest.mark.slow
def test_a_killed_training_ends_as_the_uninterrupted_one(tmp_path):
    tally = campaign(tmp_path, 3, method="anil")

    assert tally.failures == [] and tally.kills >= 3
    assert (tally.resumed, tally.identical) == (tally.kills, tally.runs)
