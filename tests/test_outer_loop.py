"""`meta_train`: the outer loop on anybody's episodes is that of every training."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError, DataError, InnerloopError, NonFiniteError
from innerloop.core.seeding import stream
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.experiments.outer_loop import meta_train
from innerloop.experiments.training import validator
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.maml.learner import MAML
from innerloop.methods.reptile.learner import Reptile
from innerloop.networks.conv4 import Conv4
from test_training import experiment, new_run, new_training, same, small, weights_of

__all__ = ["experiment", "small"]  # fixtures


class Lines:
    """Straight lines through the origin, counted: y = slope * x, of five points each."""

    slope = 1.0

    def points(self, index: int, part: str) -> Tensor:
        slope = stream(0, "lines", index).normal(self.slope)
        x = torch.from_numpy(stream(0, f"lines/{part}", index).normal(size=(5, 1))).float()
        return torch.cat([x, slope * x], dim=1)

    def labelled(self, numbers: range, part: str) -> LabelledImages:
        x, y = torch.stack([self.points(index, part) for index in numbers]).split(1, dim=-1)
        return LabelledImages(x, y)

    def batch(self, start: int, count: int) -> EpisodeBatch:
        numbers = range(start, start + count)
        return EpisodeBatch.of_regression(
            self.labelled(numbers, "support"), self.labelled(numbers, "query")
        )


OF_LINES: dict[str, Any] = dict(inner_lr=0.1, inner_steps=1, loss_fn=F.mse_loss)


def learner(**changes: Any) -> MAML:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    return MAML(model, **OF_LINES | changes)


USUAL: dict[str, Any] = dict(meta_steps=6, meta_batch_size=3)


def trained(**changes: Any) -> dict[str, Tensor]:
    of_lines = learner()
    meta_train(of_lines, Lines(), **USUAL | changes)
    return weights_of(of_lines)


@pytest.mark.parametrize("changes", [{}, {"averaging": 0.0, "clip_gradient": 0.1}])
def test_it_takes_the_steps_of_a_run_to_the_bit(experiment, tmp_path, changes):
    tiny = experiment(**changes)
    run = new_training(tiny, new_run(tiny, tmp_path / "run"))
    recorded = []
    run.train(validator(tiny), on_step=lambda step, record: recorded.append(record))
    alone = tiny.build_learner()
    training = tiny.config.training

    history = meta_train(
        alone,
        tiny.training_sampler(),
        meta_steps=training.meta_steps,
        meta_batch_size=tiny.config.own.batch,
        outer_lr=training.outer_lr,
        averaging=training.averaging,
        clip_gradient=training.clip_gradient,
        episodes_per_chunk=1,
    )

    assert same(weights_of(alone), weights_of(run.learner))
    losses = [record["loss"] for record in recorded if record["kind"] == "train"]
    assert [metrics["loss"] for metrics in history] == losses


@pytest.mark.parametrize("chunk", [1, 2])
def test_chunks_change_no_bit(chunk):
    assert same(trained(episodes_per_chunk=chunk), trained())


class Killed(Exception):
    """In the place of a kill."""


@pytest.mark.parametrize("averaging", [0.0, 0.98])
def test_a_training_that_goes_on_ends_as_one_that_never_stopped(tmp_path, averaging):
    def kill(step: int, metrics: dict[str, float]) -> None:
        if step == 5:
            raise Killed

    folder = tmp_path / "lines"
    changes: dict[str, Any] = dict(averaging=averaging, checkpoints=folder, checkpoint_every=2)
    with pytest.raises(Killed):
        trained(**changes, on_step=kill)
    resumed = learner()

    history = meta_train(resumed, Lines(), **USUAL, **changes)

    assert len(history) == 2  # the checkpoint after step 4 was the last
    assert same(weights_of(resumed), trained(averaging=averaging))
    # Of what is done already nothing is computed again.
    assert same(trained(**changes), weights_of(resumed))


def test_a_damaged_checkpoint_is_passed_over_and_said(tmp_path):
    trained(checkpoints=tmp_path, checkpoint_every=4)
    newest = tmp_path / "checkpoints" / "step-00000006" / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    said: list[str] = []

    again = trained(checkpoints=tmp_path, checkpoint_every=4, say=said.append)

    assert same(again, trained())
    sentence, going_on = said
    assert "step-00000006 is damaged and passed over" in sentence
    assert going_on == f"Going on after outer step 4 of 6, from {tmp_path}."


@pytest.mark.parametrize(
    ("name", "value"),
    [("meta_batch_size", 2), ("outer_lr", 0.1), ("averaging", 0.5), ("meta_steps", 7)],
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, name, value):
    trained(checkpoints=tmp_path)

    with pytest.raises(ConfigError, match=f"{name} was .* and is now {value}"):
        trained(**{"checkpoints": tmp_path, name: value})


class Steeper(Lines):
    """Other lines."""

    slope = 2.0


class Random(Lines):
    """Other lines each time."""

    def __init__(self):
        self._random = torch.Generator().manual_seed(0)

    def points(self, index: int, part: str) -> Tensor:
        return torch.randn(5, 2, generator=self._random)


def relu(**changes: Any) -> MAML:
    model = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1))
    return MAML(model, **OF_LINES | changes)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (relu, r"the learner's layers was '\(1\): Tanh\(\)' and is now '\(1\): ReLU\(\)'"),
        (lambda: learner(inner_lr=0.2), "the learner's inner_lr was 0.1 and is now 0.2"),
        (lambda: learner(first_order=True), "learner's first_order was False and is now True"),
        (
            lambda: learner(loss_fn=F.l1_loss),
            "the learner's loss_fn was 'torch.nn.functional.mse_loss' and is now "
            "'torch.nn.functional.l1_loss'",
        ),
        (
            lambda: learner(loss_fn=partial(F.huber_loss, delta=0.5)),
            r"the learner's loss_fn was .* and is now \['torch.nn.functional.huber_loss', \[\], "
            r"\{'delta': 0.5\}\]",
        ),
        (
            lambda: Reptile(learner().model, inner_lr=0.1, inner_steps=1, loss_fn=F.mse_loss),
            r"the learner was 'innerloop.methods.maml.learner.MAML' and is now .*Reptile'",
        ),
    ],
)
def test_a_checkpoint_of_another_learner_is_refused(tmp_path, other, sentence):
    trained(checkpoints=tmp_path)

    with pytest.raises(ConfigError, match=sentence):
        meta_train(other(), Lines(), **USUAL, checkpoints=tmp_path)


@pytest.mark.parametrize("made", [torch.tensor, np.array])
def test_arrays_that_a_learner_is_set_to_are_part_of_it(tmp_path, made):
    def weighted(*weights: float) -> MAML:
        of_lines = learner()
        of_lines.__dict__["weights"] = made(weights)
        return of_lines

    meta_train(weighted(1.0, 2.0), Lines(), **USUAL, checkpoints=tmp_path)
    meta_train(weighted(1.0, 2.0), Lines(), **USUAL, checkpoints=tmp_path)
    with pytest.raises(ConfigError, match="the learner's weights was '"):
        meta_train(weighted(1.0, 2.5), Lines(), **USUAL, checkpoints=tmp_path)


def test_a_checkpoint_of_other_data_is_refused_unless_they_change_by_themselves(tmp_path):
    trained(checkpoints=tmp_path)

    with pytest.raises(ConfigError, match=r"the sampler's first batch was .* and is now"):
        meta_train(learner(), Steeper(), **USUAL, checkpoints=tmp_path)

    folder = tmp_path / "random"
    meta_train(learner(), Random(), **USUAL, checkpoints=folder)
    said: list[str] = []
    meta_train(learner(), Random(), **USUAL, checkpoints=folder, say=said.append)
    assert said == [f"Going on after outer step 6 of 6, from {folder}."]


def test_the_learner_is_told_of_every_step_and_accuracies_are_not_numbers():
    told = []

    history = meta_train(
        learner(), Lines(), **USUAL, on_step=lambda step, metrics: told.append((step, metrics))
    )

    assert told == list(enumerate(history, start=1))
    assert all(math.isnan(metrics["query_accuracy_after"]) for metrics in history)
    assert all(metrics["gradient_norm"] > 0 for metrics in history)


class Pairs(Lines):
    def batch(self, start: int, count: int) -> Any:
        episodes = super().batch(start, count)
        return episodes.support, episodes.query


class Pictures:
    """Images of two classes."""

    def batch(self, start: int, count: int) -> LabelledImages:
        return LabelledImages(torch.zeros(count, 1, 28, 28), torch.arange(count) % 2)


class TooFew(Lines):
    def batch(self, start: int, count: int) -> EpisodeBatch:
        return super().batch(start, count - 1)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((None, Lines()), "What is trained is a learner: got None"),
        ((MAML, Lines()), "What is trained is a learner: got the class MAML"),
        ((nn.Linear(1, 1), Lines()), "What is trained is a learner: got Linear"),
        ((learner(), None), r"a sampler, anything with batch\(start, count\): got None"),
        ((learner(), [1]), r"a sampler, anything with batch\(start, count\): got list"),
        ((FrozenFeatures(Conv4(3)), Pictures()), "FrozenFeatures defines no meta_loss"),
    ],
)
def test_what_is_no_learner_or_no_sampler_is_refused(given, sentence):
    with pytest.raises(ConfigError, match=sentence):
        meta_train(*given, **USUAL)


@pytest.mark.parametrize(
    ("sampler", "sentence"),
    [
        (Pairs(), r"Pairs\.batch gives tuple: let it return an innerloop\.EpisodeBatch"),
        (TooFew(), r"TooFew\.batch\(0, 3\) gives 2 episodes: let it return as many"),
    ],
)
def test_a_sampler_that_gives_something_else_is_refused(sampler, sentence):
    with pytest.raises(DataError, match=sentence):
        meta_train(learner(), sampler, **USUAL)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("meta_steps", 0, "meta_steps must be between 1 and"),
        ("meta_batch_size", 0, "meta_batch_size must be between 1 and"),
        ("outer_lr", -1.0, "outer_lr must be between"),
        ("averaging", 1.0, "averaging must be between"),
        ("episodes_per_chunk", -1, "episodes_per_chunk must be between"),
        ("checkpoint_every", 0, "checkpoint_every must be between"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(name, value, sentence):
    with pytest.raises(InnerloopError, match=sentence):
        trained(**{name: value})


def test_a_step_that_is_not_finite_ends_it_before_a_weight_moves(tmp_path: Path):
    exploding = learner()
    exploding.inner_lr = 1e30
    before = weights_of(exploding)

    with pytest.raises(NonFiniteError, match="Outer step 1: the loss is"):
        meta_train(exploding, Lines(), **USUAL, checkpoints=tmp_path)

    assert same(weights_of(exploding), before)
    assert not (tmp_path / "checkpoints").exists()
