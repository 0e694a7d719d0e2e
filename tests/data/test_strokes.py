import numpy as np
import pytest

from innerloop.core.errors import ConfigError
from innerloop.data.strokes import generate
from innerloop.data.strokes.pen import CANVAS, press
from innerloop.data.strokes.programs import (
    CHARACTERS_PER_ALPHABET,
    TOO_ALIKE,
    look,
    make_alphabet,
)


@pytest.fixture(scope="module")
def ink():
    """Four alphabets at Omniglot's own size: (classes * drawings, 105, 105) bool."""
    return generate(100, size=CANVAS).images.reshape(-1, CANVAS, CANVAS) > 127


@pytest.fixture(scope="module")
def small():
    """As many at the networks' size: (classes, drawings, 784) float32 in [0, 1]."""
    return generate(100).images.reshape(100, 20, -1).astype(np.float32) / 255


def nearest_mean_accuracy(images: np.ndarray, *, ways: int, shots: int, episodes: int) -> float:
    """Accuracy of the nearest class mean on raw pixels, over random episodes of all remaining
    drawings."""
    rng = np.random.default_rng(0)
    correct = []
    for _ in range(episodes):
        episode = images[rng.choice(len(images), ways, replace=False)]
        episode = episode[:, rng.permutation(episode.shape[1])]
        means = episode[:, :shots].mean(axis=1)
        distances = np.linalg.norm(episode[:, shots:, None] - means, axis=-1)
        correct.append(distances.argmin(axis=-1) == np.arange(ways)[:, None])
    return float(np.mean(correct))


def test_the_same_seed_gives_the_same_data():
    assert generate(6, seed=3).fingerprint == generate(6, seed=3).fingerprint


def test_another_seed_changes_every_drawing():
    one, other = generate(6, seed=0).images, generate(6, seed=1).images

    assert (one != other).any(axis=(2, 3, 4)).all()


def test_the_pixels_of_seed_0_are_those_of_every_earlier_version():
    """Anything that changes the data makes results incomparable, so it has to change this line
    too."""
    assert (
        generate(3, drawings=2).fingerprint
        == "cfce9f549e56209858eaaffbe95ccace145cc2456c79f1b3adf3d179ce037d79"
    )


@pytest.mark.parametrize(
    "characters", [1, 10, CHARACTERS_PER_ALPHABET, CHARACTERS_PER_ALPHABET + 1]
)
def test_a_character_does_not_depend_on_how_many_are_asked_for(characters):
    few, many = generate(characters, drawings=2), generate(30, drawings=2)

    np.testing.assert_array_equal(few.images, many.images[:characters])
    assert few.class_names == many.class_names[:characters]


def test_a_drawing_does_not_depend_on_how_many_are_asked_for():
    np.testing.assert_array_equal(
        generate(4, drawings=3).images, generate(4, drawings=20).images[:, :3]
    )


def test_images_are_ink_on_an_empty_background():
    dataset = generate(2, drawings=3, size=35)

    assert dataset.images.shape == (2, 3, 1, 35, 35)
    assert (dataset.images.min(), dataset.images.max()) == (0, 255)
    assert dataset.name == "strokes"


def test_sorting_the_class_names_keeps_the_order_of_generation():
    names = generate(260, drawings=1, size=1).class_names

    assert list(names) == sorted(names)
    assert len(set(names)) == 260
    assert names[259] == "alphabet010/character09"


def test_every_alphabet_has_25_characters():
    alphabets = [name.split("/")[0] for name in generate(75, drawings=1, size=1).class_names]

    assert {name: alphabets.count(name) for name in alphabets} == {
        "alphabet000": 25,
        "alphabet001": 25,
        "alphabet002": 25,
    }


def test_the_fraction_of_ink_is_near_omniglots(ink):
    """Omniglot's background set: 0.078 on average, 0.035 to 0.125 from the 5th to the 95th
    percentile."""
    fractions = ink.mean(axis=(1, 2))

    assert fractions.mean() == pytest.approx(0.078, abs=0.008)
    assert np.percentile(fractions, [5, 95]) == pytest.approx([0.035, 0.125], abs=0.012)


def test_the_longer_side_is_near_omniglots(ink):
    """Omniglot's background set: 0.64 on average, 0.42 to 0.84 from the 5th to the 95th
    percentile."""
    longer = np.maximum(*[ink.any(axis=axis).sum(axis=1) for axis in (1, 2)]) / CANVAS

    assert longer.mean() == pytest.approx(0.64, abs=0.03)
    assert np.percentile(longer, [5, 95]) == pytest.approx([0.43, 0.86], abs=0.05)


def test_the_pen_is_as_wide_as_omniglots(ink):
    """The narrower of the two runs through an inked pixel: 5 to 7 in a slanted line, Omniglot's
    median is 6."""
    some = ink[::10]

    runs = [_run_lengths(some), _run_lengths(some.transpose(0, 2, 1)).transpose(0, 2, 1)]

    assert 5 <= np.median(np.minimum(*runs)[some]) <= 7


def test_a_lone_press_of_the_pen_is_a_disc_of_its_diameter():
    points = np.array([[[0.5, 0.5]], [[0.0, 1.0]]])

    middle, corner = press(points, np.array([5, 4])) > 0

    assert middle.any(axis=0).sum() == middle.any(axis=1).sum() == 5
    assert middle.sum() == 21
    assert corner[-2:, :2].all()
    assert corner.sum() < 12


def test_no_drawing_is_cut_off_at_the_edge(ink):
    """A pixel or two may be lost to rounding; a stroke that runs out of the image would fill the
    edge."""
    edges = [ink[:, 0], ink[:, -1], ink[:, :, 0], ink[:, :, -1]]

    assert max(edge.any(axis=1).mean() for edge in edges) < 0.05


def test_drawings_of_a_class_are_alike_but_not_trivially(small):
    """Omniglot: 0.44 for one shot and 0.72 for five, on the same raw pixels."""
    assert nearest_mean_accuracy(small, ways=5, shots=1, episodes=300) == pytest.approx(
        0.44, abs=0.06
    )
    assert nearest_mean_accuracy(small, ways=5, shots=5, episodes=300) == pytest.approx(
        0.72, abs=0.06
    )


def test_no_two_drawings_are_the_same(small):
    assert len(np.unique(small.reshape(-1, small.shape[-1]), axis=0)) == 100 * 20


def test_no_two_characters_of_an_alphabet_have_the_same_program():
    looks = np.stack([look(program)[0] for program in make_alphabet(0, seed=0)])

    likeness = looks @ looks.T

    assert likeness[~np.eye(len(looks), dtype=bool)].max() < TOO_ALIKE


def test_characters_of_one_alphabet_share_a_style():
    """Mean number of strokes: its spread between alphabets exceeds what chance gives 25 draws of
    one style."""
    counts = np.array([[len(p.knots) for p in make_alphabet(a, seed=0)] for a in range(8)])

    chance = np.sqrt(counts.var(axis=1).mean() / CHARACTERS_PER_ALPHABET)
    assert counts.mean(axis=1).std() > 1.5 * chance


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"characters": 0}, "characters=0: choose characters >= 1"),
        ({"characters": 25_001}, "characters=25001: choose characters <= 25000"),
        ({"drawings": 0}, "drawings=0: choose drawings >= 1"),
        ({"size": 0}, "size=0: choose size >= 1"),
        ({"seed": -1}, "seed=-1: choose seed >= 0"),
    ],
)
def test_an_impossible_request_says_what_to_choose(arguments, message):
    with pytest.raises(ConfigError, match=message):
        generate(**arguments)


def _run_lengths(ink: np.ndarray) -> np.ndarray:
    """Length of the horizontal run of ink that each pixel is in."""
    forward, backward = np.zeros(ink.shape, dtype=int), np.zeros(ink.shape, dtype=int)
    forward[..., 0], backward[..., -1] = ink[..., 0], ink[..., -1]
    for column in range(1, ink.shape[-1]):
        forward[..., column] = (forward[..., column - 1] + 1) * ink[..., column]
        backward[..., -1 - column] = (backward[..., -column] + 1) * ink[..., -1 - column]
    return (forward + backward - 1) * ink
