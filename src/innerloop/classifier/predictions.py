"""What a classifier says of pictures, each with all that is known of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from innerloop.classifier.pictures import Picture
from innerloop.classifier.vectors import vectors_of
from innerloop.core.errors import ConfigError

if TYPE_CHECKING:
    from innerloop.classifier.estimator import FewShotClassifier


@dataclass(frozen=True)
class Prediction:
    """What is said of one picture.

    Attributes:
        name: of the picture.
        label: the likeliest class.
        probability: of that class, as if it were of one of them.
        unknown: whether it is less similar to every example than the threshold.
        similarity: cosine to the nearest example.
        probabilities: (ways,) of all classes.
    """

    name: str
    label: Any
    probability: float
    unknown: bool
    similarity: float
    probabilities: np.ndarray


@dataclass(frozen=True)
class Predictions:
    """What is said of the pictures that could be read, in their order.

    Attributes:
        rows: of each.
        places: which of the pictures each is, counted from 0.
        faults: name -> a sentence, of the others.
    """

    rows: list[Prediction]
    places: list[int]
    faults: dict[str, str]


def predictions(
    classifier: "FewShotClassifier",
    pictures: Sequence[Picture],
    *,
    strict: bool = False,
    on_picture: Callable[[int], None] = lambda count: None,
) -> Predictions:
    """Predict pictures.

    Args:
        classifier: fitted to pictures.
        pictures: what to predict.
        strict: the first picture that cannot be read is an error.
        on_picture: told how many are done.

    Raises:
        ConfigError: if the classifier is one of vectors.
        DataError: if a picture cannot be read and ``strict`` is asked for, or if none can.
    """
    if classifier.backbone_ is None:
        raise ConfigError("The classifier is one of vectors: use it from Python.")
    vectors = vectors_of(pictures, classifier.network, strict=strict, on_picture=on_picture)
    state = classifier.state
    p = state.probabilities(vectors.values)
    similarities = state.similarities(vectors.values)
    limit = -np.inf if state.threshold is None else state.threshold
    rows = [
        Prediction(
            pictures[place].name,
            state.classes[row.argmax()],
            float(row.max()),
            bool(similarity < limit),
            float(similarity),
            row,
        )
        for place, row, similarity in zip(vectors.places, p, similarities, strict=True)
    ]
    faults = {pictures[place].name: fault for place, fault in vectors.faults.items()}
    return Predictions(rows, vectors.places, faults)
