"""Workers of a sweep started by submitit, which knows how clusters want it."""

import sys
from pathlib import Path

from innerloop.core.errors import ConfigError


def submit(directory: Path, workers: int, cluster: str | None) -> list[str]:
    """Start workers of a sweep, as one array where the cluster has them.

    Args:
        directory: of the sweep, as the workers see it.
        workers: how many.
        cluster: ``slurm``, ``local`` or ``debug``; None: what submitit finds.

    Returns:
        What the cluster calls the jobs.

    Raises:
        ConfigError: if submitit is missing, or cannot start jobs here.
    """
    try:
        from submitit import AutoExecutor  # type: ignore[import-not-found]
        from submitit.helpers import CommandFunction  # type: ignore[import-not-found]
    except ImportError as error:
        raise ConfigError(
            "submit needs the package submitit: python -m pip install submitit. Or start workers "
            f"by the files of: innerloop sweep templates {directory}"
        ) from error
    command = CommandFunction([sys.executable, "-m", "innerloop", "sweep", "work", str(directory)])
    try:
        executor = AutoExecutor(folder=directory / "jobs" / "submitit", cluster=cluster)
        executor.update_parameters(name="innerloop-sweep", cpus_per_task=1, timeout_min=240)
        with executor.batch():
            jobs = [executor.submit(command) for _ in range(workers)]
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigError(f"submitit cannot start workers here: {error}.") from error
    return [str(job.job_id) for job in jobs]
