"""Which network `auto` takes: the significantly better one, else the one that the pictures look
like."""

import numpy as np
import pytest
from PIL import Image

from innerloop import FewShotClassifier
from innerloop.classifier.choosing import GREYS, choose, grey_share, look_drawn
from innerloop.classifier.state import Kept, State, codes_of, fitted
from innerloop.classifier.vectors import thumbnail
from picturing import COLOURS, KINDS, drawing, photo

NAMES = ["photos", "omniglot"]
DRAWN = [thumbnail(np.asarray(drawing(kind, seed))) for kind in KINDS for seed in range(3)]
TAKEN = [thumbnail(np.asarray(photo(kind, seed))) for kind in COLOURS for seed in range(3)]


def state_of(vectors: np.ndarray, labels: np.ndarray, first: int = 0) -> State:
    names = tuple(f"picture {place}" for place in range(first, first + len(labels)))
    kept = Kept(codes_of(vectors), labels, names, (), ())
    return fitted(np.arange(2), kept, wanted="prototypes", unknown="auto", scale=None)


def states(count: int, wrong: int) -> tuple[State, State]:
    """Of ``count`` examples of each of two classes: all right, and so many of each wrong."""
    labels = np.repeat([0, 1], count)
    told = np.eye(2)[labels] + 0.01 * np.arange(2 * count)[:, None]
    mixed = labels.copy()
    for start in (0, count):
        mixed[start : start + wrong] = 1 - labels[start : start + wrong]
    return state_of(told, labels), state_of(np.eye(2)[mixed] + 0.01 * told, labels)


def paper(kind: str, seed: int) -> Image.Image:
    """Blue ink on yellow paper that is lit from one side, with the camera's noise."""
    ink = np.asarray(drawing(kind, seed, side=400)).astype(float)[..., None] / 255
    colours = np.array([250, 240, 180]) * ink + np.array([20, 30, 120]) * (1 - ink)
    light = np.linspace(0.85, 1, 400)[None, :, None]
    noise = np.random.default_rng(seed).normal(0, 4, (400, 400, 1))
    return Image.fromarray(np.clip(colours * light + noise, 0, 255).astype(np.uint8))


def test_drawings_have_two_tones_on_any_paper_and_photos_have_not():
    assert max(map(grey_share, DRAWN)) < GREYS < min(map(grey_share, TAKEN))
    turned = [thumbnail(255 - np.asarray(drawing(kind, 1))) for kind in KINDS]
    on_paper = [thumbnail(np.asarray(paper(kind, seed))) for kind in KINDS for seed in range(3)]
    grey = [thumbnail(np.asarray(photo(kind, 1).convert("L"))) for kind in COLOURS]

    assert look_drawn(turned) and look_drawn(on_paper)
    assert not look_drawn(grey)
    # A single odd one does not turn the rest over.
    assert look_drawn([*DRAWN, *TAKEN[:3]]) and not look_drawn([*TAKEN, *DRAWN[:3]])


@pytest.mark.parametrize(("looks", "name"), [(DRAWN, "omniglot"), (TAKEN, "photos")])
def test_where_both_are_as_right_looks_decide_and_it_is_said(looks, name):
    for right in (states(4, 0), states(4, 1)):
        for pair in (right, right[::-1]):
            chosen = choose(NAMES, pair, looks)
            assert NAMES[chosen.place] == name
            assert f"The network is {name}, since the pictures" in chosen.reason
            assert "too close to tell" in chosen.reason


@pytest.mark.parametrize("looks", [DRAWN, TAKEN])
def test_what_is_significantly_more_often_right_is_taken_whatever_it_looks_like(looks):
    # Six against none is significant by the sign test (p = 0.03), four against none is not.
    good, bad = states(20, 3)
    for pair, place in (((good, bad), 0), ((bad, good), 1)):
        chosen = choose(NAMES, pair, looks)
        assert chosen.place == place
        assert "100 %" in chosen.reason and "85 %" in chosen.reason
    assert choose(NAMES, states(20, 2), DRAWN).place == 1
    assert choose(NAMES, states(20, 2)[::-1], TAKEN).place == 0


def test_networks_are_compared_on_the_pictures_that_both_take():
    good, bad = states(20, 3)
    labels = good.kept.labels[1:]
    fewer = state_of(np.eye(2)[labels] + 0.01, labels, first=1)

    assert choose(NAMES, (fewer, bad), DRAWN).place == 1  # five against none
    assert choose(NAMES, (fewer, fewer), DRAWN).place == 1


def test_two_letters_that_both_tell_apart_get_the_network_of_drawings():
    for pair in (KINDS[:2], KINDS[1:], KINDS[::2]):
        pictures = [drawing(kind, seed) for kind in pair for seed in range(5)]
        classifier = FewShotClassifier().fit(pictures, np.repeat(pair, 5))

        assert classifier.backbone_ == "omniglot"
