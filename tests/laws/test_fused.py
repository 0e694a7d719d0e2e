"""The laws of the fused engine: what the reference computes, in float64, it computes too."""

import copy
import sys
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.images import LabelledImages
from innerloop.fast_weights import engine
from innerloop.fast_weights.engine import network_of, why_reference
from innerloop.fast_weights.fused_cpu import threads
from innerloop.fast_weights.fused_cpu.architecture import Architecture, Plan, plan_of
from innerloop.fast_weights.fused_cpu.buffers import Kept
from innerloop.fast_weights.fused_cpu.compiling import HOST
from innerloop.fast_weights.fused_cpu.network import FusedNetwork
from innerloop.fast_weights.network import Network
from innerloop.fast_weights.objectives import Losses, Objective
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.maml.learner import MAML
from innerloop.methods.mamlpp.learner import MAMLpp
from innerloop.methods.transfer.learner import Transfer
from innerloop.networks.batch_norm import (
    Moments,
    batch_norm_layers,
    keep_running_statistics,
    unbiased_moments,
)
from innerloop.networks.conv4 import Conv4
from laws.agreement import engines_apart, far, in_single, joined, meta_gradient
from laws.test_meta_gradient import random_episodes

FILTERS = HOST.width
VARIANTS: dict[str, dict[str, Any]] = {
    "strided": {},
    "max-pool": {"downsample": "max-pool"},
    "max-pool by Winograd": {"downsample": "max-pool", "image_size": 28},
    "flattened": {"features": "flatten", "feature_norm": False},
    "flattened, normed": {
        "features": "flatten",
        "image_size": 28,
        "last_relu": False,
    },
    "without the last ReLU": {"last_relu": False, "feature_norm": False},
    "max-pool, without the last ReLU": {"last_relu": False, "downsample": "max-pool"},
    "colour": {"channels": 3},
    "colour, max-pool, an odd side": {"channels": 3, "downsample": "max-pool", "image_size": 29},
    "an odd side": {"image_size": 21},
    "many filters": {"filters": 3 * HOST.width},
    "scaled features": {"feature_scale": 0.3},
}


def conv4(ways: int = 3, **settings: Any) -> Conv4:
    torch.manual_seed(1)
    chosen: dict[str, Any] = {"image_size": 16, "filters": FILTERS, "head_init": "glorot"}
    model = Conv4(ways, **chosen | settings)
    with torch.no_grad():
        for layer in batch_norm_layers(model).values():
            if layer.weight is not None and layer.bias is not None:
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(std=0.3)
    return model


def batch_of(channels: int = 1, side: int = 16, episodes: int = 2, n: int = 12) -> LabelledImages:
    draw = torch.Generator().manual_seed(2)
    images = torch.rand(episodes, n, channels, side, side, generator=draw)
    return LabelledImages(images, torch.arange(n).remainder(3).repeat(episodes, 1))


def batch_for(settings: dict[str, Any]) -> LabelledImages:
    return batch_of(settings.get("channels", 1), settings.get("image_size", 16))


def different_weights(model: nn.Module, episodes: int = 2) -> dict[str, Tensor]:
    """Weights of its own for each episode."""
    draw = torch.Generator().manual_seed(3)
    return {
        name: torch.stack(
            [
                of.detach() * (1 + 0.1 * torch.rand(of.shape, generator=draw))
                for _ in range(episodes)
            ]
        ).requires_grad_()
        for name, of in model.named_parameters()
    }


def doubled(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: of.detach().double().requires_grad_() for name, of in weights.items()}


def first_and_second(
    network: Network, weights: dict[str, Tensor], batch: LabelledImages, **how: Any
) -> tuple[Losses, Tensor, Tensor]:
    """Losses, the gradient, and the Hessian's product with a fixed direction."""
    statistics = how.pop("statistics", None)
    losses = network.losses(weights, batch, Objective(F.cross_entropy, **how), statistics)
    total = (losses.values * torch.tensor([1.0, 2.0], dtype=losses.values.dtype)).sum()
    gradients = torch.autograd.grad(total, list(weights.values()), create_graph=True)
    draw = torch.Generator().manual_seed(4)
    along = [torch.randn(of.shape, generator=draw).to(of) for of in gradients]
    product = torch.stack([(a * b).sum() for a, b in zip(gradients, along, strict=True)]).sum()
    second = torch.autograd.grad(product, list(weights.values()))
    return losses, joined(gradients), joined(second)


@pytest.mark.parametrize("name", VARIANTS)
def test_losses_gradients_and_hessians_are_those_of_the_reference(name):
    settings = VARIANTS[name]
    model, batch = conv4(**settings), batch_for(settings)
    assert why_reference(model, "auto") is None
    weights = different_weights(model)
    found = first_and_second(FusedNetwork(model), weights, batch, twice=True)
    exact = first_and_second(
        Network(copy.deepcopy(model).double()),
        doubled(weights),
        LabelledImages(batch.images.double(), batch.labels),
    )

    assert far(found[0].values, exact[0].values) <= 1e-6
    assert far(found[0].outputs, exact[0].outputs) <= 1e-5
    assert far(found[1], exact[1]) <= 1e-5
    assert far(found[2], exact[2]) <= 1e-5


@pytest.mark.parametrize("downsample", ["stride", "max-pool"])
@pytest.mark.parametrize("kind", ["given", "stored"])
def test_statistics_that_are_given_are_constants(downsample, kind):
    model = conv4(downsample=downsample)
    keep_running_statistics(model)
    draw = torch.Generator().manual_seed(5)
    for layer in batch_norm_layers(model).values():
        running = layer.running()
        running.mean.copy_(torch.rand(layer.channels, generator=draw) - 0.5)
        running.variance.copy_(torch.rand(layer.channels, generator=draw) + 0.5)
    twin = copy.deepcopy(model).double()

    def given(of: Conv4) -> Any:
        if kind == "stored":
            return "stored"
        return {
            # Of the second episode others than of the first.
            name: Moments(*(torch.stack([value, 1.5 * value]) for value in layer.running()))
            for name, layer in batch_norm_layers(of).items()
        }

    batch, weights = batch_of(), different_weights(model)
    found = first_and_second(
        FusedNetwork(model), weights, batch, twice=True, statistics=given(model)
    )
    exact = first_and_second(
        Network(twin),
        doubled(weights),
        LabelledImages(batch.images.double(), batch.labels),
        statistics=given(twin),
    )

    assert far(found[0].values, exact[0].values) <= 1e-6
    assert far(found[1], exact[1]) <= 1e-5 and far(found[2], exact[2]) <= 1e-5


def test_a_second_derivative_that_was_not_announced_is_the_same():
    model, batch = conv4(), batch_of()
    weights = different_weights(model)
    announced = first_and_second(FusedNetwork(model), weights, batch, twice=True)
    unannounced = first_and_second(FusedNetwork(model), weights, batch, twice=False)

    assert torch.equal(announced[2], unannounced[2])


def test_a_gradient_can_be_taken_twice_and_of_some_weights_alone():
    model, batch = conv4(), batch_of()
    weights = different_weights(model)
    losses = FusedNetwork(model).losses(weights, batch, Objective(F.cross_entropy)).values
    whole = torch.autograd.grad(losses.sum(), list(weights.values()), retain_graph=True)
    some = torch.autograd.grad(losses.sum(), [weights["convs.2.weight"], weights["head.bias"]])

    names = list(weights)
    assert torch.equal(some[0], whole[names.index("convs.2.weight")])
    assert torch.equal(some[1], whole[names.index("head.bias")])


def test_outputs_moments_and_features_are_those_of_the_reference():
    model, batch = conv4(), batch_of()
    weights = {name: of.detach() for name, of in different_weights(model).items()}
    exact = Network(copy.deepcopy(model).double())
    inputs = {name: of.double() for name, of in weights.items()}, batch.images.double()
    outputs, seen = FusedNetwork(model).call_and_measure(weights, batch.images, unbiased_moments)
    expected, moments = exact.call_and_measure(*inputs, unbiased_moments)
    features = FusedNetwork(model, "embed").call(weights, batch.images)
    embedded = Network(copy.deepcopy(model).double(), "embed").call(*inputs)

    assert far(outputs, expected) <= 1e-5 and far(features, embedded) <= 1e-5
    assert seen.keys() == moments.keys()
    for name, of in moments.items():
        assert (seen[name].mean - of.mean).abs().max() <= 1e-6
        assert far(seen[name].variance, of.variance) <= 1e-5
    by_support = FusedNetwork(model).call_by_support(weights, batch.images, batch.images[:, :1])
    assert far(by_support, expected[:, :1]) <= 1e-5


def test_weights_that_changed_in_place_are_not_taken_for_the_former_ones():
    model, batch = conv4(), batch_of()
    network = FusedNetwork(model)
    weights = {name: of.detach() for name, of in different_weights(model).items()}
    network.call(weights, batch.images)
    weights["convs.1.weight"][0, 0] += 0.5
    batch.images[0, 0] += 0.5

    expected = FusedNetwork(model).call(weights, batch.images)
    assert torch.equal(network.call(weights, batch.images), expected)


def test_what_counts_no_changes_is_computed_each_time():
    model = conv4()
    with torch.inference_mode():
        batch = batch_of()
        weights = {name: of.clone() for name, of in different_weights(model).items()}
        network = FusedNetwork(model)
        network.call(weights, batch.images)
        weights["convs.1.weight"][0, 0] += 0.5
        batch.images[0, 0] += 0.5

        expected = FusedNetwork(model).call(weights, batch.images)
        assert torch.equal(network.call(weights, batch.images), expected)


# Learners


SLOWLY: dict[str, Any] = {"inner_lr": 0.05, "inner_steps": 3}
"""Steps that do not amplify rounding, which would hide other differences."""
LEARNERS: dict[str, Any] = {
    "FO-MAML": lambda model: MAML(model, first_order=True, **SLOWLY),
    "MAML": lambda model: MAML(model, **SLOWLY),
    "MAML, fresh head": lambda model: MAML(model, fresh_head="head", **SLOWLY),
    "FO-MAML, query batches": lambda model: MAML(
        model, first_order=True, fresh_head="head", query_batches=2, **SLOWLY
    ),
    "the head alone": lambda model: MAML(model, adapts=["head"], **SLOWLY),
    "the body alone": lambda model: MAML(model, adapts=["convs", "norms"], **SLOWLY),
    "the last block and a new head": lambda model: MAML(
        model, adapts=["convs.3", "head"], fresh_head="head", **SLOWLY
    ),
    "MAML++": lambda model: MAMLpp(model, fresh_head="head", **SLOWLY),
    "MAML++, shared affine": lambda model: MAMLpp(
        model, per_step_affine=False, learned_rates="tensor", **SLOWLY
    ),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_a_meta_gradient_is_that_of_the_reference_in_float64(name):
    learner = LEARNERS[name](conv4())
    # Of second order; MAML++ begins with its first.
    learner.begin_outer_step(40, 100)
    episodes = random_episodes(3, shots=4, queries=6, size=16)

    assert engines_apart(learner, episodes) <= 2e-5


@pytest.mark.parametrize("name", ["FO-MAML", "MAML", "MAML, fresh head", "MAML++"])
def test_bits_do_not_depend_on_the_number_of_threads(name, monkeypatch):
    learner, batch = LEARNERS[name](conv4()), in_single(random_episodes(5, size=16))
    learner.engine = "fused"
    gradients = []
    for number in (1, 2, 3):
        monkeypatch.setattr(engine, "_threads", number)
        gradients.append(meta_gradient(learner, batch))

    assert torch.equal(gradients[0], gradients[1]) and torch.equal(gradients[0], gradients[2])


def test_an_episode_is_the_same_alone_as_among_others():
    learner, batch = MAML(conv4(), fresh_head="head"), in_single(random_episodes(3, size=16))
    learner.engine = "fused"
    together = learner.adapt(batch.support, steps=3)
    alone = learner.adapt(batch[1:2].support, steps=3)

    for name, weight in alone.fast_weights.items():
        assert torch.equal(together.fast_weights[name][1:2], weight)
    images = batch.query.images
    for mode in learner.batch_norm_modes:
        predicted = learner.predict(together, images, batch_norm=mode)
        assert torch.equal(predicted[1:2], learner.predict(alone, images[1:2], batch_norm=mode))


@pytest.mark.parametrize("kind", ["reference", "fused"])
@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("method", [MAML, MAMLpp])
def test_a_head_that_starts_from_zero_takes_its_first_step_alone(
    kind, first_order, method, monkeypatch
):
    """As without the shortcut, in which everything takes a step, most of it of length zero."""
    learner = method(conv4(), fresh_head="head", inner_lr=0.2)
    learner.begin_outer_step(40, 100)
    learner.first_order = first_order
    learner.engine = kind
    batch = in_single(random_episodes(2, size=16))
    shorter = meta_gradient(learner, batch)
    losses = learner.adapt(batch.support, steps=3).support_loss
    taken = []

    def all_move(self: Any, weights: Any, labelled: Any, objective: Objective, *given: Any):
        taken.append(objective.zero_head)
        of_class = FusedNetwork if kind == "fused" else Network
        return originals[of_class](
            self, weights, labelled, objective._replace(zero_head=None), *given
        )

    originals = {of: of.losses for of in (FusedNetwork, Network)}
    monkeypatch.setattr(FusedNetwork if kind == "fused" else Network, "losses", all_move)
    longer = meta_gradient(learner, batch)

    assert far(shorter, longer.double()) <= 1e-6
    assert torch.allclose(losses, learner.adapt(batch.support, steps=3).support_loss, rtol=1e-6)
    assert taken.count("head") == 2 and taken[0] == "head"


class AroundTheHead(Conv4):
    """Something of the network goes past its head."""

    def forward(self, images: Tensor) -> Tensor:
        features = self.embed(images)
        return self.head(features) + features.mean(1, keepdim=True)


def test_where_something_goes_past_the_head_everything_takes_the_first_step():
    torch.manual_seed(1)
    model = AroundTheHead(3, image_size=16, filters=FILTERS, feature_norm=False)
    learner = MAML(model, fresh_head="head", loss_fn=lambda logits, labels: logits.square().mean())
    support = in_single(random_episodes(2, size=16)).support
    adapted = learner.adapt(support, steps=1).fast_weights

    assert not torch.equal(adapted["convs.3.weight"][0], model.get_parameter("convs.3.weight"))


def test_frozen_features_and_pretraining_are_those_of_the_reference():
    model, batch = conv4(5), in_single(random_episodes(2, size=16))
    learners = [Transfer(copy.deepcopy(model)) for _ in range(2)]
    images = LabelledImages(batch.query.images[0], batch.query.labels[0])
    for learner, kind in zip(learners, ("fused", "reference"), strict=True):
        learner.engine = kind
        losses = [learner.meta_loss(images)[0] for _ in range(3)]
        losses[-1].backward()
    fused, reference = learners

    for name, value in reference.state_dict().items():
        assert torch.allclose(fused.state_dict()[name], value, rtol=1e-5, atol=1e-7), name
    gradients = [
        joined([of.grad for of in learner.parameters() if of.grad is not None])
        for learner in learners
    ]
    assert far(gradients[0], gradients[1].double()) <= 1e-5
    frozen = [FrozenFeatures(learner.model) for learner in learners]
    frozen[1].engine = "reference"
    predicted = [of.predict(of.adapt(batch.support, steps=5), batch.query.images) for of in frozen]
    assert far(predicted[0], predicted[1].double()) <= 1e-4


# What is not covered


def hooked() -> nn.Module:
    model = conv4()
    model.convs[1].register_forward_hook(lambda *given: None)
    return model


def with_changed(name: str, module: nn.Module) -> nn.Module:
    model = conv4()
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
    return model


class AnotherForward(Conv4):
    pass


@pytest.mark.parametrize(
    ("model", "because"),
    [
        (lambda: nn.Linear(3, 2), "the network is a Linear and not a Conv4"),
        (lambda: AnotherForward(3, image_size=16), "the network is a AnotherForward and not"),
        (hooked, "a module of the network has hooks"),
        (lambda: conv4(conv_bias=True), "its convolutions have a bias"),
        (lambda: conv4(halvings=2), "its last blocks do not halve the image"),
        (lambda: conv4(halvings=2, downsample="max-pool"), "its last blocks do not halve"),
        (lambda: conv4(filters=HOST.width + 1), f"are no multiple of {HOST.width}"),
        (lambda: conv4(filters=1), "its 1 filters are no multiple"),
        (lambda: conv4().double(), "its weights are torch.float64"),
        (lambda: conv4().to("meta"), "it is on meta"),
        (lambda: with_changed("head", nn.Linear(FILTERS, 3, bias=False)), "its head is not"),
        (lambda: with_changed("norms.1", nn.BatchNorm2d(FILTERS)), "its batch norms are not"),
        (
            lambda: with_changed("convs.1", nn.Conv2d(FILTERS, FILTERS, 3, padding=1)),
            "its convolutions are not those of a Conv4",
        ),
        (
            lambda: with_changed(
                "convs.1", nn.utils.parametrizations.weight_norm(conv4().convs[1])
            ),
            "its convolutions are not those of a Conv4",
        ),
    ],
)
def test_what_is_not_covered_is_said(model, because):
    assert because in (why_reference(model(), "auto") or "")
    with pytest.raises(ConfigError, match="The fused engine does not apply, because"):
        network_of(model(), "fused")


def test_maps_are_the_reference_s():
    because = "its kernels give logits and features, and no maps"

    assert why_reference(conv4(), "auto", method="maps") == because
    assert type(network_of(conv4(), "auto", "maps")) is Network
    with pytest.raises(ConfigError, match=f"does not apply, because {because}"):
        network_of(conv4(), "fused", "maps")


def test_without_numba_the_reference_computes(monkeypatch):
    monkeypatch.setitem(sys.modules, "innerloop.fast_weights.fused_cpu.architecture", None)

    assert "numba cannot be used" in (why_reference(conv4(), "auto") or "")
    assert type(network_of(conv4(), "auto")) is Network


def test_calls_that_kernels_do_not_know_are_the_references():
    model, batch = conv4(), batch_of()
    weights = different_weights(model)
    fused, reference = FusedNetwork(model), Network(model)

    # Outputs with a graph.
    outputs = fused.call(weights, batch.images)
    assert outputs.requires_grad and torch.equal(outputs, reference.call(weights, batch.images))
    # Another loss.
    objective = Objective(lambda logits, labels: F.cross_entropy(logits, labels).square())
    values = fused.losses(weights, batch, objective).values
    assert torch.equal(values, reference.losses(weights, batch, objective).values)
    # Images that have a gradient.
    batch.images.requires_grad_()
    losses = fused.losses(weights, batch, Objective(F.cross_entropy)).values
    assert torch.autograd.grad(losses.sum(), batch.images)[0].any()


def test_functional_transformations_see_a_network_that_they_know():
    model, batch = conv4(), batch_of(episodes=1)

    def loss(weights: dict[str, Tensor]) -> Tensor:
        by_episode = {name: of[None] for name, of in weights.items()}
        return FusedNetwork(model).losses(by_episode, batch, Objective(F.cross_entropy)).values[0]

    weights = {name: of.detach() for name, of in model.named_parameters()}
    found = torch.func.grad(loss)(weights)
    leaves = {name: of.clone().requires_grad_() for name, of in weights.items()}
    expected = torch.autograd.grad(loss(leaves), list(leaves.values()))
    assert far(joined(found.values()), joined(expected).double()) <= 1e-5


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_beyond_the_head_never_reaches_a_kernel(label):
    model, batch = conv4(), batch_of(episodes=1)
    batch.labels[0, 3] = label

    with pytest.raises(ConfigError, match=r"loss_fn fails on .* out of bounds"):
        FusedNetwork(model).losses(different_weights(model, 1), batch, Objective(F.cross_entropy))


def test_nan_in_the_weights_comes_through():
    model, batch = conv4(), batch_of()
    weights = {name: of.detach() for name, of in different_weights(model).items()}
    weights["convs.2.weight"][0, 0, 0, 0, 0] = torch.nan
    losses = FusedNetwork(model).losses(weights, batch, Objective(F.cross_entropy)).values

    assert losses[0].isnan() and losses[1].isfinite()


@pytest.mark.parametrize("number", [1, 2, 3, 8])
def test_every_episode_is_computed_once_by_several_threads_of_which_the_caller_is_one(
    number, monkeypatch
):
    monkeypatch.setattr(engine, "_threads", number)
    together = threading.Barrier(number)
    of_each = {}

    def compute(episode: int) -> int:
        of_each.setdefault(episode, []).append(threading.get_ident())
        if episode < number:
            together.wait(timeout=20)  # until so many are at work
        return 10 * episode

    assert threads.each(compute, 8) == [10 * episode for episode in range(8)]
    assert sorted(of_each) == list(range(8)) and all(len(of) == 1 for of in of_each.values())
    assert len({identity for (identity,) in of_each.values()}) == number
    assert threading.get_ident() in {identity for (identity,) in of_each.values()}


@pytest.mark.parametrize("failing", [0, 5])
def test_what_an_episode_raises_on_any_thread_is_raised(failing, monkeypatch):
    monkeypatch.setattr(engine, "_threads", 2)

    def compute(episode: int) -> int:
        if episode == failing:
            raise ConfigError("so")
        return episode

    with pytest.raises(ConfigError, match="so"):
        threads.each(compute, 6)
    assert threads.each(abs, 3) == [0, 1, 2], "and the next work is done"


def test_work_within_work_comes_to_an_end(monkeypatch):
    monkeypatch.setattr(engine, "_threads", 2)

    assert threads.each(lambda one: threads.each(abs, one), 4) == [[], [0], [0, 1], [0, 1, 2]]


def test_predictions_of_an_adaptation_take_the_kernels_without_being_told_that_nothing_is_learnt(
    monkeypatch,
):
    """Outside of `torch.no_grad` too: an adaptation has no graph, and its weights ask for none."""
    learner, batch = MAML(conv4(), fresh_head="head"), in_single(random_episodes(2, size=16))
    learner.engine = "fused"
    monkeypatch.setattr(Network, "call", lambda *_: pytest.fail("the reference computed"))

    for adaptation in learner.trajectory(batch.support, steps=2):
        assert not any(weight.requires_grad for weight in adaptation.fast_weights.values())
        learner.predict(adaptation, batch.query.images)


def test_buffers_for_which_there_is_no_memory_leave_nothing_behind():
    plan = plan_of(Architecture.of(Conv4(5, filters=HOST.width)), 3, 28)

    def too_large(plan: Plan) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        # What its end would raise is an error of the test.
        Kept(plan, too_large)

    assert plan.free[too_large] == []
