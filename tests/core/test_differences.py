"""Differences and their verdicts, by hand."""

import dataclasses
import json

import numpy as np
import pytest

from innerloop.core.components import Design
from innerloop.core.intervals import (
    Covers,
    Difference,
    covers_seeds,
    independent_difference,
    interval_in_words,
    intervals_in_words,
    mean_and_interval,
    paired_difference,
    what_is_covered,
)

A = np.array([0.9, 0.8, 0.7, 1.0, 0.6])
B = np.array([0.8, 0.8, 0.8, 0.7, 0.5])


def difference(mean: float, ci95: float) -> Difference:
    return Difference(mean, ci95, 3, 1, 0, 0.75, 0.5)


@pytest.mark.parametrize(
    ("mean", "ci95", "verdict"),
    [
        (0.021, 0.02, "better"),
        (-0.021, 0.02, "worse"),
        (0.019, 0.02, "not distinguishable"),
        (-0.019, 0.02, "not distinguishable"),
        (0.02, 0.02, "not distinguishable"),
        (-0.02, 0.02, "not distinguishable"),
        (0.0, 0.0, "not distinguishable"),
        (float("nan"), 0.02, "not distinguishable"),
    ],
)
def test_a_verdict_needs_a_mean_outside_of_its_whole_interval(mean, ci95, verdict):
    assert difference(mean, ci95).verdict == verdict
    assert difference(mean, ci95).to_json()["verdict"] == verdict


@pytest.mark.parametrize("measure", [paired_difference, independent_difference])
def test_a_reversed_difference_is_the_one_of_the_exchanged_arguments(measure):
    turned, exchanged = measure(A, B).reversed(), measure(B, A)

    assert turned.to_json() == pytest.approx(exchanged.to_json())
    assert measure(A, B).reversed().reversed() == measure(A, B)


def test_wins_losses_and_ties_are_counted_and_a_tie_is_half_a_win():
    counted = paired_difference(A, B)

    assert (counted.won, counted.lost, counted.tied) == (3, 1, 1)
    assert counted.probability == pytest.approx(3.5 / 5)
    assert counted.reversed().won == 1 and counted.reversed().lost == 3
    assert counted.reversed().probability == pytest.approx(1.5 / 5)
    assert counted.paired
    # Of 0.1, 0, -0.1, 0.3, 0.1: mean 0.08, and squares around it that sum to 0.088.
    assert counted.effect_size == pytest.approx(0.08 / (0.088 / 4) ** 0.5)


def test_differences_count_to_the_millionth():
    """0.1 + 0.2 is not 0.3 to the last bit, and the two tie all the same; a millionth does not."""
    tie = paired_difference(np.array([0.1 + 0.2, 0.5]), np.array([0.3, 0.5]))
    near = paired_difference(np.array([0.3000004, 0.5]), np.array([0.3, 0.5]))
    apart = paired_difference(np.array([0.300002, 0.5]), np.array([0.3, 0.5]))

    assert (tie.won, tie.tied, tie.mean, tie.effect_size) == (0, 2, 0.0, None)
    assert (near.won, near.tied) == (0, 2)
    assert (apart.won, apart.tied) == (1, 1)


def test_independent_means_have_no_pairs_and_variances_add():
    """By hand: both intervals are t s / sqrt(n), and the root of their squares' sum is 5."""
    t = 12.7062047  # of one degree of freedom, 97.5 %
    a, b = np.array([3.0, -3.0]) / t + 4.0, np.array([4.0, -4.0]) / t
    apart = independent_difference(a, b)

    assert mean_and_interval(a) == pytest.approx((4.0, 3.0))
    assert (apart.mean, apart.ci95) == pytest.approx((4.0, 5.0))
    assert dataclasses.asdict(apart) == dataclasses.asdict(
        Difference(apart.mean, apart.ci95, None, None, None, None, None, paired=False)
    )


def test_a_difference_as_json_holds_every_attribute_by_its_name():
    row = json.loads(json.dumps(difference(0.03, 0.02).to_json()))

    assert row == {
        "mean": 0.03,
        "ci95": 0.02,
        "won": 3,
        "lost": 1,
        "tied": 0,
        "probability": 0.75,
        "effect_size": 0.5,
        "paired": True,
        "covers": "episodes",
        "verdict": "better",
    }


@pytest.mark.parametrize(
    ("classes", "seeds", "covers"),
    [
        (False, False, "episodes"),
        (True, False, "episodes and classes"),
        (False, True, "episodes and training seeds"),
        (True, True, "episodes, classes and training seeds"),
    ],
)
def test_an_interval_says_what_it_covers(classes, seeds, covers):
    design = Design(2, np.array([[0, 1], [1, 2]]) if classes else None)

    assert what_is_covered(design, seeds=seeds) == covers
    assert covers_seeds(covers) == seeds
    assert interval_in_words(covers) == f"95 % interval over {covers}"


@pytest.mark.parametrize("measure", [paired_difference, independent_difference])
@pytest.mark.parametrize("seeds", [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 3)])
def test_a_difference_covers_training_seeds_where_both_have_several(measure, seeds):
    draw = np.random.default_rng(0)
    a, b = (draw.uniform(0.5, 1.0, (count, 5)) for count in seeds)

    assert covers_seeds(measure(a, b).covers) == (min(seeds) > 1)


def test_seeds_of_two_methods_are_not_paired_whatever_their_order():
    """Seeds that move both alike do not cancel, and another order of them changes nothing."""
    moved = np.array([[0.0], [0.1], [0.2]])
    draw = np.random.default_rng(0)
    a, b = (0.7 + moved + draw.normal(0, 0.001, (3, 5)) for _ in range(2))

    difference = paired_difference(a, b)

    assert difference.ci95 > 0.05
    assert paired_difference(a, b[::-1]).ci95 == pytest.approx(difference.ci95)


def test_rows_that_cover_the_same_share_their_words_and_others_are_named():
    same: list[tuple[str, Covers]] = [("maml", "episodes"), ("fomaml", "episodes")]
    others: list[tuple[str, Covers]] = [
        *same,
        ("maml", "episodes"),
        ("mamlpp", "episodes and classes"),
    ]

    assert intervals_in_words(same) == "95 % interval over episodes"
    assert (
        intervals_in_words(others)
        == "95 % interval over episodes (maml, fomaml), over episodes and classes (mamlpp)"
    )
