"""Which of a run's processes this is, as torchrun or SLURM says in the environment."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from innerloop.core.errors import ConfigError

NAMES = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
)
"""torchrun's variables, which come first, and SLURM's."""


OF_A_STEP = "SLURM_STEP_NUM_TASKS"


@dataclass(frozen=True)
class Process:
    """One of a run's processes.

    Attributes:
        rank: its number, from 0; the first one leads and alone writes.
        size: how many there are.
        local_rank: its number on this machine.
        starter: ``torchrun`` or ``SLURM``; empty where there is one process alone.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    starter: str = ""

    @property
    def words(self) -> str:
        """As a sentence calls it."""
        return f"process {self.rank} of {self.size}"


def this_process(environment: Mapping[str, str] = os.environ) -> Process:
    """What the environment says.

    Raises:
        ConfigError: if it is no whole numbers, or they do not fit one another.
    """
    for (rank, size, local), starter in zip(NAMES, ("torchrun", "SLURM"), strict=True):
        # srun's own, where it says one: a batch script has the job's and is one process.
        size = OF_A_STEP if starter == "SLURM" and OF_A_STEP in environment else size
        if rank in environment and size in environment:
            values = [environment[rank], environment[size], environment.get(local, "0")]
            if not all(value.isdecimal() for value in values):
                raise ConfigError(f"{rank}, {size} and {local} must be numbers: got {values}.")
            number, count, here = map(int, values)
            if not number < count:
                raise ConfigError(f"{rank} counts from 0 to {size} - 1: got {values[:2]}.")
            return Process(number, count, here, starter)
    return Process()


def job(environment: Mapping[str, str] = os.environ) -> str:
    """What the starts of one job have in common, the restarts after a failure among them."""
    if this_process(environment).starter == "torchrun":
        # The agent lives on when it starts the processes again.
        name = environment.get("TORCHELASTIC_RUN_ID", "")
        return f"torchrun {name} {socket.gethostname()} {os.getppid()}"
    if this_process(environment).starter == "SLURM":
        return f"SLURM {environment.get('SLURM_JOB_ID', '')}"
    return ""


def starts(environment: Mapping[str, str] = os.environ) -> int:
    """How often the job was started before, because a process of it ended too early."""
    counts = (environment.get(name, "") for name in RESTARTS)
    return max((int(count) for count in counts if count.isdecimal()), default=0)


def start_of_all(environment: Mapping[str, str] = os.environ) -> str:
    """Another name at each start of a job, the same for all of its processes."""
    return " ".join(environment.get(name, "0") for name in (*RESTARTS, "SLURM_STEP_ID"))


RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
"""How often torchrun and SLURM started a job again."""
