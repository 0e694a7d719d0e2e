"""The laws of BOIL, each against an oracle of its own."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.experiments.experiment import build_learner
from innerloop.methods.boil.learner import BOIL
from innerloop.methods.catalogue import settings_of
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


def learner(model: nn.Module | None = None, **settings) -> BOIL:
    chosen = dict(inner_lr=RATE, inner_steps=STEPS) | settings
    return BOIL(network().double() if model is None else model, **chosen)


def plain_objective(model: nn.Module, episodes: EpisodeBatch, *, first_order: bool) -> Tensor:
    """BOIL's objective as a plain loop over episodes and steps, by the formulas alone."""
    losses = []
    for episode in range(len(episodes)):
        weights: dict[str, Tensor] = dict(model.named_parameters())
        head = {name: weights.pop(name) for name in ("head.weight", "head.bias")}
        body = weights
        for _ in range(STEPS):
            logits = functional_call(model, body | head, (episodes.support.images[episode],))
            loss = F.cross_entropy(logits, episodes.support.labels[episode])
            gradients = torch.autograd.grad(loss, list(body.values()), create_graph=True)
            if first_order:
                gradients = [gradient.detach() for gradient in gradients]
            body = {
                name: weight - RATE * gradient
                for (name, weight), gradient in zip(body.items(), gradients, strict=True)
            }
        logits = functional_call(model, body | head, (episodes.query.images[episode],))
        losses.append(F.cross_entropy(logits, episodes.query.labels[episode]))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("make", [network, lambda: SmallConv(F.softplus)], ids=["Conv4", "own"])
def test_the_objective_and_its_gradient_are_those_of_a_plain_loop(make, first_order):
    model = make().double()
    episodes = random_episodes(3, size=16)
    made = learner(model, first_order=first_order)

    loss, _ = made.meta_loss(episodes)
    copied = copy.deepcopy(model)
    expected = plain_objective(copied, episodes, first_order=first_order)

    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    mine = flat(torch.autograd.grad(loss, list(model.parameters())))
    theirs = flat(torch.autograd.grad(expected, list(copied.parameters())))
    assert relative(mine - theirs, theirs) <= 1e-10


def test_the_head_takes_no_inner_step_and_gets_an_outer_gradient():
    made = learner()
    adapted = made.adapt(EPISODES.support, steps=STEPS).fast_weights
    made.meta_loss(EPISODES)[0].backward()

    for name, weight in made.params.items():
        moved = not torch.equal(adapted[name], weight.expand_as(adapted[name]))
        assert moved == (not name.startswith("head.")), name
        assert weight.grad is not None and weight.grad.abs().max() > 0, name


def test_the_heads_gradient_of_second_order_is_in_its_outer_gradient():
    gradients = []
    for first_order in (True, False):
        made = learner(first_order=first_order)
        loss, _ = made.meta_loss(EPISODES)
        gradients += torch.autograd.grad(loss, made.params["head.weight"])

    assert relative(gradients[0] - gradients[1], gradients[1]) > 1e-3


def test_before_a_head_of_zeros_the_body_takes_no_step_and_the_head_learns():
    made = learner(Conv4(3, image_size=16, filters=4).double())
    adapted = made.adapt(EPISODES.support, steps=2).fast_weights
    made.meta_loss(EPISODES)[0].backward()

    assert all(torch.equal(adapted[name][0], weight) for name, weight in made.params.items())
    gradient = made.params["head.weight"].grad
    assert gradient is not None and gradient.abs().max() > 0


def test_the_fused_engine_computes_what_the_reference_does():
    pytest.importorskip("numba")

    assert engines_apart(BOIL(network(filters=16), inner_lr=0.05, inner_steps=3), EPISODES) <= 1e-5


@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_chunks_and_processes_end_with_the_same_bits(engine):
    def make() -> BOIL:
        torch.manual_seed(0)
        made = BOIL(Conv4(5, filters=16, head_init="glorot"), inner_steps=2)
        made.engine = engine
        return made

    assert_same_bits_however_divided(make, five_episodes())


def test_it_adapts_other_parts_as_maml_does_and_a_gpu_can_record_its_outer_steps():
    made = learner()
    all_of_it = made.adapting("all")
    expected = MAML(made.model, inner_lr=RATE).adapt(EPISODES.support, steps=2).fast_weights

    assert type(all_of_it) is MAML
    for name, weight in all_of_it.adapt(EPISODES.support, steps=2).fast_weights.items():
        assert torch.equal(weight, expected[name])
    assert isinstance(made.adapting("head", head="cosine"), FrozenFeatures)
    assert isinstance(made.adapting(rate=0.1), BOIL)
    assert "body" not in made.adaptable
    assert made.step_signature() is False


@pytest.mark.parametrize("mode", ["transductive", "support"])
def test_an_adapted_episode_predicts_as_the_network_with_its_weights(mode):
    made = learner()
    adaptation = made.adapt(EPISODES.support, steps=2)
    logits = made.predict(adaptation, EPISODES.query.images, batch_norm=mode)[0]
    weights = {name: of[0] for name, of in adaptation.fast_weights.items()}

    plain = functional_call(made.model, weights, (EPISODES.query.images[0],))
    assert torch.allclose(logits, plain, rtol=0, atol=1e-10) == (mode == "transductive")
    as_module = made.as_module(adaptation, batch_norm="support")(EPISODES.query.images[0])
    assert torch.allclose(logits, as_module, rtol=0, atol=1e-8) == (mode == "support")


def test_fewer_ways_are_told_apart_and_more_than_it_was_trained_for_are_refused():
    made, episodes = learner(), random_episodes(1, ways=2, shots=1, size=16)

    logits = made.predict(made.adapt(episodes.support, steps=2), episodes.query.images)

    assert bool(logits.isfinite().all())
    with pytest.raises(ConfigError, match=r"5-way and the network has 3 outputs.*with ways=5\.$"):
        made.adapt(random_episodes(1, ways=5, size=16).support, steps=1)


class HeadAlone(nn.Module):
    """Nothing to adapt beside the head."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images)


def test_what_has_no_head_or_no_body_is_refused():
    with pytest.raises(ConfigError, match=r"'head' to keep: BOIL's .* some under '1'"):
        BOIL(nn.Sequential(nn.Flatten(), nn.Linear(256, 3)))
    with pytest.raises(ConfigError, match="No parameter of HeadAlone would take inner steps"):
        BOIL(HeadAlone())
    with pytest.raises(ConfigError, match="BOIL meta-learns its head"):
        learner(fresh_head="head")


def test_a_learner_has_its_runs_settings_and_its_head_does_not_start_from_zero():
    config = settings_of("boil", filters=4, inner_steps=2, inner_lr=0.3, device="cpu")
    made = build_learner(config, 5)

    assert isinstance(made, BOIL)
    assert (made.inner_steps, made.inner_lr, made.first_order) == (2, 0.3, False)
    assert made.meta_learned_head and not config.own.has_fresh_head
    assert bool(made.params["head.weight"].any())
    with pytest.raises(ConfigError, match="boil has no setting 'fresh_head'"):
        settings_of("boil", fresh_head=True)


@pytest.mark.slow
def test_a_killed_training_ends_as_the_uninterrupted_one(tmp_path):
    tally = campaign(tmp_path, 3, method="boil")

    assert tally.failures == [] and tally.kills >= 3
    assert (tally.resumed, tally.identical) == (tally.kills, tally.runs)
