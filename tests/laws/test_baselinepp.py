"""The laws of Baseline++, each against an oracle of its own."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.methods.baselinepp.learner import BaselinePP
from innerloop.methods.catalogue import settings_of
from innerloop.networks.conv4 import Conv4
from laws import pretraining
from laws.pretraining import SHAPES, features_of, predicted, pretrained
from laws.test_meta_gradient import relative
from laws.test_transfer import PlainConv4, episodes, images_of_classes, network


def learner_of(**settings: Any) -> BaselinePP:
    return cast(BaselinePP, pretrained(lambda model: BaselinePP(model, **settings)))


def scaled_cosines(features: Tensor, weight: Tensor, scale: float) -> Tensor:
    """One image and one class at a time."""
    return torch.stack(
        [
            torch.stack([scale * (f @ w) / (f.norm() * w.norm() + 1e-300) for w in weight])
            for f in features
        ]
    )


def test_pretraining_is_the_cross_entropy_of_scaled_cosines():
    learner, plain = BaselinePP(network(), training_scale=7.0), PlainConv4(network())
    batch = images_of_classes()
    loss, logged = learner.meta_loss(batch)
    logits = scaled_cosines(plain.embed(batch.images), plain.head.weight, 7.0)
    expected = F.cross_entropy(logits, batch.labels)

    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert logged["accuracy"].item() == pytest.approx(
        (logits.argmax(1) == batch.labels).double().mean().item()
    )
    loss.backward()
    expected.backward()
    for name, weight in plain.named_parameters():
        ours = learner.model.get_parameter(name).grad
        if name == "head.bias":
            assert ours is None and weight.grad is None
        else:
            assert ours is not None and weight.grad is not None
            assert relative(ours - weight.grad, weight.grad) < 1e-10, name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_heads_steps_are_gradient_descent_on_scaled_cosines(shape):
    learner, batch = learner_of(scale=3.0, inner_lr=0.7), episodes(**shape)
    *_, adaptation = learner.trajectory(batch.support, steps=4)
    logits = learner.predict(adaptation, batch.query.images)

    for number in range(len(batch)):
        labels = batch.support.labels[number]
        support = features_of(learner, batch.support.images[number])
        ways = int(labels.max()) + 1
        weight = torch.empty(ways, 6)
        nn.init.xavier_uniform_(weight, generator=torch.Generator().manual_seed(0))
        weight = nn.Parameter(weight.double())
        optimiser = torch.optim.SGD([weight], lr=0.7)
        losses = []
        for _ in range(4):
            optimiser.zero_grad()
            loss = F.cross_entropy(scaled_cosines(support, weight, 3.0), labels)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())

        query = features_of(learner, batch.query.images[number])
        assert adaptation.support_loss[number, :4].tolist() == pytest.approx(losses, rel=1e-9)
        assert torch.allclose(logits[number], scaled_cosines(query, weight, 3.0), atol=1e-9)


def test_no_prediction_depends_on_other_images_and_no_episode_on_others():
    pretraining.an_image_is_classified_alone_as_among_others(learner_of(), 5)
    pretraining.episodes_are_independent(learner_of(), 5)


@pytest.mark.parametrize("steps", [0, 5])
def test_a_module_says_what_is_predicted(steps):
    pretraining.a_module_says_what_is_predicted(learner_of(scale=3.0), steps)


def test_other_heads_are_found_on_the_same_features():
    pretraining.heads_can_be_exchanged(learner_of())


def test_its_own_head_can_have_another_rate_and_no_other_start():
    learner = learner_of(inner_lr=0.7)
    batch = episodes()
    slower = learner.adapting(rate=0.1)
    expected = predicted(learner_of(inner_lr=0.1), 3)

    assert torch.equal(
        slower.predict(slower.adapt(batch.support, steps=3), batch.query.images), expected
    )
    assert not torch.equal(predicted(learner, 3), expected)
    with pytest.raises(ConfigError, match="another rate or head needs something to adapt"):
        learner.adapting(head_init="glorot")


def test_the_fused_engine_is_the_reference():
    pretraining.fused_is_the_reference(BaselinePP, 5)


def test_a_run_resumes_to_the_same_bits(drawings, tmp_path):
    pretraining.a_run_resumes_to_the_same_bits("baselinepp", drawings, tmp_path)


def test_every_setting_reaches_the_learner():
    values: dict[str, Any] = dict(scale=3.0, training_scale=7.0, inner_lr=0.5, inner_steps=9)
    learner = BaselinePP.from_config(settings_of("baselinepp", **values), network())

    assert {name: getattr(learner, name) for name in values} == values


def test_a_class_without_a_direction_is_refused():
    with pytest.raises(ConfigError, match=r"zero has no cosine.*--head-init glorot"):
        BaselinePP(Conv4(7, image_size=16, filters=6))


def test_an_image_without_features_is_no_nan():
    learner, batch = learner_of(), episodes()
    learner.model.feature_norm = None  # type: ignore[assignment]
    batch.support.images.zero_()
    with torch.no_grad():
        for norm in learner.model.norms:  # type: ignore[union-attr]
            norm.weight.zero_()
    head = learner.adapt(batch.support, steps=3)

    assert learner.predict(head, batch.query.images).abs().max() == 0
    assert torch.isfinite(head.fast_weights["weight"]).all()


def test_every_outer_step_is_the_same_operations_but_of_a_subclass_nothing_is_known():
    class Other(BaselinePP):
        pass

    assert (BaselinePP(network()).step_signature(), Other(network()).step_signature()) == ((), None)
