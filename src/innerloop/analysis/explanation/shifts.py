"""A ladder of shift: episodes further and further from those of the training."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import FewShotDataset, LabelledImages, resize
from innerloop.data.sampling import EpisodeSampler

SHIFTS = ("unseen alphabets", "one alphabet", "rotated by 90 degrees", "inverted ink", "digits")
"""From the usual validation episodes outwards; digits needs scikit-learn."""


def shifted_episodes(shift: str, sampler: EpisodeSampler, episodes: int) -> Iterator[EpisodeBatch]:
    """The first ``episodes`` episodes of a step of the ladder, one at a time.

    ``unseen alphabets`` are the sampler's own; ``one alphabet`` takes all classes of an episode
    from one alphabet; the next two change the pixels of the sampler's own episodes, support and
    query alike.

    Raises:
        ImportError: for ``digits`` without scikit-learn.
    """
    if shift == "one alphabet":
        samplers = _of_each_alphabet(sampler)
        yield from (samplers[index % len(samplers)].batch(index, 1) for index in range(episodes))
    elif shift == "digits":
        channels, size, _ = sampler.dataset.image_shape
        digits = _like(sampler, digits_dataset(size, channels), None)
        yield from (digits.batch(index, 1) for index in range(episodes))
    else:
        for index in range(episodes):
            yield _changed(sampler.batch(index, 1), CHANGES[shift])


def paired_with_the_first(shift: str) -> bool:
    """Whether a step of the ladder shows the very drawings of ``unseen alphabets``, changed."""
    return shift in CHANGES


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "unseen alphabets": lambda images: images,
    "rotated by 90 degrees": lambda images: torch.rot90(images, 1, dims=(-2, -1)),
    "inverted ink": lambda images: 1 - images,
}


def digits_dataset(size: int, channels: int = 1) -> FewShotDataset:
    """scikit-learn's 8x8 handwritten digits (UCI, Alpaydin and Kaynak, 1998) at ``size`` pixels.

    As many of each as the rarest has, ink bright as in Omniglot, the same in each channel.
    """
    from sklearn.datasets import load_digits

    pixels, labels = (np.asarray(part) for part in load_digits(return_X_y=True))
    grown = np.stack(
        [resize((image * 255 / 16).astype(np.uint8), size) for image in pixels.reshape(-1, 8, 8)]
    )
    count = int(np.bincount(labels).min())
    images = np.stack([grown[labels == digit][:count] for digit in range(10)])
    return FewShotDataset(
        "digits",
        images[:, :, None].repeat(channels, axis=2),
        tuple(f"digits/{digit}" for digit in range(10)),
    )


def _like(
    sampler: EpisodeSampler, dataset: FewShotDataset, classes: np.ndarray | None
) -> EpisodeSampler:
    """A sampler of the same shape and seed from other classes."""
    return EpisodeSampler(
        dataset,
        np.arange(len(dataset.class_names)) if classes is None else classes,
        ways=sampler.ways,
        shots=sampler.shots,
        queries=sampler.queries,
        seed=sampler.seed,
        stream_name=f"{sampler.stream_name}/shifted",
    )


def _of_each_alphabet(sampler: EpisodeSampler) -> list[EpisodeSampler]:
    """One sampler for every alphabet that has enough characters."""
    alphabets: dict[str, list[int]] = {}
    for index in sampler.classes.tolist():
        alphabets.setdefault(sampler.dataset.class_names[index].rpartition("/")[0], []).append(
            index
        )
    samplers = [
        _like(sampler, sampler.dataset, np.array(classes))
        for _, classes in sorted(alphabets.items())
        if len(classes) >= sampler.ways
    ]
    if not samplers:
        raise ConfigError(f"no alphabet has {sampler.ways} characters.")
    return samplers


def _changed(batch: EpisodeBatch, change: Callable[[Tensor], Tensor]) -> EpisodeBatch:
    support, query = (
        LabelledImages(change(part.images), part.labels) for part in (batch.support, batch.query)
    )
    return EpisodeBatch(support, query, batch.classes, batch.support_drawings, batch.query_drawings)
