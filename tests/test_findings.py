"""Every sentence that judges, on both sides of its rule."""

import dataclasses
import math

import numpy as np
import pytest

from innerloop.analysis.compared import Pair
from innerloop.analysis.comparison import learning_curve
from innerloop.analysis.explanation.rows import PartRow, ShotsRow
from innerloop.assignment.bar import against_bar, first_above
from innerloop.assignment.sentences import better_or_worse, kept_rates
from innerloop.core.intervals import paired_difference
from innerloop.report import findings, steadiness
from making import make_run

NAN = math.nan


@pytest.mark.parametrize(
    ("mean", "half", "said"),
    [
        (0.98, 0.01, "is above the bar"),
        (0.70, 0.01, "is below the bar"),
        (0.805, 0.01, "cannot be told from the bar"),
    ],
)
def test_the_bar_is_passed_beyond_the_interval_alone(mean, half, said):
    assert said in against_bar("FO-MAML", mean, half, 0.8, "episodes and classes")


def test_without_several_seeds_the_bar_is_passed_by_a_network_and_not_by_its_method():
    seeds = against_bar("FO-MAML", 0.98, 0.01, 0.8, "episodes, classes and training seeds")
    one = against_bar("FO-MAML", 0.98, 0.01, 0.8, "episodes and classes")

    assert seeds.startswith("FO-MAML is above the bar")
    assert one.startswith("Of this network alone: FO-MAML is above the bar")


@pytest.mark.parametrize(
    ("curve", "said"),
    [
        ([0.5, 0.85, 0.9], "at outer step 10 and stays above it"),
        ([0.5, 0.85, 0.7], "at outer step 10 and falls under it again"),
        ([0.5, 0.9, NAN], "falls under it again"),
        ([0.5, 0.6, NAN], "never reaches 80 %"),
    ],
)
def test_when_a_curve_reaches_the_bar(curve, said):
    assert said in first_above("FO-MAML", [0, 10, 20], curve, 0.8)


def test_accuracy_before_adaptation_is_explained_by_what_it_is():
    exactly = findings.before_adaptation(
        {"FO-MAML": (0.2, 0.0), "Transfer": (0.2, 0.0)}, 5, ["FO-MAML", "Transfer"]
    )
    chance = findings.before_adaptation({"FO-MAML": (0.207, 0.01)}, 5, ["FO-MAML"])
    above = findings.before_adaptation({"FO-MAML": (0.4, 0.01)}, 5, [])
    learnt = findings.before_adaptation({"FO-MAML": (0.2, 0.0)}, 5, [])

    assert (
        len(exactly) == 1 and "exactly 20.0 %" in exactly[0] and "FO-MAML, Transfer" in exactly[0]
    )
    assert "chance: labels are assigned at random" in chance[0]
    assert "above chance (20.0 %)" in above[0]
    assert "chance: labels are assigned" in learnt[0], "its head did not start from zero"


@pytest.mark.parametrize(
    ("support", "query", "said"),
    [
        (0.99, 0.985, "level"),
        (0.99, 0.9, "9.0 points are lost"),
        (0.9, 0.99, "the query set is 9.0 points better"),
    ],
)
def test_support_against_query(support, query, said):
    assert said in findings.support_against_query("FO-MAML", support, query)


@pytest.mark.parametrize(
    ("last", "said"),
    [(0.9, "changes little (+0.0 points)"), (0.95, "helps (+5.0"), (0.7, "hurts (-20.0")],
)
def test_steps_beyond_training(last, said):
    assert said in findings.more_steps("FO-MAML", [0.2, 0.7, 0.9, 0.9, last], 2)


def test_steps_that_were_not_measured_are_not_spoken_of():
    assert "not measured" in findings.more_steps("Transfer", [0.2, NAN, 0.9], 2)
    assert "not measured" in findings.more_steps("Transfer", [0.2], 0)


def test_stability_names_the_smoothest_and_counts_divergences():
    calm = {"diverged": False, "drawdown": 0.01, "roughness": 0.001}
    rough = {"diverged": True, "drawdown": 0.3, "roughness": 0.02}

    one = steadiness.stability({"FO-MAML": [calm], "MAML++": [rough]}, above=0.80)
    anywhere = steadiness.stability({"MAML++": [rough]})
    more = steadiness.stability(
        {"FO-MAML": [rough] * 3, "MAML++": [calm] * 3, "MAML": [{"diverged": True}] * 3}
    )

    assert (
        "MAML++: 1 of 1 seed diverged; its largest fall from a former best above 80 % is 30.0 "
        "points" in one[1]
    )
    assert "its largest fall from a former best is 30.0 points" in anywhere[0]
    assert (
        "By roughness, FO-MAML is the smoothest and MAML++ the roughest. This describes" in one[-1]
    )
    assert len(steadiness.stability({"FO-MAML": [calm], "MAML++": [calm]})) == 2, (
        "level curves are not ranked"
    )
    assert more[2] == "MAML: 3 of 3 seeds diverged."
    assert (
        "By roughness, MAML++ is the smoothest and FO-MAML the roughest. This describes these "
        "trainings" in more[-1]
    )


def test_curves_that_are_equally_smooth_share_the_place():
    steady = {"diverged": False, "drawdown": 0.0, "roughness": 0.0}
    rough = {"diverged": False, "drawdown": 0.01, "roughness": 0.02}

    said = steadiness.stability({"FO-MAML": [rough], "MAML": [steady], "MAML++": [steady]})[-1]

    assert said.startswith(
        "By roughness, MAML and MAML++ are the smoothest and FO-MAML the roughest. A curve that "
        "never"
    )


def test_curves_of_unlike_averaging_are_not_compared():
    assert "do not compare" in steadiness.smoothing({"FO-MAML": 0.98, "MAML++": 0.0})
    assert "decay 0.98" in steadiness.smoothing({"FO-MAML": 0.98, "MAML++": 0.98})
    assert "without a moving average" in steadiness.smoothing({"FO-MAML": 0.0})


def test_rates_and_shots_are_read_off_their_rows():
    rates = [
        PartRow(adapts="own", rate=rate, mean=mean, ci95=0.01)
        for rate, mean in ((0.04, 0.90), (0.4, 0.95), (1.0, 0.94))
    ]
    shots = [ShotsRow(shots=count, mean=mean, ci95=0.01) for count, mean in ((1, 0.8), (5, 0.9))]

    said = findings.over_rates("FO-MAML", rates, 0.04)

    near = findings.over_rates("FO-MAML", rates, 1.0)

    assert (
        "highest at 0.4 (95.0" in said
        and "from 0.4 to 1;" in said
        and said.endswith("at 0.04 it has 90.0 ± 1.0 %.")
    )
    assert near.endswith("at 1 it has 94.0 ± 1.0 %, which the intervals do not tell apart.")
    assert findings.over_shots("FO-MAML", shots).endswith("more is better at every step.")
    assert not findings.over_shots("FO-MAML", shots[::-1]).endswith("more is better at every step.")
    assert not findings.over_shots("FO-MAML", shots[:1]).endswith("more is better at every step.")


def test_a_range_of_rates_has_no_hole():
    rates = [
        PartRow(adapts="own", rate=rate, mean=mean, ci95=0.01)
        for rate, mean in ((0.1, 0.98), (0.2, 0.9), (0.4, 0.981))
    ]

    assert "within two points of that from 0.4 to 0.4" in findings.over_rates("FO-MAML", rates, 0.4)


def test_numbers_that_are_not_finite_are_said_to_be():
    assert (
        findings.percent(NAN) == "not finite" and findings.nats(NAN) == "a loss that is not finite"
    )


@pytest.mark.parametrize(
    ("mean", "verdict", "said"),
    [
        (0.01, "better", "Better. Transfer is better than FO-MAML: +1.00"),
        (-0.01, "worse", "Worse. Transfer is worse than FO-MAML: -1.00"),
        (0.0, "not distinguishable", "Neither. Transfer and FO-MAML are not distinguishable"),
    ],
)
def test_better_or_worse(mean, verdict, said):
    accuracies = np.array([[0.9, 0.8, 0.7, 0.8], [0.9, 0.8, 0.7, 0.8]])
    difference = paired_difference(accuracies + mean, accuracies)
    pair = Pair("Transfer", "FO-MAML", difference)

    assert difference.verdict == verdict and better_or_worse(pair).startswith(said)


def test_one_seed_of_each_answers_for_two_networks_and_not_for_their_methods():
    accuracies = np.array([0.9, 0.8, 0.7, 0.8])
    pair = Pair("Transfer", "FO-MAML", paired_difference(accuracies + 0.01, accuracies))

    answer = better_or_worse(pair)

    assert answer.startswith("Of these networks alone: Transfer is better than FO-MAML: +1.00")
    assert answer.endswith("What other training seeds would give is not known.")


def test_what_was_seen_follows_from_the_runs(tmp_path):
    transfer, fomaml = make_run(tmp_path, "transfer"), make_run(tmp_path, "fomaml", ways=7)
    curves = [
        dataclasses.replace(learning_curve(name, run), image_passes=(0, passes))
        for run, name, passes in (
            (transfer, "Transfer", 307_200),
            (fomaml, "FO-MAML", 800_000),
        )
    ]
    pair = Pair("Transfer", "FO-MAML", paired_difference(np.ones(2), np.zeros(2)))

    said = findings.what_was_seen(pair, curves, [transfer, fomaml])

    assert (
        "Transfer told all training characters, each of its four rotations a class of its own, "
        "apart at once" in said
    )
    assert (
        "sent 307 thousand images" in said and "FO-MAML told 7 characters apart at a time" in said
    )
    for plain in (
        make_run(tmp_path, "transfer", name="plain", rotations_as_classes=False),
        make_run(tmp_path, "transfer", name="upright", rotations=False),
    ):
        assert "four rotations" not in findings.what_was_seen(pair, curves, [plain, fomaml])


def test_rates_that_stayed_are_explained_where_a_zero_head_is_the_cause(tmp_path):
    run = make_run(tmp_path, "mamlpp")

    assert "stays at 0.4 in blocks.0: a head that starts from zero" in kept_rates(run)
    assert kept_rates(make_run(tmp_path, "mamlpp", name="own-head", fresh_head=False)) == ""
    assert kept_rates(make_run(tmp_path, "mamlpp", name="other-rate", inner_lr=0.3)) == ""


def test_percent_nats_and_counts_as_they_are_written():
    assert findings.percent(0.98765) == "98.77 %"
    assert findings.percent(0.98765, 0.00123) == "98.77 ± 0.12 %"
    assert findings.percent(0.98765, 0.0123, 1) == "98.8 ± 1.2 %"
    assert findings.percent(0.98765, digits=1) == "98.8 %"
    assert findings.nats(0.12345) == "0.123 nats"
    assert [findings.counted(number, "seed") for number in (0, 1, 2)] == [
        "0 seeds",
        "1 seed",
        "2 seeds",
    ]


@pytest.mark.parametrize(
    ("mean", "half", "from_zero", "said"),
    [
        # Exactly at chance in every episode, and its head starts from zero.
        (0.25, 0.0, True, "Before adaptation, exactly 25.0 % of the query images are right"),
        (0.25, 0.0, False, "Before adaptation A has 25.0 ± 0.0 %, chance: labels"),
        (0.25, 0.001, True, "Before adaptation A has 25.0 ± 0.1 %, chance: labels"),
        (0.2501, 0.0, True, "Before adaptation A has 25.0 ± 0.0 %, chance: labels"),
        # Within a point of chance, or within the interval, whichever is more.
        (0.2599, 0.001, False, "Before adaptation A has 26.0 ± 0.1 %, chance: labels"),
        (0.2601, 0.001, False, "Before adaptation A has 26.0 ± 0.1 %, above chance (25.0 %)."),
        (0.2399, 0.001, False, "Before adaptation A has 24.0 ± 0.1 %, below chance (25.0 %)."),
        (0.29, 0.05, False, "Before adaptation A has 29.0 ± 5.0 %, chance: labels"),
    ],
)
def test_what_counts_as_chance_before_adaptation(mean, half, from_zero, said):
    (sentence,) = findings.before_adaptation({"A": (mean, half)}, 4, ["A"] if from_zero else [])

    assert sentence.startswith(said)


def test_methods_with_and_without_a_zero_head_are_spoken_of_apart():
    said = findings.before_adaptation({"A": (0.2, 0.0), "B": (0.3, 0.01)}, 5, ["A"])

    assert said[0].startswith("Before adaptation, exactly 20.0 %") and "(A)" in said[0]
    assert "all 5 logits are equal" in said[0] and "one image in 5 is" in said[0]
    assert said[1:] == ["Before adaptation B has 30.0 ± 1.0 %, above chance (20.0 %)."]


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        (0.0099, "level, so what it learns"),
        (0.0101, "1.0 points are lost on drawings"),
        (-0.0099, "level, so what it learns"),
        (-0.0101, "the query set is 1.0 points better"),
    ],
)
def test_support_and_query_are_level_within_a_point(gap, said):
    sentence = findings.support_against_query("A", 0.5 + gap, 0.5)

    assert sentence.startswith(f"After adaptation A has {50 + 100 * gap:.1f} % on the support and")
    assert "50.0 % on the query set" in sentence and said in sentence


def test_steps_are_told_from_zero_to_the_last():
    said = findings.more_steps("A", [0.2, 0.7, 0.8, 0.809], 2)

    assert said == (
        "A goes from 20.0 % to 70.0 % with the first inner step and to 80.0 % with all 2; "
        "going on to 3 steps changes little (+0.9 points)."
    )
    assert "helps (+1.1" in findings.more_steps("A", [0.2, 0.7, 0.8, 0.811], 2)
    assert "hurts (-1.1" in findings.more_steps("A", [0.2, 0.7, 0.8, 0.789], 2)
    assert "changes little (+0.0 points)" in findings.more_steps("A", [0.2, 0.7, 0.8, 0.7999], 2)
    assert findings.more_steps("A", [0.2, 0.7], 1).endswith("and to 70.0 % with all 1.")
    assert findings.more_steps("A", [0.2, 0.7], 2) == "A was not measured step by step."


def test_rates_within_two_points_of_the_best_and_the_nearest_to_ones_own():
    rates = [
        PartRow(adapts="own", rate=rate, mean=mean, ci95=0.001)
        for rate, mean in ((1.0, 0.93), (0.1, 0.931), (0.2, 0.95), (0.4, 0.929))
    ]

    said = findings.over_rates("A", rates, 0.15)

    assert "highest at 0.2 (95.0 ± 0.1 %) and within two points of that from 0.1 to 0.2;" in said
    # 0.15 is as near to 0.1 as to 0.2, and the first one's row comes first.
    assert said.endswith("at 0.1 it has 93.1 ± 0.1 %.")
    assert findings.over_rates("A", rates, 0.2).endswith("at 0.2 it has 95.0 ± 0.1 %.")


def test_intervals_overlap_where_they_touch():
    def said(mean: float) -> str:
        rows = [
            PartRow(adapts="own", rate=rate, mean=value, ci95=0.25)
            for rate, value in ((0.1, mean), (0.2, 1.0))
        ]
        return findings.over_rates("A", rows, 0.1)

    assert said(0.5).endswith("which the intervals do not tell apart.")
    assert not said(0.49).endswith("which the intervals do not tell apart.")


def test_more_shots_are_better_only_where_every_step_rises():
    rows = [ShotsRow(shots=count, mean=mean, ci95=0.01) for count, mean in ((1, 0.8), (5, 0.9))]

    assert findings.over_shots("A", rows) == (
        "A has 80.0 ± 1.0 % with 1, 90.0 ± 1.0 % with 5 support images a class: more is better at "
        "every step."
    )
    unsure = [*rows, ShotsRow(shots=10, mean=0.95, ci95=1.27)]
    assert findings.over_shots("A", unsure).endswith("with 10 support images a class.")
    level = [*rows, ShotsRow(shots=10, mean=0.9, ci95=0.01)]
    assert findings.over_shots("A", level).endswith("with 10 support images a class.")
