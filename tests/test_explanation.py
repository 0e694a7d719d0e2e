"""Explanations: measurements against plain loops, and sentences that flip with the numbers."""

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.container import ErrorbarContainer

from innerloop.analysis.explanation import parts as parts_module
from innerloop.analysis.explanation import steps as steps_module
from innerloop.analysis.explanation.features import frozen_features, head_accuracies
from innerloop.analysis.explanation.head_rows import Gap, HeadTable
from innerloop.analysis.explanation.measurements import explain
from innerloop.analysis.explanation.representations import change_by_adaptation
from innerloop.analysis.explanation.results import Explanation
from innerloop.analysis.explanation.rows import (
    Change,
    DisjointMeans,
    Mean,
    PairedMeans,
    PartRow,
    ShiftedMean,
    ShiftRow,
    SubjectRow,
)
from innerloop.analysis.explanation.shifts import SHIFTS, shifted_episodes
from innerloop.analysis.explanation.step_rows import StepCurve, StepDifferences, Steps
from innerloop.analysis.explanation.storage import (
    explanation_from_json,
    explanation_to_json,
    read_explanation,
)
from innerloop.analysis.explanation.subjects import Subject
from innerloop.core.errors import ConfigError, DataError
from innerloop.core.files import json_text
from innerloop.core.intervals import Difference
from innerloop.data.images import FewShotDataset
from innerloop.data.splits import find_split
from innerloop.experiments.evaluation import evaluate
from innerloop.experiments.experiment import Experiment
from innerloop.methods.catalogue import settings_of
from innerloop.methods.variants import Variant
from innerloop.networks.conv4 import Conv4
from innerloop.report.explanation import explanation_page, write_explanation
from innerloop.report.figures.explanation import draw_shift

COMMITTED = (
    Path(__file__).parents[1] / "benchmarks" / "results" / "explanation" / "explanation.json"
)
SETTINGS: dict[str, Any] = dict(
    data="strokes",
    split="alphabets",
    ways=3,
    shots=2,
    queries=4,
    inner_steps=2,
    image_size=28,
    filters=4,
    device="cpu",
    threads=1,
    episodes_per_chunk=1,
)


@pytest.fixture(scope="module")
def subjects(drawings: FewShotDataset) -> tuple[Subject, Subject]:
    found = []
    for method in ("transfer", "fomaml"):
        experiment = Experiment(
            settings_of(method, **SETTINGS), drawings, find_split("alphabets", drawings)
        )
        learner = experiment.build_learner()
        experiment.gather_statistics(learner, batches=3)
        subject = Subject(method, experiment, learner, np.zeros(0))
        own = subject.accuracies(
            experiment.evaluation_sampler("val").batch(index, 1) for index in range(6)
        )
        found.append(Subject(method, experiment, learner, own))
    return found[0], found[1]


@pytest.fixture(scope="module")
def measured(subjects) -> Explanation:
    patch = pytest.MonkeyPatch()
    patch.setattr(steps_module, "STEPS", (0, 1, 3))
    patch.setattr(parts_module, "RATES", (0.1, 0.4))
    patch.setattr(steps_module, "STEP_RATES", (0.04, 0.4))
    try:
        return explain(subjects, episodes=6, few_episodes=2)
    finally:
        patch.undo()


def test_a_head_on_features_computed_once_is_the_variant_evaluated_from_images(subjects):
    for subject in subjects:
        sampler = subject.experiment.evaluation_sampler("val")
        features = frozen_features(
            subject.learner, sampler, subject.learner.batch_norm_modes, episodes=4
        )
        for head, steps in (("gradient", 2), ("cosine", 1), ("logistic", 1)):
            variant = Variant(adapts="head", head=head)  # type: ignore[arg-type]
            evaluations = evaluate(
                subject.adapted(variant),
                sampler,
                episodes=4,
                steps=steps,
                batch_norms=subject.learner.batch_norm_modes,
                split="x",
                part="val",
                origin=subject.experiment.origin(variant),
            )
            for evaluation in evaluations:
                of_mode = features[evaluation.batch_norm]
                found = head_accuracies(of_mode, head=head, at=(steps,))  # type: ignore[arg-type]
                assert np.allclose(found[steps], evaluation.query_accuracy[:, steps])


def test_the_parts_of_the_gap_add_up(measured):
    gap = measured.table.gap

    parts = (gap.features, gap.head_steps, gap.body_adaptation)
    assert sum(part.mean for part in parts) == pytest.approx(gap.all.mean, abs=1e-5)
    assert gap.all.mean == pytest.approx(measured.own.difference.mean, abs=1e-6)


@pytest.mark.parametrize("head_init", ["zero", "glorot"])
def test_transfer_has_no_part_from_the_bodys_adaptation(head_init, subjects):
    """Its own way is the head's steps on frozen features, from wherever the head starts."""
    config = subjects[0].experiment.config.replace(head_init=head_init)
    sampler = subjects[0].experiment.evaluation_sampler("val")
    learner = type(subjects[0].learner).from_config(config, subjects[0].learner.model)
    own = Subject(
        "own",
        Experiment(config, sampler.dataset, subjects[0].experiment.split),
        learner,
        np.zeros(0),
    )
    features = frozen_features(learner, sampler, ("running",), episodes=6)["running"]

    expected = own.accuracies(sampler.batch(index, 1) for index in range(6))

    assert np.allclose(head_accuracies(features, head_init=head_init, at=(2,))[2], expected)  # type: ignore[arg-type]


def test_frozen_features_do_not_change_by_adaptation_and_adapted_ones_do(subjects):
    batch = subjects[0].experiment.evaluation_sampler("val").batch(0, 1)

    transfer, fomaml = (
        change_by_adaptation(subject.learner, batch, steps=5) for subject in subjects
    )

    assert all(transfer.cka[f"block {number}"] == pytest.approx(1) for number in (1, 2, 3, 4))
    assert fomaml.cka["block 4"] < 1 - 1e-6
    assert transfer.spread_before["features"] == transfer.spread_after["features"]
    assert fomaml.weights["convs.3.weight"] > 0


def test_block_outputs_are_the_networks_own_and_nothing_stays_behind(subjects):
    fomaml = subjects[1]
    batch = fomaml.experiment.evaluation_sampler("val").batch(0, 1)
    model = fomaml.learner.model
    assert isinstance(model, Conv4)
    adaptation = fomaml.learner.adapt(batch.support, steps=0)

    outputs = {
        name: value[0]
        for name, value in fomaml.learner.block_outputs(adaptation, batch.query.images).items()
    }

    with torch.no_grad():
        first = model.norms[0](model.convs[0](batch.query.images[0]))
        features = model.embed(batch.query.images[0])
    assert torch.allclose(outputs["block 1"], first.flatten(1), atol=1e-6)
    assert torch.allclose(outputs["features"], features, atol=1e-6)
    assert list(outputs) == ["block 1", "block 2", "block 3", "block 4", "features", "logits"]
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("shift", SHIFTS)
def test_every_step_of_the_ladder_has_episodes_of_the_same_shape(shift, subjects):
    if shift == "digits":
        pytest.importorskip("sklearn")
    sampler = subjects[0].experiment.evaluation_sampler("val")

    for batch in shifted_episodes(shift, sampler, 3):
        assert batch.support.images.shape == (1, 6, 1, 28, 28)
        assert 0 <= batch.query.images.min() and batch.query.images.max() <= 1
        assert batch.query.labels.tolist() == sampler.batch(0, 1).query.labels.tolist()


def test_changes_of_pixels_keep_the_drawings_and_one_alphabet_is_one(subjects):
    sampler = subjects[0].experiment.evaluation_sampler("val")
    plain, turned, inverted, alphabet = (
        next(iter(shifted_episodes(shift, sampler, 1)))
        for shift in ("unseen alphabets", "rotated by 90 degrees", "inverted ink", "one alphabet")
    )

    assert torch.equal(torch.rot90(turned.query.images, -1, dims=(-2, -1)), plain.query.images)
    assert torch.allclose(1 - inverted.support.images, plain.support.images)
    names = [
        sampler.dataset.class_names[index].rpartition("/")[0]
        for index in alphabet.classes[0].tolist()
    ]
    assert len(set(names)) == 1


def test_disjoint_episodes_use_every_character_at_most_once(subjects):
    sampler = subjects[0].experiment.disjoint_sampler("val")
    count = len(sampler.classes) // sampler.ways

    classes = [
        index for number in range(count) for index in sampler.batch(number, 1).classes[0].tolist()
    ]

    assert len(set(classes)) == len(classes) == count * sampler.ways
    with pytest.raises(ValueError, match=f"make {count} disjoint episodes"):
        sampler.batch(count, 1)


def test_an_explanation_is_written_whole_and_its_page_has_every_sentence(measured, tmp_path):
    write_explanation(measured, tmp_path)

    page = (tmp_path / "explanation.md").read_text()
    assert all(sentence in page for sentence in measured.verdict)
    assert page == explanation_page(read_explanation(tmp_path / "explanation.json"))
    for name in (
        "features-and-heads",
        "steps",
        "head-and-body",
        "representation",
        "sensitivity",
        "shift",
    ):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 10_000


# What is on the disk


def committed() -> dict[str, Any]:
    return json.loads(COMMITTED.read_text())


def through_json(explanation: Explanation) -> dict[str, Any]:
    return json.loads(json_text(explanation_to_json(explanation)))


def test_reading_and_writing_keep_every_key_and_number():
    assert through_json(read_explanation(COMMITTED)) == committed()


def test_the_runs_of_a_shift_are_read_beside_the_rows_other_keys_too():
    """As files of long ago have them."""
    former = committed()
    for row in former["shift"]:
        row |= row.pop("runs")

    assert through_json(explanation_from_json(former, "explanation.json")) == committed()


def test_what_was_measured_is_read_as_it_was_written(measured):
    written = through_json(measured)

    read = explanation_from_json(written, "explanation.json")

    assert through_json(read) == written
    assert read.own == measured.own and read.table == measured.table
    assert read.steps == measured.steps and read.shift == measured.shift


def test_a_number_that_is_not_finite_is_null_on_the_disk_and_nan_in_memory():
    explanation = read_explanation(COMMITTED)

    assert np.isnan(explanation.change["fomaml"].weights["head.weight"])
    assert through_json(explanation)["change"]["fomaml"]["weights"]["head.weight"] is None


@pytest.mark.parametrize("name", ["difference", "shift", "runs"])
def test_a_run_may_be_called_as_a_key_is(name):
    explanation = read_explanation(COMMITTED).renamed({"fomaml": name})

    read = explanation_from_json(through_json(explanation), "explanation.json")

    assert read.names == ("transfer", name)
    assert read.shift == explanation.shift


def remove(*path: str | int) -> Callable[[dict], None]:
    def change(values: Any) -> None:
        for key in path[:-1]:
            values = values[key]
        del values[path[-1]]

    return change


def put(value: Any, *path: str | int) -> Callable[[dict], None]:
    def change(values: Any) -> None:
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (remove("own"), "is no explanation: it lacks own"),
        (remove("shots"), "is no explanation: it lacks shots"),
        (remove("subjects", 1), r"array` of length 2, got 1 - at `\$\.subjects`"),
        (remove("subjects", 0, "inner_lr"), r"missing required field `inner_lr` - at.*subjects"),
        (remove("own", "a", "mean"), r"missing required field `mean` - at `\$\.own\.a`"),
        (remove("own", "difference", "won"), r"missing required field `won`"),
        (remove("table", "gap", "the head's steps"), "its gap lacks the head's steps"),
        (remove("table", "cells", 0), "lack the head gradient on transfer's features by running"),
        (put("fast", "steps", 0, "rate"), r"got `str` - at `\$\.steps\.curves\[0\]\.rate`"),
        (remove("steps", 0, "accuracy", 0), "steps, accuracy and ci95 of a curve"),
        (put([], "steps"), "no curve over adaptation steps"),
        (remove("change", "fomaml"), "change lacks the run fomaml"),
        (put([], "safe_rates", "fomaml"), "safe_rates of a run are of no episode"),
        (remove("shift", 1, "runs", "fomaml"), "shift, one alphabet, lacks the run fomaml"),
        (put([], "shift"), "shift has no row"),
        (put(3, "table"), r"got `int` - at `\$\.table`"),
    ],
)
def test_a_missing_or_wrong_field_is_named(damage, sentence):
    values = committed()
    damage(values)

    with pytest.raises(DataError, match=rf"explanation\.json .*{sentence}"):
        explanation_from_json(values, "explanation.json")


def test_renaming_changes_names_alone():
    explanation = read_explanation(COMMITTED)
    names = {"transfer": "Transfer", "fomaml": "FO-MAML"}

    renamed = explanation.renamed(names)

    text = explanation_page(renamed)
    assert "transfer" not in text and "fomaml" not in text
    assert text == re.sub(
        "transfer|fomaml", lambda name: names[name[0]], explanation_page(explanation)
    )
    assert [subject.method for subject in renamed.subjects] == ["transfer", "fomaml"]
    assert renamed.renamed({new: old for old, new in names.items()}).verdict == explanation.verdict


# The verdict


def difference(mean: float, ci95: float = 0.01) -> Difference:
    return Difference(mean, ci95, None, None, None, None, None)


def accuracy(mean: float) -> Mean:
    return Mean(mean=mean, ci95=0.01)


def subject(name: str) -> SubjectRow:
    return SubjectRow(
        name=name,
        method=name,
        data="strokes",
        data_fingerprint="",
        split="alphabets",
        part="val",
        ways=5,
        shots=5,
        queries=15,
        training_seed=0,
        adaptation="own",
        inner_steps=5,
        inner_lr=0.4,
        batch_norm="running",
        training_rotations=True,
        averaging=0.98,
    )


def shifted(shift: str, gap: Difference, runs: dict[str, ShiftedMean]) -> ShiftRow:
    return ShiftRow(shift=shift, episodes=48, paired_with_first=False, runs=runs, difference=gap)


def of_a_curve(name: str) -> StepCurve:
    return StepCurve(
        name=name, adapted="own", rate=0.4, steps=(), episodes=16, accuracy=(), ci95=()
    )


def of_each_run(value: Any) -> dict[str, Any]:
    return {"A": value, "B": value}


def numbers(own: float, *, sign: int = 1) -> Explanation:
    """What is measured, with the first run ahead by ``own``; every difference times ``sign``."""

    def of(mean: float) -> Difference:
        return difference(sign * mean)

    a, b = accuracy(0.9 + sign * own), accuracy(0.9)
    gap = Gap(
        features=of(0.03),
        cosine_features=of(-0.05),
        head_steps=of(own - 0.03),
        body_adaptation=of(0.0),
        all=of(own),
    )
    usual = {name: ShiftedMean(mean=0.9, ci95=0.01) for name in "AB"}
    digits = {
        "A": ShiftedMean(mean=0.4, ci95=0.01, batch_statistics=accuracy(0.7)),
        "B": ShiftedMean(mean=0.6, ci95=0.01),
    }
    return Explanation(
        subjects=(subject("A"), subject("B")),
        episodes=600,
        few_episodes=16,
        own=PairedMeans(a=a, b=b, difference=of(own)),
        table=HeadTable(cells=(), gap=gap),
        disjoint=DisjointMeans(episodes=131, a=a, b=b, difference=of(own)),
        steps=steps(of(0.0), of(0.1), of(0.1), of(-0.1)),
        safe_rates={"A": (0.2, 0.2, 0.2), "B": (0.8, 0.8, 0.8)},
        parts=of_each_run((PartRow(adapts="own", rate=0.4, mean=0.9, ci95=0.01),)),
        shots=of_each_run(()),
        change=of_each_run(Change(cka={}, spread_before={}, spread_after={}, weights={})),
        shift=(
            shifted("unseen alphabets", of(own), usual),
            shifted("digits", of(-0.2), digits),
        ),
    )


def points_of_shift(explanation: Explanation) -> dict[str, tuple]:
    """By the label of a series: its line's colour and fill, and the height of its first point."""
    left = draw_shift(explanation).axes[0]
    series = [bars for bars in left.containers if isinstance(bars, ErrorbarContainer)]
    return {
        str(bars.get_label()): (
            bars.lines[0].get_color(),
            bars.lines[0].get_markerfacecolor(),
            round(float(np.asarray(bars.lines[0].get_ydata())[0]), 3),
        )
        for bars in series
    }


@pytest.mark.parametrize("stored", ["A", "B", "AB"])
def test_batch_statistics_of_two_runs_are_told_apart_in_the_figure_of_shift(stored):
    explanation = numbers(0.05)
    rows = tuple(
        replace(
            row,
            runs={
                name: replace(run, batch_statistics=accuracy(0.7) if name in stored else None)
                for name, run in row.runs.items()
            },
        )
        for row in explanation.shift
    )

    points = points_of_shift(replace(explanation, shift=rows))

    assert set(points) == {"A", "B"} | {f"{name}, batch statistics" for name in stored}
    assert len({(colour, fill) for colour, fill, _ in points.values()}) == len(points)
    assert len({height for *_, height in points.values()}) == len(points)
    if stored == "AB":
        for name in stored:
            assert points[f"{name}, batch statistics"][:2] == (points[name][0], "white")


def steps(*differences: Difference) -> Steps:
    """After 0, 1, 5 and 50 steps."""
    row = StepDifferences(rate=0.4, steps=(0, 1, 5, 50), own_difference=differences)
    return Steps(curves=(of_a_curve("A"), of_a_curve("B")), differences=(row,))


def swapped(text: str) -> str:
    """A sentence with A and B exchanged."""
    return re.sub(r"\b[AB]\b", lambda found: {"A": "B", "B": "A"}[found[0]], text)


def words_alone(text: str) -> str:
    return re.sub(r"[-+]?\d+(\.\d+)?", "#", text)


def test_the_verdict_says_what_the_numbers_say():
    said = " ".join(numbers(0.10).verdict)

    assert (
        "At each method's own budget (5 steps), A is above B: 100.00 against 90.00 %, +10.00 ± "
        "1.00 points" in said
    )
    assert "+3.00 ± 1.00 points from features, +7.00 ± 1.00 points from the head's steps" in said
    assert "the largest clear part is the head's steps" in said
    assert "Under a converged head, A's features are better" in said
    assert "Under cosine prototypes, B's features are better" in said
    assert (
        "A is ahead from 1 to 5 steps, then B is ahead at 50 steps; the order changes with the "
        "budget" in said
    )
    assert (
        "A's rate of 0.4 is 2.0 times the head's safe rate, and B's rate of 0.4 is 0.5 times"
        in said
    )
    assert (
        "The order flips on: digits. A by the statistics of each batch instead of stored ones "
        "has 70.0 %" in said
    )


@pytest.mark.parametrize(
    "start", ["At each method's", "Under a converged", "Under cosine", "At rate", "Under shift"]
)
def test_flipped_data_flip_the_sentence(start):
    """The same numbers with all signs turned: the words must be those with A and B exchanged."""
    plain, flipped = (
        next(
            words_alone(text.partition(" A by")[0])
            for text in numbers(0.10, sign=sign).verdict
            if text.startswith(start)
        )
        for sign in (1, -1)
    )

    assert flipped == swapped(plain)
    assert flipped != plain


def test_the_largest_part_is_looked_for_among_the_clear_ones():
    plain = numbers(0.10)
    gap = replace(plain.table.gap, body_adaptation=difference(0.2, 0.3))
    unsure = replace(plain, table=replace(plain.table, gap=gap))

    assert "the largest clear part is the head's steps" in " ".join(unsure.verdict)


def test_who_is_ahead_is_not_said_of_steps_that_do_not_tell():
    ahead, level = difference(0.1), difference(0.0)
    broken = replace(numbers(0.10), steps=steps(ahead, level, ahead, ahead))

    assert "A is ahead at 0 steps, then A is ahead from 5 to 50 steps." in " ".join(broken.verdict)


def test_what_is_not_distinguishable_is_said_to_be_so():
    said = numbers(0.005).verdict

    assert "A and B are not distinguishable" in said[0]


def test_disjoint_episodes_that_disagree_are_said_to():
    plain = numbers(0.10)
    doubted = replace(plain, disjoint=replace(plain.disjoint, difference=difference(0.02, 0.05)))

    assert "by which A and B are not distinguishable." in doubted.verdict[0]


def test_no_order_at_any_budget_is_said_so():
    level = difference(0.0)
    flat = replace(numbers(0.10), steps=steps(level, level, level, level))

    assert any(
        "neither is ahead beyond the intervals at any number of steps" in text
        for text in flat.verdict
    )


def test_more_ways_than_an_alphabet_has_characters_leave_that_step_out(subjects):
    sampler = subjects[0].experiment.evaluation_sampler("val")
    sampler.ways = 1000

    with pytest.raises(ValueError, match="no alphabet has 1000 characters"):
        next(iter(shifted_episodes("one alphabet", sampler, 1)))


def test_a_meta_learned_head_is_refused(subjects):
    one, other = subjects
    config = other.experiment.config.replace(fresh_head=False)
    experiment = Experiment(config, other.experiment.dataset, other.experiment.split)
    learnt = Subject("learnt", experiment, experiment.build_learner(), other.own_accuracies)

    with pytest.raises(ValueError, match="learnt has a meta-learned head"):
        explain((one, learnt), episodes=6, few_episodes=2)


def test_a_network_whose_blocks_are_not_known_is_refused(subjects):
    one, other = subjects
    strange = copy.deepcopy(other.learner)
    strange.model = torch.nn.Linear(2, 2)
    refused: Callable[[], Explanation] = lambda: explain(  # noqa: E731
        (one, Subject("strange", other.experiment, strange, other.own_accuracies)),
        episodes=6,
        few_episodes=2,
    )

    with pytest.raises(ValueError, match="strange has a network whose blocks are not known"):
        refused()


@pytest.mark.parametrize("method", ["mamlpp", "boil", "metasgd", "reptile"])
def test_a_method_that_adapts_in_its_own_way_alone_is_refused(subjects, method):
    """Of a meta-learned head nothing is said, where there is no other to train."""
    one, other = subjects
    config = settings_of(method, **SETTINGS)
    experiment = Experiment(config, other.experiment.dataset, other.experiment.split)
    own_way = Subject("own way", experiment, experiment.build_learner(), other.own_accuracies)

    with pytest.raises(ValueError, match="own way cannot be adapted in other ways than its own"):
        explain((one, own_way), episodes=6, few_episodes=2)


def test_a_method_without_an_inner_rate_is_refused(subjects):
    one, other = subjects
    own = other.experiment.config.own

    class WithoutRate(type(own)):
        adaptation_rate = None

    config = replace(other.experiment.config, own=WithoutRate(**vars(own)))
    experiment = Experiment(config, other.experiment.dataset, other.experiment.split)
    subject = Subject("computed", experiment, other.learner, other.own_accuracies)

    with pytest.raises(ConfigError, match="computed takes no inner steps of a rate"):
        explain((one, subject), episodes=6, few_episodes=2)


def test_block_outputs_end_in_the_logits_of_a_prediction(subjects):
    for subject in subjects:
        batch = subject.experiment.evaluation_sampler("val").batch(0, 2)
        adaptation = subject.learner.adapt(batch.support, steps=2)

        outputs = subject.learner.block_outputs(adaptation, batch.query.images)

        with torch.no_grad():
            logits = subject.learner.predict(adaptation, batch.query.images)
        assert torch.equal(outputs["logits"], logits)
        assert all(value.shape[:2] == (2, 12) for value in outputs.values())
