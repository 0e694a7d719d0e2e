"""The outer loop: one step of it, which every training takes, and all of them without a run."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch

from innerloop.core.errors import ConfigError, DataError, NonFiniteError, described
from innerloop.core.files import expanded
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.experiments.identity import Sampler, differing, fingerprint_of, identity_of
from innerloop.experiments.meta_gradient import accumulate_meta_gradient
from innerloop.experiments.state import MovingAverage, restore, tensors_of
from innerloop.fast_weights.adam import Adam
from innerloop.methods.base import Learner
from innerloop.methods.parts import checked
from innerloop.runs.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from innerloop.settings.fields import between
from innerloop.settings.sections import TrainingSettings

USUAL = TrainingSettings()
"""Whose values are the defaults here, too."""


def outer_step(
    learner: Learner,
    optimiser: Adam,
    average: MovingAverage | None,
    training: TrainingSettings,
    step: int,
    meta_gradient: Callable[[], dict[str, float]],
) -> dict[str, float]:
    """Take outer step ``step``, counted from 0.

    Args:
        learner: what is trained.
        optimiser: of its parameters.
        average: of its weights, if they are averaged.
        training: how many steps there are, the outer rate, and where gradients are clipped.
        step: its number.
        meta_gradient: leaves the meta-gradient in ``.grad`` and returns what is recorded.

    Raises:
        NonFiniteError: if loss or gradient is not finite; no weight has moved then.
    """
    factor = learner.begin_outer_step(step, training.meta_steps)
    metrics = meta_gradient()
    # Before the optimiser steps: weights, moments and average would keep the NaN for good.
    refuse_non_finite(metrics, step)
    if training.clip_gradient:
        parameters = list(learner.parameters())  # of an empty generator it would warn
        torch.nn.utils.clip_grad_norm_(parameters, training.clip_gradient)
    optimiser.step(training.outer_lr * factor)
    learner.end_outer_step()
    if average:
        average.update(learner, step + 1)
    return metrics


def refuse_non_finite(metrics: Mapping[str, float], step: int) -> None:
    """Raise `NonFiniteError` if the step after ``step`` steps was none."""
    if not (math.isfinite(metrics["loss"]) and math.isfinite(metrics["gradient_norm"])):
        raise NonFiniteError(
            f"Outer step {step + 1}: the loss is {metrics['loss']} and the gradient's "
            f"norm {metrics['gradient_norm']}. Nothing after step {step} is saved. "
            "Lower --outer-lr, or --inner-lr where the method has it, and train again."
        )


def meta_train(
    learner: Learner,
    sampler: Sampler,
    *,
    meta_steps: int,
    meta_batch_size: int,
    outer_lr: float = USUAL.outer_lr,
    averaging: float = USUAL.averaging,
    clip_gradient: float = USUAL.clip_gradient,
    episodes_per_chunk: int = 0,
    checkpoints: str | Path | None = None,
    checkpoint_every: int = 1000,
    say: Callable[[str], None] = print,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
) -> list[dict[str, float]]:
    """Train a learner on anybody's episodes, as `innerloop train` does, without a run directory.

    Outer step n takes numbers n * ``meta_batch_size`` and following of the sampler. The steps are
    those of the command: Adam on the meta-gradient, and a moving average of the weights, which the
    learner holds at the end.

    Args:
        learner: what is trained, in place.
        sampler: anything with ``batch(start, count)``. Where a number stands for the same episode
            whenever it is asked for, a training that goes on ends with the bits of one that never
            stopped.
        meta_steps: steps of the outer optimiser.
        meta_batch_size: episodes (or images, of a learner that trains on images) in an outer step.
        outer_lr: rate of Adam.
        averaging: decay per outer step of the moving average; 0 is off.
        clip_gradient: largest norm of the outer gradient; 0 is off.
        episodes_per_chunk: how many are computed at once, at most; 0: all of an outer step.
        checkpoints: a folder. Its newest checkpoint, if there is one, is gone on from; the
            settings given here have to be the same, and so have the learner's class, layers and
            public attributes, and the sampler's first batch, unless that changes by itself.
        checkpoint_every: outer steps between checkpoints; the last step has one, too.
        say: told in sentences what is gone on from, and of checkpoints that are damaged and were
            passed over.
        on_step: told after every outer step how many are done, and what was measured.

    Returns:
        For each outer step that was taken: ``loss``, ``gradient_norm`` and what `Learner.meta_loss`
        logs. An accuracy is NaN where labels are targets.

    Raises:
        ConfigError: if a setting is out of its range or not the checkpoint's, or the learner is
            none that trains.
        DataError: if the sampler gives anything but the episodes asked for.
        NonFiniteError: within the step at which loss or gradient stops being finite.
        DiskError: if a checkpoint cannot be written.
    """
    if not isinstance(learner, Learner):
        raise ConfigError(f"What is trained is a learner: got {described(learner)}.")
    settings = TrainingSettings(
        meta_steps=meta_steps,
        outer_lr=outer_lr,
        clip_gradient=clip_gradient,
        averaging=averaging,
        checkpoint_every=checkpoint_every,
    )
    size = checked("meta_batch_size", Annotated[int, between(1, 1_000_000)], meta_batch_size)
    chunk = checked("episodes_per_chunk", Annotated[int, between(0, 1_000_000)], episodes_per_chunk)
    counted = _Checked(sampler)
    optimiser = Adam(learner.parameters())
    average = MovingAverage(learner, averaging) if averaging else None
    folder = None if checkpoints is None else expanded(Path(checkpoints))
    # How often checkpoints are written changes no number.
    deciding = settings.flat() | {"meta_batch_size": size, "checkpoint_every": None}
    if folder:
        deciding |= identity_of(learner) | {"the sampler's first batch": fingerprint_of(counted)}

    def meta_gradient(step: int) -> dict[str, float]:
        batch = counted.batch(step * size, size).to(_device_of(learner))
        return accumulate_meta_gradient(learner, batch, chunk or size)

    begun = _resumed(folder, deciding, learner, optimiser, average, say) if folder else 0
    history = []
    for step in range(begun, meta_steps):
        of_this = partial(meta_gradient, step)
        history.append(outer_step(learner, optimiser, average, settings, step, of_this))
        done = step + 1
        if folder and (done == meta_steps or done % checkpoint_every == 0):
            tensors = tensors_of(learner, optimiser, average)
            save_checkpoint(folder, Checkpoint(done, tensors, {"settings": deciding}))
        on_step(done, history[-1])
    if average:
        learner.load_state_dict(average.weights)
    return history


class _Checked:
    """Anybody's sampler, whose batches are those asked for.

    Args:
        sampler: it.

    Raises:
        ConfigError: if it is none.
    """

    def __init__(self, sampler: Sampler):
        if not callable(getattr(sampler, "batch", None)):
            raise ConfigError(
                "A learner is trained on a sampler, anything with batch(start, count): got "
                f"{described(sampler)}."
            )
        self._sampler = sampler

    def batch(self, start: int, count: int, /) -> EpisodeBatch | LabelledImages:
        """The sampler's.

        Raises:
            DataError: if it is not what was asked for.
        """
        batch = self._sampler.batch(start, count)
        name = type(self._sampler).__name__
        if not isinstance(batch, EpisodeBatch | LabelledImages):
            raise DataError(
                f"{name}.batch gives {type(batch).__name__}: let it return an "
                "innerloop.EpisodeBatch, or innerloop.LabelledImages for a learner of images."
            )
        if len(batch) != count:
            raise DataError(
                f"{name}.batch({start}, {count}) gives {len(batch)} episodes: let it return as "
                f"many as it is asked for, numbers {start} to {start + count - 1}."
            )
        return batch


def _device_of(learner: Learner) -> str:
    weight = next(learner.parameters(), None)
    return "cpu" if weight is None else str(weight.device)


def _resumed(
    folder: Path,
    settings: Mapping[str, Any],
    learner: Learner,
    optimiser: Adam,
    average: MovingAverage | None,
    say: Callable[[str], None],
) -> int:
    """Go back to a folder's newest whole checkpoint; returns how many steps are done."""

    def refuse_changes(state: dict[str, Any]) -> None:
        saved = state.get("settings")
        if not isinstance(saved, dict):
            raise DataError("its state.json lacks the settings.")
        for name, now in settings.items():
            if name in saved and saved[name] != now:
                before, after = differing(saved[name], now)
                raise ConfigError(
                    f"Cannot go on from the checkpoint in {folder}: {name} was {before} and is "
                    f"now {after}. Give the same, or another folder."
                )

    expected = tensors_of(learner, optimiser, average)
    checkpoint, warnings = load_checkpoint(folder, expected, refuse_changes)
    for warning in warnings:
        say(warning)
    if checkpoint is None:
        return 0
    restore(checkpoint.tensors, learner, optimiser, average)
    say(f"Going on after outer step {checkpoint.step} of {settings['meta_steps']}, from {folder}.")
    return checkpoint.step
