"""The measures of the stability study against values worked out by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "stability"))

from measures import (
    area,
    diverged,
    drawdown,
    first_step_at,
    measures,
    roughness,
    sign_flip_test,
    wilson_interval,
)


def test_drawdown_is_the_largest_fall_from_a_former_best_above_eighty():
    assert drawdown([0.5, 0.3, 0.85, 0.80, 0.9, 0.75, 0.95]) == pytest.approx(0.15)
    assert drawdown([0.5, 0.1, 0.79]) == 0.0
    assert drawdown([0.7, 0.8, 0.9]) == 0.0


def test_roughness_is_zero_on_a_ramp_and_sees_a_dip():
    assert roughness(np.linspace(0.2, 0.9, 21).tolist()[:19]) == pytest.approx(0, abs=0.03)
    flat = [0.9] * 15
    assert roughness(flat) == 0.0
    flat[10] = 0.6
    assert roughness(flat) == pytest.approx(0.3 / 10**0.5)


def test_roughness_does_not_look_at_the_first_third():
    early = [0.9] * 15
    early[2] = 0.1
    assert roughness(early) == 0.0


def test_area_and_first_steps():
    steps, accuracy = [0, 50, 100], [0.2, 0.9, 0.96]

    assert area(steps, accuracy) == pytest.approx((0.55 + 0.93) / 2)
    assert first_step_at(steps, accuracy, 0.9) == 50
    assert first_step_at(steps, accuracy, 0.97) is None


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        ([0.2, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], False),
        ([0.2, 0.9, 0.7, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], False),  # regained at once
        ([0.2, 0.9, 0.7, 0.7, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], False),  # regained within 20 %
        ([0.2, 0.9, 0.7, 0.7, 0.7, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], True),  # too late
        ([0.2, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.7], True),  # never
        ([0.2, 0.9, None, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], True),
        ([0.2, 0.9, float("nan"), 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], True),
    ],
)
def test_divergence_is_a_fall_that_is_not_regained(accuracy, expected):
    steps = list(range(0, 110, 10))

    assert diverged(steps, accuracy) is expected
    assert measures(steps, accuracy)["diverged"] is expected


def test_wilson_interval_of_known_counts():
    """2 of 3 and 0 of 3, the published evidence: the intervals overlap."""
    assert wilson_interval(2, 3) == pytest.approx((0.2077, 0.9385), abs=1e-4)
    assert wilson_interval(0, 3) == pytest.approx((0.0, 0.5615), abs=1e-4)


def test_the_sign_flip_test_counts_patterns():
    assert sign_flip_test([1.0] * 6) == pytest.approx(2 / 64)
    assert sign_flip_test([1.0] * 5) == pytest.approx(2 / 32)
    assert sign_flip_test([1.0, -1.0]) == 1.0
    assert sign_flip_test([3.0, 1.0, -1.0]) == pytest.approx(6 / 8)  # all but +-(3 - 1 - 1)
