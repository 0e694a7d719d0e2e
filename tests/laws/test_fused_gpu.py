"""The laws of the GPU engine, on any device: what the reference computes, it computes too.

The same code runs on a CPU, where PyTorch's operations take the place of the kernels in Triton;
where there is a CUDA device, the laws are about that.
"""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.fast_weights import engine
from innerloop.fast_weights.fused_gpu import buffers, operation
from innerloop.fast_weights.fused_gpu.architecture import why_not
from innerloop.fast_weights.fused_gpu.network import GpuNetwork
from innerloop.fast_weights.fused_gpu.products import product
from innerloop.fast_weights.network import Network
from innerloop.fast_weights.objectives import Losses, Objective
from innerloop.fast_weights.precision import Precision
from innerloop.methods.base import Learner
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
from laws.test_meta_gradient import random_episodes

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DOUBLE = torch.float64
VARIANTS: dict[str, dict[str, Any]] = {
    "strided": {},
    "max-pool": {"downsample": "max-pool"},
    "flattened, without norm": {"features": "flatten", "feature_norm": False},
    "flattened, normed": {"features": "flatten", "image_size": 28},
    "max-pool, flattened": {"features": "flatten", "image_size": 33, "downsample": "max-pool"},
    "without the last ReLU": {"last_relu": False, "feature_norm": False},
    "max-pool, without the last ReLU": {"last_relu": False, "downsample": "max-pool"},
    "colour": {"channels": 3},
    "colour, max-pool, an odd side": {"channels": 3, "downsample": "max-pool", "image_size": 19},
    "an odd side": {"image_size": 21},
    "an odd number of filters": {"filters": 7},
    "one filter": {"filters": 1},
    "scaled features": {"feature_scale": 0.3},
    "a bias": {"conv_bias": True},
}


def conv4(ways: int = 3, dtype: torch.dtype = DOUBLE, **settings: Any) -> Conv4:
    torch.manual_seed(1)
    chosen: dict[str, Any] = {"image_size": 16, "filters": 6, "head_init": "glorot"}
    model = Conv4(ways, **chosen | settings)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith("norms"):
                weight.add_(0.3 * torch.randn(weight.shape))
    return model.to(DEVICE, dtype)


def batch_for(
    settings: dict[str, Any], episodes: int = 2, n: int = 9, dtype: torch.dtype = DOUBLE
) -> LabelledImages:
    draw = torch.Generator().manual_seed(2)
    side = settings.get("image_size", 16)
    images = torch.rand(episodes, n, settings.get("channels", 1), side, side, generator=draw)
    labels = torch.arange(n).remainder(3).repeat(episodes, 1)
    return LabelledImages(images.to(DEVICE, dtype), labels.to(DEVICE))


def different_weights(model: nn.Module, episodes: int = 2) -> dict[str, Tensor]:
    """Weights of its own for each episode, laid out as usual."""
    draw = torch.Generator().manual_seed(3)

    def changed(weight: Tensor) -> Tensor:
        factor = 1 + 0.1 * torch.rand(episodes, *weight.shape, generator=draw)
        return (weight.detach() * factor.to(weight)).requires_grad_()

    return {name: changed(weight) for name, weight in model.named_parameters()}


def in_double(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: of.detach().double().requires_grad_() for name, of in weights.items()}


def far(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference over the norm."""
    return float((found.detach().double() - expected.detach()).norm() / expected.detach().norm())


def joined(tensors: Any) -> Tensor:
    return torch.cat([of.detach().reshape(-1) for of in tensors])


def first_and_second(
    network: Network, weights: dict[str, Tensor], batch: LabelledImages, **how: Any
) -> tuple[Losses, Tensor, Tensor]:
    """Losses, the gradient, and the Hessian's product with a fixed direction."""
    statistics = how.pop("statistics", None)
    losses = network.losses(weights, batch, Objective(F.cross_entropy, **how), statistics)
    upstream = torch.arange(1.0, 1.0 + len(losses.values)).to(losses.values)
    total = (losses.values * upstream).sum()
    gradients = torch.autograd.grad(total, list(weights.values()), create_graph=True)
    draw = torch.Generator().manual_seed(4)
    along = [torch.randn(of.shape, generator=draw).to(of) for of in gradients]
    product = torch.stack([(a * b).sum() for a, b in zip(gradients, along, strict=True)]).sum()
    second = torch.autograd.grad(product, list(weights.values()))
    return losses, joined(gradients), joined(second)


def reference(model: nn.Module, method: str = "forward") -> Network:
    return Network(copy.deepcopy(model).double(), method)


def single(batch: LabelledImages) -> LabelledImages:
    return LabelledImages(batch.images.float(), batch.labels)


# The network


@pytest.mark.parametrize("episodes", [1, 3])
@pytest.mark.parametrize("name", VARIANTS)
def test_losses_gradients_and_hessians_are_those_of_the_reference(name, episodes):
    model, batch = conv4(**VARIANTS[name]), batch_for(VARIANTS[name], episodes)
    assert why_not(model) is None
    weights = different_weights(model, episodes)
    found = first_and_second(GpuNetwork(model), weights, batch, twice=True)
    exact = first_and_second(reference(model), weights, batch)

    assert far(found[0].values, exact[0].values) <= 1e-10
    assert far(found[0].outputs, exact[0].outputs) <= 1e-10
    assert far(found[1], exact[1]) <= 1e-10
    assert far(found[2], exact[2]) <= 1e-10


@pytest.mark.parametrize("name", ["strided", "max-pool", "a bias", "flattened, normed"])
def test_in_single_precision_they_are_near(name):
    model = conv4(**VARIANTS[name], dtype=torch.float32)
    batch, weights = batch_for(VARIANTS[name]), different_weights(model)
    found = first_and_second(GpuNetwork(model), weights, single(batch), twice=True)
    exact = first_and_second(
        reference(model),
        in_double(weights),
        LabelledImages(single(batch).images.double(), batch.labels),
    )

    assert far(found[0].values, exact[0].values) <= 1e-6
    assert far(found[1], exact[1]) <= 1e-5 and far(found[2], exact[2]) <= 1e-5


def test_images_need_not_be_square():
    model, batch = conv4(), batch_for({})
    batch = LabelledImages(torch.rand(2, 9, 1, 17, 26).to(batch.images), batch.labels)
    found = first_and_second(GpuNetwork(model), different_weights(model), batch, twice=True)
    exact = first_and_second(reference(model), different_weights(model), batch)

    assert far(found[1], exact[1]) <= 1e-10 and far(found[2], exact[2]) <= 1e-10


def with_statistics(**settings: Any) -> Conv4:
    model = conv4(**settings)
    keep_running_statistics(model)
    draw = torch.Generator().manual_seed(5)
    for layer in batch_norm_layers(model).values():
        running = layer.running()
        running.mean.copy_(torch.rand(layer.channels, generator=draw) - 0.5)
        running.variance.copy_(torch.rand(layer.channels, generator=draw) + 0.5)
    return model


@pytest.mark.parametrize("downsample", ["stride", "max-pool"])
@pytest.mark.parametrize("kind", ["given", "in part", "stored"])
def test_statistics_that_are_given_are_constants(downsample, kind):
    model, batch = with_statistics(downsample=downsample), batch_for({})
    # Of the second episode others than of the first.
    given: Any = {
        name: Moments(*(torch.stack([value, 1.5 * value]) for value in layer.running()))
        for name, layer in batch_norm_layers(model).items()
    }
    if kind == "in part":
        del given["norms.1"], given["feature_norm"]
    statistics = "stored" if kind == "stored" else given
    weights = different_weights(model)
    found = first_and_second(GpuNetwork(model), weights, batch, twice=True, statistics=statistics)
    exact = first_and_second(reference(model), weights, batch, statistics=statistics)

    assert far(found[0].values, exact[0].values) <= 1e-10
    assert far(found[1], exact[1]) <= 1e-10 and far(found[2], exact[2]) <= 1e-10


def test_a_second_derivative_that_was_not_announced_is_the_same():
    model, batch = conv4(), batch_for({})
    weights = different_weights(model)
    announced = first_and_second(GpuNetwork(model), weights, batch, twice=True)
    unannounced = first_and_second(GpuNetwork(model), weights, batch, twice=False)

    assert torch.equal(announced[2], unannounced[2])


def test_a_loss_whose_own_gradient_depends_on_the_weights_is_differentiated_whole():
    """The derivative of the square of a loss has a part that comes through the upstream factor."""
    model, batch = conv4(), batch_for({})
    weights = different_weights(model)

    def second(network: Network) -> Tensor:
        losses = network.losses(weights, batch, Objective(F.cross_entropy, twice=True)).values
        gradients = torch.autograd.grad(
            losses.square().sum(), list(weights.values()), create_graph=True
        )
        total = torch.stack([of.square().sum() for of in gradients]).sum()
        return joined(torch.autograd.grad(total, list(weights.values())))

    assert far(second(GpuNetwork(model)), second(reference(model))) <= 1e-10


def test_a_gradient_can_be_taken_twice_and_of_some_weights_alone():
    model, batch = conv4(), batch_for({})
    weights = different_weights(model)
    losses = GpuNetwork(model).losses(weights, batch, Objective(F.cross_entropy)).values
    whole = torch.autograd.grad(losses.sum(), list(weights.values()), retain_graph=True)
    some = torch.autograd.grad(losses.sum(), [weights["convs.2.weight"], weights["head.bias"]])

    names = list(weights)
    assert torch.equal(some[0], whole[names.index("convs.2.weight")])
    assert torch.equal(some[1], whole[names.index("head.bias")])


@pytest.mark.parametrize("name", ["strided", "max-pool, flattened"])
def test_outputs_moments_and_features_are_those_of_the_reference(name):
    model, batch = conv4(**VARIANTS[name]), batch_for(VARIANTS[name])
    weights = {name: of.detach() for name, of in different_weights(model).items()}
    network = GpuNetwork(model)
    outputs, seen = network.call_and_measure(weights, batch.images, unbiased_moments)
    expected, moments = reference(model).call_and_measure(weights, batch.images, unbiased_moments)
    features = GpuNetwork(model, "embed").call(weights, batch.images)
    embedded = reference(model, "embed").call(weights, batch.images)
    by_support = network.call_by_support(weights, batch.images, batch.images[:, :1])

    assert far(outputs, expected) <= 1e-10 and far(features, embedded) <= 1e-10
    assert far(network.call(weights, batch.images), expected) <= 1e-10
    assert far(by_support, expected[:, :1]) <= 1e-10
    assert seen.keys() == moments.keys()
    for layer, of in moments.items():
        assert far(seen[layer].mean, of.mean) <= 1e-10
        assert far(seen[layer].variance, of.variance) <= 1e-10


def test_running_statistics_move_as_the_references():
    ours, theirs = with_statistics(), with_statistics()
    batch = batch_for({}, episodes=1)
    objective = Objective(F.cross_entropy)
    found = GpuNetwork(ours).losses({}, batch, objective, "update").values
    expected = Network(theirs).losses({}, batch, objective, "update").values

    assert far(found, expected) <= 1e-10
    for name, value in theirs.state_dict().items():
        assert torch.allclose(ours.state_dict()[name], value, rtol=1e-12, atol=1e-14), name
    before = with_statistics().state_dict()["norms.0.running_mean"]
    assert not torch.equal(ours.state_dict()["norms.0.running_mean"], before)


def test_images_that_changed_in_place_are_not_taken_for_the_former_ones():
    model, batch = conv4(), batch_for({})
    network = GpuNetwork(model)
    weights = {name: of.detach() for name, of in different_weights(model).items()}
    network.call(weights, batch.images)
    batch.images[0, 0] += 0.5

    expected = GpuNetwork(model).call(weights, batch.images)
    assert torch.equal(network.call(weights, batch.images), expected)


def test_an_episode_is_the_same_alone_as_among_others():
    model, batch = conv4(), batch_for({}, episodes=3)
    weights = {name: of.detach() for name, of in different_weights(model, 3).items()}
    together = GpuNetwork(model).call(weights, batch.images)
    alone = {name: of[1:2] for name, of in weights.items()}

    assert far(GpuNetwork(model).call(alone, batch.images[1:2]), together[1:2]) <= 1e-12


def test_nan_in_the_weights_comes_through():
    model, batch = conv4(downsample="max-pool"), batch_for({})
    weights = {name: of.detach() for name, of in different_weights(model).items()}
    weights["convs.2.weight"][0, 0, 0, 0, 0] = torch.nan
    losses = GpuNetwork(model).losses(weights, batch, Objective(F.cross_entropy)).values

    assert losses[0].isnan() and losses[1].isfinite()


@pytest.mark.skipif(DEVICE != "cpu", reason="On a GPU such a label ends the process.")
@pytest.mark.parametrize("label", [3, -1])
def test_a_label_beyond_the_head_is_an_error(label):
    model, batch = conv4(), batch_for({}, episodes=1)
    batch.labels[0, 3] = label

    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        GpuNetwork(model).losses(different_weights(model, 1), batch, Objective(F.cross_entropy))


def test_calls_that_are_not_written_out_are_the_references():
    model, batch = conv4(), batch_for({})
    weights = different_weights(model)
    ours, theirs = GpuNetwork(model), Network(model)

    # Outputs with a graph.
    outputs = ours.call(weights, batch.images)
    assert outputs.requires_grad and torch.equal(outputs, theirs.call(weights, batch.images))
    # Another loss.
    objective = Objective(lambda logits, labels: F.cross_entropy(logits, labels).square())
    values = ours.losses(weights, batch, objective).values
    assert torch.equal(values, theirs.losses(weights, batch, objective).values)
    # Statistics that have a gradient.
    _, seen = theirs.call_and_measure(weights, batch.images)
    given = ours.losses(weights, batch, Objective(F.cross_entropy), seen).values
    by_theirs = theirs.losses(weights, batch, Objective(F.cross_entropy), seen).values
    assert far(joined(gradients(given, weights)), joined(gradients(by_theirs, weights))) <= 1e-10
    # Images that have one.
    batch.images.requires_grad_()
    losses = ours.losses(weights, batch, Objective(F.cross_entropy)).values
    assert torch.autograd.grad(losses.sum(), batch.images)[0].any()


def gradients(losses: Tensor, weights: dict[str, Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(losses.sum(), list(weights.values()), retain_graph=True)


def test_functional_transformations_see_a_network_that_they_know():
    model, batch = conv4(), batch_for({}, episodes=1)

    def loss(weights: dict[str, Tensor]) -> Tensor:
        by_episode = {name: of[None] for name, of in weights.items()}
        return GpuNetwork(model).losses(by_episode, batch, Objective(F.cross_entropy)).values[0]

    weights = {name: of.detach() for name, of in model.named_parameters()}
    found = torch.func.grad(loss)(weights)
    leaves = {name: of.clone().requires_grad_() for name, of in weights.items()}
    assert far(joined(found.values()), joined(gradients(loss(leaves)[None], leaves))) <= 1e-10


def test_which_engine_a_device_has():
    usual, other = Conv4(3, filters=7), nn.Linear(2, 2)

    assert engine.why_reference(usual, "auto", "cuda") is None
    assert engine.why_reference(usual, "fused", "cuda:1") is None
    assert engine.why_reference(usual, "reference", "cuda") == "it was asked for"
    assert engine.why_reference(usual, "auto", "mps") == "it is computed on mps"
    because = "the network is a Linear and not a Conv4"
    assert engine.why_reference(other, "auto", "cuda") == because
    half = Conv4(3).bfloat16()
    assert engine.why_reference(half, "auto", "cuda") == "its weights are torch.bfloat16"


# Learners


def on_device(episodes: EpisodeBatch) -> EpisodeBatch:
    return episodes.to(DEVICE)


def meta_gradient(learner: Learner, batch: Any) -> Tensor:
    learner.zero_grad()
    loss, _ = learner.meta_loss(batch)
    loss.backward()
    return joined([loss[None], *(of.grad for of in learner.parameters() if of.grad is not None)])


STEPS: dict[str, Any] = {"inner_lr": 0.1, "inner_steps": 3}
LEARNERS: dict[str, Any] = {
    "FO-MAML": lambda model: MAML(model, first_order=True, **STEPS),
    "FO-MAML, fresh head": lambda model: MAML(model, first_order=True, fresh_head="head", **STEPS),
    "MAML": lambda model: MAML(model, **STEPS),
    "MAML, fresh head": lambda model: MAML(model, fresh_head="head", **STEPS),
    "FO-MAML, query batches": lambda model: MAML(
        model, first_order=True, fresh_head="head", query_batches=2, **STEPS
    ),
    "MAML, glorot head": lambda model: MAML(
        model, fresh_head="head", fresh_head_init="glorot", **STEPS
    ),
    "the head alone": lambda model: MAML(model, adapts=["head"], **STEPS),
    "the body alone": lambda model: MAML(model, adapts=["convs", "norms"], **STEPS),
    "the last block and a new head": lambda model: MAML(
        model, adapts=["convs.3", "head"], fresh_head="head", **STEPS
    ),
    "MAML++": lambda model: MAMLpp(model, fresh_head="head", **STEPS),
    "MAML++, shared affine": lambda model: MAMLpp(
        model, per_step_affine=False, learned_rates="tensor", **STEPS
    ),
    "MAML++, plain rates": lambda model: MAMLpp(model, learned_rates=None, **STEPS),
}
EARLY, LATE = (0, 100), (40, 100)
"""MAML++ begins by first order and with the losses after every step; neither holds later."""
CASES = [(name, LATE) for name in LEARNERS]
CASES += [(name, EARLY) for name in LEARNERS if name.startswith("MAML++")]


@pytest.mark.parametrize("downsample", ["stride", "max-pool"])
@pytest.mark.parametrize(("name", "when"), CASES)
def test_a_meta_gradient_is_that_of_the_reference(name, when, downsample, by_gpu_network):
    episodes = on_device(random_episodes(2, shots=2, queries=4, size=16))
    found = []
    for kind in ("auto", "reference"):
        learner = LEARNERS[name](conv4(downsample=downsample)).double().to(DEVICE)
        learner.engine = kind
        learner.begin_outer_step(*when)
        gradient = meta_gradient(learner, episodes)
        learner.end_outer_step()
        found.append(joined([gradient, *learner.buffers()]))

    assert far(*found) <= 1e-10


def test_a_meta_gradient_equals_central_differences(by_gpu_network):
    learner = MAML(conv4(filters=2, last_relu=False), inner_lr=0.1, inner_steps=2)
    episodes = on_device(random_episodes(1, shots=3, size=16))
    exact = meta_gradient(learner, episodes)[1:]
    theta = nn.utils.parameters_to_vector(learner.params.values()).detach()
    draw = torch.Generator().manual_seed(3)
    for _ in range(5):
        direction = torch.randn(len(theta), generator=draw).to(theta)
        direction /= direction.norm()
        ends = []
        for sign in (1, -1):
            moved = theta + sign * 1e-6 * direction
            nn.utils.vector_to_parameters(moved, learner.params.values())
            ends.append(learner.meta_loss(episodes)[0].detach())
        slope = (ends[0] - ends[1]) / 2e-6
        assert abs(slope - exact @ direction) <= 1e-6 * exact.norm()


@pytest.mark.parametrize("first_order", [True, False])
def test_a_head_that_starts_from_zero_takes_its_first_step_alone(
    first_order, by_gpu_network, monkeypatch
):
    learner = MAML(conv4(), fresh_head="head", first_order=first_order, **STEPS)
    episodes = on_device(random_episodes(2, size=16))
    shorter = meta_gradient(learner, episodes)
    original, taken = GpuNetwork.losses, []

    def all_move(self: Any, weights: Any, batch: Any, objective: Objective, *given: Any):
        taken.append(objective.zero_head)
        return original(self, weights, batch, objective._replace(zero_head=None), *given)

    monkeypatch.setattr(GpuNetwork, "losses", all_move)

    assert far(meta_gradient(learner, episodes), shorter) <= 1e-10
    assert taken == ["head", None, None, None]


def test_a_head_that_starts_from_zero_spares_a_pass_back_through_the_body(
    by_gpu_network, monkeypatch
):
    taken: list[bool] = []

    class Counted(operation.Backward):
        def __init__(self, *given: Any, body: bool):
            taken.append(body)
            super().__init__(*given, body=body)

    monkeypatch.setattr(operation, "Backward", Counted)
    learner = MAML(conv4(), fresh_head="head", first_order=True, **STEPS)
    meta_gradient(learner, on_device(random_episodes(2, size=16)))

    assert taken == [False, True, True, True]


def test_pretraining_and_predictions_are_those_of_the_reference(by_gpu_network):
    episodes = on_device(random_episodes(2, size=16))
    images = LabelledImages(episodes.query.images[0], episodes.query.labels[0])
    found = []
    for kind in ("auto", "reference"):
        learner = Transfer(conv4(5)).double().to(DEVICE)
        learner.engine = kind
        gradient = meta_gradient(learner, images)
        adapted = learner.adapt(episodes.support, steps=3)
        logits = [
            learner.predict(adapted, episodes.query.images, batch_norm=mode)
            for mode in learner.batch_norm_modes
        ]
        found.append(joined([gradient, *logits]))

    assert far(*found) <= 1e-10


def test_an_adaptation_and_its_predictions_are_those_of_the_reference(by_gpu_network):
    episodes = on_device(random_episodes(2, size=16))
    found = []
    for kind in ("auto", "reference"):
        learner = MAMLpp(conv4(), fresh_head="head", **STEPS).double().to(DEVICE)
        learner.engine = kind
        adapted = learner.adapt(episodes.support, steps=5)
        logits = [
            learner.predict(adapted, episodes.query.images, batch_norm=mode)
            for mode in learner.batch_norm_modes
        ]
        found.append(joined([*logits, adapted.support_loss]))

    assert far(*found) <= 1e-10


# Buffers


def test_a_step_of_weights_in_one_buffer_is_one_operation(by_gpu_network, monkeypatch):
    """Of the body's, and of a head's that is learnt with it: otherwise there would be one each."""
    taken: list[int] = []
    original = buffers.shared_steps

    def counted(weights: Any, *given: Any) -> Any:
        stepped = original(weights, *given)
        taken.append(len(weights) - len(stepped))
        return stepped

    monkeypatch.setattr("innerloop.fast_weights.functional.shared_steps", counted)
    episodes = on_device(random_episodes(2, size=16))
    for first_order in (True, False):
        meta_gradient(MAML(conv4(), first_order=first_order, **STEPS), episodes)

    assert taken == [0] * 6


def test_weights_that_lie_elsewhere_take_their_own_step():
    theta = {"a": torch.rand(2, 3), "b": torch.rand(2, 3)}
    buffer = torch.rand(2, 6)
    whole = dict(zip("ab", buffer.split(3, dim=1), strict=True))

    def stepped(weights: dict[str, Tensor], gradients: dict[str, Tensor]) -> set[str]:
        return set(buffers.shared_steps(weights, gradients, 0.1))

    assert stepped(whole, whole) == {"a", "b"}
    assert stepped(theta, whole) == stepped(whole, theta) == set()
    assert stepped({"a": whole["a"]}, whole) == set(), "the buffer's rest would move, too"
    crossed = {"a": whole["b"], "b": whole["a"]}
    assert stepped(whole, crossed) == set()
    after = buffers.shared_steps(whole, whole, 0.1)
    assert torch.allclose(after["b"], 0.9 * whole["b"])


def test_parameters_are_laid_out_with_the_same_numbers_and_gradients():
    model = conv4()
    params = dict(model.named_parameters())
    placed = GpuNetwork(model).laid_out(params)
    torch.stack([of.square().sum() for of in placed.values()]).sum().backward()

    assert list(placed) == list(params)
    for name, weight in params.items():
        assert torch.equal(placed[name], weight)
        assert weight.grad is not None and torch.equal(weight.grad, 2 * weight), name


# Precision


ROUNDED = 2.0**-8
"""What rounding to bfloat16 changes at most, of a number of size one."""


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_a_product_is_as_exact_as_its_precision(precision):
    draw = torch.Generator().manual_seed(0)
    left = torch.randn(3, 20, 50, generator=draw).to(DEVICE)
    right = torch.randn(3, 50, 10, generator=draw).to(DEVICE)
    found = product(left, right, precision)
    exact, whole = left.double() @ right.double(), left.double().abs() @ right.double().abs()
    unit = {"float32": 0, "tf32": 2.0**-11, "bfloat16": ROUNDED}[precision]

    assert found.dtype == torch.float32
    # Both factors are rounded, and a sum of 50 is of float32.
    assert ((found - exact).abs() <= (2 * unit + unit**2 + 50 * 2.0**-24) * whole).all()
    if precision == "bfloat16":
        assert ((found - exact).abs() > 1e-5 * whole).any(), "it is rounded at all"


def test_gradients_of_bfloat16_are_near_those_of_single_precision():
    model = conv4(filters=16, dtype=torch.float32)
    batch, weights = single(batch_for({}, n=15)), different_weights(model)
    found: dict[Precision, tuple[Tensor, Tensor]] = {}
    for precision in ("float32", "bfloat16"):
        network = GpuNetwork(model, precision=precision)
        losses, *both = first_and_second(network, weights, batch, twice=True)
        assert losses.values.dtype == torch.float32
        found[precision] = joined([losses.values]), both[0]

    assert far(found["bfloat16"][0], found["float32"][0].double()) <= 10 * ROUNDED
    assert 1e-5 < far(found["bfloat16"][1], found["float32"][1].double()) <= 0.2
    cosine = F.cosine_similarity(found["bfloat16"][1], found["float32"][1], dim=0)
    assert cosine >= 0.98


def test_switches_of_the_process_are_as_they_were():
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    product(torch.rand(1, 2, 2), torch.rand(1, 2, 2), "tf32")

    assert matmul.fp32_precision == before
