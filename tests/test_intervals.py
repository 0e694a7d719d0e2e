"""Intervals: against tables, analyses of variance done by hand, and made-up data of known mean."""

import importlib.util
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from innerloop.core.components import Design, half_width, half_width_of_episodes
from innerloop.core.intervals import (
    independent_difference,
    intervals_in_words,
    mean_and_interval,
    paired_difference,
    what_is_covered,
)
from innerloop.core.student import t_quantile

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
REPETITIONS = 1000


def _benchmark() -> Any:
    """The script; by its path, since a well-known package has its name."""
    spec = importlib.util.spec_from_file_location("benchmark", BENCHMARKS / "intervals.py")
    assert spec and spec.loader
    sys.modules["benchmark"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BENCHMARK = _benchmark()
Setting = BENCHMARK.Setting


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [
        (1, 12.7062),
        (2, 4.3027),
        (3, 3.1824),
        (4, 2.7764),
        (5, 2.5706),
        (10, 2.2281),
        (30, 2.0423),
        (120, 1.9799),
        (math.inf, 1.9600),
    ],
)
def test_quantiles_of_student_are_those_of_the_table(freedom, quantile):
    assert t_quantile(freedom) == pytest.approx(quantile, abs=5e-5)


def test_episodes_of_one_class_each_are_a_one_way_analysis_of_variance():
    """Three classes, two episodes of each: the mean square between classes over six, two degrees of
    freedom."""
    values = np.array([[0.1, 0.3, 0.6, 0.8, 0.5, 0.1]])
    design = Design(6, np.array([[7], [7], [3], [3], [9], [9]]))

    variance = design.variance(values)

    of_classes = np.array([0.2, 0.7, 0.3])
    between = 2 * of_classes.var(ddof=1)
    assert variance.value == pytest.approx(between / 6)
    # The table's 2 is below what an estimate over episodes has at least.
    assert variance.freedom == 3


def test_the_degrees_of_freedom_of_dominating_classes_are_their_number_less_one():
    random = np.random.default_rng(0)
    classes = np.repeat(np.arange(40), 5)
    values = random.normal(0, 1, 40)[classes] + random.normal(0, 0.1, 200)

    variance = Design(200, classes[:, None]).variance(values[None])

    of_classes = values.reshape(40, 5).mean(axis=1)
    assert variance.value == pytest.approx(of_classes.var(ddof=1) / 40)
    assert variance.freedom == pytest.approx(39)


def test_episodes_that_share_no_class_are_independent():
    values = np.array([0.2, 0.5, 0.9, 0.4])
    disjoint = Design(4, np.arange(12).reshape(4, 3))

    assert mean_and_interval(values, disjoint) == pytest.approx(mean_and_interval(values))
    assert disjoint.covers_classes


def test_shared_classes_make_the_interval_wider():
    """Each class in many episodes, and nothing but classes varies: no more episodes would help."""
    random = np.random.default_rng(0)
    classes = np.stack([random.choice(30, 5, replace=False) for _ in range(600)])
    of_class = random.normal(0.9, 0.05, 30)
    values = of_class[classes].mean(axis=1)

    _, covering = mean_and_interval(values, Design(600, classes))
    _, without = mean_and_interval(values)

    assert covering == pytest.approx(t_quantile(29) * of_class.std(ddof=1) / math.sqrt(30), rel=0.1)
    assert covering > 3 * without


def test_the_estimated_variance_of_the_mean_is_right_on_average():
    """By components: 4 per class and 1 per episode, of 200 episodes of 5 of 60 classes."""
    random = np.random.default_rng(1)
    classes = np.stack([random.choice(60, 5, replace=False) for _ in range(200)])
    design = Design(200, classes)
    counts = np.bincount(classes.ravel(), minlength=60)
    true = 4 * np.sum((counts / 1000) ** 2) + 1 / 200

    estimates = [
        design.variance(
            (random.normal(0, 2, 60)[classes].mean(axis=1) + random.normal(0, 1, 200))[None]
        ).value
        for _ in range(1000)
    ]

    error = np.std(estimates) / math.sqrt(1000)
    assert abs(np.mean(estimates) - true) < 3 * error
    assert error < 0.01 * true


def test_seeds_and_episodes_crossed_are_a_two_way_analysis_of_variance():
    """By hand from the mean squares of seeds, of episodes and of what is left."""
    values = np.array([[0.9, 0.7, 0.8, 0.5], [0.8, 0.6, 0.9, 0.4], [0.4, 0.2, 0.4, 0.1]])
    of_seeds = 4 * values.mean(axis=1).var(ddof=1)
    of_episodes = 3 * values.mean(axis=0).var(ddof=1)
    left = values - values.mean(axis=0) - values.mean(axis=1)[:, None] + values.mean()
    of_rest = np.sum(left**2) / 6

    expected = math.hypot(
        3.182446 * math.sqrt(of_episodes / 12), 4.302653 * math.sqrt((of_seeds - of_rest) / 12)
    )

    assert mean_and_interval(values)[1] == pytest.approx(expected)


def test_seeds_that_agree_add_nothing():
    values = np.array([[0.9, 0.7, 0.8, 0.5]] * 3)

    assert half_width(values, Design(4)) == half_width_of_episodes(values, Design(4))


def test_the_classes_of_all_episodes_alike_say_nothing_of_others():
    same = Design(5, np.array([[0, 1, 2]] * 5))

    assert what_is_covered(same, seeds=False) == "episodes"
    assert what_is_covered(same, seeds=True) == "episodes and training seeds"


def test_accuracies_that_are_all_the_same_have_an_interval_of_zero():
    design = Design(4, np.array([[0, 1], [1, 2], [0, 2], [0, 1]]))

    assert mean_and_interval(np.full(4, 0.2), design) == (pytest.approx(0.2), 0.0)


def test_what_was_not_measured_has_no_interval():
    design = Design(4, np.array([[0, 1], [1, 2], [0, 2], [0, 1]]))

    mean, half = mean_and_interval(np.full(4, math.nan), design)

    assert math.isnan(mean) and math.isnan(half)


def test_one_seed_of_either_method_covers_no_seeds():
    three = np.array([[0.9, 0.8, 0.7, 0.8], [0.5, 0.4, 0.3, 0.4], [0.7, 0.6, 0.5, 0.6]])
    one = three[:1] - np.array([0.1, 0.2, 0.1, 0.1])
    design = Design(4, np.array([[0, 1], [1, 2], [0, 2], [0, 1]]))

    assert paired_difference(three, one, design).covers == "episodes and classes"
    assert independent_difference(three, one, design, design).covers == "episodes and classes"
    assert independent_difference(three, one, design, Design(4)).covers == "episodes"


def test_rows_whose_intervals_cover_other_things_are_named():
    assert intervals_in_words([("A", "episodes"), ("B", "episodes")]) == (
        "95 % interval over episodes"
    )
    assert intervals_in_words([("A", "episodes"), ("B", "episodes and classes")]) == (
        "95 % interval over episodes (A), over episodes and classes (B)"
    )


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(Setting(1, 600, 5, 659, "classes dominate"), marks=pytest.mark.slow),
        Setting(1, 30, 5, 423, "episodes dominate"),
        Setting(1, 30, 20, 100, "all alike"),
        pytest.param(Setting(3, 600, 5, 659, "seeds dominate"), marks=pytest.mark.slow),
        Setting(3, 30, 5, 659, "all alike"),
        Setting(3, 30, 20, 423, "classes dominate"),
    ],
    ids=str,
)
def test_95_percent_intervals_hold_the_truth_in_93_to_97_percent_of_trials(setting):
    assert 0.93 <= BENCHMARK.coverage(setting, REPETITIONS) <= 0.97


def test_intervals_of_differences_of_unequally_many_seeds_hold_the_truth_as_often():
    a = Setting(3, 100, 5, 100, "all alike")
    b = Setting(5, 100, 5, 100, "seeds dominate")

    assert 0.93 <= BENCHMARK.coverage_of_differences(a, b, REPETITIONS) <= 0.97


@pytest.mark.parametrize("interaction", [0.2, 0.8])
def test_differences_of_two_seeds_each_are_not_too_sure(interaction):
    """Seed by seed they would hold the truth in 89 to 90 % of the trials of the second."""
    setting = Setting(2, 600, 5, 423, "seeds dominate", interaction, "difference")

    assert BENCHMARK.coverage_of_differences(setting, setting, REPETITIONS) >= 0.93


def test_the_committed_coverage_is_of_every_setting_and_never_far_too_small():
    """At 1000 trials a coverage of 95 % scatters by 0.7; docs/comparison.md says where it is
    above 97 %, and where two seeds of one method are too sure."""
    committed = json.loads((BENCHMARKS / "results" / "coverage.json").read_text())
    rows = {tuple(list(row.values())[:-1]): row["coverage"] for row in committed["rows"]}

    assert set(rows) == {tuple(vars(setting).values()) for setting in BENCHMARK.settings()}
    assert committed["repetitions"] >= 1000
    # Two standard errors of 1000 trials below 93 %.
    least = 0.93 - 2 * math.sqrt(0.93 * 0.07 / 1000)
    too_sure = {row for row, held in rows.items() if held < least}
    assert too_sure == {
        (2, episodes, 5, 423, "seeds dominate", 0.8, of, 1.0)
        for episodes in (30, 600)
        for of in ("mean", "difference by seed")
    }
    one_seed = [held for (seeds, *_), held in rows.items() if seeds == 1]
    assert np.mean([0.93 <= held <= 0.97 for held in one_seed]) > 0.75
