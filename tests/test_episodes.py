from typing import Any

import numpy as np
import pytest
import torch

from innerloop.core.errors import ConfigError, DataError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import FewShotDataset, LabelledImages
from innerloop.data.minibatches import ImageSampler
from innerloop.data.sampling import EpisodeSampler


def numbered(classes: int = 12, examples: int = 20) -> FewShotDataset:
    """A data set whose every image tells its class (pixel 0) and example (pixel 1)."""
    images = np.zeros((classes, examples, 1, 4, 4), dtype=np.uint8)
    images[..., 0, 0, 0] = np.arange(classes)[:, None]
    images[..., 0, 0, 1] = np.arange(examples)[None, :]
    return FewShotDataset(
        "numbered", images, tuple(f"alphabet/{index:03d}" for index in range(classes))
    )


def sampler(
    dataset: FewShotDataset | None = None, *, classes: int = 12, **changes
) -> EpisodeSampler:
    settings = {
        "ways": 5,
        "shots": 5,
        "queries": 15,
        "seed": 0,
        "stream_name": "episodes/train",
    } | changes
    return EpisodeSampler(dataset or numbered(classes), np.arange(classes), **settings)


def read_back(batch: EpisodeBatch, part: str) -> np.ndarray:
    """(E, n, 2) class and example, read from the pixels of support or query."""
    images = getattr(batch, part).images
    return (images[:, :, 0, 0, :2] * 255).round().long().numpy()


def same(one: EpisodeBatch, other: EpisodeBatch) -> bool:
    return torch.equal(one.support.images, other.support.images) and torch.equal(
        one.query.images, other.query.images
    )


def test_support_and_query_share_no_image_in_ten_thousand_episodes():
    batch_source = sampler(shots=5, queries=10)

    for start in range(0, 10_000, 500):
        batch = batch_source.batch(start, 500)
        drawings = (
            torch.cat([batch.support_drawings, batch.query_drawings], dim=2).sort(dim=2).values
        )
        assert (drawings.diff(dim=2) > 0).all()
        assert (batch.classes.sort(dim=1).values.diff(dim=1) > 0).all()


def test_images_are_those_that_the_bookkeeping_names():
    batch = sampler().batch(0, 20)

    for part, drawings in (("support", batch.support_drawings), ("query", batch.query_drawings)):
        found = read_back(batch, part)
        n = drawings.shape[2]
        expected_classes = batch.classes.repeat_interleave(n, dim=1).numpy()
        assert (found[..., 0] == expected_classes).all()
        assert (found[..., 1] == drawings.flatten(1).numpy()).all()


def test_every_byte_is_its_part_of_255():
    """Ink, 255, is exactly one: the network sees [0, 1], and predictions are scaled the same."""
    images = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(16, 16), (5, 2, 1, 16, 16))
    dataset = FewShotDataset("bytes", images, tuple(f"a/{index}" for index in range(5)))

    batch = sampler(dataset, classes=5, shots=1, queries=1).batch(0, 1)

    expected = (np.arange(256) / 255).astype(np.float32).reshape(16, 16)
    for part in (batch.support, batch.query):
        assert part.images.dtype == torch.float32
        assert np.array_equal(part.images.numpy(), np.broadcast_to(expected, (1, 5, 1, 16, 16)))


def test_labels_follow_the_order_of_the_episodes_classes():
    batch = sampler().batch(0, 3)

    assert batch.support.labels.tolist() == [sorted(list(range(5)) * 5)] * 3
    assert batch.query.labels.tolist() == [sorted(list(range(5)) * 15)] * 3


def test_a_class_gets_every_label():
    """Without a permutation per episode, a head could memorise which class has which label."""
    classes = sampler(classes=5).batch(0, 200).classes

    for label in range(5):
        assert set(classes[:, label].tolist()) == set(range(5))


def test_classes_are_uniform():
    """4,000 episodes of 5 from 12: chi-square of 11 degrees stays under its 99.9 % quantile,
    31.3."""
    counts = torch.bincount(sampler().batch(0, 4_000).classes.flatten(), minlength=12).double()

    expected = 4_000 * 5 / 12
    assert ((counts - expected) ** 2 / expected).sum() < 31.3


@pytest.mark.parametrize("size", [1, 3, 8])
def test_episodes_are_the_same_whatever_the_batch_size(size):
    source, whole = sampler(rotations=True), sampler(rotations=True).batch(0, 8)

    for start in range(0, 8, size):
        assert same(source.batch(start, min(size, 8 - start)), whole[start : start + size])


def test_a_slice_in_the_middle_needs_nothing_before_it():
    assert same(sampler().batch(1_000_003, 2), sampler().batch(1_000_000, 8)[3:5])


def test_seeds_and_streams_differ():
    first = sampler().batch(0, 4)

    assert not same(first, sampler(seed=1).batch(0, 4))
    assert not same(first, sampler(stream_name="episodes/val").batch(0, 4))


def test_shots_do_not_depend_on_how_many_queries_there_are():
    """So that tables over shots or queries compare the same support sets."""
    assert torch.equal(
        sampler(queries=15).batch(0, 4).support.images,
        sampler(queries=2).batch(0, 4).support.images,
    )


def test_a_rotation_turns_support_and_query_of_a_class_alike_and_all_four_occur():
    images = np.zeros((6, 20, 1, 4, 4), dtype=np.uint8)
    images[..., 0, 0] = 255
    dataset = FewShotDataset("corners", images, tuple(f"a/{index}" for index in range(6)))

    batch = sampler(dataset, classes=6, rotations=True).batch(0, 50)

    corners = batch.support.images.view(50, 5, 5, 16).argmax(dim=-1)
    assert (corners == corners[..., :1]).all()
    assert (batch.query.images.view(50, 5, 15, 16).argmax(dim=-1) == corners[..., :1]).all()
    assert set(corners.flatten().tolist()) == {0, 3, 12, 15}


def test_rotations_off_leaves_every_drawing_upright():
    batch, turned = sampler().batch(0, 30), sampler(rotations=True).batch(0, 30)

    assert torch.equal(batch.classes, turned.classes)
    assert not same(batch, turned)
    assert (
        read_back(batch, "support")[..., 0] == batch.classes.repeat_interleave(5, dim=1).numpy()
    ).all()


def test_chunks_cover_the_batch_in_order():
    batch = sampler().batch(0, 5)

    chunks = list(batch.chunks(2))

    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    assert torch.equal(torch.cat([chunk.query.images for chunk in chunks]), batch.query.images)


@pytest.mark.parametrize("name", ["ways", "shots", "queries"])
@pytest.mark.parametrize("count", [0, -1])
def test_counts_below_one_are_refused(name, count):
    with pytest.raises(ConfigError, match=f"{name} must be at least 1: got {count}"):
        sampler(**{name: count})


def in_alphabets(*sizes: int) -> FewShotDataset:
    """Alphabets of so many characters each."""
    names = [f"{group}/{number:02d}" for group, size in enumerate(sizes) for number in range(size)]
    data = numbered(len(names))
    return FewShotDataset("alphabets", data.all_images.reshape(len(names), 20, 1, 4, 4), names)


def test_within_groups_an_episode_is_of_one_alphabet_and_every_class_comes_as_often():
    data = in_alphabets(3, 6, 12)
    of_groups = sampler(data, classes=21, within_groups=True, shots=1, queries=1)
    batch = of_groups.batch(0, 3000)
    names = np.array([name.partition("/")[0] for name in data.class_names])

    groups = names[batch.classes.numpy()]
    assert (groups == groups[:, :1]).all()
    assert {len(set(row)) for row in batch.classes.tolist()} == {5}
    # The first alphabet has fewer than 5 characters.
    counts = np.bincount(batch.classes.flatten().numpy(), minlength=21)
    assert not counts[:3].any()
    assert of_groups.never_drawn == 3
    assert sampler(data, classes=21).never_drawn == 0
    expected = 5 * 3000 / 18
    assert np.abs(counts[3:] - expected).max() < 5 * expected**0.5


def test_within_groups_an_episode_is_the_same_however_it_is_asked_for():
    of_groups = sampler(in_alphabets(6, 12), classes=18, within_groups=True)

    assert same(of_groups.batch(0, 8)[5:6], of_groups.batch(5, 1))


def test_more_ways_than_any_group_has_are_refused():
    sentence = "7-way episodes within a group: the largest has 6 classes. Choose ways <= 6"
    with pytest.raises(ConfigError, match=sentence):
        sampler(in_alphabets(4, 6), classes=10, ways=7, within_groups=True)


def test_within_groups_is_refused_where_there_are_none_or_no_class_may_come_twice():
    images = numbered().all_images.reshape(12, 20, 1, 4, 4)
    flat = FewShotDataset("flat", images, [f"{number:02d}" for number in range(12)])
    with pytest.raises(ConfigError, match="The classes are in no groups"):
        sampler(flat, within_groups=True)
    with pytest.raises(ConfigError, match="not drawn within groups"):
        sampler(in_alphabets(6, 12), classes=18, within_groups=True, disjoint=True)


def test_more_ways_than_classes_are_refused():
    with pytest.raises(
        ConfigError, match=r"Cannot sample 13-way episodes: there are 12 classes.*ways <= 12"
    ):
        sampler(ways=13)


def test_more_drawings_than_there_are_are_refused():
    with pytest.raises(
        ConfigError, match=r"6 shots and 15 queries per class.*has 20 drawings.*<= 20"
    ):
        sampler(shots=6)


def test_a_picture_of_each_class_is_too_few_for_any_episode():
    images = np.zeros((5, 1, 1, 8, 8), np.uint8)
    lone = FewShotDataset("lone", images, tuple("abcde"))

    with pytest.raises(ConfigError, match=r"has 1 drawing of each. Give at least two of each"):
        EpisodeSampler(
            lone, np.arange(5), ways=2, shots=1, queries=1, seed=0, stream_name="episodes/val"
        )


def test_query_batches_that_do_not_divide_the_queries_are_refused():
    with pytest.raises(
        ConfigError, match=r"query_batches=4 must divide the queries per class \(15\)"
    ):
        sampler().batch(0, 1).query_batches(4)


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        ([0, 1, 1, 2, 3, 4], "A class comes more than once among 6"),
        ([-1, 0, 1, 2, 3], "has classes 0 to 11: got -1 to 3"),
        ([0, 1, 2, 3, 12], "has classes 0 to 11: got 0 to 12"),
        ([0.0, 1.0, 2.0, 3.0, 4.0], "at least one index, as class_indices gives them: got float64"),
        ([], "at least one index, as class_indices gives them: got float64 of shape"),
    ],
)
def test_classes_that_are_none_of_the_data_set_or_come_twice_are_refused(classes, sentence):
    dataset = numbered()

    with pytest.raises(ConfigError, match=sentence):
        EpisodeSampler(
            dataset, np.array(classes), ways=2, shots=1, queries=1, seed=0, stream_name="episodes"
        )
    with pytest.raises(ConfigError, match=sentence):
        ImageSampler(dataset, np.array(classes), seed=0, stream_name="images/train")


@pytest.mark.parametrize(("start", "count"), [(-1, 2), (0, 0)])
def test_a_batch_from_before_the_first_episode_or_of_none_is_refused(start, count):
    images = ImageSampler(sampler().dataset, np.arange(3), seed=0, stream_name="images/train")

    for of in (sampler(), images):
        with pytest.raises(ConfigError, match=f"got {count} from number {start} on"):
            of.batch(start, count)


@pytest.mark.parametrize(("start", "count"), [(0.0, 2), (0, True), (None, 1), (0, "2")])
def test_a_batch_is_asked_for_by_whole_numbers(start, count):
    images = ImageSampler(sampler().dataset, np.arange(3), seed=0, stream_name="images/train")

    for of in (sampler(), images):
        with pytest.raises(ConfigError, match="asked for by whole numbers"):
            of.batch(start, count)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"ways": 2.5}, r"ways must be a whole number: got 2\.5"),
        ({"ways": True}, "ways must be a whole number: got True"),
        ({"seed": "0"}, "A seed is a whole number from 0 on: got '0'"),
        ({"seed": -1}, "A seed is a whole number from 0 on: got -1"),
        ({"seed": True}, "A seed is a whole number from 0 on: got True"),
        ({"stream_name": None}, "A stream is named by a text"),
        ({"rotations": "no"}, "rotations is True or False: got 'no'"),
        ({"disjoint": 1}, "disjoint is True or False: got 1"),
        ({"within_groups": "yes"}, "within_groups is True or False: got 'yes'"),
    ],
    ids=str,
)
def test_settings_of_another_kind_are_refused(settings, sentence):
    """Some of them gave other episodes, without a word."""
    with pytest.raises(ConfigError, match=sentence):
        sampler(**settings)
    if settings.keys() & {"seed", "stream_name", "rotations"}:
        with pytest.raises(ConfigError, match=sentence):
            usual = {"seed": 0, "stream_name": "images/train"}
            ImageSampler(numbered(), np.arange(3), **usual | settings)


@pytest.mark.parametrize("nothing", [None, [1], FewShotDataset])
def test_what_is_no_data_set_is_refused(nothing):
    how: dict[str, Any] = {"seed": 0, "stream_name": "images/train"}
    with pytest.raises(ConfigError, match="Samplers draw from a FewShotDataset"):
        ImageSampler(nothing, np.arange(3), **how)
    with pytest.raises(ConfigError, match="Samplers draw from a FewShotDataset"):
        EpisodeSampler(nothing, np.arange(3), ways=2, shots=1, queries=1, **how)


def test_targets_without_an_episode_dimension_are_refused():
    one = LabelledImages(torch.zeros(3), torch.zeros(3))
    with pytest.raises(DataError, match=r"got shape \(3,\). Of one episode E is 1"):
        EpisodeBatch.of_regression(one, one)


@pytest.mark.parametrize("shape", [(10, 1), (1, 10)])
def test_inputs_without_an_episode_dimension_are_refused(shape):
    """Ten examples would be ten episodes of one."""
    wave = LabelledImages(torch.zeros(shape), torch.zeros(shape))

    with pytest.raises(DataError, match=r"Inputs are \(E, examples, ...\): got shape \("):
        EpisodeBatch.of_regression(wave, wave)
    whole = LabelledImages(torch.zeros(1, 10, 1), torch.zeros(1, 10, 1))
    assert len(EpisodeBatch.of_regression(whole, whole)) == 1


def test_targets_of_numpy_are_refused_in_a_sentence():
    wave = LabelledImages(np.zeros((1, 10, 1)), np.zeros((1, 10, 1)))  # type: ignore[arg-type]

    with pytest.raises(DataError, match=r"of type ndarray: give a torch.Tensor"):
        EpisodeBatch.of_regression(wave, wave)


def points(count: int) -> LabelledImages:
    """Of two episodes, all of them different numbers."""
    x = torch.arange(2.0 * count).view(2, count, 1)
    return LabelledImages(x, -x)


def test_an_episode_of_a_regression_is_one_class_of_all_its_examples():
    batch = EpisodeBatch.of_regression(points(3), points(4))

    assert len(batch) == 2 and batch.ways == 1
    of_all = torch.cat([batch.support_drawings, batch.query_drawings], dim=2)
    assert torch.equal(of_all, torch.arange(7).expand(2, 1, 7))
    assert torch.equal(batch[1:].query.labels, points(4).labels[1:])


def test_targets_are_divided_into_mini_batches_that_share_none():
    batch = EpisodeBatch.of_regression(points(3), points(4))

    one, other = batch.query_batches(2)

    assert one.images.shape == (2, 2, 1)
    assert torch.equal(torch.cat([one.labels, other.labels], dim=1), batch.query.labels)


def test_classes_are_no_targets_of_a_regression():
    labels = torch.zeros(2, 3, dtype=torch.int64)

    with pytest.raises(DataError, match=r"Labels are torch\.int64, and targets .* floating"):
        EpisodeBatch.of_regression(LabelledImages(points(3).images, labels), points(4))
