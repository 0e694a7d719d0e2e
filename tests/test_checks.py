"""What a network cannot do in meta-learning is told before the first training, and by the training.

Networks that strangers bring; each is either served rightly or refused in a sentence.
"""

import dataclasses
import re
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.methods import check, meta_gradients
from innerloop.methods.check import check_model
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.maml.learner import MAML
from innerloop.networks.batch_norm import BatchNorm2d
from innerloop.networks.conv4 import Conv4
from laws.test_meta_gradient import SmallConv

IMAGES = torch.rand(4, 1, 8, 8)


class Counting(nn.Module):
    """Counts its calls in a buffer, and has a parameter that nothing uses."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 5)
        self.spare = nn.Parameter(torch.ones(3))
        self.register_buffer("calls", torch.zeros(()))
        self.calls: Tensor

    def forward(self, images: Tensor) -> Tensor:
        self.calls.add_(1)
        return self.linear(images.flatten(1))


class Replacing(Counting):
    """Counts by a new tensor in the buffer's place."""

    def forward(self, images: Tensor) -> Tensor:
        self.calls = self.calls + 1
        return self.linear(images.flatten(1))


def linear(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(64, 5))


class OneLayer(nn.Module):
    """A linear layer, and what a function does with it and the flat images."""

    def __init__(self, compute: Callable[[nn.Linear, Tensor], object]):
        super().__init__()
        self.layer = nn.Linear(64, 5)
        self.compute = compute

    def forward(self, images: Tensor) -> object:
        return self.compute(self.layer, images.flatten(1))


class Checkpointed(nn.Module):
    """Convolutions whose second one is computed again in the backward pass, or all of them."""

    def __init__(self, *, reentrant: bool, first: bool = False):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)])
        self.head = nn.Linear(256, 5)
        self.reentrant, self.first = reentrant, first

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for number, conv in enumerate(self.convs):
            again = self.first or number > 0
            x = checkpoint(conv, x, use_reentrant=self.reentrant) if again else conv(x)
            x = F.softplus(x)  # type: ignore[arg-type]
        return self.head(x.flatten(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 5, batch_first=True), nn.Linear(5, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.lstm(images[:, 0])[0][:, -1])


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(3)])
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        q, k, v = (layer(images) for layer in self.layers)
        return self.head(F.scaled_dot_product_attention(q, k, v).mean(dim=(1, 2)))


class Holding(OneLayer):
    """Calls its layer through a function: half of the output, or all of it."""

    def __init__(self, share: float):
        super().__init__(lambda layer, x: layer(x))
        self.function = lambda x: self.layer(x)
        self.share = share

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        return self.share * self.function(x) + (1 - self.share) * self.layer(x).tanh()


class HoldingDeep(OneLayer):
    """Calls its layer through a function somewhere in a collection, or with it in a partial."""

    def __init__(self, wrap: Callable[[Any], Any]):
        super().__init__(lambda layer, x: layer(x))
        self.stages = wrap(lambda x: self.layer(x))


@dataclasses.dataclass(eq=False)
class Box:
    """Something that holds something."""

    held: Any


class Slotted:
    """The same, in a slot."""

    __slots__ = ("held",)

    def __init__(self, held: Any):
        self.held = held


class HoldingWeights(OneLayer):
    """Computes with its layer's own parameters, which it has in a collection."""

    def __init__(self, wrap: Callable[[nn.Linear], Any], unused: bool = False):
        super().__init__(lambda layer, x: layer(x))
        self.held = wrap(self.layer)
        self.unused = nn.Linear(1, 1) if unused else None


class InPlace(OneLayer):
    """Changes its input in place before it looks at it."""

    def __init__(self):
        super().__init__(lambda layer, x: layer(x))

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(torch.tanh(images.sub_(0.5)).flatten(1))


class Elsewhere(OneLayer):
    """Computes with weights that are in a list, and so no parameters of it."""

    def __init__(self):
        super().__init__(lambda layer, x: layer(x))
        self.others = [nn.Parameter(torch.rand(5, 64))]

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1)) + F.linear(images.flatten(1), self.others[0])


def clamped(layer: nn.Linear, x: Tensor) -> Tensor:
    with torch.no_grad():
        layer.weight.clamp_(-0.1, 0.1)
    return layer(x)


def switching(layer: nn.Linear, x: Tensor) -> Tensor:
    layer.eval()
    return layer(x)


def cut(layer: nn.Linear, x: Tensor) -> Tensor:
    with torch.no_grad():
        return layer(x)


def by_item(layer: nn.Linear, x: Tensor) -> Tensor:
    return layer(x) / (1 + abs(x.mean().item()))


def by_branch(layer: nn.Linear, x: Tensor) -> Tensor:
    return layer(x) if x.sum() > 0 else -layer(x)


def with_a_forgetful_hook() -> nn.Module:
    model, mean = linear(), [torch.zeros(())]

    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        mean[0] = 0.9 * mean[0] + 0.1 * output.mean().detach()
        return output - mean[0]

    model[1].register_forward_hook(hook)
    return model


def older(wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that there is a newer way
        return nn.Sequential(nn.Flatten(), wrap(nn.Linear(64, 5)))


def without_a_number() -> nn.Module:
    model = linear()
    nn.init.constant_(model[1].weight, torch.nan)  # type: ignore[arg-type]
    return model


def locked() -> nn.Module:
    model = linear()
    model[1].guard = threading.Lock()  # type: ignore[assignment]
    return model


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "in parallel": (lambda: nn.DataParallel(linear()), r"wrapped in DataParallel: give its \.mod"),
    "a part in parallel": (lambda: linear(nn.DataParallel(nn.ReLU())), "Layer '1' is wrapped in"),
    "compiled": (lambda: torch.compile(linear(), backend="eager"), "The network is compiled"),  # type: ignore[return-value]
    "not initialised": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(5)), "not initialised"),
    "without values": (lambda: linear().to("meta"), "on the meta device and has no values"),
    "complex": (lambda: linear(Rotating()), r"'1\.turn' is complex"),
    "half": (lambda: linear().half(), r"is torch\.float16, too coarse"),
    "bfloat16": (lambda: linear().bfloat16(), r"is torch\.bfloat16, too coarse"),
    "mixed": (lambda: linear(nn.Linear(64, 64).double()), "more than one type, '1.bias'"),
    "not a number": (without_a_number, "'1.weight' holds NaN or infinity"),
    "weight norm by a hook": (lambda: older(nn.utils.weight_norm), "computes its weight in a hook"),
    "spectral norm by a hook": (lambda: older(nn.utils.spectral_norm), "its weight in a hook"),
    "spectral norm": (
        lambda: linear(parametrizations.spectral_norm(nn.Linear(64, 64))),
        r"spectral normalisation, whose buffers .* call model\.eval",
    ),
    "a norm of embeddings": (lambda: linear(nn.Embedding(3, 3, max_norm=1.0)), "has a max_norm"),
    "running statistics": (
        lambda: nn.Sequential(nn.BatchNorm2d(1), linear()),
        "Layer '0' keeps running batch-norm statistics.*track_running_stats=False",
    ),
    "dropout": (lambda: linear(nn.Dropout(0.5)), "Layer '1' is dropout"),
    "random slopes": (lambda: linear(nn.RReLU()), "Layer '1' is dropout, or draws"),
    "dropout of an LSTM": (lambda: nn.LSTM(3, 3, 2, dropout=0.5), "Layer '' is dropout, or"),
    "dropout of attention": (lambda: nn.MultiheadAttention(4, 2, dropout=0.5), "'' is dropout, or"),
    "a lock": (locked, r"'1\.guard', of type _thread\.lock, is in the way"),
    "a function that holds all": (lambda: Holding(1.0), "a function that holds a part"),
    "a function that holds half": (lambda: Holding(0.5), "a function that holds a part"),
    "a function in a list": (lambda: HoldingDeep(lambda f: [f]), "'stages' of 'HoldingDeep'"),
    "a function in a tuple": (lambda: HoldingDeep(lambda f: (1, f)), "'stages' of 'HoldingDeep'"),
    "a function deeper": (
        lambda: HoldingDeep(lambda f: {"a": [(f,)]}),
        "'stages' of 'HoldingDeep'",
    ),
    "a partial": (lambda: HoldingDeep(lambda f: partial(f)), "'stages' of 'HoldingDeep'"),
    "its weights in a list": (
        lambda: HoldingWeights(lambda layer: [layer.weight, layer.bias]),
        "'held' of 'HoldingWeights' holds the parameter 'layer.weight' as a plain value",
    ),
    "its weights in a dict of tuples": (
        lambda: HoldingWeights(lambda layer: {"a": (layer.bias,)}),
        "holds the parameter 'layer.bias' as a plain value",
    ),
    "its weights in a partial": (
        lambda: HoldingWeights(lambda layer: partial(F.linear, weight=layer.weight)),
        "holds the parameter 'layer.weight' as a plain value",
    ),
    "its weights in a dataclass": (
        lambda: HoldingWeights(lambda layer: Box(layer.weight)),
        "holds the parameter 'layer.weight' as a plain value",
    ),
    "its weights in a slot": (
        lambda: HoldingWeights(lambda layer: Slotted(layer.weight)),
        "holds the parameter 'layer.weight' as a plain value",
    ),
    "its weights in a list, beside some unused": (
        lambda: HoldingWeights(lambda layer: [layer.weight], unused=True),
        "holds the parameter 'layer.weight' as a plain value",
    ),
    "a class": (lambda: nn.Linear, "A network is a torch.nn.Module, made already: got the class"),
    "no network": (lambda: 3, "A network is a torch.nn.Module, made already: got int"),
    "nothing to train": (lambda: linear().requires_grad_(False), "No parameter of Sequential"),
}
"""What learners refuse to take -> a network, and the sentence."""

FOUND: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "checkpointed": (
        lambda: Checkpointed(reentrant=False),
        ["Two inner steps fail: The network computes parts of its forward pass again in the back"],
    ),
    "checkpointed first": (
        lambda: Checkpointed(reentrant=False, first=True),
        ["Two inner steps fail: The network computes parts of its forward pass again in the back"],
    ),
    "checkpointed, reentrant": (lambda: Checkpointed(reentrant=True), ["use_reentrant=True"]),
    "checkpointed first, reentrant": (
        lambda: Checkpointed(reentrant=True, first=True),
        [
            "Episodes at once, as on a GPU, fail under torch.vmap",
            *(
                f"'convs.{n}.{kind}' has no influence"
                for n in (0, 1)
                for kind in ("weight", "bias")
            ),
        ],
    ),
    "an LSTM": (Recurrent, ["as on a GPU, fail under torch.vmap: Batching rule not implemented"]),
    "attention": (Attending, ["Derivatives of second order fail.*sdpa_kernel"]),
    "a number taken out": (lambda: OneLayer(by_item), ["fail under torch.vmap: .*item"]),
    "a branch": (lambda: OneLayer(by_branch), ["fail under torch.vmap: .*control flow"]),
    "noise": (
        lambda: OneLayer(lambda layer, x: layer(x + torch.randn_like(x))),
        ["changes from pass to pass"],
    ),
    "functional dropout": (
        lambda: OneLayer(lambda layer, x: F.dropout(layer(x))),
        ["changes from pass to pass"],
    ),
    "a hook with a memory": (
        with_a_forgetful_hook,
        ["Layer '1' has a hook", "changes from pass to pass"],
    ),
    "a counter": (
        Counting,
        ["Buffer 'calls' is changed by a forward", "'spare' has no influence on the output"],
    ),
    "another counter": (
        Replacing,
        ["Buffer 'calls' is changed by a forward", "'spare' has no influence on the output"],
    ),
    "changed weights": (
        lambda: OneLayer(clamped),
        ["Two inner steps fail: .* modified inplace", "changes the network's own parameters"],
    ),
    "changed modes": (lambda: OneLayer(switching), ["train and eval modes"]),
    "a pair": (lambda: OneLayer(lambda layer, x: (layer(x), x)), ["of type tuple: let forward"]),
    "by name": (lambda: OneLayer(lambda layer, x: {"a": layer(x)}), ["of type dict: let forward"]),
    "one row": (lambda: OneLayer(lambda layer, x: layer(x).mean(0)), ["has shape .5,.: let"]),
    "cut off": (
        lambda: OneLayer(cut),
        ["'layer.weight' has no influence", "'layer.bias' has no influence"],
    ),
    "weights elsewhere": (Elsewhere, [r"depends on a tensor of shape \(5, 64\) that is none"]),
    "statistics of its own": (
        lambda: OneLayer(lambda layer, x: layer(x - x.mean(0))),
        ["Under batch_norm='support' the output for an image depends on the other"],
    ),
    "batch norm of a function": (
        lambda: OneLayer(lambda layer, x: layer(F.batch_norm(x, None, None, training=True))),
        ["A lone image cannot be predicted: Expected more than 1 value"],
    ),
    "PyTorch's batch norm": (
        lambda: nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), linear()),
        ["batch_norm='support' are not possible"],
    ),
    "other images": (lambda: nn.Sequential(nn.Conv2d(3, 5, 8), nn.Flatten()), ["fails on images"]),
}
"""What only `check_model` can tell -> a network, and what is said of it."""


class Twice(nn.Module):
    """A layer at two places, under two names, and a weight that two layers share."""

    def __init__(self):
        super().__init__()
        self.first, self.head, self.other = nn.Linear(64, 64), nn.Linear(64, 5), nn.Linear(64, 5)
        self.again = self.first
        self.other.weight = self.head.weight

    def forward(self, images: Tensor) -> Tensor:
        x = self.again(self.first(images.flatten(1)).tanh())
        return self.head(x) + self.other(x.tanh())


class Rotating(nn.Module):
    """Has a complex parameter."""

    def __init__(self):
        super().__init__()
        self.turn = nn.Parameter(torch.ones(64, dtype=torch.complex64))


SERVED: dict[str, Callable[[], nn.Module]] = {
    "ours, zero head": lambda: Conv4(5, image_size=8, filters=4),
    "ours": lambda: Conv4(5, image_size=8, filters=4, head_init="glorot"),
    "a layer that appears twice": Twice,
    "weight norm": lambda: linear(parametrizations.weight_norm(nn.Linear(64, 64))),
    "spectral norm, fixed": lambda: linear(
        parametrizations.spectral_norm(nn.Linear(64, 64)), nn.Tanh()
    ).eval(),
    "dropout that is off": lambda: linear(nn.Dropout(0.5)).eval(),
    "dropout of nothing": lambda: linear(nn.Dropout(0.0)),
    "in channels_last": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(256, 5)
    ).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
    "batch norm at two places": lambda: (
        lambda norm: nn.Sequential(norm, nn.Tanh(), norm, linear())
    )(BatchNorm2d(1)),
    "in double": lambda: linear().double(),
}


def images_for(model: nn.Module) -> Tensor:
    return IMAGES.to(next(model.parameters()).dtype)


def state(model: nn.Module) -> list[object]:
    """Tensors by identity and value, gradients and modes."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [
        [(name, id(tensor), tensor.tolist(), tensor.grad) for name, tensor in tensors],
        [(name, module.training) for name, module in model.named_modules()],
    ]


@pytest.mark.parametrize("name", SERVED)
def test_nothing_is_found_in_a_network_that_is_served_rightly(name):
    model = SERVED[name]()

    assert check_model(model, images_for(model)) == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_no_images_to_be_seen_is_refused_by_learners_and_found(name):
    make, sentence = REFUSED[name]

    with pytest.raises(ConfigError, match=sentence) as refusal:
        MAML(make())

    assert str(refusal.value) in check_model(make(), IMAGES)


@pytest.mark.parametrize("name", FOUND)
def test_what_a_pass_shows_is_found_beforehand_and_the_network_is_left_alone(name):
    make, sentences = FOUND[name]
    model = make()
    before = state(model)

    findings = check_model(model, IMAGES)

    assert len(findings) == len(sentences), findings
    for finding, sentence in zip(findings, sentences, strict=True):
        assert re.search(sentence, finding)
    assert state(model) == before


def test_frozen_parameters_are_found():
    model = linear()
    model[1].weight.requires_grad_(False)

    (finding,) = check_model(model, IMAGES)

    assert "Parameter '1.weight' is frozen" in finding


def test_frozen_features_take_no_network_that_a_learner_refuses():
    model = Conv4(5, image_size=8, filters=4)
    model.head = nn.Sequential(nn.Dropout(0.5), model.head)  # type: ignore[assignment]

    with pytest.raises(ConfigError, match=r"Layer 'head\.0' is dropout"):
        FrozenFeatures(model)


def test_dropout_that_is_switched_on_afterwards_is_refused():
    learner = MAML(linear(nn.Dropout(0.5)).eval())

    with pytest.raises(ConfigError, match=r"Layer 'model\.1' is dropout"):
        learner.train()


def double_batch(model: nn.Module) -> EpisodeBatch:
    return meta_gradients.episodes_of(model, torch.rand(6, 1, 8, 8).double())


@pytest.mark.parametrize("kind", check.KINDS, ids=lambda kind: kind.name)
def test_a_learners_meta_gradient_is_that_of_copies_that_hold_the_weights(kind):
    model = SmallConv(F.softplus)
    batch = double_batch(model)

    ours = meta_gradients.by_learner(model, batch, 0.3, kind)
    theirs = meta_gradients.by_copies(model, batch, 0.3, kind.first_order)

    assert meta_gradients.difference(ours, theirs) <= 1e-9
    other = meta_gradients.by_copies(model, batch, 0.3, not kind.first_order)
    assert meta_gradients.difference(ours, other) > 1e-2


class Weighted(nn.Module):
    """Two numbers times the image; the second is of no use."""

    def __init__(self, *numbers: float):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(numbers).double())

    def forward(self, images):
        return images * self.weight[0]


def batch_of(images: Tensor, targets: Tensor) -> EpisodeBatch:
    """Episodes whose query sets are their support sets."""
    nothing = torch.zeros(len(images), 1, 1, dtype=torch.int64)
    of_both = LabelledImages(images, targets)
    return EpisodeBatch(of_both, of_both, nothing[:, 0], nothing, nothing)


@pytest.mark.parametrize(
    ("numbers", "rate"),
    [
        # The gradient of (w x - y)^2 by w at x = 1: 2 (w - y), with y = w - 5 always 10.
        ((3.0, 4.0), 0.05 * 5 / 10),  # the weights' norm is 5
        ((0.0, 0.0), 0.1),  # no scale of their own
        ((3000.0, 4000.0), 1.0),  # 25, and one is the largest
    ],
)
def test_an_inner_rate_of_the_check_moves_the_weights_by_some_percent(numbers, rate):
    images = torch.tensor([[[1.0]], [[3.0]]]).double()
    targets = torch.tensor([[[numbers[0] - 5]], [[0.0]]]).double()  # the first alone counts

    found = meta_gradients.rate_of(Weighted(*numbers), batch_of(images, targets))

    assert found == pytest.approx(rate)


def test_episodes_of_the_check_have_the_images_in_several_orders():
    images = torch.arange(4.0).reshape(4, 1)

    batch = meta_gradients.episodes_of(nn.Identity(), images)

    assert batch.support.images.flatten(1).tolist() == [[0, 1, 2, 3], [3, 0, 1, 2]]
    assert batch.query.images.flatten(1).tolist() == [[3, 2, 1, 0], [2, 1, 0, 3]]
    assert batch.support.labels.shape == batch.query.labels.shape == batch.support.images.shape
    assert not torch.equal(batch.support.labels, batch.query.labels)


def test_a_gradients_difference_is_relative_and_small_gradients_are_of_no_weight():
    theirs = {"large": torch.tensor([30.0, 40.0]), "small": torch.tensor([0.0])}
    ours = {"large": torch.tensor([30.0, 41.0]), "small": torch.tensor([0.1])}

    # A part of 0.5 in 50 joins every parameter's own size.
    assert meta_gradients.difference(ours, theirs) == pytest.approx(0.1 / 0.5)
    ours["small"] = torch.tensor([0.0])
    assert meta_gradients.difference(ours, theirs) == pytest.approx(1 / 50.5)


def test_gradients_of_the_check_keep_a_graph_only_where_they_are_asked_to():
    image = torch.ones(1).double()

    for create_graph in (False, True):
        (found,) = meta_gradients._gradients(
            Weighted(1.0, 0.0), ["weight"], image, 0 * image, create_graph
        )
        assert found.requires_grad == create_graph


def test_a_wrong_meta_gradient_is_found(monkeypatch):
    """Of steps that are half as long again."""
    monkeypatch.setattr(
        "innerloop.methods.maml.descent.step",
        lambda weights, gradients, lr: {
            name: weight - 1.5 * lr * gradients[name] for name, weight in weights.items()
        },
    )

    (finding,) = check_model(SmallConv(F.softplus), IMAGES.double())

    assert re.search(r"2 inner steps, of first order, is wrong by \d+%", finding)


def labelled(model: nn.Module) -> LabelledImages:
    images = torch.rand(2, 4, 1, 8, 8).to(next(model.parameters()).dtype)
    return LabelledImages(images, torch.tensor([[0, 1, 2, 3]]).expand(2, -1))


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("first_order", [False, True])
def test_a_network_that_computes_again_in_the_backward_pass_is_refused_in_training(
    first, first_order
):
    model = Checkpointed(reentrant=False, first=first)

    with pytest.raises(ConfigError, match="do without activation checkpointing"):
        MAML(model, first_order=first_order).adapt(labelled(model), steps=1)


@pytest.mark.parametrize("kind", [Counting, Replacing])
def test_a_buffer_that_a_pass_changes_is_refused_in_training_and_stays_the_models(kind):
    model = kind()

    with pytest.raises(ConfigError, match="Buffer 'calls' is changed by a forward pass"):
        MAML(model).adapt(labelled(model), steps=1)
    assert model.calls == 0


def test_a_loss_that_no_adapted_weight_reaches_is_refused():
    model = OneLayer(cut)

    with pytest.raises(ConfigError, match="depends on none of the weights that take inner steps"):
        MAML(model).adapt(labelled(model), steps=1)


def test_adapting_a_layer_that_is_not_used_is_refused():
    model = OneLayer(lambda layer, x: layer(x))
    model.unused = nn.Linear(2, 2)
    learner = MAML(model, adapts=["unused"])

    for params in (learner.params, {name: of.detach() for name, of in learner.params.items()}):
        with pytest.raises(ConfigError, match="depends on none of the weights that take inner"):
            learner.inner_loop(params, labelled(model), steps=1)


LAYOUTS: list[bool] = []


class WatchedGroups(nn.GroupNorm):
    """Notes whether what comes lies in the default layout."""

    def forward(self, input: Tensor) -> Tensor:
        LAYOUTS.append(input.is_contiguous())
        return super().forward(input)


class WatchedBatch(nn.BatchNorm2d):
    """Notes whether what comes lies in the default layout."""

    def forward(self, input: Tensor) -> Tensor:
        LAYOUTS.append(input.is_contiguous())
        return super().forward(input)


@pytest.mark.parametrize(
    "norm", [WatchedGroups(2, 4), WatchedBatch(4, track_running_stats=False)], ids=["g", "b"]
)
def test_pytorchs_norms_are_given_the_default_layout(norm):
    """In channels_last their statistics are off by 1e-6 to 2e-4 on a CPU."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), norm, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 4)
    )
    support = labelled(model)
    expected = MAML(model, inner_lr=0.01).adapt(support, steps=3)
    LAYOUTS.clear()

    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    other = MAML(model, inner_lr=0.01).adapt(support, steps=3)

    assert len(LAYOUTS) == 8 and all(LAYOUTS)
    for name, weight in expected.fast_weights.items():
        assert torch.allclose(other.fast_weights[name], weight, rtol=0, atol=1e-6), name


def test_maml_refuses_a_fresh_head_that_is_not_there():
    with pytest.raises(ConfigError, match=r"no parameters under 'classifier' .* 'norms', 'head'"):
        MAML(Conv4(5), fresh_head="classifier")


def test_images_of_the_caller_are_left_as_they_are_and_the_gradient_is_right():
    """A network that changes its input in place gets a copy, everywhere."""
    model = InPlace()
    images = IMAGES.clone()

    assert check_model(model, images) == []
    assert torch.equal(images, IMAGES)


@pytest.mark.parametrize("images", [IMAGES[:0], 3, torch.zeros(5)])
def test_what_is_no_batch_of_images_is_refused(images):
    with pytest.raises(ConfigError, match="A check needs a batch of images"):
        check_model(linear(), images)


def test_a_collection_that_holds_itself_is_looked_through_once():
    model = linear()
    cyclic: list[Any] = [1]
    cyclic.append({"itself": cyclic})
    model.notes = cyclic  # pyright: ignore[reportArgumentType]

    assert check_model(model, IMAGES) == []
    cyclic.append(next(model.parameters()))
    with pytest.raises(ConfigError, match="'notes' of 'Sequential' holds the parameter"):
        MAML(model)
