"""What a training goes on from: the averaged weights, and what a checkpoint holds."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innerloop.core.errors import ConfigError, DataError
from innerloop.fast_weights.adam import Adam, fresh_state
from innerloop.methods.base import Learner
from innerloop.methods.catalogue import read_config
from innerloop.settings.run import RunConfig

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What Adam keeps of each weight."""


class MovingAverage:
    """An exponential moving average of a learner's weights (Polyak and Juditsky, 1992).

    w̄_t = d_t w̄_{t−1} + (1 − d_t) w_t with d_t = min(decay, (t − 1) / (t + 9)) after outer step
    t = 1, 2, ..., so that the initial weights are forgotten at once. It takes the noise of a small
    meta-batch out of the weights without a change of the outer learning rate.

    Args:
        learner: whose state is averaged: parameters, and running statistics where it has them.
        decay: d per outer step, in (0, 1).
    """

    def __init__(self, learner: Learner, decay: float):
        self.decay = decay
        self.weights = {name: value.clone() for name, value in state_of(learner).items()}

    @torch.no_grad()
    def update(self, learner: Learner, step: int) -> None:
        """Take in the weights after outer step ``step`` (counted from one)."""
        self.move(learner, self.share(step))

    def share(self, step: int) -> float:
        """1 − d_t: the part that the weights after outer step ``step`` have in the average."""
        return 1 - min(self.decay, (step - 1) / (step + 9))

    @torch.no_grad()
    def move(self, learner: Learner, share: float | Tensor) -> None:
        """Take in the weights with this part, a number or a float64 scalar on their device."""
        for name, value in learner.state_dict().items():
            if value.is_floating_point():
                part = share.to(value.dtype) if isinstance(share, Tensor) else share
                self.weights[name].lerp_(value, part)
            else:  # counts and masks have no mean: the newest
                self.weights[name].copy_(value)

    @contextmanager
    def in_place(self, learner: Learner) -> Iterator[None]:
        """Within the context the learner holds the average; afterwards its own weights again."""
        own = {name: value.clone() for name, value in learner.state_dict().items()}
        learner.load_state_dict(self.weights)
        try:
            yield
        finally:
            learner.load_state_dict(own)


def state_of(learner: Learner) -> dict[str, Tensor]:
    """The learner's state by name.

    Raises:
        ConfigError: if something in it is no tensor, which no file of weights can hold.
    """
    state = learner.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ConfigError(
                f"The state of {type(learner).__name__} holds {name!r}, of type "
                f"{type(value).__name__}, and only tensors are saved: keep it as a buffer."
            )
    return state


def tensors_of(
    learner: Learner, optimiser: Adam, average: MovingAverage | None
) -> dict[str, Tensor]:
    """Everything that a resume needs, by name, in this process's own tensors."""
    tensors = {f"learner.{name}": value for name, value in state_of(learner).items()}
    for name, weight in learner.named_parameters():
        # Adam has none before its first step; a checkpoint has the same tensors at every step.
        moments = optimiser.state.get(weight) or fresh_state(weight)
        tensors |= {f"optimiser.{name}.{key}": value for key, value in moments.items()}
    if average:
        tensors |= {f"average.{name}": value for name, value in average.weights.items()}
    return tensors


def restore(
    tensors: Mapping[str, Tensor],
    learner: Learner,
    optimiser: Adam,
    average: MovingAverage | None,
) -> None:
    """Put back what `tensors_of` gave."""
    learner.load_state_dict({name: tensors[f"learner.{name}"] for name in learner.state_dict()})
    for name, weight in learner.named_parameters():
        moments = {key: tensors[f"optimiser.{name}.{key}"] for key in MOMENTS}
        if moments["step"] > 0:
            # In the weights' own memory layout, as Adam itself makes them.
            optimiser.state[weight] = {
                key: value.clone() if key == "step" else torch.empty_like(weight).copy_(value)
                for key, value in moments.items()
            }
    if average:
        for name, value in average.weights.items():
            value.copy_(tensors[f"average.{name}"])


def refuse_changes(
    state: Mapping[str, Any], path: Path, config: RunConfig, data_fingerprint: str
) -> None:
    """Refuse to go on from a checkpoint with other settings or data than it was written with.

    Args:
        state: of the checkpoint.
        path: of the run.
        config: the settings now.
        data_fingerprint: of the data set now.

    Raises:
        ConfigError: for a setting, or the data, that changed.
        DataError: if the state is damaged.
    """
    elapsed = state.get("elapsed_s")
    if not (isinstance(state.get("config"), str) and isinstance(elapsed, float | int)):
        raise DataError("its state.json lacks the configuration or the elapsed seconds.")
    saved = read_config(state["config"], source="the checkpoint's configuration").flat()
    for name, now in config.flat().items():
        before = saved.get(name)
        if before != now:
            raise ConfigError(
                f"Cannot resume {path}: setting {name!r} was {before!r} and is now {now!r}. "
                "Restore config.json, or start a new run."
            )
    refuse_other_data(state.get("data_fingerprint"), path, data_fingerprint)


def refuse_other_data(recorded: Any, path: Path, data_fingerprint: str) -> None:
    """Raise `ConfigError` if the data set is not the one that was recorded."""
    if recorded != data_fingerprint:
        raise ConfigError(
            f"Cannot resume {path}: data_fingerprint differs, so this is another data set than "
            "the run was trained on."
        )
