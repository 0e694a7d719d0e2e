"""`FewShotClassifier` as scikit-learn and people use it."""

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from innerloop import FewShotClassifier
from innerloop.classifier.backbones import find_backbone
from innerloop.classifier.pictures import pictures_of
from innerloop.classifier.vectors import vectors_of
from innerloop.core.errors import ConfigError, DataError
from picturing import KINDS, drawing

LETTERS = [drawing(kind, seed) for kind in KINDS for seed in range(6)]
NAMES = [kind for kind in KINDS for _ in range(6)]
NEW = [drawing(kind, seed) for kind in KINDS for seed in range(6, 12)]


@pytest.fixture(scope="module")
def letters() -> FewShotClassifier:
    return FewShotClassifier("omniglot").fit(LETTERS, NAMES)


def test_scikit_learn_finds_nothing_against_it():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(FewShotClassifier(), on_fail=None)

    failed = [of["check_name"] for of in results if of["status"] == "failed"]
    assert failed == []
    assert sum(of["status"] == "passed" for of in results) > 50


# Pictures


def test_a_folder_is_one_line(drawings):
    classifier = FewShotClassifier("omniglot").fit(drawings)

    assert classifier.classes_.tolist() == list(KINDS)
    assert (classifier.predict(NEW) == NAMES).mean() > 0.9
    assert classifier.score(NEW, NAMES) > 0.9


def test_paths_pictures_and_arrays_are_the_same(drawings, letters):
    paths = [drawings / kind / "3.png" for kind in KINDS]
    pictures = [drawing(kind, 3) for kind in KINDS]
    expected = letters.predict_proba(paths)

    for given in (
        [str(path) for path in paths],
        pictures,
        [np.asarray(picture) for picture in pictures],
        np.stack([np.asarray(picture) for picture in pictures]),
        [np.asarray(picture) / 255 for picture in pictures],
        [picture.convert("RGB") for picture in pictures],
        [picture.convert("RGBA") for picture in pictures],
    ):
        assert np.array_equal(letters.predict_proba(given), expected)
    assert np.array_equal(letters.predict_proba(paths[1]), expected[1:2])
    assert np.array_equal(
        letters.predict_proba(drawings / "ring"),
        letters.predict_proba([drawings / "ring" / f"{seed}.png" for seed in range(6)]),
    )


def test_a_picture_has_the_same_answer_alone_in_any_order_and_from_eight_threads(letters):
    expected = letters.predict_proba(NEW)
    order = np.random.default_rng(0).permutation(len(NEW))

    alone = np.concatenate([letters.predict_proba([picture]) for picture in NEW])
    shuffled = letters.predict_proba([NEW[place] for place in order])
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(lambda _: letters.predict_proba(NEW), range(16)))

    assert np.array_equal(alone, expected)
    assert np.array_equal(shuffled, expected[order])
    assert all(np.array_equal(found, expected) for found in threaded)


def test_predicting_changes_nothing(letters):
    before = pickle.dumps(letters)
    for _ in range(3):
        letters.predict(NEW)
        letters.is_unknown(NEW)

    assert pickle.dumps(letters) == before


@pytest.mark.parametrize("head", ["auto", "prototypes", "ridge", "logistic"])
def test_the_likeliest_class_is_what_is_predicted(head):
    classifier = FewShotClassifier("omniglot", head=head).fit(LETTERS, NAMES)
    p = classifier.predict_proba(NEW)

    assert p.sum(axis=1) == pytest.approx(1)
    assert (classifier.classes_[p.argmax(axis=1)] == classifier.predict(NEW)).all()


def test_unequal_shots_and_a_class_with_one_picture():
    places = [0, 1, 2, 3, 4, 6, 7, 12]
    classifier = FewShotClassifier("omniglot").fit(
        [LETTERS[place] for place in places], [NAMES[place] for place in places]
    )

    assert classifier.head_ == "prototypes"
    assert classifier.score(NEW, NAMES) > 0.8
    assert classifier.report_.tested == 7
    assert "single example" in str(classifier.report_)


def test_one_picture_a_class_is_enough():
    classifier = FewShotClassifier("omniglot").fit(LETTERS[::6], NAMES[::6])

    assert classifier.score(NEW, NAMES) > 0.6
    assert classifier.report_.tested == 0
    assert "add a second" in str(classifier.report_)


def test_what_looks_like_nothing_it_knows_is_unknown(letters):
    noise = np.random.default_rng(0).integers(0, 2, (20, 64, 64)).astype(np.uint8) * 255

    assert letters.is_unknown(noise).mean() > 0.8
    assert letters.is_unknown(LETTERS).mean() < 0.2
    never = FewShotClassifier("omniglot", unknown=None).fit(LETTERS, NAMES)
    assert not never.is_unknown(noise).any()
    strict = FewShotClassifier("omniglot", unknown=1.0).fit(LETTERS, NAMES)
    assert strict.is_unknown(noise).all()


def test_auto_takes_the_backbone_that_tells_them_apart_best(drawings, photos):
    for folder, name in ((drawings, "omniglot"), (photos, "photos")):
        classifier = FewShotClassifier().fit(folder)
        assert classifier.backbone_ == name
        assert f"The network is {name}" in classifier.choice_
    assert FewShotClassifier("omniglot").fit(drawings).choice_ == ""


def test_with_one_picture_of_each_class_auto_goes_by_looks(drawings, photos):
    for folder, name in ((drawings, "omniglot"), (photos, "photos")):
        firsts = [sorted(kind.iterdir())[0] for kind in sorted(folder.iterdir())]
        coloured = [Image.open(path).convert("RGB") for path in firsts]

        assert FewShotClassifier().fit(firsts, ["a", "b", "c"]).backbone_ == name
        assert FewShotClassifier().fit(coloured, ["a", "b", "c"]).backbone_ == name
        grey = [Image.open(path).convert("L") for path in firsts]
        assert FewShotClassifier().fit(grey, ["a", "b", "c"]).backbone_ == name


def test_any_function_can_be_the_backbone():
    def brightness(pixels: np.ndarray) -> np.ndarray:
        return np.array([pixels.mean(), pixels.std(), 1.0])

    classifier = FewShotClassifier(brightness).fit(LETTERS, NAMES)

    assert classifier.backbone_ == "brightness"
    assert classifier.predict_proba(NEW).shape == (18, 3)


# Vectors and scikit-learn


def test_vectors_are_as_good_as_logistic_regression():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    few = [place for digit in range(10) for place in order[y[order] == digit][:10]]
    rest = np.setdiff1d(order, few)
    ours = FewShotClassifier(None).fit(X[few], y[few])
    theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    theirs.fit(X[few], y[few])

    assert ours.score(X[rest], y[rest]) > theirs.score(X[rest], y[rest]) - 0.02
    assert ours.classes_.dtype.kind == "i"


def test_it_clones_crosses_and_searches():
    X, y = (of[:200] for of in load_digits(return_X_y=True))
    pipeline = make_pipeline(StandardScaler(), FewShotClassifier())
    search = GridSearchCV(FewShotClassifier(), {"head": ["prototypes", "ridge"]}, cv=3).fit(X, y)

    assert cross_val_score(clone(pipeline), X, y, cv=3).mean() > 0.8
    assert search.best_params_["head"] in ("prototypes", "ridge")
    pictures = GridSearchCV(FewShotClassifier("omniglot"), {"head": ["prototypes", "ridge"]}, cv=2)
    assert pictures.fit(LETTERS, NAMES).best_score_ > 0.8


def test_it_can_be_pickled_without_its_network(letters):
    again = pickle.loads(pickle.dumps(letters))

    assert len(pickle.dumps(letters)) < 100_000
    assert np.array_equal(again.predict_proba(NEW), letters.predict_proba(NEW))


# Changes


def changed_as_fitted(changed: FewShotClassifier, X: list, y: list) -> float:
    fitted = FewShotClassifier("omniglot", head=changed.head).fit(X, y)
    assert changed.classes_.tolist() == fitted.classes_.tolist()
    return float(np.abs(changed.predict_proba(NEW) - fitted.predict_proba(NEW)).max())


@pytest.mark.parametrize("head", ["prototypes", "ridge"])
def test_changes_give_what_fitting_gives(head):
    classifier = FewShotClassifier("omniglot", head=head).fit(LETTERS[:12], NAMES[:12])

    classifier.add_class("ring", LETTERS[12:15])
    classifier.add_pictures(LETTERS[15:], NAMES[15:])
    assert changed_as_fitted(classifier, LETTERS, NAMES) < 1e-6
    classifier.remove_class("cross")
    assert changed_as_fitted(classifier, LETTERS[:6] + LETTERS[12:], NAMES[:6] + NAMES[12:]) < 1e-6
    classifier.rename("ring", "annulus")
    assert classifier.classes_.tolist() == ["angle", "annulus"]


def test_other_classes_prototypes_keep_their_bits():
    classifier = FewShotClassifier("omniglot", head="prototypes").fit(LETTERS[:12], NAMES[:12])
    before = classifier.state.head.tensors["weight"].clone()

    classifier.add_class("ring", LETTERS[12:])
    assert bool((classifier.state.head.tensors["weight"][:2] == before).all())
    classifier.add_pictures([NEW[0]], ["ring"])
    assert bool((classifier.state.head.tensors["weight"][:2] == before).all())
    classifier.remove_class("ring")
    assert bool((classifier.state.head.tensors["weight"] == before).all())


def test_every_change_can_be_undone():
    classifier = FewShotClassifier("omniglot").fit(LETTERS, NAMES)
    before = classifier.predict_proba(NEW)
    classifier.rename("ring", "o").remove_class("cross").add_class("new", NEW[:2])
    for _ in range(3):
        classifier.undo()

    assert classifier.classes_.tolist() == list(KINDS)
    assert np.array_equal(classifier.predict_proba(NEW), before)
    with pytest.raises(ConfigError, match="no change to undo"):
        classifier.undo()


def test_a_large_ridge_is_changed_without_fitting_it_anew():
    generator = np.random.default_rng(0)
    labels = np.arange(1500) % 30
    centres = generator.normal(size=(30, 40))
    X = centres[labels] + generator.normal(size=(1500, 40))
    new = generator.normal(size=(5, 40)) + 3
    classifier = FewShotClassifier(None, head="ridge").fit(X, labels)
    penalty = classifier.state.head.settings["penalty"]

    classifier.add_class(30, new)
    weights = classifier.state.head.tensors["weight"]
    examples = classifier.state.examples
    again = type(classifier.state.head).fit(examples, {"penalty": penalty})
    assert classifier.state.inverse is not None
    assert float((weights - again.tensors["weight"]).abs().max()) < 1e-6
    classifier.remove_class(3)
    again = type(classifier.state.head).fit(classifier.state.examples, {"penalty": penalty})
    assert (
        float((classifier.state.head.tensors["weight"] - again.tensors["weight"]).abs().max())
        < 1e-6
    )
    assert 3 not in classifier.classes_


# What is wrong


def test_predicting_before_fitting_is_said():
    with pytest.raises(NotFittedError, match="not fitted"):
        FewShotClassifier().predict(NEW)


@pytest.mark.parametrize(
    ("X", "y", "sentence"),
    [
        (LETTERS[:3], ["a", "a", "a"], "There is one class, 'a'"),
        (LETTERS[:2], ["a"], "2 examples and y has the shape"),
        (LETTERS[:2], None, "y is missing"),
        (LETTERS[:2], ["a", ""], "empty name"),
        (LETTERS[:2], ["a", 1], "mixed types, int and text"),
        (["nowhere.png", LETTERS[0]], ["a", "b"], "The class 'a' has no picture that can be read"),
        ([LETTERS[0], object()], ["a", "b"], "Picture 2 is of type object"),
        (np.zeros((2, 8, 8, 7), np.uint8), ["a", "b"], "is an array of shape"),
        ([np.full((8, 8), 16.0), LETTERS[0]], ["a", "b"], "float64 from 16 to 16: give numbers"),
        ([np.full((8, 8), 256), LETTERS[0]], ["a", "b"], "from 256 to 256.*0 to 255"),
        ([np.full((8, 8), -1), LETTERS[0]], ["a", "b"], "from -1 to -1: give numbers"),
        ([np.full((8, 8), np.nan), LETTERS[0]], ["a", "b"], "holds NaN or infinity"),
        ([np.full((8, 8), "x"), LETTERS[0]], ["a", "b"], "array of <U1: give bytes"),
    ],
)
def test_wrong_examples_are_refused_in_a_sentence(X, y, sentence):
    with pytest.raises((ConfigError, DataError), match=sentence), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        FewShotClassifier("omniglot").fit(X, y)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"head": "forest"}, "no head 'forest'"),
        ({"unknown": "sometimes"}, "unknown is"),
        ({"unknown": 2.0}, "from -1 to 1"),
        ({"backbone": "resnet"}, "no backbone 'resnet'"),
        ({"backbone": "keras:vgg"}, "no library 'keras'"),
        ({"backbone": 3}, "backbone is a name"),
        ({"backbone": lambda pixels: np.full(4, np.nan)}, "NaN or infinity"),
        ({"backbone": lambda pixels: np.zeros((4, 4))}, "one vector"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(settings, sentence):
    with pytest.raises((ConfigError, DataError), match=sentence):
        FewShotClassifier(**({"backbone": "omniglot"} | settings)).fit(LETTERS, NAMES)


def test_what_cannot_be_read_is_named_and_the_others_go_on(drawings, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes((drawings / "ring" / "0.png").read_bytes()[:60])
    given = [*LETTERS, broken]

    with pytest.warns(UserWarning, match=r"broken\.png"):
        classifier = FewShotClassifier("omniglot").fit(given, [*NAMES, "ring"])

    assert list(classifier.skipped_) == [str(broken)]
    with pytest.raises(DataError, match=r"broken\.png"):
        FewShotClassifier("omniglot", strict=True).fit(given, [*NAMES, "ring"])
    with pytest.raises(DataError, match=r"broken\.png"):
        classifier.predict([LETTERS[0], broken])


def test_wrong_changes_are_refused_and_change_nothing(letters):
    before = letters.predict_proba(NEW)
    for change, sentence in (
        (lambda: letters.add_class("ring", NEW[:1]), "already"),
        (lambda: letters.remove_class("rings"), "Did you mean 'ring'"),
        (lambda: letters.rename("ring", "cross"), "already"),
        (lambda: letters.rename("ring", 5), "mixed types"),
        (lambda: letters.rename("ring", " "), "empty name"),
        (lambda: letters.add_class("", NEW[:1]), "empty name"),
        (lambda: letters.add_pictures(NEW[:1], ["rings"]), "Did you mean 'ring'.*use add_class"),
        (lambda: letters.add_pictures(NEW[:2], (of for of in ("ring", "Q"))), "no class 'Q'"),
        (lambda: letters.add_pictures([], []), "nothing to add"),
        (lambda: letters.add_pictures(["nowhere.png"], ["ring"]), "nowhere.png"),
    ):
        with pytest.raises((ConfigError, DataError), match=sentence):
            change()

    assert np.array_equal(letters.predict_proba(NEW), before)
    two = FewShotClassifier("omniglot").fit(LETTERS[:12], NAMES[:12])
    with pytest.raises(ConfigError, match="nothing to tell apart"):
        two.remove_class("cross")


def test_a_picture_on_its_side_is_turned_as_its_camera_says(tmp_path):
    upright = np.zeros((40, 80), np.uint8)
    upright[:, :20] = 255
    turned = Image.fromarray(np.rot90(upright))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    seen: list[np.ndarray] = []

    def keep(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels)
        return np.ones(2)

    vectors_of(pictures_of([Path(tmp_path / "turned.png")]), find_backbone(keep))
    assert np.array_equal(seen[0], upright)
