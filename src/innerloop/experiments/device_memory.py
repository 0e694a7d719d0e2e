"""How many episodes a device's memory holds at once, measured before the first step."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import torch

from innerloop.core.errors import is_out_of_memory
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.methods.base import Learner
from innerloop.settings.run import RunConfig

PROBED = (2, 4)
"""Episodes of which the memory is measured; one alone would be computed in another way."""
SHARE = 0.8
"""Part of the free memory that is planned with; a recorded step and gaps take of the rest."""


def episodes_at_once(peaks: Mapping[int, int], free: int, most: int) -> int:
    """How many episodes fit, if memory grows by the same number of bytes with each.

    Args:
        peaks: bytes taken by two numbers of episodes.
        free: bytes that are free.
        most: episodes of an outer step.

    Returns:
        From 1 to ``most``, so that the chunks of an outer step are about equally large.
    """
    (fewer, low), (more, high) = sorted(peaks.items())
    each = max((high - low) / (more - fewer), 1)
    fit = int((SHARE * free - (low - fewer * each)) / each)
    chunks = -(-most // min(max(fit, 1), most))
    return -(-most // chunks)


def measured_at_once(config: RunConfig, learner: Learner, image_shape: tuple[int, int, int]) -> int:
    """How many episodes of a run its GPU holds at once.

    Args:
        config: of the run, which trains on episodes on a CUDA device.
        learner: made for this; its gradients are lost.
        image_shape: (channels, height, width).
    """
    device = torch.device(config.machine.device)
    if config.own.batch <= PROBED[-1]:
        return config.own.batch
    try:
        peaks = {count: _largest_peak(config, learner, image_shape, count) for count in PROBED}
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return 1
    learner.zero_grad()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return episodes_at_once(peaks, free, config.own.batch)


def _largest_peak(
    config: RunConfig, learner: Learner, image_shape: tuple[int, int, int], count: int
) -> int:
    """Bytes that so many episodes take at most, at the beginning or the end of the run."""
    device = torch.device(config.machine.device)
    # Between them are the schedules: first order or second, the loss at one step or at all.
    places = (0, config.training.meta_steps - 1)
    return max(
        _peak(partial(_gradient, config, learner, image_shape, count, step), device)
        for step in places
    )


def _peak(compute: Callable[[], None], device: torch.device) -> int:
    """Bytes that a computation takes at most, beyond what was taken before."""
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    compute()
    return torch.cuda.max_memory_allocated(device) - before


def _gradient(
    config: RunConfig,
    learner: Learner,
    image_shape: tuple[int, int, int],
    count: int,
    step: int,
) -> None:
    """The meta-gradient of so many episodes of noise, at a place of the run."""
    learner.zero_grad()
    learner.begin_outer_step(step, config.training.meta_steps)
    loss, _ = learner.meta_loss(_noise(config, image_shape, count))
    if loss.requires_grad:
        loss.backward()


def _noise(config: RunConfig, image_shape: tuple[int, int, int], count: int) -> EpisodeBatch:
    """Training episodes of a run's shape, on its device."""
    shape = dataclasses.replace(config.episode, **config.own.training_shape(config))
    device = config.machine.device
    draw = torch.Generator().manual_seed(0)

    def labelled(examples: int) -> LabelledImages:
        images = torch.rand(count, shape.ways * examples, *image_shape, generator=draw)
        labels = torch.arange(shape.ways).repeat_interleave(examples).expand(count, -1)
        return LabelledImages(images, labels)

    return EpisodeBatch(
        labelled(shape.shots),
        labelled(shape.queries),
        torch.arange(shape.ways).expand(count, -1),
        torch.arange(shape.shots).expand(count, shape.ways, -1),
        torch.arange(shape.queries).expand(count, shape.ways, -1),
    ).to(device)
