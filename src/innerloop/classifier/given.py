"""What a classifier is given to fit: whether it is pictures, and what classes are called."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from innerloop.core.errors import ConfigError, DataError

COLUMNS = 100
"""Of a table of bytes, from which on its rows may be pictures."""


def holds_pictures(X: Any) -> bool:
    """Whether X is a path, pictures, or a list of something that is no row of numbers."""
    if isinstance(X, np.ndarray) and X.dtype.kind not in "UO":
        return X.ndim > 2
    if not isinstance(X, np.ndarray | Sequence | os.PathLike | Image.Image):
        return False  # a table of pandas, or a sparse one, which scikit-learn judges
    if isinstance(X, np.ndarray):
        return X.ndim == 1
    if isinstance(X, str | os.PathLike | Image.Image) or not len(X):
        return True
    first = X[0]
    if isinstance(first, list | tuple):
        return False
    return not (isinstance(first, np.ndarray) and first.ndim == 1)


def looks_like_pictures(X: Any) -> bool:
    """Whether a table holds bytes in so many columns that its rows may be pictures."""
    return (
        isinstance(X, np.ndarray) and X.dtype == np.uint8 and X.ndim == 2 and X.shape[1] >= COLUMNS
    )


def labels_of(y: Any, count: int) -> np.ndarray:
    """(n,) labels, all texts or all numbers.

    Raises:
        ConfigError: if they are not so many, or are something else.
    """
    if y is None:
        raise ConfigError("y is missing: give the class of each example.")
    values = np.array(list(y), dtype=object) if not isinstance(y, np.ndarray) else y.astype(object)
    if values.ndim != 1 or len(values) != count:
        raise ConfigError(
            f"There are {count} examples and y has the shape {values.shape}: give one class for "
            "each."
        )
    refuse_mixed(values)
    return array_of(values.tolist())


def array_of(classes: Sequence[Any]) -> np.ndarray:
    """Labels as an array; of an enumeration of texts its texts."""
    if all(isinstance(of, str) for of in classes):
        return np.array([str.__str__(of) for of in classes], dtype=str)
    return np.array(list(classes))


def refuse_mixed(values: np.ndarray) -> None:
    """Raise `ConfigError` unless all are texts, or all numbers."""
    kinds = {"text" if isinstance(of, str) else type(of).__name__ for of in values}
    numbers = all(isinstance(of, int | float | np.number | np.bool_) for of in values)
    texts = kinds <= {"text", "str_"}
    if len(kinds) > 1 and not (numbers or texts):
        raise ConfigError(f"Classes are of mixed types, {' and '.join(sorted(kinds))}: use one.")
    if not (numbers or texts):
        raise ConfigError(f"Classes are texts or numbers: got {kinds.pop()}.")
    if any("\0" in of for of in values) if texts else any(of != of for of in values):
        raise ConfigError("A class is called by NaN, or by a text with NUL: use another name.")
    if texts and any(not of.strip() for of in values):
        raise ConfigError("A class has an empty name: give it one that can be seen.")


def refuse_too_few(classes: Sequence[Any], labels: Sequence[Any]) -> None:
    """Raise `DataError` unless there are two classes or more, and each has an example.

    Args:
        classes: those that are to be.
        labels: the class of each example.
    """
    if not classes:
        raise DataError("There are no examples: give two classes or more.")
    if len(classes) == 1:
        raise lone_class(classes[0])
    present = set(labels)
    for name in classes:
        if name not in present:
            raise DataError(f"The class {str(name)!r} has no picture that can be read.")


def lone_class(name: Any) -> DataError:
    """That there is nothing to tell apart."""
    return DataError(
        f"There is one class, {str(name)!r}: a classifier needs two or more to tell apart."
    )
