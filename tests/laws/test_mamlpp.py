"""The laws of MAML++, in float64, each against an oracle of its own."""

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.experiments.experiment import build_learner
from innerloop.methods.catalogue import settings_of
from innerloop.methods.keys import key_of, name_of
from innerloop.methods.maml.learner import MAML
from innerloop.methods.mamlpp.learner import MAMLpp
from innerloop.methods.mamlpp.schedules import EPOCHS, multi_step_weights
from innerloop.networks.batch_norm import BatchNorm2d, keep_running_statistics
from laws.test_meta_gradient import SmallConv, flat, random_episodes, relative

STEPS = 3
OFF: dict[str, Any] = dict(
    multi_step_loss=False,
    derivative_order_annealing=False,
    per_step_statistics=False,
    per_step_affine=False,
    learned_rates=None,
    cosine_annealing=False,
)


def learner(activation=F.softplus, **changes) -> MAMLpp:
    """All switches on, with sets and rates that differ from step to step; second order."""
    torch.manual_seed(4)
    settings: dict[str, Any] = dict(
        inner_lr=0.3, inner_steps=STEPS, derivative_order_annealing=False, multi_step_fraction=1.0
    )
    made = MAMLpp(SmallConv(activation), **(settings | changes)).double()
    with torch.no_grad():
        for parameter in [*made.rates.values(), *made.affine.values()]:
            parameter.add_(0.2 * torch.rand(parameter.shape, dtype=torch.float64))
    return made


def set_number(index: int) -> int:
    return min(index, STEPS - 1)


def plain_weights(made: MAMLpp, weights: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    sets = {
        name: made.affine[name.replace(".", "/")][number]
        for name, _ in made.model.named_parameters()
        if name.replace(".", "/") in made.affine
    }
    return weights | sets


def plain_rate(made: MAMLpp, name: str, number: int) -> Tensor | float:
    for key in (name.replace(".", "/"), name.rpartition(".")[0].replace(".", "/")):
        if key in made.rates:
            return made.rates[key][number]
    return made.inner_lr


def plain_objective(made: MAMLpp, batch: EpisodeBatch, loss_weights: list[float]) -> Tensor:
    """MAML++'s objective as a plain loop over episodes and steps."""
    total = torch.zeros((), dtype=torch.float64)
    for support, labels, query, wanted in zip(
        batch.support.images,
        batch.support.labels,
        batch.query.images,
        batch.query.labels,
        strict=True,
    ):
        weights: dict[str, Tensor] = {
            n: w for n, w in made.model.named_parameters() if w.requires_grad
        }
        for index in range(STEPS):
            loss = F.cross_entropy(
                functional_call(made.model, plain_weights(made, weights, index), (support,)), labels
            )
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            weights = {
                name: w - plain_rate(made, name, index) * g
                for (name, w), g in zip(weights.items(), gradients, strict=True)
            }
            logits = functional_call(made.model, plain_weights(made, weights, index), (query,))
            total = total + loss_weights[index] * F.cross_entropy(logits, wanted)
    return total / len(batch)


def gradients_of(loss: Tensor, made: nn.Module) -> Tensor:
    trained = [weight for weight in made.parameters() if weight.requires_grad]
    return flat(torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True))


# The multi-step loss


def test_multi_step_weights_match_a_table_worked_out_by_hand():
    assert multi_step_weights(5, 0, 10) == pytest.approx([0.2] * 5)
    assert multi_step_weights(5, 5, 10) == pytest.approx([0.1] * 4 + [0.6])
    assert multi_step_weights(5, 9, 10) == pytest.approx([0.02] * 4 + [0.92])
    assert multi_step_weights(5, 10, 10) == [0, 0, 0, 0, 1]
    assert multi_step_weights(5, 0, 0) == [0, 0, 0, 0, 1]
    assert multi_step_weights(1, 3, 10) == pytest.approx([1.0])


def test_multi_step_weights_stop_at_the_floor():
    """Annealed over 100 epochs the early weights reach 0.03 / N, at e = 97 of N = 5."""
    assert multi_step_weights(5, 96, 100)[0] == pytest.approx(0.008)
    assert multi_step_weights(5, 98, 100) == pytest.approx([0.006] * 4 + [0.976])
    assert multi_step_weights(5, 99, 100) == pytest.approx([0.006] * 4 + [0.976])


@pytest.mark.parametrize("steps", [1, 2, 5, 8])
@pytest.mark.parametrize("epochs", [0, 1, 10, 50, 100])
def test_multi_step_weights_sum_to_one_and_only_shift_to_the_last(steps, epochs):
    table = [multi_step_weights(steps, epoch, epochs) for epoch in range(EPOCHS)]

    assert all(sum(weights) == pytest.approx(1) and min(weights) >= 0 for weights in table)
    assert all(later[-1] >= earlier[-1] - 1e-12 for earlier, later in pairwise(table))
    assert all(weights[-1] == 1 for weights in table[epochs:])


def test_schedules_are_stepped_by_the_epoch_and_are_fractions_of_the_run():
    made = MAMLpp(SmallConv(F.relu), inner_steps=5)
    seen = {}
    for step in range(1000):
        made.begin_outer_step(step, 1000)
        seen[step] = made.step_weights
    assert seen[0] == seen[9] == pytest.approx([0.2] * 5)
    assert seen[10] == pytest.approx([0.18] * 4 + [0.28])
    assert seen[99] == pytest.approx([0.02] * 4 + [0.92])
    assert seen[100] == seen[999] == [0, 0, 0, 0, 1]


def test_the_outer_rate_falls_along_a_cosine_to_its_floor():
    made = MAMLpp(SmallConv(F.relu), outer_lr_floor=0.01)

    factors = [made.begin_outer_step(step, 1000) for step in range(1000)]

    assert factors[0] == factors[9] == 1.0
    assert factors[500] == pytest.approx(0.505)
    assert factors[999] == pytest.approx(0.01, abs=0.001)
    assert all(later <= earlier for earlier, later in pairwise(factors))
    assert MAMLpp(SmallConv(F.relu), cosine_annealing=False).begin_outer_step(700, 1000) == 1.0


# The objective and its gradient


def test_with_every_switch_off_it_is_second_order_maml_bit_for_bit():
    batch = random_episodes(3)
    model = SmallConv(F.relu)
    mine = MAMLpp(copy.deepcopy(model), inner_lr=0.3, inner_steps=STEPS, **OFF)
    theirs = MAML(copy.deepcopy(model), inner_lr=0.3, inner_steps=STEPS, first_order=False)

    for step in (0, 500, 999):
        assert mine.begin_outer_step(step, 1000) == 1.0
        results = [made.meta_loss(batch) for made in (mine, theirs)]
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(gradients_of(results[0][0], mine), gradients_of(results[1][0], theirs))
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    assert mine.batch_norm_modes == theirs.batch_norm_modes


@pytest.mark.parametrize("epoch", [0, 50])
@pytest.mark.parametrize("learned_rates", ["layer", "tensor", None])
@pytest.mark.parametrize("per_step_affine", [True, False])
def test_the_objective_and_its_gradient_are_those_of_a_plain_loop(
    epoch, learned_rates, per_step_affine
):
    """Support pass at φ_i and query pass at φ_{i+1} share set i, and the loss is multiplied by its
    weight."""
    made, batch = (
        learner(learned_rates=learned_rates, per_step_affine=per_step_affine),
        random_episodes(3),
    )
    made.begin_outer_step(epoch, EPOCHS)

    loss, _ = made.meta_loss(batch)
    expected = plain_objective(made, batch, multi_step_weights(STEPS, epoch, EPOCHS))

    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    mine, theirs = gradients_of(loss, made), gradients_of(expected, made)
    assert relative(mine - theirs, theirs) < 1e-10


@pytest.mark.parametrize("multi_step_loss", [True, False])
def test_the_meta_gradient_equals_central_differences_in_weights_rates_and_sets(multi_step_loss):
    made, batch, h = learner(multi_step_loss=multi_step_loss), random_episodes(2), 1e-5
    trained = [weight for weight in made.parameters() if weight.requires_grad]
    gradient = gradients_of(made.meta_loss(batch)[0], made)
    generator = torch.Generator().manual_seed(1)

    for _ in range(20):
        directions = [
            torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            for weight in trained
        ]
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                for weight, direction in zip(trained, directions, strict=True):
                    weight.add_(sign * h * direction)
            ends.append(made.meta_loss(batch)[0].item())
            with torch.no_grad():
                for weight, direction in zip(trained, directions, strict=True):
                    weight.sub_(sign * h * direction)
        quotient = (ends[0] - ends[1]) / (2 * h)
        direction = flat(directions)
        assert (
            abs(quotient - (gradient @ direction).item()) / (gradient.norm() * direction.norm())
            < 1e-6
        )


def test_second_order_begins_at_exactly_the_stated_step():
    batch, model = random_episodes(2), SmallConv(F.softplus)
    switches: dict[str, Any] = OFF | dict(derivative_order_annealing=True, first_order_fraction=0.3)
    made = MAMLpp(copy.deepcopy(model), inner_lr=0.3, inner_steps=STEPS, **switches)
    orders = {
        first_order: MAML(
            copy.deepcopy(model), inner_lr=0.3, inner_steps=STEPS, first_order=first_order
        )
        for first_order in (True, False)
    }
    expected = {
        order: gradients_of(other.meta_loss(batch)[0], other) for order, other in orders.items()
    }

    for step, first_order in ((0, True), (299, True), (300, False), (999, False)):
        made.begin_outer_step(step, 1000)
        assert torch.equal(gradients_of(made.meta_loss(batch)[0], made), expected[first_order]), (
            step
        )
    assert not torch.equal(expected[True], expected[False])


def test_a_batch_of_episodes_equals_one_at_a_time():
    batch = random_episodes(4)
    together, alone = learner(), learner()

    loss, _ = together.meta_loss(batch)
    losses = [alone.meta_loss(batch[index : index + 1])[0] for index in range(4)]

    mean = torch.stack(losses).mean()
    assert loss.item() == pytest.approx(mean.item(), rel=1e-12)
    whole, parts = gradients_of(loss, together), gradients_of(mean, alone)
    assert relative(whole - parts, whole) < 1e-10
    together.end_outer_step()
    alone.end_outer_step()
    for name, value in together.state_dict().items():
        assert torch.allclose(value, alone.state_dict()[name], rtol=1e-12), name


# Running statistics


def statistics_of_passes(
    made: MAMLpp, batch: EpisodeBatch
) -> dict[int, list[tuple[Tensor, Tensor]]]:
    """Mean and unbiased variance at the first batch norm's input, for every training pass, by set;
    a plain loop."""
    seen: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def look(images: Tensor, weights: dict[str, Tensor], number: int) -> Tensor:
        x = functional_call(made.model.conv1, {"weight": weights["conv1.weight"]}, (images,))  # type: ignore[arg-type]
        seen.setdefault(number, []).append(
            (x.mean((0, 2, 3)).detach(), x.var((0, 2, 3), correction=1).detach())
        )
        return functional_call(made.model, plain_weights(made, weights, number), (images,))

    for support, labels, query in zip(
        batch.support.images, batch.support.labels, batch.query.images, strict=True
    ):
        weights: dict[str, Tensor] = {
            n: w for n, w in made.model.named_parameters() if w.requires_grad
        }
        for index in range(STEPS):
            loss = F.cross_entropy(look(support, weights, index), labels)
            gradients = torch.autograd.grad(loss, list(weights.values()))
            weights = {
                name: w - plain_rate(made, name, index) * g
                for (name, w), g in zip(weights.items(), gradients, strict=True)
            }
            look(query, weights, index)
    return seen


def test_running_statistics_take_one_update_an_outer_step_with_the_mean_over_its_passes():
    made, batch = learner(), random_episodes(3)
    expected = statistics_of_passes(made, batch)
    made.begin_outer_step(0, EPOCHS)

    made.meta_loss(batch)
    assert torch.equal(
        made.get_buffer("running_mean/norm1"), torch.zeros(STEPS, 4, dtype=torch.float64)
    )
    made.end_outer_step()

    for index in range(STEPS):
        means, variances = (
            torch.stack(values).mean(0) for values in zip(*expected[index], strict=True)
        )
        assert len(expected[index]) == 2 * len(batch)
        assert torch.allclose(made.get_buffer("running_mean/norm1")[index], 0.1 * means, rtol=1e-9)
        assert torch.allclose(
            made.get_buffer("running_var/norm1")[index], 0.9 + 0.1 * variances, rtol=1e-9
        )


def test_only_training_moves_statistics_and_evaluation_leaves_every_tensor_bit_equal():
    made, batch = learner(), random_episodes(2)
    made.meta_loss(batch)
    made.end_outer_step()
    before = {name: value.clone() for name, value in made.state_dict().items()}

    with torch.no_grad():
        made.outer_loop(batch)
        made.meta_loss(batch)
    for mode in made.batch_norm_modes:
        made.predict(made.adapt(batch.support, steps=4), batch.query.images, batch_norm=mode)
    made.end_outer_step()

    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_the_outer_loop_gathers_what_the_meta_loss_does():
    batch = random_episodes(2)
    states = []
    for objective in ("meta_loss", "outer_loop"):
        made = learner()
        getattr(made, objective)(batch)
        made.end_outer_step()
        states.append(made.state_dict())

    assert states[0]["running_mean/norm1"].any()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("switch", ["per_step_statistics", "per_step_affine"])
def test_sets_of_a_batch_norm_of_pytorchs_own_are_refused(switch):
    class TheirNorm(SmallConv):
        def __init__(self):
            super().__init__(F.softplus)
            self.norm1 = nn.BatchNorm2d(4, track_running_stats=False).double()

    off: dict[str, Any] = dict(per_step_statistics=False, per_step_affine=False)
    asked: dict[str, Any] = off | {switch: True}

    with pytest.raises(ConfigError, match="layer 'norm1' of PyTorch's own has not: use innerloop"):
        MAMLpp(TheirNorm(), **asked)
    assert MAMLpp(TheirNorm(), **off).batch_norm_modes == ("transductive",)


@pytest.mark.parametrize("modes", [("running",), ("running", "support"), ("transductive",)])
def test_without_sets_of_statistics_batch_norm_is_mamls(modes):
    def network() -> SmallConv:
        torch.manual_seed(4)
        made = SmallConv(F.softplus).double()
        keep_running_statistics(made)
        return made

    plain = MAML(network(), inner_steps=2, batch_norm_modes=modes)
    made = MAMLpp(network(), inner_steps=2, batch_norm_modes=modes, **OFF)
    batch = random_episodes(2)

    assert made.batch_norm_modes == modes
    assert torch.equal(made.meta_loss(batch)[0], plain.meta_loss(batch)[0])
    logits = [
        of.predict(of.adapt(batch.support, steps=2), batch.query.images) for of in (made, plain)
    ]
    assert torch.equal(*logits)


def test_sets_of_statistics_are_one_mode_wherever_it_stands():
    made = learner(batch_norm_modes=("running", "support"))
    batch = random_episodes(2)

    assert made.batch_norm_modes == ("running", "support")
    first, second = (of.meta_loss(batch)[0] for of in (made, learner()))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    "switch",
    [
        *("multi_step_loss", "derivative_order_annealing", "cosine_annealing"),
        *("per_step_statistics", "per_step_affine"),
    ],
)
@pytest.mark.parametrize("value", ["off", 0.5, None])
def test_a_switch_is_on_or_off(switch, value):
    with pytest.raises(ConfigError, match=f"{switch} must be true or false"):
        MAMLpp(SmallConv(F.softplus), **{switch: value})


def test_running_statistics_are_used_where_the_mode_says_so_and_make_an_image_independent():
    made, batch = learner(), random_episodes(2)
    for _ in range(20):
        made.meta_loss(batch)
        made.end_outer_step()
    adaptation = made.adapt(batch.support, steps=STEPS)
    running, transductive = (
        made.predict(adaptation, batch.query.images, batch_norm=mode)
        for mode in ("running", "transductive")
    )

    assert not torch.allclose(running, transductive)
    alone = made.predict(adaptation, batch.query.images[:, :1], batch_norm="running")
    assert torch.allclose(alone, running[:, :1], atol=1e-12)
    with torch.no_grad():
        made.get_buffer("running_var/norm1").mul_(2)
    assert torch.equal(
        made.predict(adaptation, batch.query.images, batch_norm="transductive"), transductive
    )
    assert not torch.allclose(
        made.predict(adaptation, batch.query.images, batch_norm="running"), running
    )


@pytest.mark.parametrize("steps", [0, 1, STEPS])
def test_predictions_after_k_steps_take_the_set_of_the_last_step(steps):
    made, batch = learner(), random_episodes(1)
    adaptation = made.adapt(batch.support, steps=steps)
    weights = {name: value[0] for name, value in adaptation.fast_weights.items()}

    expected = functional_call(
        made.model, plain_weights(made, weights, max(steps - 1, 0)), (batch.query.images[0],)
    )

    assert torch.allclose(made.predict(adaptation, batch.query.images)[0], expected, atol=1e-12)


def test_more_steps_at_test_take_the_last_set_and_rates_again():
    made, batch = learner(), random_episodes(1)
    weights: dict[str, Tensor] = {n: w for n, w in made.model.named_parameters() if w.requires_grad}
    for index in range(STEPS + 4):
        number = set_number(index)
        outputs = functional_call(
            made.model, plain_weights(made, weights, number), (batch.support.images[0],)
        )
        loss = F.cross_entropy(outputs, batch.support.labels[0])
        gradients = torch.autograd.grad(loss, list(weights.values()))
        weights = {
            name: w - plain_rate(made, name, number) * g
            for (name, w), g in zip(weights.items(), gradients, strict=True)
        }

    adapted = made.adapt(batch.support, steps=STEPS + 4).fast_weights

    assert all(
        torch.allclose(adapted[name][0], weight, atol=1e-10) for name, weight in weights.items()
    )


# What is trained and saved


@pytest.mark.parametrize(("learned_rates", "count"), [("layer", 3), ("tensor", 4)])
def test_learned_rates_and_sets_are_trained_and_saved(learned_rates, count):
    made = learner(learned_rates=learned_rates)

    trained = {name for name, weight in made.named_parameters() if weight.requires_grad}
    assert len(made.rates) == count  # conv1, conv2, head (weight and bias)
    assert {f"rates.{key}" for key in made.rates} < trained
    assert {f"affine.{key}" for key in made.affine} < trained
    assert trained < made.state_dict().keys()
    assert made.affine["norm1/weight"].shape == (STEPS, 4)
    assert not any("norm" in name for name in made.params)  # not adapted in the inner loop
    loss, _ = made.meta_loss(random_episodes(2))
    loss.backward()
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0
        for parameter in made.rates.values()
    )


def test_without_sets_batch_norms_scale_and_shift_are_adapted():
    made = learner(per_step_affine=False)

    assert {"norm1.weight", "norm2.bias"} < made.params.keys()
    assert "norm1" in made.rates


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(multi_step_fraction=1.5), "multi_step_fraction must be between 0.0 and 1.0: got 1.5"),
        (dict(first_order_fraction=-0.1), "first_order_fraction must be between 0.0 and 1.0"),
        (dict(outer_lr_floor=float("nan")), "outer_lr_floor must be between 0.0 and 1.0"),
        (dict(inner_steps=0), "for each inner step: got 0"),
        (dict(learned_rates="weight"), "learned_rates must be layer, tensor or None"),
    ],
)
def test_wrong_settings_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        MAMLpp(SmallConv(F.relu), **settings)


def test_one_inner_step_in_one_outer_step_is_enough():
    made = MAMLpp(SmallConv(F.relu), inner_steps=1)

    assert made.begin_outer_step(0, 1) == 1.0
    assert made.step_weights == [1.0]


def test_before_adaptation_the_first_set_serves():
    made = learner()
    episodes = random_episodes(6)
    _, logged = made.outer_loop(episodes)
    start = plain_weights(made, dict(made.model.named_parameters()), 0)

    for episode, images in enumerate(episodes.query.images):
        logits = functional_call(made.model, start, (images,))
        correct = (logits.argmax(1) == episodes.query.labels[episode]).double().mean()
        assert logged["query_accuracy_before"][episode].item() == pytest.approx(correct.item())


def test_a_parameter_of_the_network_itself_has_a_rate_of_its_own():
    switches: dict[str, Any] = OFF | {"learned_rates": "layer"}
    made = MAMLpp(nn.Linear(3, 2), **switches)

    assert set(made.rates) == {"weight", "bias"}


def test_image_passes_count_the_extra_query_passes_of_the_multi_step_loss():
    config = settings_of("mamlpp")

    assert config.own.image_passes(config, 50) == 50 * 4 * (125 + 5 * 75)
    assert config.own.image_passes(config, 1000) == 1000 * 4 * 200 + 100 * 4 * 4 * 75
    without = config.replace(multi_step_loss=False)
    assert without.own.image_passes(without, 50) == 40_000
    maml = settings_of("maml")
    assert maml.own.image_passes(maml, 50) == 40_000


@pytest.mark.parametrize(
    ("preset", "learned_rates", "paper_s"),
    [("paper", "layer", True), ("authors-code", "tensor", False)],
)
def test_presets_have_the_papers_outer_rate_and_what_the_authors_code_has(
    preset, learned_rates, paper_s
):
    settings = settings_of("mamlpp", preset).flat()

    expected = {
        "outer_lr": 0.001,
        "outer_lr_floor": 0.01,
        "clip_gradient": 0.0,
        "feature_scale": 1.0,
        "learned_rates": learned_rates,
        "derivative_order_annealing": paper_s,
        "per_step_statistics": paper_s,
    }
    assert {name: settings[name] for name in expected} == expected


def test_a_learner_has_its_runs_settings():
    config = settings_of(
        "mamlpp", filters=4, inner_steps=2, inner_lr=0.3, fresh_head=False, device="cpu"
    )
    usual = build_learner(config, 5)
    other = build_learner(
        config.replace(learned_rates="off", per_step_affine=False, fresh_head=True), 5
    )

    assert isinstance(usual, MAMLpp) and isinstance(other, MAMLpp)
    assert (usual.inner_steps, usual.inner_lr, usual.outer_lr_floor) == (2, 0.3, 0.5)
    assert usual.meta_learned_head and not other.meta_learned_head
    assert len(usual.rates) > 0 and len(usual.affine) > 0
    assert len(other.rates) == len(other.affine) == 0


class RunsANormTwice(nn.Module):
    """One batch norm for two places, so that it sees two kinds of inputs in a pass."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.norm = BatchNorm2d(1)
        self.head = nn.Linear(1, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.conv(self.norm(self.conv(images))))
        return self.head(x.mean(dim=(2, 3)))


def test_statistics_of_a_layer_that_runs_twice_are_refused():
    made = MAMLpp(RunsANormTwice().double(), inner_lr=0.1, inner_steps=2)

    with pytest.raises(ConfigError, match="'norm' runs more than once in a forward pass"):
        made.meta_loss(random_episodes(2))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("blocks.0.norm", "blocks/0/norm"),
        ("a/b", "a~1b"),
        ("a~b.c", "a~0b/c"),
        ("a~1b", "a~01b"),
        ("keys", "~2keys"),
        ("~2keys", "~02keys"),
    ],
)
def test_a_layer_has_one_key_and_the_key_tells_the_layer(name, key):
    """The keys are in files of weights, so they stay as they are."""
    assert key_of(name) == key
    assert name_of(key) == name
