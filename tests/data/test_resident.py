"""What is gathered on a device is what a sampler's batch holds, to the bit."""

from typing import Any

import numpy as np
import pytest
import torch

from innerloop.data.images import FewShotDataset
from innerloop.data.minibatches import ImageSampler
from innerloop.data.resident import ResidentImages
from innerloop.data.sampling import EpisodeSampler

SIDE = 6


def dataset(counts: list[int], channels: int) -> FewShotDataset:
    random = np.random.default_rng(3)
    classes = [
        random.integers(0, 256, (count, channels, SIDE, SIDE), dtype=np.uint8) for count in counts
    ]
    return FewShotDataset("noise", classes, [f"class {index}" for index in range(len(counts))])


DATASETS = {
    "even": dataset([7] * 6, 1),
    "ragged": dataset([5, 9, 6, 7, 5, 8], 1),
    "colour": dataset([5, 9, 6, 7, 5, 8], 3),
}


@pytest.fixture(params=DATASETS)
def images(request: pytest.FixtureRequest) -> FewShotDataset:
    return DATASETS[request.param]


@pytest.mark.parametrize("rotations", [False, True])
def test_gathered_episodes_are_the_samplers_to_the_bit(images, rotations):
    sampler = EpisodeSampler(
        images,
        np.array([5, 0, 3, 1]),
        ways=3,
        shots=2,
        queries=3,
        seed=4,
        stream_name="test",
        rotations=rotations,
    )
    plan, batch = sampler.plan(11, 9), sampler.batch(11, 9)
    classes, drawings, turns = (
        torch.from_numpy(part) for part in (plan.classes, plan.drawings, plan.turns)
    )

    gathered = ResidentImages(images, "cpu").gather(
        classes[..., None].expand_as(drawings),
        drawings,
        turns[..., None].expand_as(drawings) if rotations else None,
    )

    assert len(np.unique(plan.turns)) == 4
    assert torch.equal(gathered[:, :, :2].flatten(1, 2), batch.support.images)
    assert torch.equal(gathered[:, :, 2:].flatten(1, 2), batch.query.images)
    assert gathered.dtype == batch.query.images.dtype
    assert torch.equal(drawings[..., :2], batch.support_drawings)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"rotations": True},
        {"rotations": True, "rotations_as_classes": True},
    ],
    ids=str,
)
def test_gathered_mini_batches_are_the_samplers_to_the_bit(images, how: dict[str, Any]):
    """Across the end of an epoch, too."""
    sampler = ImageSampler(images, np.array([5, 0, 3, 1]), seed=4, stream_name="test", **how)
    start = len(sampler) - 5
    plan, batch = sampler.plan(start, 20), sampler.batch(start, 20)

    gathered = ResidentImages(images, "cpu").gather(
        torch.from_numpy(plan.classes),
        torch.from_numpy(plan.drawings),
        torch.from_numpy(plan.turns) if how else None,
    )

    assert torch.equal(gathered, batch.images)
    assert torch.equal(torch.from_numpy(plan.labels), batch.labels)


def test_images_that_are_not_square_are_gathered_as_they_are():
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (2, 3, 1, 4, 5), dtype=np.uint8)
    wide = FewShotDataset("wide", pixels, ["a", "b"])
    classes, drawings = torch.tensor([1, 0]), torch.tensor([2, 1])

    gathered = ResidentImages(wide, "cpu").gather(classes, drawings, None)

    expected = torch.from_numpy(pixels[[1, 0], [2, 1]]).float() / 255
    assert torch.equal(gathered, expected)
