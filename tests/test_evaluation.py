import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from innerloop.core.components import Design
from innerloop.core.errors import ConfigError
from innerloop.core.intervals import mean_and_interval
from innerloop.data.images import FewShotDataset
from innerloop.data.sampling import EpisodeSampler
from innerloop.data.splits import find_split
from innerloop.experiments.evaluation import evaluate, save_evaluation
from innerloop.experiments.experiment import Experiment, build_learner, prepare
from innerloop.methods.base import Adaptation, Learner, accuracy
from innerloop.methods.catalogue import find_card, settings_of
from innerloop.methods.variants import Variant
from innerloop.networks.conv4 import Conv4
from innerloop.report.words import describe_row
from innerloop.runs.results import Origin
from making import make_run

TINY = settings_of("fomaml", filters=4, device="cpu")


@pytest.fixture
def sampler(drawings) -> EpisodeSampler:
    return EpisodeSampler(
        drawings, np.arange(20), ways=5, shots=2, queries=3, seed=0, stream_name="episodes/val"
    )


def run(sampler: EpisodeSampler, learner: nn.Module | None = None, **changes):
    settings = {
        "episodes": 6,
        "steps": 2,
        "batch_norms": ("transductive", "support"),
        "split": "x",
        "part": "val",
        "origin": Origin(method="fomaml", training_seed=0, inner_lr=0.4),
    }
    return evaluate(learner or build_learner(TINY, 1), sampler, **(settings | changes))  # type: ignore[arg-type]


def test_what_is_no_learner_or_no_sampler_of_classes_is_refused(sampler):
    with pytest.raises(ConfigError, match="What is evaluated is a learner: got Conv4"):
        run(sampler, Conv4(5))
    other: Any = object()
    with pytest.raises(ConfigError, match="episodes of an EpisodeSampler: got object"):
        run(other)


def test_the_interval_of_independent_episodes_is_that_of_student():
    """By hand: mean 0.5, sample deviation sqrt(0.5 / 3) of four values, over sqrt(4); a
    table of t has 3.182 for three degrees of freedom."""
    mean, half = mean_and_interval(np.array([0.0, 0.5, 0.5, 1.0]))

    assert mean == pytest.approx(0.5)
    assert half == pytest.approx(3.182446 * math.sqrt(0.5 / 3) / 2)


def test_accuracy_is_the_fraction_of_right_argmaxes_per_episode():
    logits = torch.tensor([[[2.0, 1.0], [0.0, 3.0]], [[0.0, 1.0], [0.0, 1.0]]])

    assert accuracy(logits, torch.tensor([[0, 1], [0, 1]])).tolist() == [1.0, 0.5]


def test_logits_without_numbers_are_never_right():
    nan = math.nan
    logits = torch.tensor([[[nan, nan], [nan, 3.0]], [[0.0, 1.0], [2.0, 1.0]]])

    assert accuracy(logits, torch.tensor([[0, 0], [1, 0]])).tolist() == [0.0, 1.0]


def test_accuracy_of_a_regression_is_not_a_number():
    assert accuracy(torch.zeros(2, 3), torch.zeros(2, 3)).isnan().all()


def test_evaluating_changes_no_weight_and_draws_no_random_number(sampler):
    learner = build_learner(TINY, 1)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    random_before = torch.random.get_rng_state()

    run(sampler, learner)

    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random_before)


@pytest.mark.parametrize("chunk", [2, 4, 6])
def test_chunks_change_nothing_but_rounding(sampler, chunk):
    whole, parts = run(sampler), run(sampler, episodes_per_chunk=chunk)

    for one, other in zip(whole, parts, strict=True):
        assert np.array_equal(one.query_accuracy, other.query_accuracy, equal_nan=True)
        np.testing.assert_allclose(one.query_loss, other.query_loss, rtol=1e-5)


def test_more_episodes_keep_the_first_ones(sampler):
    few, many = run(sampler, episodes=3)[0], run(sampler, episodes=6)[0]

    assert np.array_equal(few.query_accuracy, many.query_accuracy[:3])


def test_accuracies_equal_a_plain_loop_over_the_episodes(sampler):
    learner = build_learner(TINY, 1)
    transductive, support = run(sampler, learner, steps=2)

    for index in range(6):
        batch = sampler.batch(index, 1)
        adaptation = learner.adapt(batch.support, steps=2)
        for evaluation in (transductive, support):
            mode = evaluation.batch_norm
            logits = learner.predict(adaptation, batch.query.images, batch_norm=mode)
            assert (
                evaluation.query_accuracy[index, 2] == accuracy(logits, batch.query.labels).item()
            )


def test_extra_steps_are_measured_beyond_the_reported_one(sampler):
    first, second = run(sampler, steps=2, extra_steps=2)

    row = first.row(step=2)
    assert len(row.query_accuracy_per_step) == 5
    assert row.query_accuracy == row.query_accuracy_per_step[2]
    assert math.isnan(second.row(step=2).query_accuracy_per_step[1])


class ByStep(Learner):
    """Is right about so many of six query images after k steps, and as many more in episode 1."""

    batch_norm_modes = ("transductive", "support")
    RIGHT = (1, 2, 3, 4, 5)

    def trajectory(self, support, *, steps):
        for count in range(1, steps + 2):
            measured = torch.arange(count).expand(len(support), -1) / 8
            yield Adaptation({}, support, 10 + measured, measured)

    def predict(self, adaptation, images, *, batch_norm=None):
        right = self.RIGHT[adaptation.steps] - (batch_norm == "support")
        logits = torch.zeros(*images.shape[:2], 2)
        labels = torch.tensor([0, 0, 0, 1, 1, 1])
        wrong = torch.arange(6) >= right
        logits[:, torch.arange(6), torch.where(wrong, 1 - labels, labels)] = 1.0
        return logits


def test_a_row_is_of_k_steps_and_not_of_those_beyond_it(drawings):
    """Every number of steps has an accuracy of its own, so that each shows where it came from."""
    source = EpisodeSampler(
        drawings, np.arange(20), ways=2, shots=1, queries=3, seed=0, stream_name="episodes/val"
    )
    transductive, support = run(source, ByStep(), episodes=3, steps=2, extra_steps=2)

    row = transductive.row(step=2).to_json()
    assert row["query_accuracy_per_step"] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert row["query_accuracy"] == pytest.approx(3 / 6)
    assert row["query_accuracy_per_episode"] == [0.5] * 3
    assert row["query_accuracy_before"] == pytest.approx(1 / 6)
    assert row["inner_steps"] == 2
    # Cross-entropy of two logits, one and zero: log(1 + e^-1) where right, and one more else.
    assert row["query_loss"] == pytest.approx(math.log(1 + math.exp(-1)) + 3 / 6, rel=1e-5)
    assert (row["support_accuracy"], row["support_accuracy_before"]) == (0.25, 0.0)
    assert row["support_accuracy_per_step"] == [0.0, 0.125, 0.25, 0.375, 0.5]
    assert row["support_loss"] == 10.25
    assert support.row(step=2).query_accuracy == pytest.approx(2 / 6)
    assert support.row(step=2).query_accuracy_before == pytest.approx(0.0)


def test_progress_is_told_in_episodes_and_the_last_chunk_may_be_smaller(drawings):
    told = []
    source = EpisodeSampler(
        drawings, np.arange(20), ways=2, shots=1, queries=3, seed=0, stream_name="episodes/val"
    )

    run(source, ByStep(), episodes=5, episodes_per_chunk=2, on_episodes=told.append)

    assert told == [2, 4, 5]


def test_a_row_says_everything_that_a_number_must_not_be_quoted_without(sampler):
    row = run(sampler)[1].row(step=2).to_json()

    assert row["split"] == "x"
    assert row["batch_norm"] == "support"
    assert row["stream"] == "episodes/val"
    expected = {
        "data": "strokes",
        "ways": 5,
        "shots": 2,
        "queries": 3,
        "query_batches": 1,
        "rotations": False,
        "episode_seed": 0,
        "inner_steps": 2,
        "episodes": 6,
    }
    assert {name: row[name] for name in expected} == expected
    assert len(row["query_accuracy_per_episode"]) == 6
    assert np.mean(row["query_accuracy_per_episode"]) == pytest.approx(
        row["query_accuracy"], abs=1e-6
    )


def test_episodes_from_the_middle_are_those_of_the_whole(sampler):
    whole, middle = run(sampler)[0], run(sampler, episodes=3, first=2)[0]

    assert np.array_equal(middle.query_accuracy, whole.query_accuracy[2:5])
    assert np.array_equal(middle.classes, whole.classes[2:5])


def test_two_episodes_are_enough(sampler):
    assert run(sampler, episodes=2)[0].row(step=2).episodes == 2


def test_accuracies_of_episodes_are_kept_to_the_millionth(sampler):
    """Thirds in float32 are 0.33333334 or 0.333333343 by the machine; both are 0.333333."""
    (first, _) = run(sampler)
    first.query_accuracy[:, 2] = [1 / 3, np.float32(1 / 3), 2 / 3, 0.1234564, 0.1234566, 1.0]

    row = first.row(step=2)

    assert row.query_accuracy_per_episode == [0.333333, 0.333333, 0.666667, 0.123456, 0.123457, 1.0]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "5w2s3q-2steps-transductive"),
        ({"episodes": 6}, "5w2s3q-2steps-transductive-6episodes"),
        ({"batch_norm": "support"}, "5w2s3q-2steps-support"),
        ({"adaptation": "head"}, "5w2s3q-2steps-transductive-head-at-0.4"),
        ({"inner_lr": 0.05}, "5w2s3q-2steps-transductive-own-at-0.05"),
        (
            {"adaptation": "head-cosine", "inner_lr": None},
            "5w2s3q-2steps-transductive-head-cosine",
        ),
    ],
)
def test_an_evaluation_is_written_whole_under_a_name_that_says_what_it_is(
    changes, name, sampler, tmp_path
):
    row = run(sampler)[0].row(step=2)
    row = replace(row, **({"episodes": 600} | changes))
    directory = make_run(tmp_path, "fomaml")

    path = save_evaluation(directory, row)

    assert path == directory.path / f"evaluation-x-val-{name}.json"
    assert json.loads(path.read_text("utf-8")) == row.to_json()
    assert path.read_text("utf-8").endswith("}\n")


def test_one_episode_has_no_interval(sampler):
    with pytest.raises(ConfigError, match="An interval needs at least 2 episodes: got 1"):
        run(sampler, episodes=1)


def easy(ways: int) -> EpisodeSampler:
    """Episodes of classes that differ at a glance: each is its own random pattern, with a little
    noise."""
    random = np.random.default_rng(0)
    patterns = random.integers(0, 200, (20, 1, 1, 28, 28))
    images = (patterns + random.integers(0, 50, (20, 8, 1, 28, 28))).astype(np.uint8)
    dataset = FewShotDataset("patterns", images, tuple(f"a/{index:02d}" for index in range(20)))
    return EpisodeSampler(
        dataset, np.arange(20), ways=ways, shots=3, queries=3, seed=0, stream_name="x"
    )


@pytest.mark.parametrize("ways", [2, 5, 8])
def test_a_fresh_head_is_at_chance_before_adaptation_and_above_it_after_at_any_number_of_ways(ways):
    (evaluation,) = run(easy(ways), batch_norms=("transductive",))

    assert evaluation.query_accuracy[:, 0] == pytest.approx(1 / ways)
    assert evaluation.query_accuracy[:, 2].mean() > 2 / ways - 1 / ways**2


def test_a_learnt_head_refuses_more_ways_at_test(drawings):
    sampler = EpisodeSampler(
        drawings, np.arange(20), ways=8, shots=2, queries=3, seed=0, stream_name="x"
    )
    learner = build_learner(TINY.replace(fresh_head=False), 1)

    with pytest.raises(ConfigError, match="8-way and the network has 5 outputs"):
        run(sampler, learner)


def test_a_row_names_the_classes_of_its_episodes_and_its_interval_covers_them(sampler):
    classes = sampler.batch(0, 12).classes.numpy()
    by_class = np.repeat(classes.mean(axis=1)[:, None] / 20, 3, axis=1)
    row = replace(run(sampler, episodes=12)[0], query_accuracy=by_class).row(step=2)

    assert row.episode_classes == classes.tolist()
    assert row.covers == "episodes and classes"
    each = np.array(row.query_accuracy_per_episode)
    assert row.query_accuracy_ci95 == pytest.approx(
        mean_and_interval(each, Design(12, classes))[1], abs=1e-6
    )
    assert row.query_accuracy_ci95 != pytest.approx(mean_and_interval(each)[1], rel=1e-3)


def test_the_same_classes_in_every_episode_are_not_covered(drawings):
    sampler = EpisodeSampler(
        drawings, np.arange(5), ways=5, shots=2, queries=3, seed=0, stream_name="episodes/val"
    )

    assert run(sampler)[0].row(step=2).covers == "episodes"


@pytest.mark.parametrize("adapts", ["own", "head"])
def test_rows_of_a_transductive_method_say_so_but_not_those_of_another_head(
    adapts, sampler, drawings, monkeypatch
):
    card = replace(find_card("fomaml"), transductive=True)
    monkeypatch.setattr("innerloop.experiments.experiment.find_card", lambda _: card)
    experiment = prepare(TINY, dataset=drawings)
    origin = experiment.origin(Variant(adapts=adapts))
    row = run(sampler, origin=origin)[0].row(step=2)

    assert row.to_json()["transductive"] == (adapts == "own")
    assert ("fomaml (transductive)" in describe_row(row)) == (adapts == "own")
    assert not Origin(method="fomaml", training_seed=0, inner_lr=0.4).transductive


@pytest.mark.parametrize("method", ["transfer", "simpleshot", "protonet", "mamlpp"])
def test_an_untrained_learners_statistics_are_of_its_first_batches(method, drawings):
    settings: dict[str, Any] = dict(ways=3, shots=2, queries=4, filters=4, device="cpu")
    config = settings_of(method, data="strokes", image_size=28, **settings)
    experiment = Experiment(config, drawings, find_split("alphabets", drawings))
    learner = experiment.build_learner()
    weights = {name: weight.clone() for name, weight in learner.named_parameters()}

    experiment.gather_statistics(learner, batches=2)

    moved = [of for name, of in learner.named_buffers() if "mean" in name]
    assert moved and all(bool(of.any()) for of in moved)
    assert all(torch.equal(weight, weights[name]) for name, weight in learner.named_parameters())
