"""`FewShotClassifier`: a scikit-learn estimator of a person's own pictures or vectors."""

import os
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from innerloop.classifier import changes
from innerloop.classifier.backbones import DRAWINGS, PHOTOS, Backbone, find_backbone, has_photos
from innerloop.classifier.choosing import choose
from innerloop.classifier.given import (
    holds_pictures,
    labels_of,
    lone_class,
    looks_like_pictures,
    refuse_mixed,
    refuse_too_few,
)
from innerloop.classifier.heads import HEADS
from innerloop.classifier.pictures import Picture, labelled_folder, path_of, pictures_of
from innerloop.classifier.state import (
    Kept,
    Scale,
    State,
    by_class,
    codes_of,
    fitted,
)
from innerloop.classifier.vectors import Vectors, vectors_of
from innerloop.core.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from innerloop.classifier.export import Exported
    from innerloop.classifier.quality import Quality


class PictureWarning(UserWarning):
    """Something that was given is passed over."""


DIGITS = 16
"""Of a picture's checksum that are kept, hexadecimal."""
REMEMBERED = 20
"""Changes that can be undone."""


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of pictures or vectors from a few examples of each class.

    A frozen network turns a picture into a vector, and a head that is fitted within a second tells
    the classes apart. Predicting changes nothing, and a picture's probabilities do not depend on
    what else is predicted with it::

        FewShotClassifier().fit("pictures/").predict(["new.jpg"])

    Args:
        backbone: what turns a picture into a vector: ``auto``, which is the one of those installed
            that has most examples right when they are left out, or, where that is too close to
            tell, ``omniglot`` if they look like drawings, else ``photos``; ``photos``;
            ``omniglot``, for drawings; ``timm:NAME``, ``open_clip:NETWORK/WEIGHTS`` or
            ``torchvision:NAME``; a function from an array (height, width[, 3]) uint8 to a vector;
            or None, where X are vectors already. With ``auto`` a table of numbers is vectors.
        head: ``prototypes``, ``ridge`` or ``logistic``; ``auto`` is ridge where every class has
            two examples or more, else prototypes.
        unknown: when `is_unknown` says that a picture is of none of the classes: ``auto``, where it
            is less similar to every example than nine tenths of the examples are to one another; a
            cosine; or None, never.
        strict: an example that cannot be read is an error, instead of a warning.

    Attributes:
        classes_: (ways,) labels, sorted.
        n_features_in_: of a table, its columns.
        choice_: with ``auto``, which network was taken and why, in a sentence; else empty.
        skipped_: name of each example that could not be read -> a sentence.
    """

    # No pipeline has to pass on who is told of pictures.
    __metadata_request__fit: ClassVar[dict[str, Any]] = {"on_picture": UNUSED}

    def __init__(
        self,
        backbone: Any = "auto",
        *,
        head: str = "auto",
        unknown: Any = "auto",
        strict: bool = False,
    ):
        self.backbone = backbone
        self.head = head
        self.unknown = unknown
        self.strict = strict

    # Fitting

    def fit(
        self, X: Any, y: Any = None, *, on_picture: Callable[[int], None] = lambda count: None
    ) -> Self:
        """Fit to examples.

        Args:
            X: a folder with a folder of pictures for each class; a list of paths, PIL images and
                arrays (height, width[, 3 or 4]), of bytes or of numbers from 0 to 1; or vectors
                (n, features).
            y: (n,) the class of each example; None for a folder.
            on_picture: told how many pictures are done.

        Raises:
            ConfigError: if a setting is wrong, or X and y do not fit.
            DataError: if there are fewer than two classes, a class has no picture that can be read,
                or, with ``strict``, a picture cannot be read.
        """
        self._refuse_wrong_settings()
        if self._are_vectors(X):
            return self._fit_vectors(X, y)
        pictures, labels, expected = self._labelled(X, y)
        refuse_too_few(expected, labels.tolist())
        tried = [
            self._tried(backbone, pictures, labels, expected, on_picture)
            for backbone in self._candidates()
        ]
        names = [backbone.name for backbone, _, _ in tried]
        states = [state for _, _, state in tried]
        chosen, self.choice_ = choose(names, states, tried[0][1].thumbnails)
        backbone, vectors, state = tried[chosen]
        self.skipped_ = {pictures[place].name: fault for place, fault in vectors.faults.items()}
        self.__dict__.pop("n_features_in_", None)
        self._network = backbone
        self._version = backbone.version
        self.backbone_ = backbone.name
        self._begin(state)
        for fault in self.skipped_.values():
            warnings.warn(fault, PictureWarning, stacklevel=2)
        return self

    def _fit_vectors(self, X: Any, y: Any) -> Self:
        former = self.__dict__.get("n_features_in_")
        try:
            return self._fit_rows(X, y)
        except Exception:
            # scikit-learn writes it before anything else is checked.
            self.__dict__.pop("n_features_in_", None)
            if former is not None:
                self.__dict__["n_features_in_"] = former
            raise

    def _fit_rows(self, X: Any, y: Any) -> Self:
        if isinstance(y, Sequence):
            refuse_mixed(np.array(list(y), dtype=object).ravel())
        if looks_like_pictures(X):
            _warn(
                f"X is taken for a table of {X.shape[1]} columns, each row a vector; if its rows "
                "are pictures, give them as an array (n, height, width)."
            )
        X, y = validate_data(self, X, y, dtype="numeric")  # pyright: ignore[reportArgumentType]
        check_classification_targets(y)
        values = np.asarray(X, dtype=np.float64)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise lone_class(classes[0])
        scale = Scale.of(values)
        kept = _kept_rows(values, labels.astype(np.int64), scale)
        self._network = None
        self._version = ""
        self.backbone_ = None
        self.skipped_: dict[str, str] = {}
        self.choice_ = ""
        self._begin(self._of(classes, kept, scale))
        return self

    def _refuse_wrong_settings(self) -> None:
        known = ["auto", *HEADS]
        if not isinstance(self.head, str) or self.head not in known:
            raise ConfigError(
                f"There is no head {self.head!r}.{did_you_mean(str(self.head), known)}"
            )
        unknown = self.unknown
        number = isinstance(unknown, int | float | np.floating) and not isinstance(unknown, bool)
        if unknown is not None and unknown != "auto" and not (number and -1 <= unknown <= 1):
            raise ConfigError(
                f'unknown is "auto", a cosine from -1 to 1, or None: got {unknown!r}.'
            )

    def _are_vectors(self, X: Any) -> bool:
        if self.backbone is None:
            return True
        if not (isinstance(self.backbone, str) and self.backbone == "auto"):
            return False
        known = isinstance(X, Sequence | os.PathLike | Image.Image)
        if not (known or hasattr(X, "shape") or hasattr(X, "__array__")):
            raise ConfigError(
                "X is a folder, a list of paths, PIL images or arrays, or a table of numbers: got "
                f"{type(X).__name__}."
            )
        return not holds_pictures(X)

    def _labelled(self, X: Any, y: Any) -> tuple[list[Picture], np.ndarray, list[Any]]:
        """Pictures, the class of each, and the classes that are to be."""
        if isinstance(X, str | os.PathLike) and y is None:
            pictures, labels, classes = labelled_folder(path_of(X), _warn)
            return pictures, np.array(labels, dtype=str), list(classes)
        pictures = pictures_of(X)
        labels = labels_of(y, len(pictures))
        return pictures, labels, list(np.unique(labels))

    def _candidates(self) -> list[Backbone]:
        if isinstance(self.backbone, str) and self.backbone == "auto":
            return [find_backbone(name) for name in ([PHOTOS] if has_photos() else []) + [DRAWINGS]]
        return [find_backbone(self.backbone)]

    def _tried(
        self,
        backbone: Backbone,
        pictures: Sequence[Picture],
        labels: np.ndarray,
        expected: list[Any],
        on_picture: Callable[[int], None],
    ) -> tuple[Backbone, Vectors, State]:
        """What a backbone makes of the pictures, and the classifier fitted to that."""
        vectors = vectors_of(pictures, backbone, strict=self.strict, on_picture=on_picture)
        self._refuse_missing(labels, expected, vectors)
        return backbone, vectors, self._fitted(labels, vectors, pictures)

    def _refuse_missing(self, labels: np.ndarray, expected: list[Any], vectors: Vectors) -> None:
        present = set(labels[vectors.places].tolist())
        for name in expected:
            if name in present:
                continue
            faults = [of for place, of in vectors.faults.items() if labels[place] == name]
            reason = f" {faults[0]}" if faults else ""
            raise DataError(f"The class {str(name)!r} has no picture that can be read.{reason}")

    def _fitted(self, labels: np.ndarray, vectors: Vectors, pictures: Sequence[Picture]) -> State:
        classes, numbers = np.unique(labels[vectors.places], return_inverse=True)
        kept = _kept(vectors, numbers.astype(np.int64), pictures)
        return self._of(classes, kept, None)

    def _of(self, classes: np.ndarray, kept: Kept, scale: Scale | None) -> State:
        names, ordered = by_class(classes, kept)
        unknown = self.unknown if self.unknown in (None, "auto") else float(self.unknown)
        return fitted(names, ordered, wanted=self.head, unknown=unknown, scale=scale)

    def _begin(self, state: State) -> None:
        self._former: list[State] = []
        self._state = state
        self.classes_ = state.classes

    # Predicting

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (n, ways), in the order of ``classes_``.

        Raises:
            NotFittedError: before `fit`.
            DataError: if a picture cannot be read.
        """
        state = self.state
        return state.probabilities(self._vectors(X, state))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each, (n,); see `is_unknown` for "none of these"."""
        # Once: another thread may change the classifier meanwhile.
        state = self.state
        return state.classes[state.probabilities(self._vectors(X, state)).argmax(axis=1)]

    def is_unknown(self, X: Any) -> np.ndarray:
        """(n,) bool: whether a picture is less similar to every example than ``threshold_``."""
        state = self.state
        similarities = state.similarities(self._vectors(X, state))
        if state.threshold is None:
            return np.zeros(len(similarities), bool)
        return similarities < state.threshold

    def similarity(self, X: Any) -> np.ndarray:
        """(n,) the cosine to the nearest example, which `is_unknown` compares with a threshold."""
        state = self.state
        return state.similarities(self._vectors(X, state))

    def _vectors(self, X: Any, state: State) -> np.ndarray:
        if state.scale is not None:
            return self._rows(X)
        return vectors_of(pictures_of(X), self.network, strict=True).values

    def _rows(self, X: Any) -> np.ndarray:
        """A table as `fit` was given one, (n, columns) float64."""
        return np.asarray(validate_data(self, X, reset=False, dtype="numeric"), np.float64)

    @property
    def network(self) -> Backbone:
        """What turns a picture into a vector."""
        check_is_fitted(self)
        from innerloop.classifier.loading import refuse_another

        if self._network is None:
            # After unpickling; by its name alone a function is not found.
            wanted = self.backbone if callable(self.backbone) else self.backbone_
            network = find_backbone(wanted, self._version)
            refuse_another(network, self._version)
            self._network = network
        return self._network

    @property
    def state(self) -> State:
        """What was fitted."""
        check_is_fitted(self)
        return self._state

    @property
    def threshold_(self) -> float | None:
        """The cosine below which a picture is of none of the classes; None: there is none."""
        check_is_fitted(self)
        return self._state.threshold

    @property
    def temperature_(self) -> float:
        """Scores are divided by it before they become probabilities."""
        check_is_fitted(self)
        return self._state.temperature

    @property
    def head_(self) -> str:
        """The name of the head that was fitted."""
        check_is_fitted(self)
        return self._state.head.kind

    @property
    def report_(self) -> "Quality":
        """How good it is, from its own examples alone; see `innerloop.classifier.quality`."""
        from innerloop.classifier.quality import quality

        state = self.state
        known = self.__dict__.get("_report")
        if known is None or known[0] is not state:
            known = self._report = state, quality(state)
        return known[1]

    # Changing

    def add_pictures(self, X: Any, y: Any) -> Self:
        """More examples (n of X, y as `fit` takes them), of classes that are there.

        Raises:
            ConfigError: if there is no such class; `add_class` makes a new one.
        """
        check_is_fitted(self)
        return self._added(X, y, new=False)

    def _added(self, X: Any, y: Any, *, new: bool) -> Self:
        state = self._state
        if state.scale is None:
            pictures = pictures_of(X)
            labels = changes.labels_for(state, y, len(pictures), new=new)
            vectors = vectors_of(pictures, self.network, strict=True)
            more = _kept(vectors, np.zeros(len(pictures), np.int64), pictures)
        else:
            values = self._rows(X)
            labels = changes.labels_for(state, y, len(values), new=new)
            zeros = np.zeros(len(values), np.int64)
            more = _kept_rows(values, zeros, state.scale, first=len(state.kept) + 1)
        return self._remember(changes.with_more(state, more, labels))

    def add_class(self, name: Any, X: Any) -> Self:
        """A new class with its examples.

        Raises:
            ConfigError: if there is a class of that name.
        """
        check_is_fitted(self)
        if name in self._state.classes:
            raise ConfigError(f"There is a class {str(name)!r} already: use add_pictures.")
        count = len(X) if self._state.scale is not None else len(pictures_of(X))
        return self._added(X, [name] * count, new=True)

    def remove_class(self, name: Any) -> Self:
        """Without a class and its examples.

        Raises:
            ConfigError: if there is none of that name, or fewer than two would be left.
        """
        return self._remember(changes.without(self.state, name))

    def rename(self, old: Any, new: Any) -> Self:
        """Call a class by another name.

        Raises:
            ConfigError: if there is no such class, or one of the new name.
        """
        return self._remember(changes.renamed(self.state, old, new))

    def undo(self) -> Self:
        """Take the last change back.

        Raises:
            ConfigError: if there is none.
        """
        check_is_fitted(self)
        if not self._former:
            raise ConfigError("There is no change to undo.")
        self._state = self._former.pop()
        self.classes_ = self._state.classes
        return self

    def _remember(self, state: State) -> Self:
        self._former = [*self._former, self._state][-REMEMBERED:]
        self._state = state
        self.classes_ = state.classes
        return self

    # Keeping

    def save(self, path: str | os.PathLike[str], *, thumbnails: bool = False) -> None:
        """Write the classifier: one file where the name ends in .innerloop or .zip, else a folder.

        Args:
            path: where to.
            thumbnails: keep small pictures of the examples in it, too.

        Raises:
            ConfigError: if something else lies there.
            DiskError: if it cannot be written.
        """
        from innerloop.classifier.saving import save_state

        check_is_fitted(self)
        save_state(
            path_of(path),
            self._state,
            backbone=self.backbone_,
            version=self._version,
            thumbnails=thumbnails,
        )

    def export(self, path: str | os.PathLike[str]) -> "Exported":
        """Write the classifier as one ONNX file; see `innerloop.classifier.export`.

        Args:
            path: where to; it ends in ``.onnx``.

        Raises:
            ConfigError: if it is one of vectors, its backbone cannot be exported, or onnx is not
                installed.
            DataError: if the file says something else than the classifier.
            DiskError: if it cannot be written.
        """
        from innerloop.classifier.export import export_onnx

        return export_onnx(self, path_of(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, backbone: Any = None) -> "FewShotClassifier":
        """Read what `save` wrote, trusting nothing.

        Args:
            path: the file or folder.
            backbone: what the classifier was made with, if that was a function, or a network of
                another library.

        Raises:
            DataError: if it is no classifier, is damaged, or its backbone is another version.
            ConfigError: if its backbone is not installed.
        """
        from innerloop.classifier.loading import load_state, network_for

        place = path_of(path)
        state, header = load_state(place)
        network = network_for(header, state, place, backbone)
        classifier = cls(
            header.backbone if backbone is None else backbone,
            head=header.wanted,
            unknown=header.unknown,
        )
        classifier._version = header.backbone_version
        classifier._network = network
        classifier.backbone_ = header.backbone
        classifier.skipped_ = {}
        classifier.choice_ = ""
        if header.columns is not None:
            vars(classifier)["n_features_in_"] = header.columns
        classifier._begin(state)
        return classifier

    # What scikit-learn asks

    def __getstate__(self) -> dict[str, Any]:
        """Without the network, which is found again, and without what could be undone."""
        values: dict[str, Any] = dict(super().__getstate__())  # pyright: ignore
        if "_state" in values:
            values |= {"_network": None, "_former": []}
            values.pop("_report", None)
        return values

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_state")


def _warn(sentence: str) -> None:
    warnings.warn(sentence, PictureWarning, stacklevel=5)


def _kept(vectors: Vectors, labels: np.ndarray, pictures: Sequence[Picture]) -> Kept:
    names = tuple(pictures[place].name for place in vectors.places)
    return Kept(
        codes_of(vectors.values),
        labels,
        names,
        tuple(digest[:DIGITS] for digest in vectors.digests),
        tuple(vectors.thumbnails),
    )


def _kept_rows(values: np.ndarray, labels: np.ndarray, scale: Scale, first: int = 1) -> Kept:
    """Rows of a table (n, columns), counted from ``first``."""
    names = tuple(f"row {place}" for place in range(first, first + len(values)))
    return Kept(codes_of(scale.applied(values)), labels, names, (), ())
