"""The laws of SimpleShot, each against an oracle of its own."""

import warnings
from typing import cast

import pytest
import torch

from innerloop.core.errors import ConfigError
from innerloop.experiments.state import MovingAverage, state_of
from innerloop.methods.catalogue import settings_of
from innerloop.methods.simpleshot.learner import SimpleShot
from laws import pretraining
from laws.pretraining import SHAPES, features_of, predicted, pretrained
from laws.test_transfer import PlainConv4, episodes, images_of_classes, network

TRANSFORMS = ["un", "l2n", "cl2n"]


def learner_of(transform: str = "cl2n") -> SimpleShot:
    """With a mean feature that is not zero: the network's own are standardised."""
    learner = cast(SimpleShot, pretrained(lambda model: SimpleShot(model, transform=transform)))  # type: ignore[arg-type]
    learner.rule.mean.add_(torch.linspace(-1, 1, 6))
    return learner


def transformed(features: torch.Tensor, mean: torch.Tensor, transform: str) -> torch.Tensor:
    rows = [row - mean if transform == "cl2n" else row for row in features]
    return torch.stack([row if transform == "un" else row / row.norm() for row in rows])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_class_is_scikit_learns_nearest_centroid_of_transformed_features(transform, shape):
    neighbors = pytest.importorskip("sklearn.neighbors")
    learner, batch = learner_of(transform), episodes(**shape)
    logits = predicted(learner, **shape)

    for number in range(len(batch)):
        support, query = (
            transformed(features_of(learner, part.images[number]), learner.rule.mean, transform)
            for part in (batch.support, batch.query)
        )
        theirs = neighbors.NearestCentroid()
        # It warns of the spread within classes, which may be zero and which it does not use here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs.fit(support.numpy(), batch.support.labels[number].numpy())
        assert logits[number].argmax(-1).tolist() == theirs.predict(query.numpy()).tolist()
        distances = torch.cdist(query, torch.from_numpy(theirs.centroids_)).square()
        # What is common to all classes of an image is left out of the logits.
        ours = logits[number] - logits[number].mean(-1, keepdim=True)
        expected = distances.mean(-1, keepdim=True) - distances
        assert torch.allclose(ours, expected, atol=1e-10)


def test_the_mean_feature_is_the_running_mean_of_mini_batches():
    learner, plain = SimpleShot(network()), PlainConv4(network())
    learner.model.feature_norm = None  # type: ignore[assignment]
    plain.feature_norm = torch.nn.Identity()
    expected = torch.zeros(6, dtype=torch.float64)

    for count in (12, 8, 10):
        batch = images_of_classes(count)
        learner.meta_loss(batch)
        expected = 0.9 * expected + 0.1 * plain.embed(batch.images).mean(0).detach()

    assert expected.norm() > 0.01
    assert torch.allclose(learner.rule.mean, expected, rtol=1e-9)


def test_the_mean_feature_is_saved_and_averaged_with_the_weights():
    learner = SimpleShot(network())
    learner.model.feature_norm = None  # type: ignore[assignment]
    average = MovingAverage(learner, 0.5)
    means = []
    for step in (1, 2):
        learner.meta_loss(images_of_classes())
        average.update(learner, step)
        means.append(learner.rule.mean.clone())

    assert torch.equal(state_of(learner)["rule.mean"], means[1])
    # In the second step the average is 1/11 of the first and 10/11 of the second.
    assert torch.allclose(average.weights["rule.mean"], (means[0] + 10 * means[1]) / 11)


def test_nothing_is_known_before_a_step_and_nothing_changes_after_one():
    learner, batch = learner_of(), episodes()
    zero, one, three = (predicted(learner, steps) for steps in (0, 1, 3))
    adaptation = learner.adapt(batch.support, steps=1)

    assert zero.abs().max() == 0
    assert torch.equal(one, three)
    assert adaptation.support_accuracy[:, 0].tolist() == pytest.approx([1 / 3] * 3)


def test_a_feature_at_the_mean_itself_is_no_nan():
    learner, batch = learner_of(), episodes()
    learner.rule.mean.copy_(features_of(learner, batch.support.images[0])[0])

    assert torch.isfinite(predicted(learner)).all()


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_no_prediction_depends_on_other_images_and_no_episode_on_others(transform):
    pretraining.an_image_is_classified_alone_as_among_others(learner_of(transform), 1)
    pretraining.episodes_are_independent(learner_of(transform), 1)


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_module_says_what_is_predicted(transform, steps):
    if steps:
        pretraining.a_module_says_what_is_predicted(learner_of(transform), steps)
    else:
        batch, learner = episodes(), learner_of(transform)
        module = learner.as_module(learner.adapt(batch.support, steps=0))
        assert module(batch.query.images[0]).abs().max() == 0


def test_other_heads_are_found_on_the_same_features():
    pretraining.heads_can_be_exchanged(learner_of())


def test_the_fused_engine_is_the_reference():
    pretraining.fused_is_the_reference(SimpleShot, 1)


def test_a_run_resumes_to_the_same_bits(drawings, tmp_path):
    pretraining.a_run_resumes_to_the_same_bits("simpleshot", drawings, tmp_path)


def test_every_outer_step_is_the_same_operations_but_of_a_subclass_nothing_is_known():
    class Other(SimpleShot):
        pass

    assert (SimpleShot(network()).step_signature(), Other(network()).step_signature()) == ((), None)


def test_the_setting_reaches_the_rule():
    config = settings_of("simpleshot", transform="l2n")

    assert SimpleShot.from_config(config, network()).rule.transform == "l2n"


def test_an_unknown_transform_is_refused():
    with pytest.raises(ConfigError, match="transform must be"):
        SimpleShot(network(), transform="zscore")  # type: ignore[arg-type]
