import numpy as np
import pytest
import torch

from innerloop.core.errors import ConfigError
from innerloop.data.images import FewShotDataset
from innerloop.data.minibatches import ImageSampler


@pytest.fixture
def numbered() -> FewShotDataset:
    """6 classes of 4 drawings; every drawing tells by its pixels which one it is, and which way
    up."""
    images = np.zeros((6, 4, 1, 2, 2), dtype=np.uint8)
    images[..., 0, 0, 0] = np.arange(6)[:, None] * 10 + np.arange(4) + 1
    return FewShotDataset("numbered", images, tuple(f"a/{name}" for name in "abcdef"))


def sampler(dataset: FewShotDataset, **changes) -> ImageSampler:
    settings = dict(classes=np.array([1, 3, 4]), seed=0, stream_name="images/train") | changes
    return ImageSampler(dataset, **settings)  # type: ignore[arg-type]


def names(batch) -> list[int]:
    """Which drawing each image is."""
    return (batch.images.amax(dim=(1, 2, 3)) * 255).round().int().tolist()


def test_an_epoch_holds_every_drawing_of_its_classes_once(numbered):
    batch = sampler(numbered).batch(0, 12)

    assert sorted(names(batch)) == sorted(10 * c + e + 1 for c in (1, 3, 4) for e in range(4))
    assert batch.images.shape == (12, 1, 2, 2)


def test_label_k_is_the_kth_class(numbered):
    batch = sampler(numbered).batch(0, 12)

    assert [[1, 3, 4][label] for label in batch.labels.tolist()] == [
        name // 10 for name in names(batch)
    ]


def test_epochs_have_orders_of_their_own_and_seeds_too(numbered):
    orders = [names(sampler(numbered).batch(12 * epoch, 12)) for epoch in range(3)]
    orders.append(names(sampler(numbered, seed=1).batch(0, 12)))

    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("size", [1, 5, 7, 12, 24])
def test_images_are_the_same_for_any_batch_size_also_across_epochs(numbered, size):
    whole = sampler(numbered, rotations=True).batch(0, 48)
    fresh = sampler(numbered, rotations=True)
    parts = [fresh.batch(start, min(size, 48 - start)) for start in range(0, 48, size)]

    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)


def corner(image: torch.Tensor) -> int:
    """By how many quarter turns the marked corner was turned, counterclockwise."""
    return [(0, 0), (1, 0), (1, 1), (0, 1)].index(tuple(image[0].nonzero()[0].tolist()))


def test_rotations_turn_the_drawing_and_keep_its_label(numbered):
    batch = sampler(numbered, rotations=True).batch(0, 120)

    assert {corner(image) for image in batch.images} == {0, 1, 2, 3}
    assert [[1, 3, 4][label] for label in batch.labels.tolist()] == [
        name // 10 for name in names(batch)
    ]


def test_rotations_as_classes_have_labels_of_their_own(numbered):
    turned = sampler(numbered, rotations=True, rotations_as_classes=True)
    batch = turned.batch(0, 120)

    assert turned.labels == 12
    assert batch.labels.tolist() == [
        4 * [1, 3, 4].index(name // 10) + corner(image)
        for name, image in zip(names(batch), batch.images, strict=True)
    ]


def test_without_rotations_the_length_and_the_labels_are_those_of_the_classes(numbered):
    assert len(sampler(numbered)) == 12
    assert sampler(numbered).labels == 3
    assert {corner(image) for image in sampler(numbered).batch(0, 24).images} == {0}


def test_rotations_as_classes_without_rotations_are_refused(numbered):
    with pytest.raises(ConfigError, match="rotations_as_classes needs rotations"):
        sampler(numbered, rotations_as_classes=True)


def test_rotations_of_images_that_are_not_square_are_refused():
    wide = FewShotDataset("wide", np.zeros((2, 2, 1, 4, 6), dtype=np.uint8), ("a/a", "a/b"))

    with pytest.raises(ConfigError, match="Rotations need square images"):
        sampler(wide, classes=np.array([0, 1]), rotations=True)
