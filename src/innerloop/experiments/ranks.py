"""What the processes of one run tell one another; alone, each function is as if it were not there.

``torchrun --nproc-per-node N -m innerloop train ...``, or ``srun -n N innerloop train ...``.
"""

import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from innerloop.core.errors import ConfigError, InnerloopError, first_line
from innerloop.core.processes import Process, start_of_all, this_process

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = "INNERLOOP_PATIENCE_S"
"""Environment variable: how many seconds a process waits for the others."""
USUAL_PATIENCE = 600.0


class RanksError(InnerloopError):
    """Another process of the run has ended, or does not answer."""

    exit_code = 8


@contextmanager
def joined() -> Iterator[None]:
    """Within the context this process is one of its run's, if there are several.

    Raises:
        ConfigError: if the environment does not say where the first process is.
        RanksError: if not all processes come in time, or later one is missing.
    """
    process = this_process()
    if process.size == 1 or _several():
        yield
        return
    patience = _patience()
    _say_where_the_first_is(process)
    take_own_gpu()
    with _in_a_sentence(process, patience):
        timeout = timedelta(seconds=patience)
        store, *_ = next(rendezvous("env://", process.rank, process.size, timeout=timeout))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            # torchrun keeps its store over restarts, and in it addresses of what is gone.
            store=PrefixStore(start_of_all(), store),
            rank=process.rank,
            world_size=process.size,
            timeout=timeout,
        )
    try:
        with on_own_cores():
            yield
    finally:
        dist.destroy_process_group()


@contextmanager
def on_own_cores() -> Iterator[None]:
    """Within the context this thread, and those that it starts, stay on cores of their own.

    Who sends a message wakes who waits for it, and Linux likes to let that run where the sender
    does: both would then compute on one core while another is idle. Where the starter has given
    each process cores of its own, or there are too few, nothing is done.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = sorted(os.sched_getaffinity(0))
    here = socket.gethostname(), cores
    alike = [number for number, other in enumerate(gathered(here)) if other == here]
    own = part_of_cores(cores, alike.index(rank()), len(alike))
    os.sched_setaffinity(0, own)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def part_of_cores(cores: list[int], place: int, of: int) -> list[int]:
    """The cores of one of so many processes that share them; all of them where they are too few."""
    if of > len(cores):
        return cores
    return cores[len(cores) * place // of : len(cores) * (place + 1) // of]


def take_own_gpu() -> None:
    """Let ``cuda`` mean the GPU of this process's number on its machine, if there is one."""
    here = this_process().local_rank
    if torch.cuda.is_available() and here < torch.cuda.device_count():
        torch.cuda.set_device(here)


def _patience() -> float:
    value = os.environ.get(PATIENCE, str(USUAL_PATIENCE))
    try:
        patience = float(value)
    except ValueError:
        patience = 0.0
    if not 0 < patience < 1e6:
        raise ConfigError(f"{PATIENCE} must be a number of seconds: got {value!r}.")
    return patience


def _say_where_the_first_is(process: Process) -> None:
    """Fill in what SLURM, unlike torchrun, does not say."""
    if "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ:
        return
    address = os.environ.get("SLURM_LAUNCH_NODE_IPADDR")
    if process.starter != "SLURM" or not address:
        raise ConfigError(
            f"This is {process.words}, and nothing says where the first is: set MASTER_ADDR and "
            "MASTER_PORT, or start with torchrun."
        )
    os.environ.setdefault("MASTER_ADDR", address)
    # Another port for each step of each job, so that two on one machine do not meet.
    numbers = [os.environ.get(name, "") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID")]
    job, step = (int(number) if number.isdecimal() else 0 for number in numbers)
    os.environ.setdefault("MASTER_PORT", str(20000 + (31 * job + step) % 20000))


@contextmanager
def _in_a_sentence(process: Process | None = None, patience: float | None = None) -> Iterator[None]:
    """Within the context what PyTorch says of the other processes becomes a `RanksError`."""
    try:
        yield
    except RuntimeError as error:
        me = process or this_process()
        seconds = _patience() if patience is None else patience
        raise RanksError(
            f"This is {me.words}: another one has ended, or does not answer within {seconds:g} s "
            f"({_shortened(error)}). Start all of them again: the run goes on from its last "
            f"checkpoint. {PATIENCE} says how long to wait."
        ) from error


def _shortened(error: RuntimeError) -> str:
    """The first sentence of what the library beneath says, without its own source files."""
    return re.sub(r"\[/[^]]*\] *", "", first_line(error)).partition(". ")[0]


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _several() else 1


def rank() -> int:
    """The number of this one."""
    return dist.get_rank() if _several() else 0


def _several() -> bool:
    # Not every build of PyTorch has it.
    return dist.is_available() and dist.is_initialized()


def first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank() == 0


def share(count: int, of: int | None = None) -> range:
    """Which of so many pieces are this process's, or that of another number; the first has most."""
    number = rank() if of is None else of
    return range(-(-count * number // size()), -(-count * (number + 1) // size()))


def over(items: Iterable[Item], function: Callable[[Item], Result]) -> list[Result]:
    """What a function returns for each item, of which each process computes its share."""
    if size() == 1:
        return [function(item) for item in items]
    listed = list(items)
    refuse_others({"number of pieces": str(len(listed))})
    own = [function(listed[place]) for place in share(len(listed))]
    return [result for results in gathered(own) for result in results]


def refuse_others(own: Mapping[str, str]) -> None:
    """Raise `ConfigError` unless all processes have the same under each name."""
    everyone = gathered(dict(own))
    for number, other in enumerate(everyone):
        for name, value in everyone[0].items():
            if other.get(name) != value:
                raise ConfigError(
                    f"Process {number} has another {name} than process 0, {other.get(name)!r} and "
                    f"{value!r}: start all of them with the same code, settings and data."
                )


def gathered(value: Result) -> list[Result]:
    """The values of all processes, in their order."""
    if size() == 1:
        return [value]
    values: list[Any] = [None] * size()
    with _in_a_sentence():
        dist.all_gather_object(values, value)
    return values


def wait() -> None:
    """Go on when all processes are here."""
    gathered(None)


@contextmanager
def first_before_others() -> Iterator[None]:
    """Within the context the first process is alone; then the others are: for what is cached."""
    if not first():
        wait()
    try:
        yield
    finally:
        if first():
            wait()


def send(tensor: Tensor) -> None:
    """Give a tensor to the first process."""
    with _in_a_sentence():
        dist.send(tensor, 0)


def receive(tensor: Tensor, source: int) -> None:
    """Fill a tensor with what a process sends to the first."""
    with _in_a_sentence():
        dist.recv(tensor, source)


def broadcast(tensor: Tensor) -> None:
    """Fill a tensor with that of the first process."""
    with _in_a_sentence():
        dist.broadcast(tensor, 0)
