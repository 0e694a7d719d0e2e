"""The outer loop of every learner: sample, meta_loss, step, log, validate, checkpoint, resume."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from innerloop.core.errors import ConfigError, DataError, NonFiniteError
from innerloop.core.seeding import stream
from innerloop.data.episodes import EpisodeBatch, EpisodeSampler
from innerloop.data.images import LabelledImages
from innerloop.data.minibatches import ImageSampler
from innerloop.methods.base import Learner
from innerloop.methods.catalogue import find_learner, read_config
from innerloop.networks.build import build_network
from innerloop.runs.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from innerloop.runs.directory import RunDirectory
from innerloop.runs.weights import save_weights
from innerloop.settings.run import RunConfig


def build_learner(config: RunConfig, channels: int, *, training_labels: int = 0) -> Learner:
    """The method of a run around its network, with initial weights from the run's seed.

    Args:
        config: the settings.
        channels: channels of the data set's images.
        training_labels: how many classes a method that trains on images tells apart.
    """
    method = find_learner(config.method)
    # PyTorch's initialisers take their numbers from the global generator: seeded here, restored
    # after.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(config.training.seed, "initial weights").integers(2**63)))
        outputs = config.episode.ways if config.own.trains_on == "episodes" else training_labels
        model = build_network(
            config.network, outputs, channels=channels, image_size=config.data.image_size
        )
        return method.from_config(config, model).to(config.machine.device)


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
        self.weights = {name: value.clone() for name, value in learner.state_dict().items()}

    @torch.no_grad()
    def update(self, learner: Learner, step: int) -> None:
        """Take in the weights after outer step ``step`` (counted from one)."""
        decay = min(self.decay, (step - 1) / (step + 9))
        for name, value in learner.state_dict().items():
            self.weights[name].lerp_(value, 1 - decay)

    @contextmanager
    def in_place(self, learner: Learner) -> Iterator[None]:
        """Within the context the learner holds the average; afterwards its own weights again."""
        own = {name: value.clone() for name, value in learner.state_dict().items()}
        learner.load_state_dict(self.weights)
        try:
            yield
        finally:
            learner.load_state_dict(own)


@dataclass(frozen=True)
class Stop:
    """Why training ended before its last step: ``state`` (interrupted, paused) and exit code."""

    state: str
    exit_code: int
    reason: str


class Training:
    """A run in memory: learner, optimiser, average and position, and how they reach the disk.

    Args:
        learner: what is trained.
        sampler: the stream of what the learner trains on.
        run: where to write.
        data_fingerprint: of the data set; a resume with another is refused.
    """

    def __init__(
        self,
        learner: Learner,
        sampler: EpisodeSampler | ImageSampler,
        run: RunDirectory,
        data_fingerprint: str,
    ):
        self.learner, self.sampler, self.run = learner, sampler, run
        self.config, self.data_fingerprint = run.config, data_fingerprint
        self.optimiser = torch.optim.Adam(learner.parameters(), lr=self.config.training.outer_lr)
        self.average = (
            MovingAverage(learner, self.config.training.averaging)
            if self.config.training.averaging
            else None
        )
        self.step, self.elapsed_s = 0, 0.0

    def train(
        self,
        validate: Callable[[Learner], dict[str, Any]],
        *,
        should_stop: Callable[[], Stop | None] = lambda: None,
        on_step: Callable[[int, dict[str, Any]], None] = lambda step, record: None,
    ) -> Stop | None:
        """Go on until the last step, or until told to stop.

        Every outer step adds a ``train`` record to the metrics; every ``validation_every`` steps,
        before the first and after the last, a ``validation`` record follows. Checkpoints are
        written at their interval and at a stop; the final weights after the last step.

        Args:
            validate: measures the (averaged) learner; what it returns is recorded.
            should_stop: asked after every step.
            on_step: told of every record.

        Returns:
            None when finished, else what `should_stop` said.

        Raises:
            NonFiniteError: within the step at which loss or gradient stops being finite.
            DiskError: if something cannot be written.
        """
        config, started = self.config, time.monotonic() - self.elapsed_s
        self.run.set_status("running", self.step)
        try:
            if self.step == 0:
                self._record("validation", validate, on_step)
            while self.step < config.training.meta_steps:
                metrics = self._outer_step()
                self.elapsed_s = time.monotonic() - started
                self._record("train", lambda _, metrics=metrics: metrics, on_step)
                last = self.step == config.training.meta_steps
                if last or self.step % config.training.validation_every == 0:
                    self._record("validation", validate, on_step)
                    self.elapsed_s = time.monotonic() - started
                stop = None if last else should_stop()
                if stop or last or self.step % config.training.checkpoint_every == 0:
                    self.save()
                if stop:
                    self.run.set_status(stop.state, self.step, stop.reason)
                    return stop
        except NonFiniteError as error:
            self.run.set_status("failed", self.step, str(error))
            raise
        self._save_final()
        return None

    def _outer_step(self) -> dict[str, float]:
        config = self.config
        factor = self.learner.begin_outer_step(self.step, config.training.meta_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = config.training.outer_lr * factor
        size = config.own.batch
        batch = self.sampler.batch(self.step * size, size).to(config.machine.device)
        metrics = accumulate_meta_gradient(self.learner, batch, config.machine.episodes_per_chunk)
        if not (math.isfinite(metrics["loss"]) and math.isfinite(metrics["gradient_norm"])):
            raise NonFiniteError(
                f"Outer step {self.step + 1}: the loss is {metrics['loss']} and the gradient's "
                f"norm {metrics['gradient_norm']}. Nothing after step {self.step} is saved. "
                "Lower --inner-lr or --outer-lr and train again."
            )
        if config.training.clip_gradient:
            torch.nn.utils.clip_grad_norm_(self.learner.parameters(), config.training.clip_gradient)
        self.optimiser.step()
        self.learner.end_outer_step()
        self.step += 1
        if self.average:
            self.average.update(self.learner, self.step)
        return metrics

    def _record(
        self,
        kind: str,
        measure: Callable[[Learner], dict[str, Any]],
        on_step: Callable[[int, dict[str, Any]], None],
    ) -> None:
        averaged = kind == "validation" and self.average and self.step
        with self.average.in_place(self.learner) if averaged and self.average else nullcontext():
            values = measure(self.learner)
            if kind == "validation":
                values = values | {
                    "image_passes": self.config.own.image_passes(self.config, self.step)
                }
                if diagnostics := self.learner.diagnostics():
                    values = values | {"diagnostics": diagnostics}
        record = (
            {"step": self.step, "kind": kind} | values | {"elapsed_s": round(self.elapsed_s, 3)}
        )
        self.run.append_metrics(record)
        on_step(self.step, record)

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that a resume needs, by name, in this process's own tensors."""
        tensors = {f"learner.{name}": value for name, value in self.learner.state_dict().items()}
        for name, weight in self.learner.named_parameters():
            moments = self.optimiser.state.get(weight) or {
                "step": torch.zeros(()),
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight),
            }
            tensors |= {f"optimiser.{name}.{key}": value for key, value in moments.items()}
        if self.average:
            tensors |= {f"average.{name}": value for name, value in self.average.weights.items()}
        return tensors

    def save(self) -> None:
        """Write a checkpoint of this moment."""
        state = {
            "elapsed_s": self.elapsed_s,
            "config": self.config.to_json(),
            "data_fingerprint": self.data_fingerprint,
        }
        save_checkpoint(self.run, Checkpoint(self.step, self._tensors(), state))
        self.run.set_status("running", self.step)

    def resume(self) -> list[str]:
        """Go back to the newest whole checkpoint, or to the start where there is none.

        Returns:
            A sentence for each checkpoint that is damaged and was passed over.

        Raises:
            ConfigError: if the configuration or the data set is not the checkpoint's.
        """
        checkpoint, warnings = load_checkpoint(self.run, self._tensors(), self._refuse_changes)
        if checkpoint:
            self._restore(checkpoint)
        else:
            recorded = self.run.environment.data_fingerprint
            self._refuse_other_data(self.data_fingerprint if recorded is None else recorded)
        self.run.cut_metrics(self.step if checkpoint else -1)
        return warnings

    def _refuse_changes(self, state: dict[str, Any]) -> None:
        if not (
            isinstance(state.get("config"), str) and isinstance(state.get("elapsed_s"), float | int)
        ):
            raise DataError("its state.json lacks the configuration or the elapsed seconds.")
        saved = read_config(state["config"], source="the checkpoint's configuration").flat()
        for name, now in self.config.flat().items():
            before = saved.get(name)
            if before != now:
                raise ConfigError(
                    f"Cannot resume {self.run.path}: setting {name!r} was {before!r} and is now "
                    f"{now!r}. Restore config.json, or start a new run."
                )
        self._refuse_other_data(state.get("data_fingerprint"))

    def _refuse_other_data(self, fingerprint: Any) -> None:
        if fingerprint != self.data_fingerprint:
            raise ConfigError(
                f"Cannot resume {self.run.path}: data_fingerprint differs, so this is another "
                "data set than the run was trained on."
            )

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.step, self.elapsed_s = checkpoint.step, float(checkpoint.state["elapsed_s"])
        tensors = checkpoint.tensors
        self.learner.load_state_dict(
            {name: tensors[f"learner.{name}"] for name in self.learner.state_dict()}
        )
        for name, weight in self.learner.named_parameters():
            moments = {
                key: tensors[f"optimiser.{name}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq")
            }
            if moments["step"] > 0:
                # In the weights' own memory layout, as Adam itself makes them.
                self.optimiser.state[weight] = {
                    key: torch.empty_like(weight).copy_(value) if value.shape else value.clone()
                    for key, value in moments.items()
                }
        for name, value in self.average.weights.items() if self.average else ():
            value.copy_(tensors[f"average.{name}"])

    def _save_final(self) -> None:
        if self.average:
            self.learner.load_state_dict(self.average.weights)
        metadata = {"method": self.config.method, "config": self.run.config_text}
        save_weights(self.run.weights_path, self.learner.state_dict(), metadata)


def accumulate_meta_gradient(
    learner: Learner, batch: EpisodeBatch | LabelledImages, episodes_per_chunk: int
) -> dict[str, float]:
    """Leave a meta-batch's meta-gradient in ``.grad``, by chunks, so that memory does not grow.

    Args:
        learner: its `Learner.meta_loss` is a mean over episodes.
        batch: the meta-batch, E episodes; or a mini-batch of images, which is never divided, since
            batch norm makes its images depend on one another.
        episodes_per_chunk: how many are computed at once; the gradient is the same to rounding.

    Returns:
        ``loss``, what `Learner.meta_loss` logs, and ``gradient_norm``, over the whole meta-batch.
    """
    learner.zero_grad()
    totals: dict[str, float] = {}
    for chunk in batch.chunks(episodes_per_chunk) if isinstance(batch, EpisodeBatch) else [batch]:
        share = len(chunk) / len(batch)
        loss, logged = learner.meta_loss(chunk)
        (loss * share).backward()
        for name, value in ({"loss": loss.detach()} | logged).items():
            totals[name] = totals.get(name, 0.0) + share * value.item()
    norms = [weight.grad.norm() for weight in learner.parameters() if weight.grad is not None]
    return totals | {"gradient_norm": torch.stack(norms).norm().item() if norms else 0.0}
