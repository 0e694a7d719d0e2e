"""The laws of Meta-SGD, each against an oracle of its own."""

import copy
import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from innerloop import cli
from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.experiments.experiment import build_learner
from innerloop.methods.catalogue import find_card, settings_of
from innerloop.methods.maml.learner import MAML
from innerloop.methods.metasgd.learner import MetaSGD
from innerloop.networks.conv4 import Conv4
from killing import campaign, training_of
from laws.agreement import engines_apart
from laws.test_meta_gradient import SmallConv, flat, random_episodes, relative
from laws.test_sums import assert_same_bits_however_divided, five_episodes

EPISODES = random_episodes(3)
STEPS = 3


def network(filters: int = 4, ways: int = 3) -> Conv4:
    torch.manual_seed(3)
    return Conv4(ways, image_size=16, filters=filters, head_init="glorot")


def varied(made: MetaSGD) -> MetaSGD:
    """The same with rates of its own for every element, a third of them negative."""
    torch.manual_seed(4)
    with torch.no_grad():
        for rates in made.rates.values():
            rates.add_(0.2 * torch.randn(rates.shape, dtype=rates.dtype))
    return made


def learner(steps: int = STEPS, **settings) -> MetaSGD:
    torch.manual_seed(2)
    made = MetaSGD(SmallConv(F.softplus), inner_lr=0.1, inner_steps=steps, **settings)
    return varied(made.double())


def plain_loop(
    model: nn.Module, rates: dict[str, Tensor], episodes: EpisodeBatch, *, first_order: bool
) -> Tensor:
    """Meta-SGD's objective as a plain loop over episodes and steps, by the formulas alone."""
    losses = []
    for episode in range(len(episodes)):
        weights: dict[str, Tensor] = dict(model.named_parameters())
        for _ in range(STEPS):
            logits = functional_call(model, weights, (episodes.support.images[episode],))
            loss = F.cross_entropy(logits, episodes.support.labels[episode])
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            if first_order:
                gradients = [gradient.detach() for gradient in gradients]
            weights = {
                name: weight - rates[name] * gradient
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
            }
        logits = functional_call(model, weights, (episodes.query.images[episode],))
        losses.append(F.cross_entropy(logits, episodes.query.labels[episode]))
    return torch.stack(losses).mean()


def rates_of(made: MetaSGD) -> dict[str, Tensor]:
    """The rates by the names of their parameters."""
    return {name: made.rates[name.replace(".", "/")] for name in made.params}


@pytest.mark.parametrize("first_order", [False, True])
def test_the_gradient_of_weights_and_rates_is_that_of_a_plain_loop(first_order):
    made = learner(first_order=first_order)
    model = copy.deepcopy(made.model)
    rates = {name: of.detach().clone().requires_grad_() for name, of in rates_of(made).items()}

    loss, _ = made.meta_loss(EPISODES)
    expected = plain_loop(model, rates, EPISODES, first_order=first_order)

    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    mine = torch.autograd.grad(loss, [*made.params.values(), *rates_of(made).values()])
    theirs = torch.autograd.grad(expected, [*model.parameters(), *rates.values()])
    for one, other in zip(mine, theirs, strict=True):
        assert relative(one - other, flat(theirs)) <= 1e-10
    assert any(bool((of < 0).any()) for of in rates.values())


def test_the_rates_gradient_equals_central_differences_element_by_element():
    made, h = learner(), 1e-5
    rates = made.rates["head/weight"]
    (gradient,) = torch.autograd.grad(made.meta_loss(EPISODES)[0], rates)
    quotients = torch.zeros_like(gradient)
    for place in range(rates.numel()):
        ends = []
        for change in (h, -h):
            with torch.no_grad():
                rates.view(-1)[place] += change
            ends.append(made.meta_loss(EPISODES)[0].item())
            with torch.no_grad():
                rates.view(-1)[place] -= change
        quotients.view(-1)[place] = (ends[0] - ends[1]) / (2 * h)

    assert relative(gradient - quotients, gradient) <= 1e-6


def test_after_one_step_the_rates_gradient_is_the_product_of_both_gradients():
    """∂L(φ_1; query)/∂α = −∇L(θ; support) ∘ ∂L(φ_1; query)/∂φ_1."""
    made, episode = learner(steps=1), EPISODES[:1]
    loss, _ = made.meta_loss(episode)
    mine = torch.autograd.grad(loss, list(rates_of(made).values()))

    adapted = copy.deepcopy(made.model)
    of_support = loss_gradients(adapted, episode.support.images[0], episode.support.labels[0])
    with torch.no_grad():
        for weight, rates, gradient in zip(
            adapted.parameters(), rates_of(made).values(), of_support, strict=True
        ):
            weight -= rates * gradient
    of_query = loss_gradients(adapted, episode.query.images[0], episode.query.labels[0])

    for one, support, query in zip(mine, of_support, of_query, strict=True):
        assert torch.allclose(one, -support * query, rtol=0, atol=1e-12)


def loss_gradients(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))


def test_there_is_a_rate_for_every_element_and_it_starts_from_the_inner_rate():
    made = MetaSGD(network(), inner_lr=0.3)

    assert {name: of.shape for name, of in rates_of(made).items()} == {
        name: of.shape for name, of in made.params.items()
    }
    assert all(bool((of == 0.3).all()) for of in made.rates.values())
    assert {f"rates.{key}" for key in made.rates} < made.state_dict().keys()


def test_from_equal_rates_it_is_maml():
    model = SmallConv(F.softplus)
    made, other = (of(model, inner_lr=0.3, inner_steps=STEPS) for of in (MetaSGD, MAML))
    mine, theirs = (of.double().meta_loss(EPISODES)[0] for of in (made, other))

    assert mine.item() == pytest.approx(theirs.item(), rel=1e-12)
    gradients = [
        flat(torch.autograd.grad(loss, list(model.parameters()))) for loss in (mine, theirs)
    ]
    assert relative(gradients[0] - gradients[1], gradients[1]) <= 1e-12


def test_learning_may_make_rates_negative_and_a_step_then_goes_up():
    made = MetaSGD(SmallConv(F.softplus), inner_lr=0.0, inner_steps=1).double()
    optimiser = torch.optim.Adam(made.rates.parameters(), lr=0.01)
    made.meta_loss(EPISODES)[0].backward()
    optimiser.step()
    negative = {name: of < 0 for name, of in rates_of(made).items()}
    adapted = made.adapt(EPISODES.support, steps=1)

    below = flat(negative.values())
    assert bool(below.any()) and not bool(below.all())
    gradients = loss_gradients(made.model, EPISODES.support.images[0], EPISODES.support.labels[0])
    for (name, of), gradient in zip(negative.items(), gradients, strict=True):
        moved = adapted.fast_weights[name][0] - made.params[name]
        with_slope = of & (gradient != 0)
        assert bool((moved[with_slope] * gradient[with_slope] > 0).all()), name


def test_the_fused_engine_computes_what_the_reference_does():
    pytest.importorskip("numba")
    torch.manual_seed(0)
    made = MetaSGD(network(filters=16), inner_lr=0.05, inner_steps=3)
    with torch.no_grad():
        for rates in made.rates.values():
            rates.mul_(1 + torch.randn(rates.shape))

    assert engines_apart(made, random_episodes(3, size=16)) <= 1e-5


@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_chunks_and_processes_end_with_the_same_bits(engine):
    def make() -> MetaSGD:
        torch.manual_seed(0)
        made = MetaSGD(Conv4(5, filters=16, head_init="glorot"), inner_lr=0.1, inner_steps=2)
        made.engine = engine
        return varied(made)

    assert_same_bits_however_divided(make, five_episodes())


def test_what_would_lose_the_rates_is_refused():
    made = learner()

    assert made.adapting() is made
    assert made.adaptable == ("own",)
    others: tuple[dict[str, Any], ...] = ({"parts": "head"}, {"rate": 0.1})
    for asked in others:
        with pytest.raises(ConfigError, match="MetaSGD adapts in its own way alone"):
            made.adapting(**asked)
    with pytest.raises(ConfigError, match="MetaSGD meta-learns its head"):
        learner(fresh_head="head")


def test_only_its_own_outer_steps_are_known_to_be_alike():
    class Other(MetaSGD):
        pass

    assert learner().step_signature() is False
    assert Other(SmallConv(F.softplus)).step_signature() is None


def test_parts_that_take_no_steps_have_no_rates():
    made = MetaSGD(network().double(), adapts=["head"], inner_lr=0.1)

    assert set(made.rates) == {"head/weight", "head/bias"}
    assert bool(made.meta_loss(random_episodes(2, size=16))[0].isfinite())


def test_an_adapted_episode_becomes_a_module():
    made, episodes = MetaSGD(network().double(), inner_lr=0.1), random_episodes(2, size=16)
    adaptation = made.adapt(episodes.support, steps=2)
    expected = made.predict(adaptation, episodes.query.images, batch_norm="support")[0]

    assert torch.allclose(made.as_module(adaptation)(episodes.query.images[0]), expected)
    lone = made.predict(adaptation, episodes.query.images[:, :1], batch_norm="support")[0]
    assert torch.allclose(lone, expected[:1], rtol=0, atol=1e-10)


def test_one_shot_works_and_more_ways_than_it_was_trained_for_are_refused():
    made = learner()
    episodes = random_episodes(1, shots=1)

    assert bool(made.adapt(episodes.support, steps=2).support_loss.isfinite().all())
    with pytest.raises(ConfigError, match=r"5-way and the network has 3 outputs.*with ways=5\.$"):
        made.adapt(random_episodes(1, ways=5).support, steps=1)


def test_what_is_recorded_is_the_mean_of_the_rates_and_how_many_are_negative():
    made = learner()
    recorded = made.diagnostics()

    for name, rates in rates_of(made).items():
        assert recorded["mean_rates"][name] == [pytest.approx(rates.mean().item())]
        negative = int((rates < 0).sum()) / rates.numel()
        assert recorded["negative_rates"][name] == [pytest.approx(negative)]
    assert {figure.key for figure in find_card("metasgd").figures} == recorded.keys()


@pytest.mark.parametrize(("ways", "batch"), [(5, 32), (20, 16)])
@pytest.mark.parametrize("shots", [1, 5])
def test_the_papers_protocol_is_one_step_in_finn_et_als(ways, batch, shots):
    config = settings_of("metasgd", f"paper-{ways}w{shots}s")

    expected = dict(
        split="1100-100-423",
        ways=ways,
        shots=shots,
        inner_steps=1,
        meta_batch_size=batch,
        meta_steps=60_000,
        outer_lr=0.001,
        averaging=0.0,
        clip_gradient=0.0,
    )
    assert expected.items() <= config.flat().items()
    assert 0.005 <= config.own.inner_lr <= 0.1
    made = build_learner(config.replace(device="cpu"), 1)
    assert made.get_parameter("rates.head/weight").shape == (ways, 64)


def test_a_learner_has_its_runs_settings_and_says_that_rates_are_learnt():
    config = settings_of("metasgd", filters=4, inner_steps=2, inner_lr=0.3, device="cpu")
    made = build_learner(config, 5)

    assert isinstance(made, MetaSGD)
    assert (made.inner_steps, made.inner_lr, made.first_order) == (2, 0.3, False)
    assert bool(made.params["head.weight"].any())
    assert config.own.rate_in_words == "rates learnt from 0.3 on"
    assert settings_of("metasgd").own.adaptation_steps == 1


@pytest.mark.slow
def test_a_training_saves_its_rates_records_them_and_draws_them(tmp_path):
    run = tmp_path / "run"

    assert cli.main([*training_of("metasgd"), "--run-dir", str(run)]) == 0

    weights = load_file(run / "model.safetensors")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    validations = [record for record in records if record["kind"] == "validation"]
    recorded = validations[-1]["diagnostics"]["mean_rates"]
    for name, (mean,) in recorded.items():
        saved = weights[f"rates.{name.replace('.', '/')}"]
        assert float(saved.mean()) == pytest.approx(mean, abs=1e-6)
    assert recorded != validations[0]["diagnostics"]["mean_rates"]
    for figure in find_card("metasgd").figures:
        assert (run / "figures" / f"{figure.name}.svg").is_file()


@pytest.mark.slow
def test_a_killed_training_ends_as_the_uninterrupted_one(tmp_path):
    tally = campaign(tmp_path, 3, method="metasgd")

    assert tally.failures == [] and tally.kills >= 3
    assert (tally.resumed, tally.identical) == (tally.kills, tally.runs)
