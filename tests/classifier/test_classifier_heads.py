"""What heads say of examples left out, against fitting them to the others."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch.nn import functional as F

from innerloop.classifier.calibration import (
    expected_calibration_error,
    fit_temperature,
    nearest_others,
    probabilities,
    threshold_of,
)
from innerloop.classifier.heads import HEADS, ROUNDS, Examples, folds, usual_head


def examples(counts: list[int], features: int = 12, spread: float = 0.7) -> Examples:
    generator = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    centres = torch.randn(len(counts), features, generator=generator).double()
    noise = torch.randn(len(labels), features, generator=generator).double()
    return Examples(F.normalize(centres[labels] + spread * noise, dim=1), labels, len(counts))


@pytest.mark.parametrize("kind", ["prototypes", "ridge"])
@pytest.mark.parametrize(
    "counts", [[5, 5, 5], [2, 9, 1, 4], [30, 25, 3]], ids=["equal", "unequal", "more than rounds"]
)
def test_what_is_left_out_is_predicted_as_by_a_head_without_it(kind, counts):
    given = examples(counts)
    head = HEADS[kind].fit(given)
    found = head.left_out(given)
    for left in folds(given.labels, ROUNDS):
        without = HEADS[kind].fit(given[~left], head.settings)
        for place in left.nonzero()[:, 0].tolist():
            # Heads are kept in float32.
            expected = without.scores(given.features[place])
            assert (found[place] - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("kind", HEADS)
def test_every_head_tells_easy_classes_apart(kind):
    given = examples([6, 6, 6, 6], spread=0.2)
    head = HEADS[kind].fit(given)

    assert (head.left_out(given).argmax(1) == given.labels).all()
    assert {name: tuple(of.shape) for name, of in head.tensors.items()} == HEADS[kind].shapes(12, 4)


def test_folds_never_take_a_whole_class_and_deal_every_example_once():
    labels = torch.tensor([0] * 7 + [1] * 2 + [2] + [3] * 12)
    parts = folds(labels, 5)

    assert (torch.stack(parts).sum(0) == (labels != 2)).all()
    for part in parts:
        assert set(labels[~part].tolist()) == {0, 1, 2, 3}
    # Of every class as many as of any other, as far as they go.
    assert [torch.bincount(labels[part], minlength=4).tolist() for part in folds(labels, 12)][
        :3
    ] == [
        [1, 1, 0, 1],
        [1, 1, 0, 1],
        [1, 0, 0, 1],
    ]


def test_with_a_lone_example_prototypes_are_usual():
    assert usual_head([1, 5]) == "prototypes"
    assert usual_head([2, 5]) == "ridge"


def test_probabilities_are_a_softmax_and_the_temperature_has_the_least_loss():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(200, 4))
    labels = np.array([generator.choice(4, p=softmax(row / 0.5)) for row in scores])

    temperature = fit_temperature(scores, labels)

    assert np.allclose(probabilities(scores, 0.5), softmax(scores / 0.5, axis=1))
    assert temperature == pytest.approx(0.5, rel=0.2)


def test_examples_that_are_all_right_do_not_make_it_sure_of_everything():
    scores = np.eye(3)[np.arange(12) % 3]
    temperature = fit_temperature(scores, np.arange(12) % 3)
    p = probabilities(scores, temperature).max(1)

    # (n + 1) / (n + 2), as Laplace's rule has it.
    assert p == pytest.approx(13 / 14, abs=1e-3)


def test_a_tenth_of_the_own_examples_are_below_the_threshold():
    given = examples([10, 10])
    similarities = nearest_others(given.features.numpy())

    cosines = given.features.numpy() @ given.features.numpy().T
    np.fill_diagonal(cosines, -1)
    assert similarities == pytest.approx(cosines.max(1), abs=1e-6)
    assert (similarities < threshold_of(similarities)).mean() <= 0.1


def test_the_calibration_error_is_the_distance_between_sure_and_right():
    p = np.full(100, 0.9)
    assert expected_calibration_error(p, np.arange(100) % 2 == 0) == pytest.approx(0.4)
    assert expected_calibration_error(p, np.arange(100) % 10 > 0) == pytest.approx(0, abs=1e-9)
