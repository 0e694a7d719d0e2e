"""The laws of features that are learnt on episodes by a rule."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.experiments.meta_gradient import accumulate_meta_gradient
from innerloop.fast_weights.fused_cpu.compiling import HOST
from innerloop.methods.base import Learner
from innerloop.methods.heads.episodic import EpisodicFeatures
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.heads.rule import Fitted, Rule, RuleHead
from innerloop.methods.maml.learner import MAML
from innerloop.networks.batch_norm import batch_norm_layers, keep_running_statistics
from innerloop.networks.conv4 import Conv4
from laws.test_fused import far
from laws.test_meta_gradient import random_episodes

MODES = ("running", "support", "transductive")


class ScaledMeans(Rule):
    """A linear layer of each class's mean feature, times a learnt number."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7))

    def fit(self, features: Tensor, labels: Tensor, ways: int) -> Fitted:
        means = torch.stack([features[labels == label].mean(0) for label in range(ways)])
        return {"weight": self.scale * means, "bias": features.new_zeros(ways)}


class NearestImage(Rule):
    """A score for each class: minus the least distance from an image of it."""

    def fit(self, features: Tensor, labels: Tensor, ways: int) -> Fitted:
        return {"features": features, "classes": F.one_hot(labels, ways)}

    def logits(self, fitted: Fitted, features: Tensor) -> Tensor:
        distances = torch.cdist(features, fitted["features"])
        far = torch.where(fitted["classes"][None] == 1, distances[..., None], torch.inf)
        return -far.amin(1)


def learner_of(rule: Rule | None = None, **settings) -> EpisodicFeatures:
    torch.manual_seed(3)
    model = Conv4(5, filters=6, image_size=16)
    return EpisodicFeatures(model, rule or ScaledMeans(), **settings).double()


def model_of(learner: EpisodicFeatures) -> Conv4:
    model = learner.model
    assert isinstance(model, Conv4)
    return model


def trained(learner: EpisodicFeatures, steps: int = 5) -> EpisodicFeatures:
    """With running statistics that are not those at the start; its weights are the same."""
    for step in range(steps):
        learner.begin_outer_step(step, steps)
        learner.meta_loss(random_episodes(2, size=16))
        learner.end_outer_step()
    return learner


def plain_loss(learner: EpisodicFeatures, batch: EpisodeBatch) -> Tensor:
    """The objective by plain calls of the model and the rule, episode by episode."""
    losses = []
    for number in range(len(batch)):
        episode = batch[number : number + 1]
        support, query = episode.support.images[0], episode.query.images[0]
        features = model_of(learner).embed(torch.cat([support, query]))
        of_support, of_query = features[: len(support)], features[len(support) :]
        labels = episode.support.labels[0]
        fitted = learner.rule.fit(of_support, labels, int(labels.max()) + 1)
        losses.append(
            F.cross_entropy(learner.rule.logits(fitted, of_query), episode.query.labels[0])
        )
    return torch.stack(losses).mean()


def gradients(learner: Learner, loss: Tensor) -> dict[str, Tensor]:
    weights = dict(learner.named_parameters())
    found = torch.autograd.grad(
        loss, list(weights.values()), allow_unused=True, materialize_grads=True
    )
    return dict(zip(weights, found, strict=True))


def test_the_objective_and_its_gradient_are_those_of_a_plain_loop():
    learner, batch = learner_of(), random_episodes(3, size=16)
    loss, logged = learner.meta_loss(batch)
    expected = plain_loss(learner, batch)

    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    ours, theirs = gradients(learner, loss), gradients(learner, expected)
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= 1e-10 * max(gradient.norm(), 1e-6), name
    assert theirs["rule.scale"].abs() > 0 and theirs["model.convs.0.weight"].norm() > 0
    assert set(logged) == {"query_accuracy_after"}


def test_the_networks_own_head_is_not_trained():
    learner = learner_of()
    assert not any(name.startswith("model.head") for name in learner.params)
    loss, _ = learner.meta_loss(random_episodes(2, size=16))
    loss.backward()
    assert learner.model.get_parameter("head.weight").grad is None


def test_running_statistics_move_once_a_step_to_the_mean_over_its_episodes():
    learner, batch = learner_of(), random_episodes(3, size=16)
    seen = []

    def see(_layer, inputs, _output):
        seen.append((inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))))

    model_of(learner).norms[1].register_forward_hook(see)
    for number in range(3):
        both = torch.cat([batch.support.images[number], batch.query.images[number]])
        model_of(learner).embed(both)
    means, variances = (torch.stack(of).mean(0) for of in zip(*seen, strict=True))
    learner = learner_of()
    learner.begin_outer_step(0, 1)
    learner.meta_loss(batch)
    running = batch_norm_layers(learner.model)["norms.1"].running()
    untouched = running.mean.clone()
    learner.end_outer_step()

    assert untouched.abs().max() == 0
    assert far(running.mean, 0.1 * means) <= 1e-10
    assert far(running.variance, 0.9 + 0.1 * variances) <= 1e-10


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_chunks_of_any_size_have_the_same_bits(at_once):
    batch = random_episodes(5, size=16)

    def taken(most: int) -> tuple[dict[str, float], list[Tensor]]:
        learner = learner_of().float()
        single = EpisodeBatch(
            LabelledImages(batch.support.images.float(), batch.support.labels),
            LabelledImages(batch.query.images.float(), batch.query.labels),
            batch.classes,
            batch.support_drawings,
            batch.query_drawings,
        )
        learner.begin_outer_step(0, 1)
        values = accumulate_meta_gradient(learner, single, most)
        learner.end_outer_step()
        found = [weight.grad for weight in learner.parameters() if weight.grad is not None]
        return values, [*found, *learner.buffers()]

    values, tensors = taken(at_once)
    expected, theirs = taken(5)
    assert values["loss"] == expected["loss"]
    assert all(torch.equal(*pair) for pair in zip(tensors, theirs, strict=True))


@pytest.mark.parametrize("size", [5, 8, 12, 64])
def test_an_episode_has_the_same_bits_beside_others_as_alone(size):
    """Wherever its features begin in memory, which products of matrices depend on."""
    draw = torch.Generator().manual_seed(0)
    support, query, wanted = (
        torch.randn(5, count, width, generator=draw)
        for count, width in ((10, size), (7, size), (7, 5))
    )
    labels = (torch.arange(10) % 5).expand(5, -1)

    def answers(chosen: slice) -> tuple[Tensor, ...]:
        of_support, of_query = (of[chosen].clone().requires_grad_() for of in (support, query))
        head = RuleHead(ScaledMeans(), {})
        logits = head.logits(head.fit(of_support, labels[chosen], 5), of_query)
        slopes = torch.autograd.grad((logits * wanted[chosen]).sum(), (of_support, of_query))
        return logits.detach(), *slopes

    together = answers(slice(0, 5))
    for episode in range(5):
        alone = answers(slice(episode, episode + 1))
        for one, other in zip(alone, together, strict=True):
            assert torch.equal(one[0], other[episode])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rule", [ScaledMeans, NearestImage])
def test_predictions_are_the_rules_on_features_as_the_mode_normalises_them(mode, rule):
    learner, batch = trained(learner_of(rule())), random_episodes(2, size=16)
    adaptation = learner.adapt(batch.support, steps=1)
    found = learner.predict(adaptation, batch.query.images, batch_norm=mode)

    for number in range(2):
        support, query = batch.support.images[number], batch.query.images[number]
        features = learner.features(support[None], support[None], mode)[0]
        others = learner.features(query[None], support[None], mode)[0]
        fitted = learner.rule.fit(features, batch.support.labels[number], 3)
        assert far(found[number], learner.rule.logits(fitted, others)) <= 1e-10


@pytest.mark.parametrize("mode", MODES)
def test_other_query_images_change_a_prediction_where_batch_norm_does_alone(mode):
    learner, batch = trained(learner_of()), random_episodes(1, size=16)
    adaptation = learner.adapt(batch.support, steps=1)
    images = batch.query.images.clone()
    before = learner.predict(adaptation, images, batch_norm=mode)
    images[:, 1:] = images[:, 1:].flip(-1) * 0.5
    after = learner.predict(adaptation, images, batch_norm=mode)

    changed = not torch.allclose(before[:, 0], after[:, 0], rtol=1e-12, atol=0)
    assert changed == (mode == "transductive")
    if mode != "transductive":
        alone = learner.predict(adaptation, images[:, :1], batch_norm=mode)
        assert torch.allclose(alone, after[:, :1], rtol=1e-10)


def test_before_the_first_step_nothing_is_known_and_further_steps_change_nothing():
    learner, batch = trained(learner_of()), random_episodes(2, size=16)
    before, after, later = learner.trajectory(batch.support, steps=2)
    logits = [learner.predict(state, batch.query.images) for state in (before, after, later)]

    assert logits[0].shape == logits[1].shape and logits[0].abs().max() == 0
    assert torch.equal(logits[1], logits[2]) and logits[1].abs().max() > 0


def test_other_ways_and_shots_than_in_training_and_one_shot_are_taken():
    learner = trained(learner_of())
    for shape in (dict(ways=7, shots=1), dict(ways=2, shots=4)):
        batch = random_episodes(2, size=16, **shape)
        logits = learner.predict(learner.adapt(batch.support, steps=1), batch.query.images)
        assert logits.shape[-1] == shape["ways"] and bool(logits.isfinite().all())


@pytest.mark.parametrize("rule", [ScaledMeans, NearestImage])
@pytest.mark.parametrize("mode", ["running", "support"])
def test_the_module_of_an_episode_says_what_predict_says(rule, mode):
    learner, batch = trained(learner_of(rule())), random_episodes(2, size=16)
    adaptation = learner.adapt(batch.support, steps=1)
    plain = learner.as_module(adaptation, episode=1, batch_norm=mode)
    expected = learner.predict(adaptation, batch.query.images, batch_norm=mode)[1]
    with torch.no_grad():
        for weight in learner.parameters():
            weight.add_(1)

    assert far(plain(batch.query.images[1]), expected) <= 1e-10


def test_before_the_first_step_the_module_knows_nothing_either():
    learner, batch = trained(learner_of()), random_episodes(1, size=16)
    plain = learner.as_module(learner.adapt(batch.support, steps=0))
    assert plain(batch.query.images[0]).abs().max() == 0


@pytest.mark.parametrize("mode", ["support", "transductive"])
def test_where_another_mode_comes_first_training_normalises_by_it(mode):
    learner, batch = learner_of(batch_norm_modes=(mode,)), random_episodes(2, size=16)
    loss, _ = learner.meta_loss(batch)
    adaptation = learner.adapt(batch.support, steps=1)
    logits = learner.predict(adaptation, batch.query.images)
    expected = F.cross_entropy(logits.flatten(0, 1), batch.query.labels.flatten())

    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    assert not learner.gathered() and not list(learner.buffers())


@pytest.mark.parametrize("variant", [{}, {"downsample": "max-pool", "features": "flatten"}])
def test_the_fused_engine_has_the_reference_s_gradient(variant):
    torch.manual_seed(3)
    model = Conv4(5, filters=HOST.width, image_size=16, feature_norm=False, **variant)
    batch = random_episodes(3, size=16)
    exact = EpisodicFeatures(copy.deepcopy(model).double(), ScaledMeans().double())
    exact.engine = "reference"
    ours = EpisodicFeatures(model, ScaledMeans())
    ours.engine = "fused"
    single = EpisodeBatch(
        LabelledImages(batch.support.images.float(), batch.support.labels),
        LabelledImages(batch.query.images.float(), batch.query.labels),
        batch.classes,
        batch.support_drawings,
        batch.query_drawings,
    )
    found = gradients(ours, ours.meta_loss(single)[0])
    expected = gradients(exact, exact.meta_loss(batch)[0])

    def joined(of: dict[str, Tensor]) -> Tensor:
        return torch.cat([value.double().flatten() for value in of.values()])

    assert far(joined(found), joined(expected)) <= 1e-5


def test_a_network_that_cannot_be_cut_is_refused():
    with pytest.raises(ConfigError, match="embed"):
        EpisodicFeatures(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), ScaledMeans())


def test_targets_of_a_regression_are_refused():
    batch = random_episodes(1, size=16)
    targets = EpisodeBatch(
        LabelledImages(batch.support.images, batch.support.labels.double()),
        LabelledImages(batch.query.images, batch.query.labels.double()),
        batch.classes,
        batch.support_drawings,
        batch.query_drawings,
    )
    with pytest.raises(ConfigError, match="int64"):
        learner_of().meta_loss(targets)


def test_other_heads_and_parts_can_be_asked_for_and_rates_cannot():
    learner = trained(learner_of())
    assert learner.adapting() is learner
    assert type(learner.adapting("head", head="cosine")) is FrozenFeatures
    assert isinstance(learner.adapting("all", rate=0.1), MAML)
    with pytest.raises(ConfigError, match="in its own way"):
        learner.adapting("own", rate=0.1)


def test_the_callers_network_is_left_as_it_is():
    torch.manual_seed(3)
    model = Conv4(5, filters=6, image_size=16)
    EpisodicFeatures(model, ScaledMeans())
    assert all(layer.running_mean is None for layer in batch_norm_layers(model).values())


def test_statistics_that_a_network_keeps_already_are_gone_on_with():
    torch.manual_seed(3)
    model = Conv4(5, filters=6, image_size=16)
    keep_running_statistics(model)
    learner = EpisodicFeatures(model, ScaledMeans()).double()
    trained(learner, steps=1)
    assert batch_norm_layers(model)["norms.0"].running().mean.abs().max() > 0
