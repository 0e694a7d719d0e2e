"""The report's page and its figures, as a person looks at them."""

import re
import warnings

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from innerloop import FewShotClassifier
from innerloop.classifier.figures import CELL, NAME, mistakes_sheet, sheet
from innerloop.classifier.page import PART, page
from innerloop.classifier.words import shortened
from picturing import COLOURS, KINDS, drawing, photo


def wide(kind: str, seed: int) -> Image.Image:
    """A drawing at the left end of a wide sheet, and a bar at its right end."""
    sheet = Image.new("L", (256, 64), "white")
    sheet.paste(drawing(kind, seed), (0, 0))
    sheet.paste(0, (246, 4, 254, 60))
    return sheet


@pytest.fixture(scope="module")
def letters() -> FewShotClassifier:
    pictures = [wide(kind, seed) for kind in KINDS for seed in range(4)]
    labels = np.repeat(KINDS, 4)
    labels[0] = "ring"  # a mistake, to be shown as one
    return FewShotClassifier("omniglot").fit(pictures, labels)


def shown(figure) -> np.ndarray:
    """The image of all cells."""
    return np.asarray(figure.axes[0].images[0].get_array())


@pytest.mark.parametrize("which", ["sheet", "mistakes"])
def test_pictures_are_shown_whole_and_not_squeezed(letters, which):
    state, report = letters.state, letters.report_
    assert report.mistakes
    figure = sheet(state) if which == "sheet" else mistakes_sheet(state, report)
    first = shown(figure)[2 : CELL - 2, 2 : CELL - 2].mean(axis=2)

    # 256 x 64 in 64 x 64: the picture is a band of 16 lines, white above and below.
    assert (first[:23] > 200).all() and (first[41:] > 200).all()
    assert first[24:40, :16].min() < 128 and first[24:40, 60:64].min() < 128
    assert (first[24:40, 20:58] > 200).all()


def test_the_page_says_what_the_network_sees(letters):
    text = page(letters.state, letters.report_, "Letters", letters.backbone_)
    assert "what is drawn, cut out and laid in the middle" in text

    pictures = [photo(kind, seed) for kind in COLOURS for seed in range(2)]
    photos = FewShotClassifier("photos").fit(pictures, np.repeat(list(COLOURS), 2))
    assert "the middle square of each" in page(photos.state, photos.report_, "P", "photos")


LONG = [f"Gewöhnliche Rosskastanie, {leaf}" for leaf in ("Blatt", "Blüte", "Frucht")]


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> FewShotClassifier:
    """Long names that differ at the end, mistakes, and a pair that looks the same."""
    folder = tmp_path_factory.mktemp("trees")
    for place, name in enumerate(LONG):
        (folder / name).mkdir()
        for seed in range(6):
            kind = KINDS[(place + (seed < 2)) % 3]
            path = folder / name / f"aufgenommen-im-botanischen-garten-{seed}.png"
            drawing(kind, 3 * seed + place).save(path)
    drawing("ring", 99).save(folder / LONG[0] / "copy-of-one-picture-in-another-folder.png")
    drawing("ring", 99).save(folder / LONG[1] / "copy-of-one-picture-in-another-folder.png")
    return FewShotClassifier("omniglot").fit(folder)


def test_names_that_differ_at_the_end_are_told_apart_and_captions_do_not_touch(trees):
    names = [shortened(name, NAME) for name in LONG]
    assert len(set(names)) == 3 and all(len(name) <= NAME for name in names)
    figure = mistakes_sheet(trees.state, trees.report_)
    FigureCanvasAgg(figure).draw()
    captions = [text for text in figure.axes[0].texts if "taken for" in text.get_text()]
    boxes = [text.get_window_extent() for text in captions]

    assert len(boxes) > 2
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def test_the_page_is_narrow_and_in_plain_words(trees):
    text = page(trees.state, trees.report_, "Trees", trees.backbone_)
    paths = re.findall(r"<td><code>(.*?)</code>", text)
    assert paths and max(map(len, paths)) <= 2 * PART + 1
    assert "ridge regression on what the network omniglot sees" in text
    for word in ("softmax", "cosine", "five folds", "of more than twenty several", "a bin"):
        assert word not in text


def test_letters_without_a_font_are_said_once():
    pictures = [drawing(kind, seed) for kind in KINDS[:2] for seed in range(3)]
    names = np.repeat(["ring", "\U0001f9ff\ue123"], 3)  # no font has what is for private use
    classifier = FewShotClassifier("omniglot").fit(pictures, names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = page(classifier.state, classifier.report_, "Boxes", "omniglot")

    assert text.count("Figures show boxes for") == 1
