"""The laws of transfer learning, each against an oracle of its own."""

import copy
import math
import threading

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.methods.catalogue import settings_of
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.maml.learner import MAML
from innerloop.methods.transfer.learner import Transfer
from innerloop.methods.variants import Variant
from innerloop.networks.batch_norm import BatchNorm2d, batch_norm_layers, keep_running_statistics
from innerloop.networks.conv4 import Conv4
from laws.test_meta_gradient import random_episodes, relative

TRAINING_CLASSES = 7


class PlainConv4(nn.Module):
    """Conv4's stride-2, mean-feature network written with PyTorch's own layers."""

    def __init__(self, model: Conv4):
        super().__init__()
        self.convs = copy.deepcopy(model.convs)
        self.norms = nn.ModuleList([plain_norm(layer) for layer in model.norms])
        self.feature_norm = plain_norm(model.feature_norm) if model.feature_norm else nn.Identity()
        self.head = copy.deepcopy(model.head)

    def embed(self, images: Tensor) -> Tensor:
        x = images
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return self.feature_norm(x.mean(dim=(2, 3), keepdim=True)).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.embed(images))


def plain_norm(layer: nn.Module) -> nn.BatchNorm2d:
    assert isinstance(layer, BatchNorm2d)
    plain = nn.BatchNorm2d(layer.channels, affine=layer.weight is not None).double()
    if layer.weight is not None and layer.bias is not None:
        plain.load_state_dict({"weight": layer.weight, "bias": layer.bias}, strict=False)
    if layer.running_mean is not None and layer.running_var is not None:
        plain.load_state_dict(
            {"running_mean": layer.running_mean, "running_var": layer.running_var}, strict=False
        )
    return plain


def network(filters: int = 6) -> Conv4:
    torch.manual_seed(3)
    return Conv4(TRAINING_CLASSES, filters=filters, image_size=16, head_init="glorot").double()


def images_of_classes(count: int = 12) -> LabelledImages:
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(count, 1, 16, 16, generator=generator, dtype=torch.float64)
    return LabelledImages(images, torch.arange(count) % TRAINING_CLASSES)


def pretrained(**settings) -> Transfer:
    """A learner whose running statistics are not those that it started with."""
    learner = Transfer(network(), **settings)
    for _ in range(20):
        learner.meta_loss(images_of_classes())
    return learner


def episodes(count: int = 3, **shape: int) -> EpisodeBatch:
    return random_episodes(count, size=16, **shape)


def state(learner: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in learner.state_dict().items()}


def test_pretraining_is_what_a_plain_loop_does_running_statistics_included():
    learner = Transfer(network())
    plain = PlainConv4(network())
    ours = torch.optim.Adam(learner.parameters(), lr=0.001)
    theirs = torch.optim.Adam(plain.parameters(), lr=0.001)

    for _ in range(5):
        batch = images_of_classes()
        loss, logged = learner.meta_loss(batch)
        logits = plain(batch.images)
        plain_loss = F.cross_entropy(logits, batch.labels)
        assert loss.item() == pytest.approx(plain_loss.item(), rel=1e-9)
        assert logged["accuracy"].item() == (logits.argmax(1) == batch.labels).float().mean().item()
        for optimiser, objective in ((ours, loss), (theirs, plain_loss)):
            optimiser.zero_grad()
            objective.backward()
            optimiser.step()

    kept = {
        name: value
        for name, value in plain.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    mine = learner.model.state_dict()
    assert mine.keys() == kept.keys()
    assert all(torch.allclose(mine[name], kept[name], rtol=1e-6, atol=1e-9) for name in kept)
    assert not torch.allclose(mine["norms.0.running_mean"], torch.zeros(6, dtype=torch.float64))


@pytest.mark.parametrize("head_init", ["zero", "glorot"])
def test_the_heads_steps_are_gradient_descent_on_the_head_alone(head_init):
    learner, batch = pretrained(head_init=head_init), episodes()
    *_, adaptation = learner.trajectory(batch.support, steps=4)
    plain = PlainConv4(learner.model).eval()  # type: ignore[arg-type]

    for episode in range(len(batch)):
        head = nn.Linear(6, 3).double()
        nn.init.zeros_(head.bias)
        nn.init.zeros_(head.weight)
        if head_init == "glorot":
            with torch.no_grad():
                generator = torch.Generator().manual_seed(0)
                head.weight.copy_(nn.init.xavier_uniform_(torch.empty(3, 6), generator=generator))
        optimiser = torch.optim.SGD(head.parameters(), lr=0.4)
        with torch.no_grad():
            support, query = (
                plain.embed(batch.support.images[episode]),
                plain.embed(batch.query.images[episode]),
            )
        losses = []
        for _ in range(4):
            optimiser.zero_grad()
            loss = F.cross_entropy(head(support), batch.support.labels[episode])
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert torch.allclose(adaptation.fast_weights["weight"][episode], head.weight, atol=1e-9)
        assert adaptation.support_loss[episode, :4].tolist() == pytest.approx(losses, rel=1e-9)
        logits = learner.predict(adaptation, batch.query.images)[episode]
        assert torch.allclose(logits, head(query), atol=1e-9)


def test_frozen_features_under_batch_statistics_are_maml_that_adapts_its_head_alone():
    """Two ways to the same numbers: features once and heads on them, or whole networks with a
    frozen body."""
    batch = episodes()
    frozen = FrozenFeatures(network(), batch_norm_modes=("transductive", "support"))
    maml = MAML(network(), inner_lr=0.4, fresh_head="head", adapts=["head"])

    for mode in ("transductive", "support"):
        one, other = (
            learner.predict(
                learner.adapt(batch.support, steps=5), batch.query.images, batch_norm=mode
            )
            for learner in (frozen, maml)
        )
        assert torch.allclose(one, other, atol=1e-9), mode


def test_a_converged_head_has_no_gradient_left_and_is_the_minimum():
    """The objective is convex: a zero gradient is the minimum. Taken by autograd on a plain
    formula."""
    learner, batch = pretrained(head="logistic", penalty=0.05), episodes()
    adaptation = learner.adapt(batch.support, steps=1)
    features = learner.features(batch.support.images, batch.support.images, "running")

    for episode in range(len(batch)):
        weight, bias = (
            adaptation.fast_weights[name][episode].clone().requires_grad_()
            for name in ("weight", "bias")
        )
        logits = features[episode] @ weight.T + bias
        loss = F.cross_entropy(logits, batch.support.labels[episode]) + 0.025 * (weight**2).sum()
        gradients = torch.autograd.grad(loss, [weight, bias])
        assert max(value.abs().max().item() for value in gradients) < 1e-8
        assert loss.item() < math.log(3)


def test_a_converged_head_is_scikit_learns_logistic_regression():
    linear_model = pytest.importorskip("sklearn.linear_model")
    learner, batch = pretrained(head="logistic", penalty=0.05), episodes()
    logits = learner.predict(learner.adapt(batch.support, steps=1), batch.query.images)
    features = [
        learner.features(part.images, batch.support.images, "running")
        for part in (batch.support, batch.query)
    ]

    for episode in range(len(batch)):
        n = len(features[0][episode])
        theirs = linear_model.LogisticRegression(C=1 / (0.05 * n), tol=1e-10, max_iter=10_000)
        theirs.fit(features[0][episode].numpy(), batch.support.labels[episode].numpy())
        expected = torch.from_numpy(theirs.predict_proba(features[1][episode].numpy()))
        assert torch.allclose(logits[episode].softmax(-1), expected, atol=1e-4)


def test_cosine_prototypes_are_the_nearest_mean_direction():
    learner, batch = pretrained(head="cosine"), episodes()
    logits = learner.predict(learner.adapt(batch.support, steps=1), batch.query.images)
    support, query = (
        learner.features(part.images, batch.support.images, "running")
        for part in (batch.support, batch.query)
    )

    for episode in range(len(batch)):
        for number, drawing in enumerate(query[episode]):
            cosines = []
            for label in range(batch.ways):
                chosen = [
                    f / f.norm() for f in support[episode][batch.support.labels[episode] == label]
                ]
                prototype = torch.stack(chosen).mean(0)
                cosines.append((drawing @ prototype / drawing.norm() / prototype.norm()).item())
            assert (logits[episode, number] / 10).tolist() == pytest.approx(cosines, abs=1e-9)


def test_adapting_and_predicting_leave_weights_and_statistics_bit_equal():
    learner, batch = pretrained(), episodes()
    before = state(learner)

    loss, metrics = learner.transfer_learn(batch)

    after = state(learner)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert math.isfinite(loss.item())
    assert all(value.shape == (3,) for value in metrics.values())
    assert metrics["query_accuracy_before"].tolist() == pytest.approx([1 / 3] * 3)  # a zero head


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_transfer_learning_measures_before_and_after_its_steps(steps):
    learner, batch = pretrained(inner_steps=steps), episodes()

    loss, metrics = learner.transfer_learn(batch)

    labels = batch.query.labels
    for when, count in (("before", 0), ("after", steps)):
        adaptation = learner.adapt(batch.support, steps=count)
        logits = learner.predict(adaptation, batch.query.images)
        correct = (logits.argmax(-1) == labels).double().mean(dim=1)
        assert torch.allclose(metrics[f"query_accuracy_{when}"].double(), correct)
        assert torch.equal(
            metrics[f"support_accuracy_{when}"], adaptation.support_accuracy[:, count]
        )
        if when == "after":
            expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
            assert loss.item() == pytest.approx(expected.item())
    assert len(metrics) == 4


def test_a_learner_takes_the_networks_own_statistics_where_all_layers_have_some():
    """A layer without them makes a tree of its own; with all of them the network is shared."""
    whole = network()
    keep_running_statistics(whole)
    half = network()
    next(iter(batch_norm_layers(half).values())).running_mean = torch.zeros(4).double()

    assert Transfer(whole).model is whole
    assert Transfer(half).model is not half
    assert all(
        layer.running_mean is not None for layer in batch_norm_layers(Transfer(half).model).values()
    )


def test_with_running_statistics_an_image_is_classified_alone_as_among_others():
    learner, batch = pretrained(), episodes()
    adaptation = learner.adapt(batch.support, steps=5)

    together = learner.predict(adaptation, batch.query.images)

    for number in range(batch.query.labels.shape[1]):
        alone = learner.predict(adaptation, batch.query.images[:, number : number + 1])
        assert torch.allclose(alone[:, 0], together[:, number], atol=1e-12)


@pytest.mark.parametrize("head", ["gradient", "logistic", "cosine"])
def test_a_batch_of_episodes_equals_one_at_a_time(head):
    learner, batch = pretrained(head=head), episodes()
    together = learner.predict(learner.adapt(batch.support, steps=3), batch.query.images)

    for episode in range(len(batch)):
        one = batch[episode : episode + 1]
        alone = learner.predict(learner.adapt(one.support, steps=3), one.query.images)
        assert torch.allclose(alone[0], together[episode], atol=1e-9)


def test_features_are_computed_once_for_all_steps_of_a_trajectory(monkeypatch):
    learner, batch = pretrained(), episodes()
    calls = []
    features = learner.features
    monkeypatch.setattr(
        learner, "features", lambda *arguments: calls.append(1) or features(*arguments)
    )

    for adaptation in learner.trajectory(batch.support, steps=10):
        learner.predict(adaptation, batch.query.images)

    assert len(calls) == 2  # support and query


def test_other_images_in_the_same_trajectory_are_not_taken_for_the_first():
    learner, batch = pretrained(), episodes()
    adaptation = learner.adapt(batch.support, steps=2)
    learner.predict(adaptation, batch.query.images)

    again = learner.predict(adaptation, batch.query.images.flip(1))

    assert torch.allclose(again, learner.predict(adaptation, batch.query.images).flip(1))


def test_fine_tuning_everything_is_plain_gradient_descent_with_frozen_statistics():
    learner, batch = pretrained(), episodes(1)
    config = settings_of("transfer", inner_lr=0.1)
    tuned = Variant(adapts="all").of(learner, config)
    logits = tuned.predict(tuned.adapt(batch.support, steps=3), batch.query.images)[0]

    plain = PlainConv4(learner.model).eval()  # type: ignore[arg-type]
    plain.head = nn.Linear(6, 3).double()
    nn.init.zeros_(plain.head.weight)
    nn.init.zeros_(plain.head.bias)
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        F.cross_entropy(plain(batch.support.images[0]), batch.support.labels[0]).backward()
        optimiser.step()

    assert tuned.batch_norm_modes == ("running",)
    assert relative(logits - plain(batch.query.images[0]), logits) < 1e-9


@pytest.mark.parametrize(
    ("adapts", "moving"),
    [
        ("head+1", {"head", "convs.3", "norms.3"}),
        ("head+2", {"head", "convs.2", "norms.2", "convs.3", "norms.3"}),
        ("body", {f"{kind}.{block}" for kind in ("convs", "norms") for block in range(4)}),
    ],
)
def test_only_what_is_named_is_adapted(adapts, moving):
    learner = MAML(network())
    batch = episodes(1)
    tuned = Variant(adapts=adapts).of(
        learner, settings_of("fomaml", fresh_head=False, head_init="glorot")
    )

    fast_weights = tuned.adapt(batch.support, steps=2).fast_weights

    kept = {
        name: weight
        for name, weight in learner.params.items()
        if adapts != "body" or "head" not in name
    }
    moved = {
        name for name, weight in kept.items() if not torch.equal(fast_weights[name][0], weight)
    }
    assert {name.rpartition(".")[0] for name in moved} == moving


def test_a_network_without_a_cut_before_its_head_is_refused():
    with pytest.raises(ConfigError, match=r"give Linear a method embed\(images\)"):
        Transfer(nn.Linear(3, 2))


def test_a_network_with_pytorchs_running_statistics_is_refused():
    with pytest.raises(ConfigError, match=r"use innerloop\.BatchNorm2d"):
        Transfer(PlainConv4(network()))


def test_running_statistics_are_saved_and_only_where_they_are_kept():
    model = network()
    assert not any("running" in name for name in model.state_dict())

    keep_running_statistics(model)

    assert sum("running" in name for name in model.state_dict()) == 2 * len(
        batch_norm_layers(model)
    )


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(adapts="tail"), "must be one of own, head"),
        (dict(head="logistic"), "needs --adapt head"),
        (dict(adapts="head", head="cosine", inner_lr=0.1), "takes no inner steps"),
        (dict(adapts="all", inner_lr=float("nan")), r"between 0.0 and 1,000.0: got nan"),
        (dict(adapts="head", head="logistic", penalty=0.0), "penalty must be between 1e-12 and"),
    ],
)
def test_contradicting_variants_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Variant(**settings)


def test_the_classification_layer_is_what_only_training_uses():
    names = {name for name in pretrained().state_dict() if name.startswith(Transfer.training_only)}

    assert names == {"model.head.weight", "model.head.bias"}


def test_a_new_head_takes_five_steps_unless_another_number_is_asked_for():
    assert FrozenFeatures(network()).inner_steps == 5


def test_blocks_and_new_head_are_told_image_by_image():
    learner, episodes = pretrained(), random_episodes(3, size=16)
    adaptation = learner.adapt(episodes.support, steps=2)
    outputs = learner.block_outputs(adaptation, episodes.query.images)
    images = episodes.query.images.shape[1]

    assert outputs["logits"].shape == (3, images, 3)
    # Four blocks of 6 filters, over 8, 4, 2 and 1 positions a side, and the features.
    assert [of.shape[1:] for name, of in outputs.items() if name != "logits"] == [
        (images, values) for values in (384, 96, 24, 6, 6)
    ]


def test_frozen_features_of_a_network_that_cannot_be_copied_are_refused():
    model = network()
    vars(model)["guard"] = threading.Lock()

    with pytest.raises(ConfigError, match=r"'guard', of type _thread\.lock, is in the way"):
        FrozenFeatures(model)
