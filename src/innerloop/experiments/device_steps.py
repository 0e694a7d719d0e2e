"""Outer steps on a GPU: nothing of a step waits for the device, and its record is read later."""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from innerloop.core.errors import first_line, is_out_of_memory
from innerloop.data.minibatches import ImageSampler
from innerloop.data.sampling import EpisodeSampler
from innerloop.experiments.device_adam import DeviceAdam
from innerloop.experiments.device_batches import OnDevice, on_device
from innerloop.experiments.meta_gradient import refuse_constant
from innerloop.experiments.recording import Record, Recorder, cuda_graph
from innerloop.experiments.state import MovingAverage
from innerloop.methods.base import Learner
from innerloop.settings.run import RunConfig

READ_EVERY = 20
"""Outer steps after which the records are read at the latest: reading waits for the device."""


class DeviceSteps:
    """The outer steps of a training whose learner is on a device.

    While the device computes a step, the CPU draws the next one's episodes. A step takes its
    indices and the numbers that depend on its place (Adam's, the average's) from tensors of fixed
    places, so that one recording serves all steps of one signature.

    If memory does not suffice for a step, its chunks are halved, once.

    Args:
        learner: what is trained.
        source: what it trains on.
        optimiser: of the learner's parameters.
        average: of the learner, if there is one.
        config: of the run.
        device: where the learner is.
        record: how a step is recorded; None: not.
        say: told what a user should know.
    """

    def __init__(
        self,
        learner: Learner,
        source: OnDevice,
        optimiser: DeviceAdam,
        average: MovingAverage | None,
        config: RunConfig,
        device: str,
        record: Record | None,
        say: Callable[[str], None],
    ):
        self._learner, self._source = learner, source
        self._optimiser, self._average = optimiser, average
        self._config, self._device, self._say = config, device, say
        self._recorder = Recorder(record, self._state, say)
        self._at_once = config.machine.episodes_per_chunk or config.own.batch
        self._number = 0
        self._tried = False
        self._halved = False
        self._updating = False
        self._next: tuple[int, np.ndarray] | None = None
        self._indices: Tensor | None = None
        self._numbers: Tensor | None = None
        self._names: list[str] = []
        self._values = torch.empty(0)
        self._unread: list[Tensor] = []

    def step(self, number: int) -> None:
        """Compute outer step ``number`` (from 0); its record comes with the next `read`.

        Raises:
            ConfigError: if the loss depends on none of the learner's parameters.
        """
        total = self._config.training.meta_steps
        factor = self._learner.begin_outer_step(number, total)
        self._number, self._tried = number, False
        self._send(number, self._config.training.outer_lr * factor)
        self._run()
        self._optimiser.count()
        self._unread.append(self._values.clone())
        if number + 1 < total:
            self._next = number + 1, self._source.indices(number + 1)

    def read(self) -> list[dict[str, float]]:
        """What the steps since the last reading record: the same values as on a CPU."""
        if not self._unread:
            return []
        rows = torch.stack(self._unread).tolist()
        self._unread = []
        return [dict(zip(self._names, row, strict=True)) for row in rows]

    def _send(self, number: int, rate: float) -> None:
        """Send a step's indices and numbers to the device, without waiting for it."""
        drawn = self._next if self._next and self._next[0] == number else None
        indices = drawn[1] if drawn else self._source.indices(number)
        numbers = self._optimiser.numbers(rate)
        numbers.append(self._average.share(number + 1) if self._average else 0.0)
        self._indices = _sent(torch.from_numpy(indices), self._indices, self._device)
        self._numbers = _sent(
            torch.tensor(numbers, dtype=torch.float64), self._numbers, self._device
        )

    def _run(self) -> None:
        """Compute the step; if memory does not suffice, by smaller chunks."""
        try:
            self._recorder.run(self._compute, self._learner.step_signature())
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or self._halved or self._updating or self._at_once == 1:
                raise
            sentence = first_line(error)
        # Outside of the handler, which holds the tensors of the step that failed.
        self._halve(sentence)
        self._recorder.run(self._compute, self._learner.step_signature())

    def _halve(self, because: str) -> None:
        self._halved = True
        self._at_once = (self._at_once + 1) // 2
        self._learner.zero_grad()
        self._recorder.forget()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._say(
            f"Out of memory ({because}): {self._at_once} episodes are computed at once from here "
            "on, half as many as before."
        )

    def _compute(self) -> None:
        """The step, of operations on tensors alone; see `Recorder`."""
        if self._indices is None or self._numbers is None:  # for the type checker
            return
        if self._tried:  # an attempt that failed may have left something in the learner
            self._learner.begin_outer_step(self._number, self._config.training.meta_steps)
        self._tried = True
        self._updating = False
        values = self._gradient(self._indices)
        if limit := self._config.training.clip_gradient:
            parameters = list(self._learner.parameters())  # of an empty generator it would warn
            torch.nn.utils.clip_grad_norm_(parameters, limit)
        self._updating = True
        self._optimiser.step_on_device(self._numbers[:-1])
        self._learner.end_outer_step()
        if self._average:
            self._average.move(self._learner, self._numbers[-1])
        self._updating = False
        self._names = list(values)
        self._values = torch.stack([value.double().to(self._device) for value in values.values()])

    def _gradient(self, indices: Tensor) -> dict[str, Tensor]:
        """Leave the meta-gradient in ``.grad``; what is recorded of it stays on the device."""
        # As `accumulate_meta_gradient`, which waits for the values of every chunk.
        self._learner.zero_grad()
        totals: dict[str, Tensor] = {}
        for chunk, share in self._source.chunks(indices, self._at_once):
            loss, logged = self._learner.meta_loss(chunk)
            if any(weight.requires_grad for weight in self._learner.parameters()):
                refuse_constant(self._learner, loss)
                (loss * share).backward()
            for name, value in ({"loss": loss.detach()} | logged).items():
                part = share * value.detach()
                totals[name] = totals[name] + part if name in totals else part
        weights = self._learner.parameters()
        norms = [weight.grad.norm() for weight in weights if weight.grad is not None]
        whole = torch.stack(norms).norm() if norms else torch.zeros((), device=self._device)
        return totals | {"gradient_norm": whole}

    def _state(self) -> Iterable[Tensor]:
        """All that a step changes for good."""
        yield from self._learner.state_dict().values()
        yield from self._optimiser.moments
        if self._average:
            yield from self._average.weights.values()


def device_steps(
    learner: Learner,
    sampler: EpisodeSampler | ImageSampler,
    optimiser: DeviceAdam,
    average: MovingAverage | None,
    config: RunConfig,
    device: str,
    say: Callable[[str], None],
) -> DeviceSteps:
    """The outer steps of a training on a GPU, recorded unless the settings say otherwise."""
    source = on_device(sampler, config.own.batch, device)
    recorded = config.machine.cuda_graph and device.startswith("cuda")
    record = partial(cuda_graph, device) if recorded else None
    return DeviceSteps(learner, source, optimiser, average, config, device, record, say)


def _sent(values: Tensor, place: Tensor | None, device: str) -> Tensor:
    """Values of the CPU in their place on a device; a first call makes the place."""
    if place is None:
        place = torch.empty(values.shape, dtype=values.dtype, device=device)
    # From pinned memory, or the CPU would wait until all before it in the stream is done.
    pinned = values.pin_memory() if place.is_cuda else values
    return place.copy_(pinned, non_blocking=True)
