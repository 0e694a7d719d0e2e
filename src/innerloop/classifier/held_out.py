"""How good a classifier is on pictures that it was not made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from innerloop.classifier.calibration import expected_calibration_error
from innerloop.classifier.predictions import Predictions
from innerloop.classifier.quality import wilson

NAMED = 5
"""Other classes that are named, at most."""


@dataclass(frozen=True)
class HeldOut:
    """What a classifier makes of pictures whose classes are known.

    Attributes:
        tested: pictures of its classes.
        accuracy: share of them that is right; NaN where there is none.
        interval: 95 % interval of it (Wilson 1927).
        calibration_error: see `expected_calibration_error`; NaN where there is none.
        by_class: class -> right, and tested.
        p: (tested,) probability of the predicted class.
        right: (tested,) bool.
        refused: share of them that it calls unknown.
        strangers: pictures of other classes.
        others: what these are called.
        passed: share of these that it does not call unknown; NaN where there is none.
        auroc: how well similarity tells the two apart, 0.5 for not at all; NaN where one is
            missing.
        mistakes: name, class, and what it was taken for.
    """

    tested: int
    accuracy: float
    interval: tuple[float, float]
    calibration_error: float
    by_class: dict[Any, tuple[int, int]]
    p: np.ndarray
    right: np.ndarray
    refused: float
    strangers: int
    others: tuple[str, ...]
    passed: float
    auroc: float
    mistakes: tuple[tuple[str, Any, Any], ...]


def held_out(made: Predictions, labels: Sequence[Any], classes: Sequence[Any]) -> HeldOut:
    """Compare predictions with what pictures are.

    Args:
        made: the predictions.
        labels: what each is.
        classes: those that the classifier knows; others are strangers to it.
    """
    # Folders are called by texts, whatever the classes of the classifier are.
    classes = [str(of) for of in classes]
    labels = [str(of) for of in labels]
    guesses = [str(row.label) for row in made.rows]
    known = np.array([label in classes for label in labels], dtype=bool)
    right = np.array([a == b for a, b in zip(guesses, labels, strict=True)], bool)[known]
    p = np.array([row.probability for row in made.rows])[known]
    similarity = np.array([row.similarity for row in made.rows])
    unknown = np.array([row.unknown for row in made.rows], dtype=bool)
    both = bool(known.any()) and not bool(known.all())
    tested = int(known.sum())
    by_class = {
        name: (
            sum(g == name for g, label in zip(guesses, labels, strict=True) if label == name),
            sum(label == name for label in labels),
        )
        for name in classes
    }
    mistakes = tuple(
        (row.name, label, guess)
        for row, guess, label, of_ours in zip(made.rows, guesses, labels, known, strict=True)
        if of_ours and guess != label
    )
    return HeldOut(
        tested,
        float(right.mean()) if tested else float("nan"),
        wilson(int(right.sum()), tested),
        expected_calibration_error(p, right) if tested else float("nan"),
        by_class,
        p,
        right,
        float(unknown[known].mean()) if tested else float("nan"),
        int((~known).sum()),
        tuple(sorted(set(labels) - set(classes))),
        float(1 - unknown[~known].mean()) if (~known).any() else float("nan"),
        float(roc_auc_score(known, similarity)) if both else float("nan"),
        mistakes,
    )


def _trust(found: HeldOut) -> str:
    """Whether it is too sure of itself, or not enough."""
    points = 100 * (float(found.p.mean()) - found.accuracy)
    if round(abs(points)) == 0:
        return "as sure as it is right"
    return f"too {'sure of itself' if points > 0 else 'modest'} by {abs(points):.0f} points"


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def sentences(found: HeldOut) -> list[str]:
    """What it says, for a person."""
    lines = []
    if found.tested:
        low, high = found.interval
        lines.append(
            f"Of {found.tested} pictures {100 * found.accuracy:.1f} % are right (95 % interval "
            f"{100 * low:.0f} to {100 * high:.0f} %)."
        )
        lines.append(
            f"On average it says {100 * found.p.mean():.0f} %: it is {_trust(found)}. In groups of "
            f"pictures that it is about equally sure of the two are "
            f"{100 * found.calibration_error:.0f} points apart. "
            f"{100 * found.refused:.0f} % of all it calls unknown."
        )
    if found.strangers:
        lines.append(
            f"Of {found.strangers} pictures of other classes ({_some(found.others)}) "
            f"{100 * found.passed:.0f} % pass as one of its own."
        )
    if found.tested and found.strangers:
        lines.append(
            f"Similarity tells its own from others with an AUROC of {found.auroc:.2f} (0.5 is "
            "chance)."
        )
    return lines
