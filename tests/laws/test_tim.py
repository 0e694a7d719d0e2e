"""The laws of TIM, each against an oracle of its own."""

import math
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.data.splits import find_split
from innerloop.experiments.experiment import Experiment
from innerloop.methods.catalogue import settings_of, title_of
from innerloop.methods.tim.informed import InformedHead
from innerloop.methods.tim.learner import TIM
from innerloop.methods.variants import Variant
from laws import pretraining
from laws.pretraining import SHAPES, features_of, predicted, pretrained
from laws.test_transfer import episodes, images_of_classes, network
from test_training import tiny_settings

QUICK: dict[str, Any] = dict(steps=20, rate=0.01)


def learner_of(**objective: Any) -> TIM:
    return cast(TIM, pretrained(lambda model: TIM(model, **(QUICK | objective))))


def logits_of(weight: Tensor, z: Tensor, temperature: float) -> Tensor:
    return -temperature / 2 * (z[:, None] - weight).square().sum(-1)


def objective(head: InformedHead, weight: Tensor, support: Tensor, labels: Tensor, query: Tensor):
    """λ CE - γ H(Y) + α H(Y | X) of one episode, with PyTorch's own entropies."""
    cross_entropy = F.cross_entropy(logits_of(weight, support, head.temperature), labels)
    of_query = Categorical(logits=logits_of(weight, query, head.temperature))
    marginal = Categorical(probs=of_query.probs.mean(0))
    return (
        head.support_weight * cross_entropy
        - head.marginal_weight * marginal.entropy()
        + head.conditional_weight * of_query.entropy().mean()
    )


def directions(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(2, count, 6, generator=generator, dtype=torch.float64), dim=-1)


@pytest.mark.parametrize(
    "weights",
    [
        dict(),
        dict(support_weight=0.0, conditional_weight=0.0),
        dict(support_weight=0.0, marginal_weight=0.0, conditional_weight=1.0),
        dict(support_weight=2.0, marginal_weight=0.7, conditional_weight=0.3, temperature=3.0),
    ],
    ids=str,
)
def test_the_gradient_is_that_of_the_objective_by_autograd(weights):
    head, weight = InformedHead(**weights), directions(3, 0)
    support, query = directions(7, 1), directions(9, 2)
    labels = torch.arange(7) % 3
    targets = F.one_hot(labels).double().expand(2, -1, -1)
    ours = head.gradient(weight, support, targets, query)

    for episode in range(2):
        leaf = weight[episode].clone().requires_grad_()
        value = objective(head, leaf, support[episode], labels, query[episode])
        (expected,) = torch.autograd.grad(value, leaf)
        assert (ours[episode] - expected).norm() <= 1e-10 * expected.norm()


def test_the_entropies_gradient_vanishes_where_they_are_largest_or_least():
    """By hand: query images between all classes have H(Y) = H(Y | X) = log 3, the largest that
    there is; far from all but one class each, and as many with each, H(Y | X) is 0."""
    weight = torch.eye(3, 6, dtype=torch.float64)[None]
    nothing = torch.zeros(1, 1, 6).double(), torch.full((1, 1, 3), 1 / 3).double()
    between = torch.ones(1, 4, 6).double() / math.sqrt(6)
    head = InformedHead(support_weight=0.0, conditional_weight=0.5)
    sure = replace(head, temperature=500.0)

    assert objective(head, weight[0], between[0, :1], torch.tensor([0]), between[0]).item() == (
        pytest.approx(-math.log(3) + 0.5 * math.log(3), rel=1e-12)
    )
    assert head.gradient(weight, *nothing, between).abs().max() < 1e-12
    assert objective(sure, weight[0], weight[0, :1], torch.tensor([0]), weight[0]).item() == (
        pytest.approx(-math.log(3), rel=1e-12)
    )
    assert sure.gradient(weight, *nothing, weight).abs().max() < 1e-12


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_predictions_are_those_of_a_plain_loop_with_pytorchs_adam(shape):
    learner, batch = learner_of(), episodes(**shape)
    logits = predicted(learner, **shape)

    for number in range(len(batch)):
        labels = batch.support.labels[number]
        support, query = (
            F.normalize(features_of(learner, part.images[number]), dim=-1)
            for part in (batch.support, batch.query)
        )
        means = [support[labels == k].mean(0) for k in range(int(labels.max()) + 1)]
        weight = nn.Parameter(torch.stack(means))
        optimiser = torch.optim.Adam([weight], lr=0.01)
        values = []
        for _ in range(20):
            optimiser.zero_grad()
            value = objective(learner.informed, weight, support, labels, query)
            value.backward()
            optimiser.step()
            values.append(value.item())
        expected = logits_of(weight, query, learner.informed.temperature).softmax(-1)
        assert torch.allclose(logits[number].softmax(-1), expected, atol=1e-9)
        assert values[-1] < values[0]


def test_without_its_query_terms_it_fits_the_support_set_alone():
    """So that an image is classified alone as among others."""
    learner, batch = learner_of(marginal_weight=0.0, conditional_weight=0.0), episodes()
    together = predicted(learner)
    head = learner.adapt(batch.support, steps=1)
    halves = [learner.predict(head, part) for part in batch.query.images.split(6, dim=1)]
    before, after = (
        F.cross_entropy(
            learner.predict(
                learner.adapt(batch.support, steps=steps), batch.support.images
            ).flatten(0, 1),
            batch.support.labels.flatten(),
        )
        for steps in (0, 1)
    )

    assert torch.allclose(torch.cat(halves, 1), together, atol=1e-12)
    assert after < before


def test_its_predictions_depend_on_the_other_images_unless_no_step_is_taken():
    learner, batch = learner_of(), episodes()
    head = learner.adapt(batch.support, steps=1)
    half = learner.predict(head, batch.query.images[:, :6])

    assert (half - learner.predict(head, batch.query.images)[:, :6]).abs().max() > 1e-3
    pretraining.an_image_is_classified_alone_as_among_others(learner, 0)


def test_before_a_step_the_class_is_that_of_the_nearest_mean():
    neighbors = pytest.importorskip("sklearn.neighbors")
    learner, batch = learner_of(), episodes()
    logits = predicted(learner, 0)

    for number in range(len(batch)):
        support, query = (
            F.normalize(features_of(learner, part.images[number]), dim=-1).numpy()
            for part in (batch.support, batch.query)
        )
        theirs = neighbors.NearestCentroid().fit(support, batch.support.labels[number].numpy())
        assert logits[number].argmax(-1).tolist() == theirs.predict(query).tolist()


def test_further_steps_change_nothing_and_no_weight_is_changed():
    learner = learner_of()
    before = {name: value.clone() for name, value in learner.state_dict().items()}

    assert torch.equal(predicted(learner, 1), predicted(learner, 4))
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


def test_the_order_of_the_query_images_changes_nothing_but_the_order():
    learner, batch = learner_of(), episodes()
    head = learner.adapt(batch.support, steps=1)
    turned = learner.predict(head, batch.query.images.flip(1)).flip(1)

    assert torch.allclose(turned, learner.predict(head, batch.query.images), atol=1e-9)


def test_episodes_do_not_depend_on_one_another():
    pretraining.episodes_are_independent(learner_of(), 1)


def test_one_image_alone_is_refused_once_the_others_count():
    learner, batch = learner_of(), episodes()

    with pytest.raises(ConfigError, match=r"one image alone tells it nothing.*adapt by 0 steps"):
        learner.predict(learner.adapt(batch.support, steps=1), batch.query.images[:, :1])


def test_query_sets_with_more_images_of_one_class_are_learnt_from_with_a_warning():
    learner, batch = learner_of(), episodes()
    keep = torch.arange(9)  # of three classes 4, 4 and 1
    query = LabelledImages(batch.query.images[:, keep], batch.query.labels[:, keep])
    fewer = EpisodeBatch(
        batch.support, query, batch.classes, batch.support_drawings, batch.query_drawings
    )

    learner.transfer_learn(batch)
    with pytest.warns(UserWarning, match="Query sets have 1 to 4 images of a class"):
        _, measured = learner.transfer_learn(fewer)
    assert torch.isfinite(measured["query_accuracy_after"]).all()


def test_there_is_no_module_of_predictions_that_depend_on_one_another():
    learner, batch = learner_of(), episodes()

    with pytest.raises(ConfigError, match="TIM cannot turn an adaptation into a module"):
        learner.as_module(learner.adapt(batch.support, steps=1))


def test_pretraining_is_that_of_smoothed_labels():
    batch = images_of_classes()
    smooth, plain = TIM(network()), TIM(network(), label_smoothing=0.0)
    (loss, _), (sharp, _) = smooth.meta_loss(batch), plain.meta_loss(batch)
    logits = plain.class_logits(plain.model.embed(batch.images))  # type: ignore[operator]
    uniform = -logits.log_softmax(-1).mean()

    assert loss.item() == pytest.approx((0.9 * sharp + 0.1 * uniform).item(), rel=1e-12)


def test_every_setting_reaches_the_objective_and_the_pretraining():
    values: dict[str, Any] = dict(
        support_weight=0.3, marginal_weight=0.8, conditional_weight=0.4, temperature=7.0
    )
    config = settings_of("tim", query_steps=9, query_lr=0.02, label_smoothing=0.25, **values)
    learner = TIM.from_config(config, network())

    assert learner.informed == InformedHead(steps=9, rate=0.02, **values)
    assert learner.label_smoothing == 0.25
    usual = TIM.from_config(settings_of("tim"), network())
    assert usual.informed == InformedHead()


def test_titles_and_rows_say_that_it_is_transductive_but_not_those_of_other_heads(drawings):
    tiny = Experiment(tiny_settings("tim"), drawings, find_split("alphabets", drawings))

    assert title_of("tim") == "TIM (transductive)"
    assert tiny.origin().transductive
    assert not tiny.origin(Variant(adapts="head", head="logistic")).transductive


def test_other_heads_are_found_on_the_same_features():
    pretraining.heads_can_be_exchanged(learner_of())


def test_the_fused_engine_is_the_reference():
    """Of features; Adam's first step has the length of its rate however small a gradient is, so
    that later ones amplify rounding."""
    pretraining.fused_is_the_reference(lambda model: TIM(model, **QUICK), 0)  # type: ignore[arg-type]


def test_a_run_resumes_to_the_same_bits(drawings, tmp_path):
    pretraining.a_run_resumes_to_the_same_bits("tim", drawings, tmp_path, query_steps=5)


def test_every_outer_step_is_the_same_operations_but_of_a_subclass_nothing_is_known():
    class Other(TIM):
        pass

    assert (TIM(network()).step_signature(), Other(network()).step_signature()) == ((), None)
