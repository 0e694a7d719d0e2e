"""What the laws of methods that pretrain on images of all training classes have in common."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from innerloop.data.images import FewShotDataset, LabelledImages
from innerloop.data.splits import find_split
from innerloop.experiments.experiment import Experiment
from innerloop.experiments.training import validator
from innerloop.methods.heads.pretrained import PretrainedFeatures
from innerloop.networks.conv4 import Conv4
from laws.test_meta_gradient import relative
from laws.test_transfer import PlainConv4, episodes, images_of_classes, network
from test_training import finished, new_run, new_training, outcome, stop_after, tiny_settings

Make = Callable[[Conv4], PretrainedFeatures]
SHAPES = [dict(ways=3, shots=2), dict(ways=3, shots=1), dict(ways=8, shots=1)]
"""Of episodes; the network tells 7 classes apart in pretraining."""


def pretrained(make: Make) -> PretrainedFeatures:
    """A learner in float64 whose running statistics are not those that it started with."""
    learner = make(network())
    for _ in range(20):
        learner.meta_loss(images_of_classes())
    return learner


def features_of(learner: PretrainedFeatures, images: Tensor) -> Tensor:
    """Features of one episode's images, by PyTorch's own layers in evaluation mode."""
    with torch.no_grad():
        return PlainConv4(learner.model).eval().embed(images)  # type: ignore[arg-type]


def predicted(learner: PretrainedFeatures, steps: int = 1, **shape: int) -> Tensor:
    """Logits of the query sets of three episodes."""
    batch = episodes(**shape)
    return learner.predict(learner.adapt(batch.support, steps=steps), batch.query.images)


def an_image_is_classified_alone_as_among_others(learner: PretrainedFeatures, steps: int) -> None:
    batch = episodes()
    adaptation = learner.adapt(batch.support, steps=steps)
    together = learner.predict(adaptation, batch.query.images)
    for number in range(batch.query.labels.shape[1]):
        alone = learner.predict(adaptation, batch.query.images[:, number : number + 1])
        assert torch.allclose(alone[:, 0], together[:, number], atol=1e-10)


def episodes_are_independent(learner: PretrainedFeatures, steps: int) -> None:
    batch, together = episodes(), predicted(learner, steps)
    for number in range(len(batch)):
        one = batch[number : number + 1]
        alone = learner.predict(learner.adapt(one.support, steps=steps), one.query.images)
        assert torch.allclose(alone[0], together[number], atol=1e-10)


def a_module_says_what_is_predicted(learner: PretrainedFeatures, steps: int) -> None:
    batch = episodes()
    adaptation = learner.adapt(batch.support, steps=steps)
    for number in range(len(batch)):
        module = learner.as_module(adaptation, episode=number)
        expected = learner.predict(adaptation, batch.query.images)[number]
        assert relative(module(batch.query.images[number]) - expected, expected) < 1e-10


def heads_can_be_exchanged(learner: PretrainedFeatures) -> None:
    """New heads of every kind, and parts of the body, on the very same weights."""
    batch = episodes()
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    ways: list[dict[str, Any]] = [
        dict(parts="head", rate=0.1),
        dict(parts="head", head="logistic"),
        dict(parts="head", head="cosine"),
        dict(parts="head+1", rate=0.1),
        dict(parts="all", rate=0.1),
    ]
    for way in ways:
        other = learner.adapting(**way)
        logits = other.predict(other.adapt(batch.support, steps=2), batch.query.images)
        assert other.model is learner.model
        assert torch.isfinite(logits).all()
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


def fused_is_the_reference(make: Make, steps: int) -> None:
    """One outer step's gradient and what it keeps, and a prediction, to 1e-5 of float64's."""
    pytest.importorskip("numba")
    torch.manual_seed(3)
    model = Conv4(7, filters=16, image_size=28, head_init="glorot")
    exact = make(copy.deepcopy(model).double())
    fused = make(model)
    fused.engine, exact.engine = "fused", "reference"
    batch = images_of_classes()
    large = torch.nn.functional.interpolate(batch.images, size=28)
    of_step = {}
    for learner, images in ((fused, large.float()), (exact, large)):
        loss, _ = learner.meta_loss(LabelledImages(images, batch.labels))
        weights = [*learner.parameters()]
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        given = torch.cat([of.flatten() for of in gradients if of is not None])
        support = LabelledImages(images[None, :6], torch.tensor([[0, 0, 1, 1, 2, 2]]))
        logits = learner.predict(learner.adapt(support, steps=steps), images[None, 6:])
        buffers = torch.cat([buffer.flatten() for buffer in learner.buffers()])
        of_step[learner] = [value.detach().double() for value in (given, buffers, logits)]
    for ours, theirs in zip(of_step[fused], of_step[exact], strict=True):
        assert relative(ours - theirs, theirs) <= 1e-5


def a_run_resumes_to_the_same_bits(
    method: str, drawings: FewShotDataset, tmp_path: Path, **changes: Any
) -> None:
    config = tiny_settings(method, image_size=28, batch_size=8, **changes)
    tiny = Experiment(config, drawings, find_split("alphabets", drawings))
    whole, run = finished(tiny, tmp_path / "whole"), new_run(tiny, tmp_path / "run")
    for step in (1, 4, 6):
        training = new_training(tiny, run)
        training.resume()
        training.train(validator(tiny), should_stop=stop_after(training, step))
    assert outcome(run) == outcome(whole)
