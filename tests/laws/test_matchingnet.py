"""The laws of matching networks, against the paper's equations image by image, in float64."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.fused_cpu.compiling import HOST
from innerloop.methods.catalogue import settings_of
from innerloop.methods.matchingnet.context import FullContext, in_rounds
from innerloop.methods.matchingnet.learner import Attention, MatchingNet
from innerloop.networks.conv4 import Conv4
from laws.agreement import engines_apart, far
from laws.test_meta_gradient import random_episodes
from laws.test_sums import assert_same_bits_however_divided, five_episodes

WAYS = 3


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def cosine(one: Tensor, other: Tensor) -> Tensor:
    return one @ other / ((one @ one).sqrt() * (other @ other).sqrt())


def probabilities(query: Tensor, memory: Tensor, labels: Tensor, scale: float) -> Tensor:
    """Equation 1, an image at a time: p = sum over i of a(x, x_i) y_i."""
    rows = []
    for image in query:
        weights = [(scale * cosine(image, other)).exp() for other in memory]
        p = [torch.zeros((), dtype=torch.float64)] * WAYS
        for weight, label in zip(weights, labels.tolist(), strict=True):
            p[label] = p[label] + weight / torch.stack(weights).sum()
        rows.append(torch.stack(p))
    return torch.stack(rows)


def lstm(cell: nn.LSTMCell, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM without peepholes, by its equations."""
    gates = cell.weight_ih @ x + cell.bias_ih + cell.weight_hh @ h + cell.bias_hh
    entry, forget, candidate, output = gates.split(len(h))
    c = forget.sigmoid() * c + entry.sigmoid() * candidate.tanh()
    return output.sigmoid() * c.tanh(), c


def context_of(features: int, steps: int = 3) -> FullContext:
    torch.manual_seed(2)
    return FullContext(features, steps).double()


def by_context(
    context: FullContext, query: Tensor, support: Tensor, ways: int
) -> tuple[Tensor, Tensor]:
    """f and g of appendix A, an image at a time."""
    order = in_rounds(len(support), ways)
    zero = torch.zeros_like(support[0])
    memory = list(support)
    for cell, places in ((context.forwards, order), (context.backwards, order[::-1])):
        h, c = zero, zero
        for place in places:
            h, c = lstm(cell, support[place], h, c)
            memory[place] = memory[place] + h
    rows = []
    for image in query:
        h, c = image, zero
        for _ in range(context.steps):
            weights = torch.stack([(h @ other).exp() for other in memory])
            pairs = zip(weights / weights.sum(), memory, strict=True)
            read = torch.stack([weight * other for weight, other in pairs]).sum(0)
            output, c = lstm(context.reader, torch.cat([image, read]), h, c)
            h = output + image
        rows.append(h)
    return torch.stack(rows), torch.stack(memory)


UNEQUAL = torch.tensor([0, 1, 1, 2, 2, 2, 2])
"""Classes of one, two and four images."""


@pytest.mark.parametrize("full_context", [False, True])
@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_logits_are_logarithms_of_attention_to_support_labels(full_context, scale):
    """With classes of different sizes, where a softmax over classes would say something else."""
    support, query = draw(7, 5), draw(4, 5, seed=1)
    context = context_of(5) if full_context else None
    rule = Attention(scale, learn_scale=False, context=context)

    logits = rule.logits(rule.fit(support, UNEQUAL, WAYS), query)

    f, g = by_context(context, query, support, WAYS) if context else (query, support)
    expected = probabilities(f, g, UNEQUAL, scale)
    assert torch.allclose(logits.exp(), expected, rtol=0, atol=1e-10)
    assert torch.allclose(logits.exp().sum(1), torch.ones(4).double(), rtol=0, atol=1e-12)
    labels = torch.tensor([2, 0, 1, 1])
    likelihood = -expected[torch.arange(4), labels].log().mean()
    assert torch.allclose(rule.loss(logits, labels), likelihood, rtol=0, atol=1e-10)


def test_a_class_has_the_attention_that_all_of_its_images_get():
    """Equal images get equal attention: what is left are the numbers of labels."""
    rule = Attention(1.0, learn_scale=False)
    same = torch.ones(7, 5).double()

    logits = rule.logits(rule.fit(same, UNEQUAL, WAYS), same[:1])

    assert torch.allclose(logits.exp(), torch.tensor([[1, 2, 4]]).double() / 7)


def test_a_probability_that_rounds_to_zero_has_a_logarithm():
    support = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    rule = Attention(1000.0, learn_scale=False)

    logits = rule.logits(rule.fit(support, torch.tensor([0, 1]), 2), torch.tensor([[1.0, 0.0]]))
    (gradient,) = torch.autograd.grad(rule.loss(logits, torch.tensor([1])), support)

    assert logits[0].tolist() == [0.0, -2000.0]
    assert bool(gradient.isfinite().all())


def test_features_of_zero_have_probabilities_and_a_gradient():
    support = torch.zeros(4, 3, requires_grad=True)
    rule = Attention(1.0, learn_scale=False, context=None)

    logits = rule.logits(rule.fit(support, torch.arange(4) % 2, 2), torch.zeros(2, 3))
    (gradient,) = torch.autograd.grad(rule.loss(logits, torch.tensor([0, 1])), support)

    assert torch.allclose(logits, torch.full((2, 2), -math.log(2)))
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize(
    ("count", "ways", "expected"),
    [
        (6, 3, [0, 2, 4, 1, 3, 5]),
        (5, 5, [0, 1, 2, 3, 4]),
        (7, 3, [0, 3, 6, 1, 4, 2, 5]),
        (4, 1, [0, 1, 2, 3]),
    ],
)
def test_the_support_set_is_read_in_rounds(count, ways, expected):
    """One image of each class after another, if they lie class by class with as many of each."""
    assert in_rounds(count, ways) == expected


def test_support_embeddings_are_those_of_pytorchs_bidirectional_lstm():
    context, support = context_of(4), draw(6, 4)
    theirs = nn.LSTM(4, 4, bidirectional=True).double()
    for suffix, cell in (("", context.forwards), ("_reverse", context.backwards)):
        for name, weight in cell.named_parameters():
            getattr(theirs, f"{name}_l0{suffix}").data.copy_(weight)
    order = in_rounds(6, 3)

    hidden, _ = theirs(support[order])

    expected = support[order] + hidden[:, :4] + hidden[:, 4:]
    assert torch.allclose(context.embed_support(support, 3)[order], expected, rtol=0, atol=1e-12)


def test_without_reading_steps_a_query_is_its_features():
    query = draw(2, 4)

    assert torch.equal(context_of(4, steps=0).embed_queries(query, draw(6, 4)), query)


# Learners


def learner_of(
    *, image_size: int = 16, filters: int = 4, last_relu: bool = True, **settings
) -> MatchingNet:
    torch.manual_seed(4)
    network = Conv4(
        3,
        filters=filters,
        image_size=image_size,
        features="flatten",
        last_relu=last_relu,
        feature_norm=False,
    )
    return MatchingNet(network, **settings)


VARIANTS = {
    "plain": {},
    "a learnt scale": {"scale": 5.0, "learn_scale": True},
    "full context": {"full_context": True, "reading_steps": 2},
}


def plain_loss(learner: MatchingNet, episodes: EpisodeBatch) -> Tensor:
    """The objective image by image, by the module's own parameters."""
    network, rule = learner.model, learner.rule
    assert isinstance(network, Conv4) and isinstance(rule, Attention)
    losses = []
    for episode in range(len(episodes)):
        support, query = episodes.support, episodes.query
        both = torch.cat([support.images[episode], query.images[episode]])
        features = network.embed(both)
        of_support, of_query = features[: support.images.shape[1]], features[6:]
        if rule.context:
            of_query, of_support = by_context(rule.context, of_query, of_support, WAYS)
        p = probabilities(of_query, of_support, support.labels[episode], rule.scale)  # pyright: ignore[reportArgumentType]
        for row, label in zip(p, query.labels[episode].tolist(), strict=True):
            losses.append(-row[label].log())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("name", VARIANTS)
def test_loss_and_meta_gradient_are_those_of_a_loop_over_images(name):
    learner = learner_of(**VARIANTS[name]).double()
    episodes = random_episodes(2, size=16)
    loss, _ = learner.meta_loss(episodes)
    expected = plain_loss(learner, episodes)

    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    names = list(learner.params)
    found = torch.autograd.grad(loss, list(learner.params.values()))
    theirs = torch.autograd.grad(expected, list(learner.params.values()))
    for of, one, other in zip(names, found, theirs, strict=True):
        assert (one - other).norm() <= 1e-10 * max(1.0, float(other.norm())), of
        assert other.norm() > 0, of


@pytest.mark.parametrize("name", VARIANTS)
def test_the_meta_gradient_is_that_of_finite_differences(name):
    """Of the weights behind the last kink of a rectifier, across which differences are another."""
    learner = learner_of(last_relu=False, **VARIANTS[name]).double()
    episodes = random_episodes(2, size=16)
    loss, _ = learner.meta_loss(episodes)
    smooth = ("model.convs.3.", "model.norms.3.", "rule.")
    weights = {of: weight for of, weight in learner.params.items() if of.startswith(smooth)}
    gradients = torch.autograd.grad(loss, list(weights.values()))
    for number, (of, weight) in enumerate(weights.items()):
        direction = draw(*weight.shape, seed=number)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight.add_(sign * 1e-6 * direction)
                values.append(float(learner.meta_loss(episodes)[0]))
                weight.sub_(sign * 1e-6 * direction)
        slope = (values[0] - values[1]) / 2e-6
        assert slope == pytest.approx(float((gradients[number] * direction).sum()), abs=1e-7), of


@pytest.mark.parametrize("mode", ["running", "support"])
@pytest.mark.parametrize("full_context", [False, True])
def test_a_prediction_depends_on_no_other_query_and_on_no_order_of_them(full_context, mode):
    learner, episodes = learner_of(full_context=full_context).double(), random_episodes(2, size=16)
    adaptation = learner.adapt(episodes.support, steps=1)
    images = episodes.query.images
    order = torch.randperm(images.shape[1], generator=torch.Generator().manual_seed(0))

    logits = learner.predict(adaptation, images, batch_norm=mode)
    turned = learner.predict(adaptation, images[:, order], batch_norm=mode)
    alone = learner.predict(adaptation, images[:, 3:4], batch_norm=mode)

    assert torch.allclose(turned, logits[:, order], rtol=0, atol=1e-12)
    assert torch.allclose(alone, logits[:, 3:4], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [dict(ways=7, shots=1), dict(ways=2, shots=4)])
@pytest.mark.parametrize("full_context", [False, True])
def test_other_ways_and_shots_than_in_training_are_predicted(full_context, shape):
    learner, episodes = learner_of(full_context=full_context).double(), random_episodes(2, size=16)
    learner.meta_loss(episodes)
    learner.end_outer_step()
    others = random_episodes(2, size=16, **shape)

    logits = learner.predict(learner.adapt(others.support, steps=1), others.query.images)

    assert torch.allclose(logits.exp().sum(-1), torch.ones(2, 4 * shape["ways"]).double())


@pytest.mark.parametrize("full_context", [False, True])
def test_the_module_of_an_episode_says_what_predict_says(full_context):
    learner = learner_of(full_context=full_context, scale=3.0, learn_scale=True).double()
    episodes = random_episodes(2, size=16)
    adaptation = learner.adapt(episodes.support, steps=1)
    expected = learner.predict(adaptation, episodes.query.images)[1]

    plain = learner.as_module(adaptation, episode=1)
    with torch.no_grad():
        for weight in learner.parameters():
            weight.add_(1)

    assert far(plain(episodes.query.images[1]), expected) <= 1e-10


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_an_outer_step_has_the_same_bits_however_its_episodes_are_divided(name, engine):
    def make() -> MatchingNet:
        learner = learner_of(image_size=28, filters=HOST.width, **VARIANTS[name])
        learner.engine = engine
        learner.begin_outer_step(0, 10)
        return learner

    assert_same_bits_however_divided(make, five_episodes())


@pytest.mark.parametrize("name", VARIANTS)
def test_the_fused_engine_has_the_references_meta_gradient(name):
    learner = learner_of(filters=HOST.width, **VARIANTS[name])

    assert engines_apart(learner, random_episodes(3, shots=4, queries=6, size=16)) <= 1e-5


def test_before_the_support_set_is_seen_all_classes_are_alike():
    learner, episodes = learner_of().double(), random_episodes(1, size=16)
    adaptation = learner.adapt(episodes.support, steps=1)

    assert adaptation.support_loss[0, 0].item() == pytest.approx(math.log(WAYS))
    assert adaptation.support_loss[0, 1] < adaptation.support_loss[0, 0]


def test_full_context_on_a_network_that_hides_its_number_of_features_is_refused():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def embed(self, images: Tensor) -> Tensor:
            return self.layer(images.flatten(1))

    assert MatchingNet(Hidden()).params
    with pytest.raises(ConfigError, match="Hidden does not say how many features it gives"):
        MatchingNet(Hidden(), full_context=True)


@pytest.mark.parametrize("setting", [{"reading_steps": -1}, {"scale": 0.0}])
def test_settings_that_mean_nothing_are_refused(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        learner_of(**setting)
    with pytest.raises(ConfigError, match=next(iter(setting))):
        settings_of("matchingnet", **setting)


def test_a_scale_that_is_not_learnt_is_no_weight():
    assert not any(name.startswith("rule.") for name in learner_of(scale=4.0).state_dict())
    assert "rule.scale" in learner_of(learn_scale=True).params


def test_a_support_set_of_one_class_more_than_once_is_no_error():
    labels = np.array([0, 0, 1])
    support = LabelledImages(torch.rand(1, 3, 1, 16, 16).double(), torch.tensor(labels)[None])
    learner = learner_of(full_context=True).double()

    logits = learner.predict(learner.adapt(support, steps=1), support.images)

    assert F.cross_entropy(logits[0], support.labels[0]).isfinite()
