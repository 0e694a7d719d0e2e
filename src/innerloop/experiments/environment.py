"""With what, on what and from what a run is trained, as ``env.json`` records it."""

import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import torch

from innerloop.core.processes import job
from innerloop.core.version import __version__
from innerloop.experiments import ranks
from innerloop.experiments.experiment import Experiment
from innerloop.runs.results import Environment


def environment(experiment: Experiment) -> Environment:
    """What ``env.json`` records: versions, machine, data, and the state of the source."""
    return Environment(
        innerloop=__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        platform=platform.platform(),
        processor=processor(),
        trains_on=experiment.config.own.trains_on,
        device=experiment.config.machine.device,
        threads=experiment.config.machine.threads,
        engine=experiment.engine,
        git=git_state(),
        data_source=experiment.dataset.source,
        data_fingerprint=experiment.dataset.fingerprint,
        split_digest=experiment.split.digest,
        split_classes=_listed(experiment),
        never_drawn=experiment.never_drawn or "-",
        command=typed(),
        processes=ranks.size() if ranks.size() > 1 else None,
        job=job() or "-",
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def typed() -> str:
    """The command as it was typed, quoted as a shell takes it again."""
    return shlex.join(["innerloop", *sys.argv[1:]])


def _listed(experiment: Experiment) -> dict[str, list[str]] | None:
    """The classes of each part, where no committed list and no generator says them."""
    if not experiment.dataset.folder:
        return None
    return {part: list(names) for part, names in experiment.split.parts.items()}


def processor() -> str:
    """The kind of processor, and the best instructions of it that PyTorch uses."""
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()}, {capability}"


@cache
def git_state() -> str:
    """Commit of the source, with ``-dirty`` where it was changed; empty outside a checkout.

    Of the moment when the process asked first, since what it has imported is of then.
    """
    folder = str(Path(__file__).parent)
    command = ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()
