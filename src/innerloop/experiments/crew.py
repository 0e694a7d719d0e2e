"""A training on many processes: the first leads, the others compute what it asks for.

The first process trains as it does alone, with optimiser, average, checkpoints and records. Only
the meta-gradient is computed by all: each takes its slice of the outer step's episodes, at the
weights that the first sends, and the first adds their parts up in the order of a tree
(`innerloop.fast_weights.sums`). So the bits are those of one process, whatever the slices, and
processors that round otherwise cannot drift apart. A mini-batch of images is not divided.
"""

import dataclasses
import enum
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

from innerloop.core.errors import ConfigError
from innerloop.core.processes import this_process
from innerloop.core.version import __version__
from innerloop.data.minibatches import ImageSampler
from innerloop.data.sampling import EpisodeSampler
from innerloop.experiments import ranks
from innerloop.experiments.experiment import Experiment
from innerloop.experiments.messages import message_of, packed, part_of, unpacked
from innerloop.experiments.meta_gradient import Part, parts_of, taken
from innerloop.experiments.state import state_of
from innerloop.fast_weights.engine import use_threads
from innerloop.fast_weights.sums import Node, blocks, insert, node_of
from innerloop.methods.base import Learner

Sampler = EpisodeSampler | ImageSampler


class Order(enum.IntEnum):
    """What the first process asks the others for."""

    STEP = 0
    """Their parts of an outer step."""
    VALIDATION = 1
    """Their shares of a validation."""
    END = 2
    """Nothing more."""


class Lead:
    """What the first process says to the others, and hears of them.

    Args:
        experiment: that of the run; all processes have to have the same.
        learner: of the first process.
        sampler: what it trains on.

    Raises:
        ConfigError: if another process has another experiment.
    """

    def __init__(self, experiment: Experiment, learner: Learner, sampler: Sampler):
        refuse_differences(experiment)
        self.experiment = experiment
        self.learner, self.sampler = learner, sampler
        self._asked = False

    def outer_step(self, step: int) -> dict[str, float]:
        """Leave the meta-gradient of outer step number ``step`` in ``.grad``.

        Returns:
            As `innerloop.experiments.meta_gradient.accumulate_meta_gradient`.
        """
        self._order(Order.STEP, step, self.learner)
        total = pieces(self.experiment, self.sampler)
        parts = own_parts(self.experiment, self.learner, self.sampler, step)
        rows = {name: [value] for name, value in self.learner.gathered().items()}
        example = next(iter(parts.values()))
        for source in range(1, ranks.size()):
            slice_ = ranks.share(total, source)
            nodes = nodes_of(self.experiment, slice_, total)
            if not nodes:
                continue
            one = message_of(example, self.learner)
            seen = [of[0].new_empty(len(slice_), *of[0].shape[1:]) for of in rows.values()]
            received = _received(source, one * len(nodes) + seen)
            for place, node in enumerate(nodes):
                own = received[place * len(one) : (place + 1) * len(one)]
                parts[node] = part_of(own, example)
            for values, more in zip(rows.values(), received[len(nodes) * len(one) :], strict=True):
                values.append(more)
        self._asked = False
        self.learner.gather({name: torch.cat(values) for name, values in rows.items()})
        return taken(self.learner, parts, total)

    def validating(self, validate: Callable[[Learner], Any]) -> Callable[[Learner], Any]:
        """The validation of which each process computes its share."""

        def by_all(learner: Learner) -> Any:
            self._order(Order.VALIDATION, 0, learner)
            measured = validate(learner)
            self._asked = False
            return measured

        return by_all

    def dismiss(self) -> None:
        """Let the others end; where one has ended already, there is nothing to say.

        Where they still answer to an order that failed here, they would not hear it: they end when
        this process does.
        """
        if not self._asked:
            with suppress(ranks.RanksError):
                self._order(Order.END, 0, self.learner)

    def _order(self, order: Order, step: int, learner: Learner) -> None:
        self._asked = True
        state = list(state_of(learner).values())
        ranks.broadcast(packed([_head(learner, order, step), *state]))


@contextmanager
def dismissing(lead: Lead | None) -> Iterator[None]:
    """At the end of the context, whatever its reason, the other processes end too."""
    try:
        yield
    finally:
        if lead:
            lead.dismiss()


def follow(experiment: Experiment, validate: Callable[[Learner], Any]) -> None:
    """Compute what the first process asks for, until it asks for nothing more.

    Raises:
        ConfigError: if the first has another experiment.
        innerloop.experiments.ranks.RanksError: if it has ended without a word.
    """
    refuse_differences(experiment)
    learner, sampler = experiment.build_learner(), experiment.training_sampler()
    with signals_left_to_the_first():
        _follow(experiment, learner, sampler, validate)


def _follow(
    experiment: Experiment,
    learner: Learner,
    sampler: Sampler,
    validate: Callable[[Learner], Any],
) -> None:
    while True:
        state = state_of(learner)
        like = [_head(learner, Order.END, 0), *state.values()]
        message = packed(like)
        ranks.broadcast(message)
        head, *values = unpacked(message, like)
        order, step = head.tolist()
        if order == Order.END:
            return
        learner.load_state_dict(dict(zip(state, values, strict=True)))
        if order == Order.VALIDATION:
            validate(learner)
            continue
        learner.begin_outer_step(step, experiment.config.training.meta_steps)
        parts = own_parts(experiment, learner, sampler, step)
        if parts:
            rows = [*learner.gathered().values()]
            said = [of for part in parts.values() for of in message_of(part, learner)]
            ranks.send(packed(said + rows))


@contextmanager
def signals_left_to_the_first() -> Iterator[None]:
    """Within the context ignore Ctrl-C and SIGTERM, which every process is sent.

    The first ends the run in order.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def as_the_first(experiment: Experiment) -> Experiment:
    """The experiment with the first process's chunks and threads, which others may not have.

    Raises:
        ConfigError: if another process has other code, settings or data, or no device of its own.
    """
    if ranks.size() == 1:
        return experiment
    refuse_shared_device(experiment)
    machine = experiment.config.machine
    at_once, threads = ranks.gathered((machine.episodes_per_chunk, machine.threads))[0]
    config = experiment.config.replace(episodes_per_chunk=at_once, threads=threads)
    use_threads(threads, machine.engine if machine.device == "cpu" else "reference")
    refuse_differences(same := dataclasses.replace(experiment, config=config))
    return same


def refuse_shared_device(experiment: Experiment) -> None:
    """Raise `ConfigError` unless the device is a CPU, or a GPU for each process of a machine."""
    device = experiment.config.machine.device
    here = this_process().local_rank
    if device == "cpu" or (device == "cuda" and here < torch.cuda.device_count()):
        return
    raise ConfigError(
        f"Several processes compute on CPUs, or on a GPU each: process {here} of this machine has "
        f"none of its own on {device!r}. Start as many as there are GPUs, or take --device cpu."
    )


def refuse_differences(experiment: Experiment) -> None:
    """Raise `ConfigError` unless all processes have the same code, settings, data and engine."""
    settings = {name: str(value) for name, value in experiment.config.flat().items()}
    # Where the pictures lie is each machine's own matter.
    settings.pop("folder", None)
    ranks.refuse_others(
        {
            "innerloop": __version__,
            "torch": torch.__version__,
            "engine": experiment.engine.partition(",")[0],
            "data set": experiment.dataset.fingerprint,
            "split": experiment.split.digest,
        }
        | settings
    )


def pieces(experiment: Experiment, sampler: Sampler) -> int:
    """Into how many pieces an outer step can be divided."""
    return experiment.config.own.batch if isinstance(sampler, EpisodeSampler) else 1


def own_parts(
    experiment: Experiment, learner: Learner, sampler: Sampler, step: int
) -> dict[Node, Part]:
    """This process's parts of outer step number ``step``; none where it has nothing to do."""
    config = experiment.config
    total = pieces(experiment, sampler)
    own = ranks.share(total)
    if not own:
        return {}
    start, count = step * config.own.batch, config.own.batch
    if isinstance(sampler, EpisodeSampler):
        start, count = start + own.start, len(own)
    batch = sampler.batch(start, count).to(config.machine.device)
    return parts_of(learner, batch, own.start, total, config.machine.episodes_per_chunk)


def nodes_of(experiment: Experiment, own: range, total: int) -> list[Node]:
    """The nodes that a process with these pieces gives."""
    nodes: dict[Node, None] = {}
    for block in blocks(own.start, own.stop, total, experiment.config.machine.episodes_per_chunk):
        insert(nodes, node_of(block, total), None, lambda one, other: None)
    return list(nodes)


def _received(source: int, like: Sequence[Tensor]) -> list[Tensor]:
    content = packed(like)
    ranks.receive(content, source)
    return unpacked(content, like)


def _head(learner: Learner, order: Order, step: int) -> Tensor:
    device = next(iter(state_of(learner).values())).device
    return torch.tensor([order, step], dtype=torch.int64, device=device)
