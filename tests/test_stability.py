"""The measures of the stability study against values worked out by hand."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from innerloop.core.stability import (
    DIVERGED,
    area,
    diverged,
    drawdown,
    first_step_at,
    measures,
    roughness,
)
from innerloop.experiments.training import divergence
from innerloop.methods.catalogue import read_config, settings_of
from innerloop.runs.directory import RunDirectory
from innerloop.runs.results import Environment


def test_drawdown_is_the_largest_fall_from_a_former_best_above_eighty():
    falling = [0.5, 0.3, 0.85, 0.80, 0.9, 0.75, 0.95]
    assert drawdown(falling, above=0.80) == pytest.approx(0.15)
    assert drawdown([0.5, 0.1, 0.79], above=0.80) == 0.0
    assert drawdown([0.7, 0.8, 0.9], above=0.80) == 0.0


def test_drawdown_is_from_any_former_best_unless_a_level_is_asked_for():
    steps, accuracy = [0, 10, 20, 30], [0.70, 0.75, 0.30, 0.30]

    assert measures(steps, accuracy)["drawdown"] == pytest.approx(0.45)
    assert measures(steps, accuracy, above=0.80)["drawdown"] == 0.0


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


def test_a_fall_that_the_intervals_cover_is_no_divergence():
    """As of four validation episodes: 58.3 ± 26.5 %, then 45.8 ± 25.4 %."""
    steps, curve = [0, 2], [0.583, 0.458]

    assert diverged(steps, curve)
    assert not diverged(steps, curve, [0.265, 0.254])
    assert diverged(steps, curve, [0.08, 0.09])
    assert not diverged(steps, curve, [0.08, 0.1])
    assert diverged(steps, [0.9, math.nan], [0.5, 0.5])


@pytest.mark.parametrize(
    ("curve", "diverges"), [([0.2, 0.9, 0.7, 0.7, 0.7, 0.9], True), ([0.2, 0.9, 0.92], False)]
)
def test_a_run_that_diverged_says_so(tmp_path, curve, diverges):
    run = RunDirectory.create(settings_of("fomaml"), Environment(), tmp_path / "run")
    for index, accuracy in enumerate(curve):
        run.append_metrics(
            {
                "step": 10 * index,
                "kind": "validation",
                "query_accuracy": accuracy,
                "query_accuracy_ci95": 0.01,
                "inner_steps": 5,
                "episodes": 30,
                "batch_norm": "transductive",
            }
        )

    assert divergence(run) == (DIVERGED if diverges else "")


STUDY = Path(__file__).parents[1] / "benchmarks" / "stability"
sys.path.insert(0, str(STUDY))
import grid  # noqa: E402
import summary  # noqa: E402
from significance import sign_flip_test, wilson_interval  # noqa: E402


def test_wilson_interval_of_known_counts():
    """2 of 3 and 0 of 3, the published evidence: the intervals overlap."""
    assert wilson_interval(2, 3) == pytest.approx((0.2077, 0.9385), abs=1e-4)
    assert wilson_interval(0, 3) == pytest.approx((0.0, 0.5615), abs=1e-4)


def test_the_sign_flip_test_counts_patterns():
    assert sign_flip_test([1.0] * 6) == pytest.approx(2 / 64)
    assert sign_flip_test([1.0] * 5) == pytest.approx(2 / 32)
    assert sign_flip_test([1.0, -1.0]) == 1.0
    assert sign_flip_test([3.0, 1.0, -1.0]) == pytest.approx(6 / 8)  # all but +-(3 - 1 - 1)


def test_the_page_of_the_study_says_what_its_results_say():
    page = summary.PAGE.read_text(encoding="utf-8")
    found = summary.summarise(summary.load(STUDY / "results"))

    assert summary.filled(page, summary.tables(found)) == page
    assert summary.tables(
        json.loads((STUDY / "results" / "summary.json").read_text())
    ) == summary.tables(found)


def test_the_ablation_is_in_the_cell_that_the_map_chose():
    chosen = summary.summarise(summary.load(STUDY / "results"))["worst_cell"]

    assert (chosen["inner_steps"], chosen["inner_lr"]) == grid.WORST_CELL


@pytest.mark.parametrize("part", grid.PARTS)
def test_the_cells_of_a_part_are_unique_and_paired(part):
    cells = grid.cells(part)

    assert len({cell.name for cell in cells}) == len(cells)
    assert {cell.config.training.seed for cell in cells} == {cell.seed for cell in cells}
    assert all(
        cell.config.training.averaging == 0 and cell.config.training.clip_gradient == 0
        for cell in cells
    )


def test_every_result_is_of_a_cell_of_the_grid_with_its_settings():
    by_name = {cell.name: cell.config for part in grid.PARTS for cell in grid.cells(part)}
    for path in (STUDY / "results").glob("S*-s*.json"):
        text = json.dumps(json.loads(path.read_text())["config"])
        saved = read_config(text, source=path.name).flat()
        wanted = by_name[path.stem].flat()
        decided_at_the_start = ("data", "device", "episodes_per_chunk")
        assert {k: v for k, v in saved.items() if k not in decided_at_the_start} == {
            k: v for k, v in wanted.items() if k not in decided_at_the_start
        }


def test_a_failed_training_counts_against_its_arm_in_the_primary_test():
    def training(accuracy, failure=None, last_loss: float | None = 1.0):
        steps = list(range(len(accuracy)))
        return {
            "failure": failure,
            "steps": steps,
            "accuracy": accuracy,
            "gradient_norm": [1.0, 2.0],
            "loss": [1.0] * (len(steps) - 1) + [last_loss],
            "gradient_cosines": [1.0],
            "test": {"support_loss_rises": 0.0},
            "head_rate_over_safe": [1.0],
            "processor_seconds": [1.0],
        }

    smooth, rough = [0.9] * 15, [0.9] * 12 + [0.5, 0.9, 0.9]
    arms = {
        "maml": {
            seed: training(rough, "the loss is nan" if seed == 0 else None) for seed in range(8)
        },
        "mamlpp": {seed: training(smooth) for seed in range(8)},
    }

    test = summary.primary({"S2": arms})

    assert test and test["p"] == pytest.approx(2 / 2**8)
    assert test["each"][0] == test["each"][1] < 0
    arms["maml"][0] = training(rough, last_loss=None)
    assert summary.primary({"S2": arms}) == test, (
        "a loss that is not finite, null in JSON, is a failure too"
    )
    arms["mamlpp"][0] = training(smooth, "the loss is nan")
    assert (summary.primary({"S2": arms}) or {})["each"][0] == 0.0
    del arms["maml"][7]
    assert summary.primary({"S2": arms}) is None
