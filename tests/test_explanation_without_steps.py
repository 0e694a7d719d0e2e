"""Explanations of a run that takes no inner steps, against one that does."""

import re
from typing import Any

import numpy as np
import pytest
import torch

from innerloop.analysis.explanation import parts as parts_module
from innerloop.analysis.explanation import steps as steps_module
from innerloop.analysis.explanation.measurements import explain
from innerloop.analysis.explanation.results import Explanation
from innerloop.analysis.explanation.rows import STEPS_OF_PARTS
from innerloop.analysis.explanation.storage import explanation_from_json, explanation_to_json
from innerloop.analysis.explanation.subjects import Subject
from innerloop.core.files import json_text, parse_json_object
from innerloop.data.images import FewShotDataset
from innerloop.data.splits import find_split
from innerloop.experiments.experiment import Experiment
from innerloop.methods.base import accuracy
from innerloop.methods.catalogue import settings_of
from innerloop.methods.variants import Variant
from innerloop.report.document import Picture
from innerloop.report.explanation import explanation_page, write_explanation
from innerloop.report.sections.causes import sensitivity, why

SETTINGS: dict[str, Any] = dict(
    data="strokes",
    split="alphabets",
    ways=3,
    shots=2,
    queries=4,
    filters=4,
    device="cpu",
    threads=1,
    episodes_per_chunk=1,
)
EPISODES = 6
FEW = 2
FLOAT32 = 1e-6
"""Accuracies are float32."""


def subject_of(drawings: FewShotDataset, method: str, name: str = "", **changes: Any) -> Subject:
    """A run with initial weights, and its own accuracies."""
    config = settings_of(method, **SETTINGS, **changes)
    experiment = Experiment(config, drawings, find_split("alphabets", drawings))
    learner = experiment.build_learner()
    experiment.gather_statistics(learner, batches=3)
    subject = Subject(name or method, experiment, learner, np.zeros(0))
    sampler = experiment.evaluation_sampler("val")
    own = subject.accuracies(sampler.batch(index, 1) for index in range(EPISODES))
    return Subject(subject.name, experiment, learner, own)


def explained(*subjects: Subject) -> Explanation:
    a, b = subjects
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps_module, "STEPS", (0, 1, 3))
        patch.setattr(parts_module, "RATES", (0.1, 0.4))
        patch.setattr(steps_module, "STEP_RATES", (0.04, 0.4))
        return explain((a, b), episodes=EPISODES, few_episodes=FEW)


@pytest.fixture(scope="module")
def protonet(drawings) -> Subject:
    return subject_of(drawings, "protonet")


@pytest.fixture(scope="module")
def measured(drawings, protonet) -> Explanation:
    return explained(protonet, subject_of(drawings, "fomaml", inner_steps=2))


def batches_of(subject: Subject, count: int):
    sampler = subject.experiment.evaluation_sampler("val")
    return [sampler.batch(index, 1) for index in range(count)]


def test_its_own_head_on_its_frozen_features_is_its_own_adaptation(measured, protonet):
    cell = measured.table.by_features()["protonet", "running"]["gradient"]

    assert cell.mean == pytest.approx(protonet.own_accuracies.mean(), abs=FLOAT32)
    assert cell.mean != measured.table.by_features()["protonet", "running"]["logistic"].mean


def test_under_every_batch_norm_it_is_what_is_predicted_from_images(measured, protonet):
    cells = measured.table.by_features()

    for mode in protonet.learner.batch_norm_modes:
        expected = []
        for batch in batches_of(protonet, EPISODES):
            state = protonet.learner.adapt(batch.support, steps=1)
            with torch.no_grad():
                logits = protonet.learner.predict(state, batch.query.images, batch_norm=mode)
            expected.append(accuracy(logits, batch.query.labels).item())
        cell = cells["protonet", mode]["gradient"]
        assert cell.mean == pytest.approx(np.mean(expected), abs=FLOAT32), mode


def test_the_parts_of_the_gap_add_up_to_it(measured):
    gap = measured.table.gap

    parts = gap.features.mean + gap.head_steps.mean + gap.body_adaptation.mean
    assert parts == pytest.approx(gap.all.mean, abs=FLOAT32)
    assert gap.all.mean == pytest.approx(measured.own.difference.mean, abs=FLOAT32)


def test_its_own_way_is_the_same_from_one_step_on_and_at_every_rate(measured, protonet):
    own = protonet.accuracies(batches_of(protonet, FEW)).mean()
    curves = [
        curve
        for curve in measured.steps.curves
        if (curve.name, curve.adapted) == ("protonet", "own")
    ]

    assert [curve.rate for curve in curves] == [0.04, 0.4]
    for curve in curves:
        assert curve.accuracy == pytest.approx((1 / 3, own, own))


def test_parts_of_its_network_take_a_stated_number_of_steps_and_its_own_way_none(
    measured, protonet
):
    rows = measured.parts["protonet"]
    (at_rate,) = [row for row in rows if (row.adapts, row.rate) == ("head+1", 0.1)]
    learner = Variant(adapts="head+1", inner_lr=0.1).of(
        protonet.learner, protonet.experiment.config
    )
    expected = []
    for batch in batches_of(protonet, FEW):
        logits = learner.predict(
            learner.adapt(batch.support, steps=STEPS_OF_PARTS), batch.query.images
        )
        expected.append(accuracy(logits, batch.query.labels).item())

    assert at_rate.mean == pytest.approx(np.mean(expected), abs=FLOAT32)
    assert "own" not in {row.adapts for row in rows}
    assert "own" in {row.adapts for row in measured.parts["fomaml"]}


def test_under_batch_statistics_it_adapts_in_its_own_way_too(measured, protonet):
    learner = protonet.learner
    sampler = protonet.experiment.evaluation_sampler("val")
    expected = []
    with torch.no_grad():
        for index in range(3 * FEW):
            batch = sampler.batch(index, 1)
            state = learner.adapt(batch.support, steps=1)
            logits = learner.predict(state, batch.query.images, batch_norm="transductive")
            expected.append(accuracy(logits, batch.query.labels).item())

    by_batch = measured.shift[0].runs["protonet"].batch_statistics
    assert by_batch.mean == pytest.approx(np.mean(expected), abs=FLOAT32)
    assert protonet.learner.batch_norm_modes[0] == "running"


def test_its_sentences_speak_of_no_steps_and_no_rate_of_its_own(measured):
    text = "\n".join(measured.verdict)

    assert "At each method's own budget (no steps and 2 steps)" in text
    assert "protonet takes no inner steps: its own adaptation is whole at once" in text
    assert "from the run's own head" in text and "the head's steps" not in text
    assert "In the median episode fomaml's rate of 0.4 is" in text and "protonet's rate" not in text
    assert measured.change["protonet"].weights == {}


def test_its_page_has_the_same_words_and_a_dash_where_it_has_no_rate(measured):
    page = explanation_page(measured)

    assert "| the run's own | converged | prototypes |" in page
    (row,) = re.findall(r"^\| own \|.*$", page, re.MULTILINE)
    assert row.startswith("| own | - | - | - | ") and "None" not in page
    assert not re.search(r"the run's steps|the head's steps", page)


def test_it_is_read_as_it_was_written(measured):
    text = json_text(explanation_to_json(measured))

    assert explanation_from_json(parse_json_object(text, "x"), "x") == measured


def test_it_is_drawn_and_told_in_a_report(measured, tmp_path):
    write_explanation(measured, tmp_path)
    told = [block for block in (*why(measured), *sensitivity(measured))]

    assert (tmp_path / "figures" / "sensitivity.svg").is_file()
    assert len(told) == 9
    assert "protonet's accuracy is highest" not in str(told)


def test_two_runs_without_steps_are_explained_too(drawings, protonet, tmp_path):
    other = subject_of(drawings, "protonet", "cosine", distance="cosine")

    explanation = explained(protonet, other)
    write_explanation(explanation, tmp_path)
    (picture,) = sensitivity(explanation)

    assert isinstance(picture, Picture)
    assert "own budget (no steps)" in explanation.verdict[0]
    assert not [sentence for sentence in explanation.verdict if "safe rate" in sentence]
