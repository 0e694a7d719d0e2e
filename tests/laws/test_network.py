"""The laws of a network as a function: statistics are values, and the model is never touched."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._C._functorch import is_batchedtensor  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from innerloop.core.errors import ConfigError
from innerloop.fast_weights.functional import FastWeights
from innerloop.fast_weights.network import Network, refuse_wrong_outputs
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.maml.learner import MAML
from innerloop.networks.base import last_of_blocks
from innerloop.networks.batch_norm import BatchNorm2d, Moments, keep_running_statistics
from innerloop.networks.conv4 import Conv4
from laws.test_meta_gradient import SmallConv, flat, random_episodes, relative, three_different

EPISODES = random_episodes(3, size=16)


def conv4() -> Conv4:
    torch.manual_seed(2)
    return Conv4(3, image_size=16, filters=4, head_init="glorot").double()


def both(model: nn.Module) -> tuple[Network, Network]:
    """The same network as a loop over the episodes, and as one vectorised pass."""
    return Network(model, vectorised=False), Network(model, vectorised=True)


def plain_by_support(model: nn.Module, weights: FastWeights, episode: int) -> Tensor:
    """Logits by the formulas: moments of the support set, layer by layer, then the query set."""
    norms = {name: layer for name, layer in model.named_modules() if isinstance(layer, BatchNorm2d)}
    of_one = {name: weight[episode] for name, weight in weights.items()}

    def layer(name: str, x: Tensor, statistics: dict[str, list[Tensor]], record: bool) -> Tensor:
        if record:
            statistics[name] = [x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)]
        mean, variance = (value[:, None, None] for value in statistics[name])
        y = (x - mean) / (variance + norms[name].eps).sqrt()
        if name == "feature_norm":
            return y
        return y * of_one[f"{name}.weight"][:, None, None] + of_one[f"{name}.bias"][:, None, None]

    def network(images: Tensor, statistics: dict[str, list[Tensor]], record: bool) -> Tensor:
        x = images
        for block in range(4):
            x = F.conv2d(x, of_one[f"convs.{block}.weight"], stride=2, padding=1)
            x = F.relu(layer(f"norms.{block}", x, statistics, record))
        x = layer("feature_norm", x.mean((2, 3), keepdim=True), statistics, record).flatten(1)
        return F.linear(x, of_one["head.weight"], of_one["head.bias"])

    statistics: dict[str, list[Tensor]] = {}
    network(EPISODES.support.images[episode], statistics, True)
    return network(EPISODES.query.images[episode], statistics, False)


def test_support_statistics_are_those_of_a_plain_network_looped_and_vectorised():
    model = conv4()
    weights = three_different(model)
    expected = torch.stack([plain_by_support(model, weights, episode) for episode in range(3)])

    for network in both(model):
        logits = network.call_by_support(weights, EPISODES.support.images, EPISODES.query.images)
        assert relative(logits - expected, expected) <= 1e-10


def test_what_was_seen_is_the_same_looped_and_vectorised():
    model = conv4()
    weights = three_different(model)

    (looped, seen), (vectorised, seen_at_once) = (
        network.call_and_measure(weights, EPISODES.support.images) for network in both(model)
    )

    assert relative(looped - vectorised, looped) <= 1e-12
    assert list(seen) == list(seen_at_once) == [*(f"norms.{n}" for n in range(4)), "feature_norm"]
    for name in seen:
        assert seen[name].mean.shape == (3, 4)
        assert relative(seen[name].mean - seen_at_once[name].mean, seen[name].mean) <= 1e-10
        assert relative(seen[name][1] - seen_at_once[name][1], seen[name][1]) <= 1e-10


def test_given_and_stored_statistics_are_the_same_looped_and_vectorised():
    model = conv4()
    keep_running_statistics(model)
    for layer in model.norms:
        layer.running_var.mul_(0.3)  # type: ignore[union-attr, operator]
    weights, images = three_different(model), EPISODES.query.images
    given = {
        name: Moments(torch.rand(3, 4).double(), 0.5 + torch.rand(3, 4).double())
        for name in ("norms.0", "norms.2")
    }

    for statistics in (given, "stored"):
        looped, vectorised = (
            network.call(weights, images, statistics)  # type: ignore[arg-type]
            for network in both(model)
        )
        by_batch = Network(model).call(weights, images)
        assert relative(looped - vectorised, looped) <= 1e-12
        assert relative(looped - by_batch, by_batch) > 1e-3


def test_gradients_through_support_statistics_are_the_same_looped_and_vectorised():
    model = SmallConv(F.softplus)
    weights = three_different(model)
    gradients = [
        torch.autograd.grad(
            network.call_by_support(weights, EPISODES.support.images, EPISODES.query.images)
            .square()
            .sum(),
            list(weights.values()),
        )
        for network in both(model)
    ]

    looped, vectorised = (flat(of) for of in gradients)
    assert relative(looped - vectorised, looped) <= 1e-10


def test_block_outputs_are_the_same_looped_and_vectorised():
    model = conv4()
    weights, blocks = three_different(model), last_of_blocks(model)

    (logits, looped), (_, vectorised) = (
        network.call_blocks(weights, EPISODES.query.images, blocks) for network in both(model)
    )

    assert torch.equal(logits, Network(model).call(weights, EPISODES.query.images))
    assert list(looped) == [*(f"block {number}" for number in range(1, 5)), "features"]
    for name, value in looped.items():
        assert relative(value - vectorised[name], value) <= 1e-12


class Norms(nn.Module):
    """Batch norm in places where a search by attribute does not look, and called by keyword."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict({"first": nn.Sequential(BatchNorm2d(1)), "conv": conv()})
        self.in_a_list = [self.layers["conv"]]
        self.last = BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.in_a_list[0](self.layers["first"](images))
        return self.last(x=x).mean(dim=(2, 3)) + self.last(x=2 * x).mean(dim=(2, 3))


def conv() -> nn.Conv2d:
    return nn.Conv2d(1, 3, 3)


def test_layers_are_found_anywhere_and_weights_reach_layers_in_plain_lists():
    model = Norms().double()
    weights = three_different(model)
    support, query = EPISODES.support.images, EPISODES.query.images

    _, seen = Network(model).call_and_measure(weights, support)
    one_by_one = Network(model).call_by_support(weights, support, query[:, :1])
    together = Network(model).call_by_support(weights, support, query)

    assert list(seen) == ["layers.first.0", "last"]
    assert torch.allclose(one_by_one, together[:, :1], rtol=0, atol=1e-12)
    other = dict(weights) | {"layers.conv.weight": 2 * weights["layers.conv.weight"] + 1}
    assert not torch.allclose(Network(model).call_by_support(other, support, query), together)


def state_of(model: nn.Module) -> list[tuple[Any, ...]]:
    """Everything of a model that a call could touch: tensors by identity, hooks, attributes."""
    return [
        (
            name,
            {key: id(value) for key, value in module._parameters.items()},
            {key: id(value) for key, value in module._buffers.items()},
            {key: id(value) for key, value in module._modules.items()},
            [len(value) for key, value in vars(module).items() if key.endswith("_hooks")],
            sorted(vars(module)),
        )
        for name, module in model.named_modules()
    ]


WATCHERS: list[Callable[[], None]] = []


class Watched(Conv4):
    """Looks, within its forward pass, at the model that a user holds."""

    def embed(self, images: Tensor) -> Tensor:
        for watch in WATCHERS:
            watch()
        return super().embed(images)


@pytest.mark.parametrize("kind", [MAML, FrozenFeatures])
def test_the_model_is_the_same_object_by_object_during_a_call_and_after(kind):
    model, during = Watched(3, image_size=16, filters=4).double(), []
    learner = kind(model, batch_norm_modes=("transductive", "support"))
    before = state_of(model)
    values = {name: value.clone() for name, value in model.state_dict().items()}
    WATCHERS.append(lambda: during.append(state_of(model)))
    try:
        if kind is MAML:
            learner.outer_loop(EPISODES)
        adaptation = learner.adapt(EPISODES.support, steps=2)
        learner.predict(adaptation, EPISODES.query.images, batch_norm="support")
        learner.block_outputs(adaptation, EPISODES.query.images)
    finally:
        WATCHERS.clear()

    assert during and all(state == before for state in [*during, state_of(model)])
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())


class Locked(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.linear.guard = threading.Lock()  # type: ignore[assignment]


class Derived(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.doubled = 2 * self.linear.weight


AT_ONCE: list[bool] = []


class Told(nn.Module):
    """Says of every call, in `AT_ONCE`, whether it is one of several at once."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        AT_ONCE.append(is_batchedtensor(images))
        return images.flatten(1) * self.scale


@pytest.mark.parametrize(
    ("vectorised", "device", "episodes", "calls"),
    [
        (None, "cpu", 1, [False]),
        (None, "cpu", 3, [False, False, False]),
        (None, "meta", 1, [False]),
        (None, "meta", 2, [True]),
        (True, "cpu", 3, [True]),
        (True, "cpu", 1, [True]),
        (False, "meta", 3, [False, False, False]),
    ],
)
def test_episodes_run_at_once_where_it_is_asked_for_or_the_device_is_no_cpu(
    vectorised, device, episodes, calls
):
    model = Told().to(device)
    images = torch.zeros(episodes, 2, 1, 3, 3, device=device)
    AT_ONCE.clear()

    outputs = Network(model, vectorised=vectorised).call({}, images)

    assert outputs.shape == (episodes, 2, 9)
    assert AT_ONCE == calls


def test_another_method_can_take_the_place_of_forward():
    model = conv4()
    images = EPISODES.query.images
    expected = torch.stack([model.embed(of_one) for of_one in images])

    assert expected.shape[-1] != 3
    assert torch.allclose(Network(model, "embed").call({}, images), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("outputs", "sentence"),
    [
        (lambda images: (images,), "output is of type tuple: let forward return one tensor"),
        (lambda images: {"a": images}, "output is of type dict: let forward return one tensor"),
        (
            lambda images: images[:1],
            r"of shape \(4, 1, 3, 3\) has shape \(1, 1, 3, 3\): let forward",
        ),
        (lambda images: images.sum(), r"of shape \(4, 1, 3, 3\) has shape \(\): let forward"),
    ],
)
def test_what_is_no_row_for_each_image_is_refused(outputs, sentence):
    with pytest.raises(ConfigError, match=sentence):
        refuse_wrong_outputs(outputs(torch.zeros(4, 1, 3, 3)), torch.zeros(4, 1, 3, 3))


def test_statistics_that_a_layer_does_not_know_are_refused():
    """An unknown word would be the batch's own statistics, and would move the running ones."""
    layer = BatchNorm2d(1)
    keep_running_statistics(layer)

    with pytest.raises(ConfigError, match="by None, Moments, 'stored', 'update': got 'running'"):
        layer(torch.rand(2, 1, 3, 3), "running")
    assert layer.running_mean is not None and not layer.running_mean.any()


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (Locked, r"'linear\.guard', of type _thread\.lock, is in the way"),
        (Derived, r"'doubled', of type torch\.Tensor, is in the way"),
    ],
)
def test_a_network_that_cannot_be_copied_is_refused_with_the_attribute(model, sentence):
    with pytest.raises(ConfigError, match=sentence):
        MAML(model())


class Complaining(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        raise ConfigError("not like that")


def test_what_a_network_says_itself_comes_as_it_is():
    with pytest.raises(ConfigError, match=r"^not like that$"):
        Network(Complaining(3, 2)).call({}, torch.rand(1, 4, 3))


class Checkpointed(nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:
        return checkpoint(super().forward, input, use_reentrant=False)


def test_activation_checkpointing_is_refused_instead_of_taking_the_models_own_weights():
    model = Checkpointed(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    weights = {
        name: weight.detach()[None].clone().requires_grad_()
        for name, weight in model.named_parameters()
    }
    outputs = Network(model).call(weights, torch.rand(1, 5, 3))

    with pytest.raises(ConfigError, match="do without activation checkpointing"):
        torch.autograd.grad(outputs.square().sum(), list(weights.values()))
