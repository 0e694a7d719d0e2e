"""What the parts of `gpu.py` share: the machine, trainings of which steps are timed, the clock."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from subprocess import SubprocessError
from typing import Any

import torch

from innerloop.core.errors import InnerloopError
from innerloop.data.images import FewShotDataset
from innerloop.experiments.device_adam import DeviceAdam
from innerloop.experiments.device_steps import DeviceSteps, device_steps
from innerloop.experiments.experiment import Experiment, prepare
from innerloop.experiments.state import MovingAverage
from innerloop.fast_weights.adam import Adam
from innerloop.methods.base import Learner
from innerloop.methods.catalogue import settings_of

Row = dict[str, Any]
"""``what`` was measured, its ``value`` and ``unit``; or ``failed``, why there is none."""
BLOCK = 20
"""Outer steps that are timed together, as many as a training computes before it reads records."""


@dataclass
class Bench:
    """Where and how much is measured.

    Attributes:
        device: of everything.
        dataset: what episodes are of.
        small: whether it is only tried out, by networks of 8 filters and a few small steps.
        until: when the part at hand has to be done, by `time.monotonic`.
        rows: what the part at hand has measured.
    """

    device: str
    dataset: FewShotDataset
    small: bool
    until: float = 0.0
    rows: list[Row] = field(default_factory=list)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a CUDA one."""
        return self.device.startswith("cuda")

    @property
    def filters(self) -> int:
        """Of every network, those of others too."""
        return 8 if self.small else 64

    @property
    def engines(self) -> tuple[str, ...]:
        """What is measured; on a CPU the fused engine is another one, measured by `speed.py`."""
        return ("fused", "reference") if self.on_gpu else ("reference",)

    @property
    def precisions(self) -> dict[str, tuple[str, ...]]:
        """What each engine can compute by."""
        if not self.on_gpu:
            return {"reference": ("float32",)}
        return {"fused": ("float32", "tf32", "bfloat16"), "reference": ("float32", "tf32")}

    def wait(self) -> None:
        """Until the device has done everything."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def seconds(self, function: Callable[[], object]) -> float:
        """How long a call takes, the device's part of it included."""
        self.wait()
        started = time.perf_counter()
        function()
        self.wait()
        return time.perf_counter() - started

    def median_seconds(self, function: Callable[[], object], *, limit_s: float) -> float:
        """The median of at most 30 calls within a time, after one that does not count."""
        until = min(time.monotonic() + limit_s, self.until)
        function()
        times = [self.seconds(function)]
        while time.monotonic() < until and len(times) < 30 and not self.small:
            times.append(self.seconds(function))
        return statistics.median(times)

    def experiment(self, method: str, preset: str | None = None, **changes: Any) -> Experiment:
        """5-way 5-shot, 32 episodes an outer step, on the device, unless changed."""
        config = settings_of(method, preset)
        values: dict[str, Any] = dict(device=self.device, data=self.dataset.name)
        if preset is None:
            # Long, so that schedules stand still while a part of a run is measured.
            values |= dict(meta_batch_size=32, meta_steps=100_000)
        if self.dataset.name == "strokes":
            values |= dict(split="alphabets")
        if self.small:
            values |= dict(filters=self.filters, shots=1, queries=2, meta_batch_size=2, threads=1)
        known = (values | changes).items()
        settings = {name: value for name, value in known if name in config.flat()}
        return prepare(config.replace(**settings), dataset=self.dataset, say=lambda sentence: None)

    def add(self, what: str, measure: Callable[[], Row]) -> None:
        """A row, of what was measured or of why it was not; in time, or not at all."""
        if time.monotonic() >= self.until:
            row: Row = {"failed": "no time was left"}
        else:
            try:
                row = measure()
            except (InnerloopError, RuntimeError, ValueError, OSError, SubprocessError) as error:
                said = str(error).strip().partition("\n")[0]
                row = {"failed": f"{type(error).__name__}: {said[:300]}"}
        self.rows.append({"what": what} | row)
        print(self.rows[-1], flush=True)


class Steps:
    """The outer steps of an experiment, as `innerloop train` takes them, without its records.

    Args:
        experiment: prepared; its settings say by what it is computed.
    """

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        config = experiment.config
        self.learner: Learner = experiment.build_learner()
        self.said: list[str] = []
        self.optimiser: Adam = (adam := DeviceAdam(self.learner.parameters()))
        decay = config.training.averaging
        self.average = MovingAverage(self.learner, decay) if decay else None
        device = config.machine.device
        sampler = experiment.training_sampler()
        self.steps: DeviceSteps = device_steps(
            self.learner, sampler, adam, self.average, config, device, self.said.append
        )
        self.number = 0

    def block(self, count: int = BLOCK) -> list[dict[str, float]]:
        """Take some outer steps and read their records."""
        for _ in range(count):
            self.steps.step(self.number)
            self.number += 1
        return self.steps.read()


def rate(bench: Bench, experiment: Experiment, *, limit_s: float) -> Row:
    """Episodes, or images, a second of whole outer steps: drawing, gradient, Adam, records."""
    steps = Steps(experiment)
    steps.block(3)  # the first records, and libraries set themselves up
    count = 2 if bench.small else BLOCK
    if bench.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    took = bench.median_seconds(lambda: steps.block(count), limit_s=limit_s) / count
    row: Row = {
        "value": experiment.config.own.batch / took,
        "unit": f"{experiment.config.own.trains_on} a second",
        "ms_a_step": 1e3 * took,
        "engine": experiment.engine,
        "at_once": experiment.config.machine.episodes_per_chunk,
    }
    if bench.on_gpu:
        row["peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return row | ({"said": steps.said} if steps.said else {})
