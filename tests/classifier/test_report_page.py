"""The report's page and its figures, as a person looks at them."""

import numpy as np
import pytest
from PIL import Image

from innerloop import FewShotClassifier
from innerloop.classifier.figures import CELL, mistakes_sheet, sheet
from innerloop.classifier.page import page
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
