"""A classifier with more examples, without a class, or with one of another name."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from innerloop.classifier.given import array_of, labels_of, refuse_mixed
from innerloop.classifier.heads import Ridge
from innerloop.classifier.state import Kept, State, by_class, directions, fitted
from innerloop.core.errors import ConfigError, did_you_mean
from innerloop.methods.heads.ridge import RidgeInverse

SMALL = 1000
"""Examples up to which a change fits anew, λ too, within a second."""


def labels_for(state: State, y: Any, count: int, *, new: bool) -> np.ndarray:
    """(n,) labels of so many more examples; of new classes only where that is asked for.

    Raises:
        ConfigError: if one is none of the classes, which may be one of them, typed wrong.
    """
    labels = labels_of(y, count)
    known = state.classes.tolist()
    for label in [] if new else labels.tolist():
        if label not in known:
            names = [str(of) for of in known]
            raise ConfigError(
                f"There is no class {str(label)!r}.{did_you_mean(str(label), names)} For a new "
                "class use add_class."
            )
    return labels


def with_more(state: State, more: Kept, labels: np.ndarray) -> State:
    """With more examples, of classes that are there or new ones.

    Args:
        state: before.
        more: the examples; their labels are not looked at.
        labels: (n,) what each is.

    Raises:
        ConfigError: if there are none, or classes would be of mixed types.
    """
    if not len(labels):
        raise ConfigError("There is nothing to add.")
    refuse_mixed(np.array([state.classes[0], labels[0]], dtype=object))
    classes = list(state.classes)
    classes += [name for name in np.unique(labels) if name not in classes]
    numbers = np.array([classes.index(name) for name in labels], np.int64)
    more = replace(more, labels=numbers)
    return _changed(state, classes, state.kept.followed_by(more), more, add=True)


def without(state: State, name: Any) -> State:
    """Without a class and its examples.

    Raises:
        ConfigError: if there is none of that name, or fewer than two would be left.
    """
    place = _place(state, name)
    if len(state.classes) == 2:
        raise ConfigError("Two classes are left: without one there is nothing to tell apart.")
    gone = state.kept.where(state.kept.labels == place)
    rest = state.kept.where(state.kept.labels != place)
    rest = replace(rest, labels=rest.labels - (rest.labels > place))
    classes = [of for of in state.classes if of != name]
    return _changed(state, classes, rest, gone, add=False)


def renamed(state: State, old: Any, new: Any) -> State:
    """With a class called by another name.

    Raises:
        ConfigError: if there is no such class, or one of the new name.
    """
    place = _place(state, old)
    if new in state.classes:
        raise ConfigError(f"There is a class {str(new)!r} already.")
    classes = list(state.classes)
    classes[place] = new
    refuse_mixed(np.array(classes, dtype=object))
    return _changed(state, classes, state.kept, None, add=True)


def _place(state: State, name: Any) -> int:
    places = np.flatnonzero(state.classes == name)
    if not len(places):
        known = [str(of) for of in state.classes]
        raise ConfigError(f"There is no class {str(name)!r}.{did_you_mean(str(name), known)}")
    return int(places[0])


def _changed(
    state: State, classes: Sequence[Any], kept: Kept, moved: Kept | None, *, add: bool
) -> State:
    """Fitted to what is kept; a large ridge head by what came or went, see `_updated`."""
    names, ordered = by_class(array_of(classes), kept)
    inverse = None
    if len(kept) > SMALL and state.head.kind == Ridge.kind:
        inverse = _updated(state, classes, moved, add=add)
    return fitted(
        names,
        ordered,
        wanted=state.wanted,
        unknown=state.unknown,
        scale=state.scale,
        former=state if inverse is not None else None,
        inverse=inverse,
    )


def _updated(
    state: State, classes: Sequence[Any], moved: Kept | None, *, add: bool
) -> RidgeInverse:
    """The inverse of a ridge head after a change, by what came or went.

    Args:
        state: before the change.
        classes: afterwards; those that were there in their order, then new ones.
        moved: what came, labelled by the classes afterwards, or went, by those before; None: a
            class has another name.
        add: whether it came.
    """
    inverse = state.inverse
    if inverse is None:
        examples = state.examples
        penalty = state.head.settings["penalty"]
        inverse = RidgeInverse.of(examples.features, examples.targets, penalty)
    if add:
        new = len(classes) - inverse.products.shape[1]
        inverse = replace(inverse, products=F.pad(inverse.products, (0, new)))
    if moved is not None:
        targets = F.one_hot(torch.from_numpy(moved.labels), inverse.products.shape[1])
        inverse = inverse.changed(directions(moved.codes), targets, add=add)
    if not add and moved is not None:
        left = [column for column in range(len(state.classes)) if column != moved.labels[0]]
        inverse = replace(inverse, products=inverse.products[:, left])
    order = np.argsort(array_of(classes), kind="stable")
    return replace(inverse, products=inverse.products[:, order.tolist()])
