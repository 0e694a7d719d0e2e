"""The outer loop of every learner: sample, meta_loss, step, log, validate, checkpoint, resume."""

import copy
import io
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from innerloop.core.errors import (
    ConfigError,
    DeviceError,
    NonFiniteError,
    OutOfMemoryError,
    first_line,
    is_lost_device,
    is_out_of_memory,
)
from innerloop.core.files import write_atomic
from innerloop.core.stability import DIVERGED, diverged
from innerloop.data.minibatches import ImageSampler
from innerloop.data.sampling import EpisodeSampler
from innerloop.experiments import ranks
from innerloop.experiments.crew import Lead, dismissing, follow
from innerloop.experiments.device_adam import DeviceAdam
from innerloop.experiments.device_steps import READ_EVERY, DeviceSteps, device_steps
from innerloop.experiments.evaluation import evaluate
from innerloop.experiments.experiment import Experiment, refuse_other_classes
from innerloop.experiments.meta_gradient import accumulate_meta_gradient
from innerloop.experiments.monitor import Stop
from innerloop.experiments.outer_loop import outer_step, refuse_non_finite
from innerloop.experiments.state import (
    MovingAverage,
    refuse_changes,
    refuse_other_data,
    restore,
    state_of,
    tensors_of,
)
from innerloop.fast_weights.adam import Adam
from innerloop.methods.base import Learner
from innerloop.networks.usual import usual_torch
from innerloop.runs.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from innerloop.runs.directory import RunDirectory
from innerloop.runs.weights import save_weights

Validate: TypeAlias = Callable[[Learner], dict[str, Any]]
"""Measures a learner; what it returns is recorded."""
OnStep: TypeAlias = Callable[[int, dict[str, Any]], None]
"""Told of every record, with its outer step."""


class Training:
    """A run in memory: learner, optimiser, average and position, and how they reach the disk.

    Args:
        learner: what is trained.
        sampler: the stream of what the learner trains on.
        run: where to write.
        data_fingerprint: of the data set; a resume with another is refused.
        device: where the learner is, if not where the run's settings say.
        lead: of the other processes, if the run has several.
        say: told in sentences what a user should know of the steps.
    """

    def __init__(
        self,
        learner: Learner,
        sampler: EpisodeSampler | ImageSampler,
        run: RunDirectory,
        data_fingerprint: str,
        device: str | None = None,
        lead: Lead | None = None,
        say: Callable[[str], None] = print,
    ):
        self.learner, self.sampler = learner, sampler
        self.lead = lead
        self.run = run
        self.config = run.config
        self.device = device or run.config.machine.device
        self.data_fingerprint = data_fingerprint
        state_of(learner)  # refuses what cannot be saved
        self.optimiser = Adam(learner.parameters())
        decay = self.config.training.averaging
        self.average = MovingAverage(learner, decay) if decay else None
        self.device_steps: DeviceSteps | None = None
        # Of several processes each has its slice, and the first waits for all of them. Warps are
        # made on the CPU, so that every device has the same.
        on_cpu = lead or self.config.data.warps
        if self.device.startswith("cuda") and not on_cpu:
            self.optimiser = adam = DeviceAdam(learner.parameters())
            self.device_steps = device_steps(
                learner, sampler, adam, self.average, self.config, self.device, say
            )
        self.step = 0
        self.elapsed_s = 0.0

    def train(
        self,
        validate: Validate,
        *,
        should_stop: Callable[[], Stop | None] = lambda: None,
        on_step: OnStep = lambda step, record: None,
    ) -> Stop | None:
        """Go on until the last step, or until told to stop.

        Every outer step adds a ``train`` record to the metrics; every ``validation_every`` steps
        and after the last, a ``validation`` record follows. That of the initial weights, of step 0,
        follows the first step's. Checkpoints are written at their interval and at a stop; the final
        weights after the last step.

        Args:
            validate: measures the (averaged) learner; what it returns is recorded.
            should_stop: asked after every step.
            on_step: told of every record.

        Returns:
            None when finished, else what `should_stop` said.

        Raises:
            NonFiniteError: within the step at which loss or gradient stops being finite.
            OutOfMemoryError: if memory is used up; the run can be resumed.
            DiskError: if something cannot be written.
        """
        config = self.config
        # As if begun earlier, so that a resumed run's seconds go on where they were.
        started = time.monotonic() - self.elapsed_s
        self.run.set_status("running", self.step)
        try:
            # Measured once the first step shows that training goes: it takes longer than the step.
            untrained = copy.deepcopy(self.learner) if self.step == 0 else None
            while self.step < config.training.meta_steps:
                if self.device_steps:
                    self._step_on_device(self.device_steps, started, on_step)
                else:
                    metrics = self._outer_step()
                    self.elapsed_s = time.monotonic() - started
                    self._record("train", metrics, on_step)
                if untrained is not None:
                    self._record_untrained(untrained, validate, on_step)
                    untrained = None
                last = self.step == config.training.meta_steps
                if last or self.step % config.training.validation_every == 0:
                    self._record_validation(validate, on_step)
                    self.elapsed_s = time.monotonic() - started
                stop = None if last else should_stop()
                if stop and self.device_steps:
                    self._read_back(self.device_steps, started, on_step)
                if stop or last or self.step % config.training.checkpoint_every == 0:
                    self.save()
                if stop:
                    self.run.set_status(stop.state, self.step, stop.reason)
                    return stop
        except NonFiniteError as error:
            self.run.set_status("failed", self.step, str(error))
            raise
        except (MemoryError, RuntimeError, ConfigError) as error:
            if is_lost_device(error):
                raise DeviceError(
                    f"Device {self.device!r} failed at outer step {self.step} "
                    f"({first_line(error)}). Once it answers again, go on with: innerloop resume "
                    f"{self.run.path}."
                ) from error
            if not is_out_of_memory(error):
                raise
            # Not as failed: with more memory the run goes on from its last checkpoint.
            raise OutOfMemoryError(
                f"Out of memory after outer step {self.step} ({first_line(error)}). Close other "
                f"programs, then go on with: innerloop resume {self.run.path}. Or train anew with "
                "--episodes-per-chunk 1, or fewer --threads."
            ) from error
        self._save_final()
        return None

    def _outer_step(self) -> dict[str, float]:
        metrics = outer_step(
            self.learner,
            self.optimiser,
            self.average,
            self.config.training,
            self.step,
            self._meta_gradient,
        )
        self.step += 1
        return metrics

    def _meta_gradient(self) -> dict[str, float]:
        if self.lead:
            return self.lead.outer_step(self.step)
        size = self.config.own.batch
        batch = self.sampler.batch(self.step * size, size).to(self.device)
        return accumulate_meta_gradient(self.learner, batch, self.config.machine.episodes_per_chunk)

    def _step_on_device(self, steps: DeviceSteps, started: float, on_step: OnStep) -> None:
        """Take an outer step; read the records where something else comes next."""
        steps.step(self.step)
        self.step += 1
        training = self.config.training
        every = (READ_EVERY, training.validation_every, training.checkpoint_every)
        last = self.step == training.meta_steps
        if self.step == 1 or last or any(self.step % number == 0 for number in every):
            self._read_back(steps, started, on_step)

    def _read_back(self, steps: DeviceSteps, started: float, on_step: OnStep) -> None:
        """Record the steps that are computed by now; nothing is saved before that.

        Their seconds are spread evenly: when each was done is not known.
        """
        rows = steps.read()
        before, now = self.elapsed_s, time.monotonic() - started
        self.step -= len(rows)
        for number, metrics in enumerate(rows, start=1):
            refuse_non_finite(metrics, self.step)
            self.step += 1
            self.elapsed_s = before + (now - before) * number / len(rows)
            self._record("train", metrics, on_step)

    def _record_validation(self, validate: Validate, on_step: OnStep) -> None:
        with self._averaged():
            values = self._validated(self.learner, validate, self.step)
        self._record("validation", values, on_step)

    def _record_untrained(self, learner: Learner, validate: Validate, on_step: OnStep) -> None:
        """Record the initial weights' validation as what it is: of step 0, after 0 seconds."""
        record = {"step": 0, "kind": "validation"} | self._validated(learner, validate, 0)
        record |= {"elapsed_s": 0.0}
        self.run.append_metrics(record)
        on_step(0, record)

    def _validated(self, learner: Learner, validate: Validate, step: int) -> dict[str, Any]:
        values = validate(learner)
        values |= {"image_passes": self.config.own.image_passes(self.config, step)}
        if diagnostics := learner.diagnostics():
            values |= {"diagnostics": diagnostics}
        return values

    def _averaged(self) -> AbstractContextManager[None]:
        """Within the context the learner holds the average, if there is one yet."""
        if self.average and self.step:
            return self.average.in_place(self.learner)
        return nullcontext()

    def _record(self, kind: str, values: dict[str, Any], on_step: OnStep) -> None:
        record = {"step": self.step, "kind": kind} | values
        record |= {"elapsed_s": round(self.elapsed_s, 3)}
        self.run.append_metrics(record)
        on_step(self.step, record)

    def save(self) -> None:
        """Write a checkpoint of this moment."""
        state = {
            "elapsed_s": self.elapsed_s,
            "config": self.config.to_json(),
            "data_fingerprint": self.data_fingerprint,
            "processes": ranks.size(),
        }
        save_checkpoint(self.run.path, Checkpoint(self.step, self._tensors(), state))
        self.run.set_status("running", self.step)

    def _tensors(self) -> dict[str, Tensor]:
        return tensors_of(self.learner, self.optimiser, self.average)

    def resume(self) -> list[str]:
        """Go back to the newest whole checkpoint, or to the start where there is none.

        Returns:
            A sentence for each checkpoint that is damaged and was passed over, and one where other
            processes trained until now.

        Raises:
            ConfigError: if the configuration or the data set is not the checkpoint's.
        """
        checkpoint, warnings = load_checkpoint(self.run.path, self._tensors(), self._refuse_changes)
        if checkpoint:
            self.step = checkpoint.step
            self.elapsed_s = float(checkpoint.state["elapsed_s"])
            restore(checkpoint.tensors, self.learner, self.optimiser, self.average)
            before = checkpoint.state.get("processes", 1)
            if before != ranks.size():
                warnings.append(
                    f"Until step {self.step} it was trained by {before} "
                    f"process{'es' * (before != 1)}, from here on by {ranks.size()}"
                    f"{': the bits are the same' if self.device == 'cpu' else ''}."
                )
        else:
            recorded = self.run.environment.data_fingerprint
            if recorded is not None:
                refuse_other_data(recorded, self.run.path, self.data_fingerprint)
        # Without a checkpoint all goes, the validation before the first step too: it comes again.
        self.run.cut_metrics(self.step if checkpoint else -1)
        return warnings

    def _refuse_changes(self, state: dict[str, Any]) -> None:
        refuse_changes(state, self.run.path, self.config, self.data_fingerprint)

    def _save_final(self) -> None:
        if self.average:
            # Of the last step: a choice by validation would flatter its accuracy.
            self.learner.load_state_dict(self.average.weights)
        metadata = {"method": self.config.method, "config": self.run.config_text}
        save_weights(self.run.weights_path, self.learner.state_dict(), metadata)


def validator(experiment: Experiment) -> Validate:
    """The validation of a training: its fixed episodes, and what is recorded of them."""
    sampler = experiment.evaluation_sampler("val")
    config = experiment.config

    def validate(learner: Learner) -> dict[str, Any]:
        (evaluation,) = evaluate(
            learner,
            sampler,
            episodes=config.training.validation_episodes,
            steps=config.own.adaptation_steps,
            batch_norms=learner.batch_norm_modes[:1],
            split=experiment.split.name,
            part="val",
            origin=experiment.origin(),
            device=config.machine.device,
            episodes_per_chunk=config.machine.episodes_per_chunk,
        )
        record = evaluation.row(step=config.own.adaptation_steps).to_json()
        # The same episodes at every validation: their mean and interval are enough.
        del record["query_accuracy_per_episode"], record["episode_classes"]
        return record

    return validate


@usual_torch()
def train(
    experiment: Experiment,
    run: RunDirectory | None,
    *,
    resume: bool = False,
    say: Callable[[str], None] = print,
    **hooks: Any,
) -> Stop | None:
    """Train, or go on with, a run; `Training.train` takes the hooks and says what comes back.

    Of several processes each calls this; all but the first compute what it asks for, and return
    None.

    Args:
        experiment: that of the run.
        run: where to write; for all but the first it is nothing.
        resume: whether to go on from the last checkpoint.
        say: told in sentences what a user should know.
        **hooks: see `Training.train`.
    """
    validate = validator(experiment)
    if not ranks.first():
        return follow(experiment, validate)
    if run is None:
        raise ConfigError("A training needs a run directory.")
    learner, sampler = experiment.build_learner(), experiment.training_sampler()
    lead = Lead(experiment, learner, sampler) if ranks.size() > 1 else None
    training = Training(
        learner,
        sampler,
        run,
        experiment.dataset.fingerprint,
        experiment.config.machine.device,
        lead,
        say,
    )
    with run.locked(), dismissing(lead):
        if resume:
            refuse_other_classes(run, experiment)
            for warning in training.resume():
                say(warning)
        stop = training.train(lead.validating(validate) if lead else validate, **hooks)
        if stop is None:
            save_episode(experiment, run, training.learner)
            # Only now: a run that is killed before this has something left for `resume` to do.
            run.set_status("finished", training.step, divergence(run))
    return stop


def divergence(run: RunDirectory) -> str:
    """A sentence if the run's validation accuracy fell and did not come back; else nothing."""
    records = run.validations()
    curve = [record.query_accuracy for record in records]
    halves = [record.query_accuracy_ci95 for record in records]
    return DIVERGED if diverged([record.step for record in records], curve, halves) else ""


def save_episode(experiment: Experiment, run: RunDirectory, learner: Learner) -> None:
    """Write the first validation episode with predictions to ``episode.npz``, for the figure."""
    batch = experiment.evaluation_sampler("val").batch(0, 1)
    moved = batch.to(experiment.config.machine.device)
    adaptation = learner.adapt(moved.support, steps=experiment.config.own.adaptation_steps)
    with torch.no_grad():
        logits = learner.predict(adaptation, moved.query.images)
    pixels = [
        (images[0] * 255).round().byte().numpy()
        for images in (batch.support.images, batch.query.images)
    ]
    # In memory first: numpy would write the file piece by piece, and a kill leave half of it.
    content = io.BytesIO()
    np.savez_compressed(
        content,
        support=pixels[0],
        query=pixels[1],
        labels=batch.query.labels[0].numpy(),
        predictions=logits[0].argmax(dim=-1).cpu().numpy(),
        class_names=np.array(
            [experiment.dataset.class_names[index] for index in batch.classes[0].tolist()]
        ),
    )
    write_atomic(run.path / "episode.npz", content.getvalue())
