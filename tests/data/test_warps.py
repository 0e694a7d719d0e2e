"""Affine warps of training images."""

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from innerloop.core.errors import ConfigError
from innerloop.core.seeding import stream
from innerloop.data.images import FewShotDataset
from innerloop.data.minibatches import ImageSampler
from innerloop.data.sampling import EpisodeSampler
from innerloop.data.strokes import generate
from innerloop.data.warps import drawn_warps, warped
from innerloop.experiments.experiment import prepare
from innerloop.methods.catalogue import settings_of

DATA = generate(30, size=28)


def warps_of(count: int, strength: float = 1.0) -> np.ndarray:
    return drawn_warps(stream(0, "warps", 0), count, strength)


def images_of(count: int) -> torch.Tensor:
    return torch.from_numpy(DATA.all_images[:count]).double() / 255


def by_scipy(image: np.ndarray, warp: np.ndarray, outside: float = 0.0) -> np.ndarray:
    """The same by SciPy, in pixels counted from the first one's middle, rows before columns."""
    side = len(image)
    middle = (side - 1) / 2
    matrix = warp[::-1, :2][:, ::-1].astype(float)
    shift = warp[::-1, 2].astype(float) * side / 2
    offset = middle + shift - matrix @ [middle, middle]
    return affine_transform(
        image,
        matrix,
        offset,  # pyright: ignore[reportArgumentType] # one for each axis, which SciPy takes
        order=1,
        mode="grid-constant",
        cval=outside,
    )


def test_warped_images_are_scipys():
    images, warps = images_of(12), warps_of(12)
    found = warped(images, warps.astype(np.float64))

    for image, warp, expected in zip(images, warps, found, strict=True):
        assert np.abs(by_scipy(image[0].numpy(), warp) - expected[0].numpy()).max() <= 1e-6
    assert (found - images).abs().mean() > 0.01


def test_outside_of_an_image_is_what_most_of_its_edge_is():
    """A dark frame around pictures on white would be in every one of them."""
    images, warps = 1 - images_of(12), warps_of(12)
    coloured = torch.cat([images, images * 0.5, images_of(12)], 1)
    coloured[:, 1, 0, :9] = 0.9  # less than half of the edge

    found = warped(coloured, warps.astype(np.float64))

    for channel, outside in enumerate((1.0, 0.5, 0.0)):
        for image, warp, expected in zip(coloured[:, channel], warps, found, strict=True):
            by_law = by_scipy(image.numpy(), warp, outside)
            assert np.abs(by_law - expected[channel].numpy()).max() <= 1e-6


def test_without_strength_images_stay_as_they_are():
    images = images_of(5).float()
    assert torch.allclose(warped(images, warps_of(5, 0.0)), images, atol=1e-5)


def test_warps_are_within_their_ranges_and_use_them():
    warps = warps_of(20_000).astype(float)
    turned, shifts = warps[..., :2], warps[..., 2]

    assert np.abs(shifts).max() == pytest.approx(4 / 105, rel=0.01)
    # The angle's turn leaves a determinant as it is: that of scales, and of shears.
    determinants = np.linalg.det(turned)
    assert determinants.min() >= 0.8**2 * (1 - 0.3**2) and determinants.max() <= 1.2**2 * 1.09
    assert determinants.min() < 0.68 and determinants.max() > 1.4
    assert np.abs(warps.mean(0) - [[1, 0, 0], [0, 1, 0]]).max() < 0.02
    half = drawn_warps(stream(0, "warps", 0), 20_000, 0.5)
    assert np.abs(half[..., 2]).max() == pytest.approx(2 / 105, rel=0.01)


def episodes(warps: float) -> EpisodeSampler:
    return EpisodeSampler(
        DATA,
        np.arange(30),
        ways=3,
        shots=2,
        queries=2,
        seed=0,
        stream_name="episodes/train",
        rotations=True,
        warps=warps,
    )


def test_an_episode_is_the_same_however_it_is_asked_for():
    together = episodes(1.0).batch(3, 4)
    alone = episodes(1.0).batch(5, 1)

    assert torch.equal(together.support.images[2:3], alone.support.images)
    assert torch.equal(together.query.images[2:3], alone.query.images)


def test_every_drawing_has_a_warp_of_its_own_and_classes_stay():
    with_warps, without = episodes(1.0).batch(0, 2), episodes(0.0).batch(0, 2)

    assert torch.equal(with_warps.classes, without.classes)
    assert torch.equal(with_warps.query_drawings, without.query_drawings)
    plain = without.support.images.flatten(0, 1)
    moved = with_warps.support.images.flatten(0, 1)
    assert all(not torch.allclose(*pair) for pair in zip(plain, moved, strict=True))
    # By the stream's numbers: the support's drawings of a class come first, then its queries.
    warps = drawn_warps(stream(0, "episodes/train/warps", 1), 12, 1.0).reshape(3, 4, 2, 3)
    of_class_1 = warped(without.query.images[1, 2:4], warps[1, 2:])
    assert torch.allclose(with_warps.query.images[1, 2:4], of_class_1, atol=1e-6)


def minibatches(warps: float) -> ImageSampler:
    return ImageSampler(DATA, np.arange(30), seed=0, stream_name="images/train", warps=warps)


def test_a_mini_batch_is_the_same_however_it_is_asked_for_also_across_epochs():
    sampler = minibatches(1.0)
    across = sampler.batch(len(sampler) - 3, 6)
    parts = [sampler.batch(len(sampler) - 3, 3), sampler.batch(len(sampler), 3)]

    assert torch.equal(across.images, torch.cat([part.images for part in parts]))
    assert torch.equal(across.labels, minibatches(0.0).batch(len(sampler) - 3, 6).labels)


def test_an_image_is_warped_otherwise_in_each_epoch():
    sampler, plain = minibatches(1.0), minibatches(0.0)
    count = len(sampler)
    plans = [plain.plan(epoch * count, count) for epoch in (0, 1)]
    places = [int(np.flatnonzero((plan.classes == 4) & (plan.drawings == 7))[0]) for plan in plans]
    first, second = (
        sampler.batch(epoch * count + place, 1).images for epoch, place in enumerate(places)
    )

    assert not torch.allclose(first, second)


@pytest.mark.parametrize("method", ["fomaml", "transfer"])
def test_training_images_are_warped_and_others_are_not(method):
    config = settings_of(method, data="strokes", warps=0.7, device="cpu", ways=3)
    experiment = prepare(config, dataset=DATA, say=lambda words: None)

    assert experiment.training_sampler().warps == 0.7
    assert experiment.evaluation_sampler("val").warps == 0
    assert experiment.disjoint_sampler("val").warps == 0


@pytest.mark.parametrize("warps", [float("nan"), -0.1, 50, "1", True])
def test_strengths_that_there_are_not_are_refused(warps):
    with pytest.raises(ConfigError, match="warps must be a number between 0 and 3: got"):
        episodes(warps)
    with pytest.raises(ConfigError, match="warps must be a number between 0 and 3: got"):
        minibatches(warps)


def test_images_that_are_not_square_are_not_warped():
    """In [-1, 1] from edge to edge a turn of these would be a shear."""
    wide = FewShotDataset(
        name="wide",
        images=np.zeros((3, 4, 1, 8, 12), dtype=np.uint8),
        class_names=("a", "b", "c"),
    )

    with pytest.raises(ConfigError, match=r"Warps need square images: these are \(1, 8, 12\)"):
        ImageSampler(wide, np.arange(3), seed=0, stream_name="images/train", warps=0.5)
    ImageSampler(wide, np.arange(3), seed=0, stream_name="images/train")
