"""Every sentence that judges, on both sides of its rule."""

import pytest

from innerloop.report import findings


@pytest.mark.parametrize(
    ("mean", "half", "said"),
    [(0.98, 0.01, "is above the bar"), (0.70, 0.01, "is below the bar"), (0.805, 0.01, "cannot be told from the bar")],
)
def test_the_bar_is_passed_beyond_the_interval_alone(mean, half, said):
    assert said in findings.against_bar("FO-MAML", mean, half, 0.8)


@pytest.mark.parametrize(
    ("curve", "said"),
    [
        ([0.5, 0.85, 0.9], "at outer step 10 and stays above it"),
        ([0.5, 0.85, 0.7], "at outer step 10 and falls under it again"),
        ([0.5, 0.9, None], "falls under it again"),
        ([0.5, 0.6, None], "never reaches 80 %"),
    ],
)
def test_when_a_curve_reaches_the_bar(curve, said):
    assert said in findings.first_above("FO-MAML", [0, 10, 20], curve, 0.8)


def test_accuracy_before_adaptation_is_explained_by_what_it_is():
    exactly = findings.before_adaptation({"FO-MAML": (0.2, 0.0), "Transfer": (0.2, 0.0)}, 5, ["FO-MAML", "Transfer"])
    chance = findings.before_adaptation({"FO-MAML": (0.207, 0.01)}, 5, ["FO-MAML"])
    above = findings.before_adaptation({"FO-MAML": (0.4, 0.01)}, 5, [])
    learnt = findings.before_adaptation({"FO-MAML": (0.2, 0.0)}, 5, [])

    assert len(exactly) == 1 and "exactly 20.0 %" in exactly[0] and "FO-MAML, Transfer" in exactly[0]
    assert "chance: labels are assigned at random" in chance[0]
    assert "above chance (20.0 %)" in above[0]
    assert "chance: labels are assigned" in learnt[0], "its head did not start from zero"


@pytest.mark.parametrize(
    ("support", "query", "said"),
    [(0.99, 0.985, "level"), (0.99, 0.9, "9.0 points are lost"), (0.9, 0.99, "the query set is 9.0 points better")],
)
def test_support_against_query(support, query, said):
    assert said in findings.support_against_query("FO-MAML", support, query)


@pytest.mark.parametrize(
    ("last", "said"), [(0.9, "changes little (+0.0 points)"), (0.95, "helps (+5.0"), (0.7, "hurts (-20.0")]
)
def test_steps_beyond_training(last, said):
    assert said in findings.more_steps("FO-MAML", [0.2, 0.7, 0.9, 0.9, last], 2)


def test_steps_that_were_not_measured_are_not_spoken_of():
    assert "not measured" in findings.more_steps("Transfer", [0.2, None, 0.9], 2)
    assert "not measured" in findings.more_steps("Transfer", [0.2], 0)


def test_stability_names_the_smoothest_and_counts_divergences():
    calm = {"diverged": False, "drawdown": 0.01, "roughness": 0.001}
    rough = {"diverged": True, "drawdown": 0.3, "roughness": 0.02}

    one = findings.stability({"FO-MAML": [calm], "MAML++": [rough]})
    more = findings.stability({"FO-MAML": [rough] * 3, "MAML++": [calm] * 3, "MAML": [{"diverged": True}] * 3})

    assert "MAML++: 1 of 1 training diverged; its largest fall from a former best above 80 % is 30.0 points" in one[1]
    assert "The smoothest curve is FO-MAML's, the roughest MAML++'s. This describes" in one[-1]
    assert len(findings.stability({"FO-MAML": [calm], "MAML++": [calm]})) == 2, "level curves are not ranked"
    assert more[2] == "MAML: 3 of 3 trainings diverged."
    assert (
        "The smoothest curve is MAML++'s, the roughest FO-MAML's. This describes these trainings (FO-MAML 3 seeds"
        in more[-1]
    )


def test_curves_of_unlike_averaging_are_not_compared():
    assert "do not compare" in findings.smoothing({"FO-MAML": 0.98, "MAML++": 0.0})
    assert "decay 0.98" in findings.smoothing({"FO-MAML": 0.98, "MAML++": 0.98})
    assert "without a moving average" in findings.smoothing({"FO-MAML": 0.0})


def test_rates_and_shots_are_read_off_their_rows():
    rates = [{"rate": rate, "mean": mean, "ci95": 0.01} for rate, mean in ((0.04, 0.90), (0.4, 0.95), (1.0, 0.94))]
    shots = [{"shots": count, "mean": mean, "ci95": 0.01} for count, mean in ((1, 0.8), (5, 0.9))]

    said = findings.over_rates("FO-MAML", rates, 0.04)

    assert "best at an inner rate of 0.4" in said and "from 0.4 to 1;" in said and "at 0.04 it has 90.0" in said
    assert findings.over_shots("FO-MAML", shots).endswith("more is better at every step.")
    assert not findings.over_shots("FO-MAML", shots[::-1]).endswith("more is better at every step.")
    assert not findings.over_shots("FO-MAML", shots[:1]).endswith("more is better at every step.")


def test_a_range_of_rates_has_no_hole():
    rates = [{"rate": rate, "mean": mean, "ci95": 0.01} for rate, mean in ((0.1, 0.98), (0.2, 0.9), (0.4, 0.981))]

    assert "within two points of that from 0.4 to 0.4" in findings.over_rates("FO-MAML", rates, 0.4)


def test_numbers_that_are_not_finite_are_said_to_be():
    assert findings.percent(None) == "not finite" and findings.nats(None) == "a loss that is not finite"


@pytest.mark.parametrize(
    ("mean", "verdict", "said"),
    [(0.01, "better", "Transfer is better than FO-MAML, by 1.00 ± 0.50 points"),
     (-0.01, "worse", "FO-MAML is better than Transfer, by 1.00 ± 0.50 points"),
     (0.001, "not distinguishable", "Neither: Transfer and FO-MAML are not distinguishable")],
)  # fmt: skip
def test_better_or_worse(mean, verdict, said):
    pair = {"a": "Transfer", "b": "FO-MAML", "mean": mean, "ci95": 0.005, "verdict": verdict}

    assert findings.better_or_worse(pair).startswith(said)
