"""What a report says of more pictures, and where its learning curve goes."""

import numpy as np
import pytest

from innerloop import FewShotClassifier
from innerloop.classifier import figures, held_out
from innerloop.classifier.predictions import Prediction, Predictions
from innerloop.classifier.quality import Quality
from innerloop.classifier.words import sentences


def report_of(noise: float, count: int = 8) -> Quality:
    generator = np.random.default_rng(1)
    y = np.repeat([0, 1, 2], count)
    X = generator.normal(0, noise, (len(y), 4)) + np.eye(4)[y]
    return FewShotClassifier(None).fit(X, y).report_


def test_where_all_are_right_more_are_not_asked_for():
    report = report_of(0.01)
    assert report.accuracy == 1
    (line,) = [of for of in sentences(report) if "more" in of]
    assert "no more are needed" in line and "would bring about" not in line


def test_where_some_are_wrong_it_says_what_more_would_bring():
    report = report_of(0.5)
    assert report.outlook is not None and report.outlook > report.accuracy
    assert f"would bring about {100 * report.outlook:.0f} %" in sentences(report)[-1]


@pytest.mark.parametrize("noise", [0.01, 0.3, 0.5, 2.0])
def test_the_outlook_goes_on_from_the_end_of_the_curve_and_does_not_fall(noise):
    report = report_of(noise)
    lines = [np.asarray(line.get_xydata()) for line in figures.curve(report).axes[0].lines]
    measured, ahead = [line for line in lines if len(line) > 1]

    assert np.array_equal(ahead[0], measured[-1])
    assert (np.diff(ahead, axis=0) >= [1, -1e-9]).all()
    assert report.outlook is not None
    assert ahead[1, 1] == pytest.approx(100 * report.outlook)


@pytest.mark.parametrize(
    ("p", "words"), [(0.95, "too sure of itself by 20 points"), (0.6, "too modest by 15 points")]
)
def test_an_evaluation_says_in_which_direction_it_is_off(p, words):
    rows = [Prediction(str(place), "a", p, False, 0.9, np.array([p, 1 - p])) for place in range(4)]
    made = Predictions(rows, [0, 1, 2, 3], {})

    text = " ".join(held_out.sentences(held_out.held_out(made, ["a", "a", "a", "b"], ["a", "b"])))
    assert f"On average it says {100 * p:.0f} %: it is {words}" in text
    # Three of four are right.
    assert f"{abs(100 * p - 75):.0f} points" in text
