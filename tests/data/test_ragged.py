"""Classes with different numbers of examples: what is drawn of them, and what is refused."""

import numpy as np
import pytest
import torch

from innerloop.core.errors import ConfigError, DataError
from innerloop.data.images import FewShotDataset
from innerloop.data.minibatches import ImageSampler
from innerloop.data.sampling import EpisodeSampler

COUNTS = (3, 7, 4, 9, 5)
NAMES = tuple("abcde")


def numbered(counts: tuple[int, ...] = COUNTS) -> FewShotDataset:
    """Every image tells its class by one pixel and its example by the next."""
    images = []
    for index, count in enumerate(counts):
        pixels = np.zeros((count, 1, 2, 2), dtype=np.uint8)
        pixels[:, 0, 0, 0] = index
        pixels[:, 0, 0, 1] = np.arange(count)
        images.append(pixels)
    return FewShotDataset("numbered", images, NAMES[: len(counts)])


def told(images: torch.Tensor) -> list[tuple[int, int]]:
    """Class and example of each image (..., 1, 2, 2)."""
    pairs = (images[..., 0, 0, :] * 255).round().int().flatten(0, -2).tolist()
    return [(index, example) for index, example in pairs]


def sampler(dataset: FewShotDataset, shots: int = 1, queries: int = 2) -> EpisodeSampler:
    return EpisodeSampler(
        dataset,
        np.arange(len(dataset.class_names)),
        ways=3,
        shots=shots,
        queries=queries,
        seed=0,
        stream_name="episodes/val",
    )


def test_episodes_have_the_images_that_the_bookkeeping_names_and_reach_every_example():
    batch = sampler(numbered()).batch(0, 300)

    expected = [
        (index, example)
        for classes, drawings in zip(batch.classes, batch.query_drawings, strict=True)
        for index, row in zip(classes.tolist(), drawings.tolist(), strict=True)
        for example in row
    ]
    assert told(batch.query.images) == expected
    assert set(expected) == {(c, e) for c, count in enumerate(COUNTS) for e in range(count)}


def test_a_list_of_equal_arrays_is_the_same_data_set_as_one_array():
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 1, 2, 2), dtype=np.uint8)

    of_list = FewShotDataset("x", list(images), list("abcd"))

    assert of_list.fingerprint == FewShotDataset("x", images, tuple("abcd")).fingerprint
    assert of_list.images.shape == images.shape


def test_an_image_that_changes_its_class_is_another_data_set():
    pixels = np.zeros((5, 1, 2, 2), dtype=np.uint8)

    def split_at(first: int) -> str:
        return FewShotDataset("x", [pixels[:first], pixels[first:]], ("a", "b")).fingerprint

    assert split_at(1) != split_at(2)


def test_an_epoch_holds_every_image_once_with_the_label_of_its_class():
    images = ImageSampler(numbered(), np.array([4, 0, 3]), seed=0, stream_name="images/train")

    batch = images.batch(0, len(images))

    assert len(images) == 5 + 3 + 9
    assert sorted(told(batch.images)) == [(c, e) for c in (0, 3, 4) for e in range(COUNTS[c])]
    assert [[4, 0, 3][label] for label in batch.labels.tolist()] == [
        index for index, _ in told(batch.images)
    ]


def test_classes_with_too_few_examples_are_named_with_what_to_do():
    with pytest.raises(
        ConfigError,
        match=r"2 shots and 3 queries per class, 5 drawings: .* 'a' has 3 drawings, 'c' has 4 "
        r"drawings. Choose shots \+ queries <= 3, or leave .* out with --fewest-images 5.",
    ):
        sampler(numbered(), shots=2, queries=3)


@pytest.mark.parametrize(
    ("images", "names", "words"),
    [
        ([np.zeros((1, 1, 2, 2), np.uint8), np.zeros((1, 1, 3, 3), np.uint8)], "ab", "uint8"),
        ([np.zeros((1, 1, 2, 2), np.uint8), np.zeros((1, 1, 2, 2))], "ab", "float64"),
        ([np.zeros((1, 2, 2), np.uint8)], "a", "uint8 images of shape"),
        ([], "", "no class"),
        ([[[[[0]]]]], "a", "needs numpy arrays .* got list"),
        (7, "a", "no class"),
        (torch.zeros((1, 1, 1, 2, 2), dtype=torch.uint8), "a", "needs numpy arrays .* got Tensor"),
        (np.zeros((1, 5, 28, 28, 3), np.uint8), "a", "28 channels that are 28 x 3 .*moveaxis"),
        ([np.zeros((5, 28, 20, 1), np.uint8)], "a", "28 channels that are 20 x 1 .*moveaxis"),
        (np.zeros((2, 1, 1, 2, 2), np.uint8), "aa", "two classes called 'a'"),
        (np.zeros((2, 1, 1, 2, 2), np.uint8), (1, 2), "has a class called 1: names are texts"),
        (np.zeros((1, 1, 1, 2, 2), np.uint8), ["a\nb"], "without control characters"),
        (np.zeros((1, 1, 1, 2, 2), np.uint8), [""], "a class called ''"),
    ],
)
def test_images_and_names_that_are_no_data_set_are_refused(images, names, words):
    with pytest.raises(DataError, match=words):
        FewShotDataset("x", images, names)
