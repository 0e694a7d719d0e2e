"""A worker of a sweep: takes a run that is free, trains and evaluates it, and takes the next.

In one process, so that data set and compiled kernels are there for the next run. Training, resuming
and evaluation are those of single runs; what a worker leaves in ``runs/`` is a run directory like
any other.
"""

import os
import shutil
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from innerloop.core.errors import (
    ConfigError,
    DeviceError,
    DiskError,
    InnerloopError,
    OutOfMemoryError,
    first_line,
    is_lost_device,
    is_out_of_memory,
)
from innerloop.core.files import disk_errors
from innerloop.data import load_dataset
from innerloop.data.images import FewShotDataset
from innerloop.experiments.environment import environment
from innerloop.experiments.evaluation import evaluate_run, save_evaluation
from innerloop.experiments.experiment import Experiment, load_trained, prepare
from innerloop.experiments.machine import device_for, usable_device
from innerloop.experiments.monitor import Stop
from innerloop.experiments.training import train
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import primary_rows
from innerloop.runs.sweeps.claims import Attempt, End, LostError
from innerloop.runs.sweeps.directory import SweepDirectory
from innerloop.runs.sweeps.queue import Queue
from innerloop.settings.run import RunConfig

LONGEST_PAUSE_S = 1.0
"""Between two looks for a run that came free, by a worker that has none."""
LOOKS_IN_LIMIT = 10
"""So often at least within the limit after which a worker counts as dead."""

Say = Callable[[str], None]
ShouldStop = Callable[[], Stop | None]


class _StopError(Exception):
    """Stops an evaluation, which is not asked after every episode."""

    def __init__(self, stop: Stop):
        super().__init__(stop.reason)
        self.stop = stop


class _NotHereError(Exception):
    """This machine lacks what a run needs; another may have it."""


def work(
    sweep: SweepDirectory,
    *,
    data_dir: Path | None = None,
    wait: bool = True,
    should_stop: ShouldStop = lambda: None,
    say: Say = print,
) -> Stop | None:
    """Compute runs of a sweep until none is left, or until told to stop.

    Args:
        sweep: which; its version was looked at before.
        data_dir: where Omniglot's archives are.
        wait: while other workers are at the last runs, wait: one may die, and its run be free.
        should_stop: asked after every outer step, every evaluated episode, and while waiting. The
            run at hand is then saved and released.
        say: told of every attempt's end.

    Returns:
        None when no run is left, else what `should_stop` said.

    Raises:
        DiskError: if something cannot be written; the attempt at hand counts as failed.
        InnerloopError: if this machine lacks the data or the device; the run at hand is released.
    """
    queue = Queue(sweep)
    worker = Worker(sweep, data_dir=data_dir, should_stop=should_stop, say=say)
    pause_s = min(LONGEST_PAUSE_S, sweep.plan.limit_s / LOOKS_IN_LIMIT)
    while True:
        if stop := should_stop():
            return stop
        if attempt := queue.take():
            if stop := worker.make(attempt):
                return stop
        elif queue.others and wait:
            time.sleep(pause_s)
        else:
            # Here and not by those who left it: they were killed, at any moment.
            for path in sweep.left_over():
                shutil.rmtree(path, ignore_errors=True)
            return None


class Worker:
    """Makes attempts at runs, one after the other; its arguments are those of `work`."""

    def __init__(
        self, sweep: SweepDirectory, *, data_dir: Path | None, should_stop: ShouldStop, say: Say
    ):
        self.sweep = sweep
        self.data_dir = data_dir
        self.should_stop = should_stop
        self.say = say
        self._datasets: dict[tuple[object, ...], FewShotDataset] = {}

    def make(self, attempt: Attempt) -> Stop | None:
        """Make an attempt at a run: it is then done, failed, released, or another worker's."""
        started = time.monotonic()

        def end(ended: End, message: str) -> None:
            attempt.end(ended, message, time.monotonic() - started)

        with attempt.renewed():
            try:
                stop = self._computed(attempt)
            except LostError as lost:
                self.say(str(lost))
                return None
            except _NotHereError as reason:
                end("released", str(reason))
                raise (reason.__cause__ or reason) from None
            except Exception as error:
                # What a lost run was trained in is not there any more, which is an error too.
                if attempt.is_lost():
                    self.say(f"{attempt.name} was taken over by another worker.")
                else:
                    self._failed(attempt, error, end)
                return None
            except BaseException:  # a second Ctrl-C: the run goes on from its last checkpoint
                end("released", "Interrupted.")
                raise
            end("released" if stop else "done", stop.reason if stop else "")
        words = stop.reason if stop else f"done in {attempt.claim.seconds:.1f} s."
        self.say(f"{attempt.name}: {words}")
        return stop

    def _failed(self, attempt: Attempt, error: Exception, end: Callable[[End, str], None]) -> None:
        """Keep why an attempt failed; raise again what would make the next one fail too."""
        sentence = _in_words(error)
        self.say(f"{attempt.name}, attempt {attempt.number} failed: {sentence}")
        with suppress(DiskError):  # on a full disk there is no room for that either
            self._log(attempt, "".join(traceback.format_exception(error)))
            end("failed", sentence)
        if isinstance(error, DiskError):
            raise error
        if isinstance(error, DeviceError) or is_lost_device(error):
            raise InnerloopError(
                f"The device cannot be used any more ({first_line(error)}): start another worker."
            ) from error

    def _log(self, attempt: Attempt, text: str) -> None:
        path = self.sweep.log(attempt.name, attempt.number)
        with disk_errors(str(path)), open(path, "a", encoding="utf-8") as file:
            file.write(f"{text}\n")

    def _computed(self, attempt: Attempt) -> Stop | None:
        """Train and evaluate a run, or what is left of it, and put it where done runs are."""

        def say(sentence: str) -> None:
            self._log(attempt, sentence)

        def should_stop() -> Stop | None:
            attempt.refuse_lost()
            return self.should_stop()

        config = self.sweep.config(attempt.name)
        dataset = self._dataset(config, say)
        experiment, run = self._opened(attempt, config, dataset, say)
        if not (run.status.state == "finished" and run.weights_path.is_file()):
            stop = train(experiment, run, resume=True, say=say, should_stop=should_stop)
            if stop:
                return stop
        try:
            self._evaluate(experiment, run, should_stop)
        except _StopError as error:
            return error.stop
        attempt.refuse_lost()
        self._deliver(attempt, run)
        return None

    def _dataset(self, config: RunConfig, say: Say) -> FewShotDataset:
        """The images of a run, loaded once by a worker; and a look whether its device is here.

        Raises:
            _NotHereError: if this machine lacks one of them: no fault of the run.
        """
        data = config.data
        key = (data.name, data.folder, data.image_size, data.fewest_images)
        try:
            usable_device(config.machine.device)
            if key not in self._datasets:
                self._datasets[key] = load_dataset(
                    data.name,
                    size=data.image_size,
                    data_dir=self.data_dir,
                    folder=data.folder,
                    fewest_images=data.fewest_images,
                    say=say,
                )
        except InnerloopError as error:
            raise _NotHereError(str(error)) from error
        return self._datasets[key]

    def _opened(
        self, attempt: Attempt, config: RunConfig, dataset: FewShotDataset, say: Say
    ) -> tuple[Experiment, RunDirectory]:
        """The run of an attempt: that of a former one, or a new one."""
        path = self.sweep.work(attempt.name, attempt.number)
        if _taken_over(attempt, path):
            run = RunDirectory(path)
            place = device_for(run, None, say)
            try:
                return prepare(run.config, dataset=dataset, device=place, say=say), run
            except ConfigError as error:  # what computed it there does not apply here
                raise _NotHereError(str(error)) from error
        experiment = prepare(config, dataset=dataset, say=say)
        experiment.refuse_what_does_not_fit()
        run = RunDirectory.create(experiment.config, environment(experiment), path)
        say(f"{run.path}: {experiment.describe()}")
        return experiment, run

    def _evaluate(self, experiment: Experiment, run: RunDirectory, should_stop: ShouldStop) -> None:
        """Evaluate a finished run on the plan's validation episodes, in its own way."""
        episodes = self.sweep.plan.episodes
        if primary_rows(run, "val", episodes):
            return

        def on_episodes(_: int) -> None:
            if stop := should_stop():
                raise _StopError(stop)

        learner = experiment.build_learner()
        load_trained(learner, run.weights_path)
        steps = experiment.config.own.adaptation_steps
        (evaluation,) = evaluate_run(
            experiment,
            learner,
            part="val",
            episodes=episodes,
            inner_steps=steps,
            batch_norms=learner.batch_norm_modes[:1],
            on_episodes=on_episodes,
        )
        save_evaluation(run, evaluation.row(step=steps))

    def _deliver(self, attempt: Attempt, run: RunDirectory) -> None:
        """Give a run its final place, which one attempt alone can."""
        final = self.sweep.run(attempt.name)
        try:
            os.rename(run.path, final)
        except OSError as error:
            if not final.is_dir():
                with disk_errors(str(final)):
                    raise error
            raise LostError(f"{attempt.name} was finished by another worker.") from error


def _taken_over(attempt: Attempt, path: Path) -> bool:
    """Give a former attempt's run directory the name of this one; whether there was one.

    A worker that was taken for dead and lives writes by the former name, where nothing is any more:
    no byte of it reaches the run.

    Raises:
        LostError: if that worker has finished the run meanwhile.
    """
    sweep = attempt.sweep
    for number in reversed(sweep.work_left(attempt.name)):
        former = sweep.work(attempt.name, number)
        if not (former / "config.json").is_file():
            continue
        try:
            os.rename(former, path)
        except FileNotFoundError:
            continue
        # The claim decides who trains it. These may be held by that worker still.
        for name in ("lock", "lock.lease"):
            (path / name).unlink(missing_ok=True)
        return True
    if sweep.run(attempt.name).is_dir():
        raise LostError(f"{attempt.name} was finished by another worker.")
    return False


def _in_words(error: Exception) -> str:
    if isinstance(error, InnerloopError):
        return str(error)
    if is_out_of_memory(error):
        return str(OutOfMemoryError(f"Out of memory ({first_line(error)})."))
    return f"{type(error).__name__}: {first_line(error)}."
