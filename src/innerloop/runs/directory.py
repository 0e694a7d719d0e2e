"""The run directory: the contract between training and everything that reads it. Needs no torch.

::

    config.json  env.json  metrics.jsonl  status.json  lock
    checkpoints/step-00000050/  model.safetensors  evaluation-*.json  hyperparameters.md  figures/
"""

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from innerloop.core.claims import claim
from innerloop.core.errors import ConfigError, DataError, InnerloopError
from innerloop.core.files import disk_errors, expanded, json_text, write_atomic
from innerloop.runs import reading
from innerloop.runs.results import (
    Environment,
    EvaluationRow,
    Status,
    TrainRecord,
    ValidationRecord,
)
from innerloop.settings.run import RunConfig, remark_on


class RunDirectory:
    """One run on the disk; `create` makes it, the constructor opens it.

    Args:
        path: an existing run directory.

    Raises:
        ConfigError: if there is no run there.
    """

    def __init__(self, path: Path):
        path = expanded(path)
        if not (path / "config.json").is_file():
            hint = " What innerloop brings along is for innerloop evaluate alone."
            raise ConfigError(
                f"{path} is not a run directory: it holds no config.json."
                f"{hint if str(path).startswith('pretrained:') else ''}"
            )
        self.path = path

    @classmethod
    def create(cls, config: RunConfig, environment: Environment, path: Path) -> "RunDirectory":
        """Make a new run directory; where the name is taken, ``-2``, ``-3`` ... is appended.

        Raises:
            DiskError: if it cannot be written.
        """
        path = expanded(path)
        with disk_errors(f"the run directory {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Filled under another name and renamed, so that a run directory is never half made.
            temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
            # mkdtemp lets its owner alone in, and a run may be read by others.
            temporary.chmod(0o755)
            try:
                write_atomic(temporary / "config.json", config.to_json())
                recorded = json.dumps(environment.recorded(), indent=2)
                write_atomic(temporary / "env.json", recorded + "\n")
                (temporary / "metrics.jsonl").touch()
                (temporary / "checkpoints").mkdir()
                final = _renamed_to_a_free_name(temporary, path)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        return cls(final)

    @property
    def config(self) -> RunConfig:
        """The resolved settings; parsed once for as long as the file stays as it is."""
        return reading.config(self.path / "config.json")

    @property
    def remark(self) -> str:
        """A sentence where the settings were written by an innerloop of another format."""
        return remark_on(self.config_text, str(self.path / "config.json"))

    @property
    def config_text(self) -> str:
        """The settings as they were written, in the format of the innerloop that did."""
        return (self.path / "config.json").read_text(encoding="utf-8")

    @property
    def environment(self) -> Environment:
        """What ``env.json`` records."""
        return reading.environment(self.path / "env.json")

    @property
    def machine(self) -> str:
        """What computed it, where recorded: seconds compare between equal machines alone."""
        environment = self.environment
        processor = environment.processor
        processor = "an unknown processor" if processor == "-" else processor
        threads = environment.threads
        device = environment.device
        accelerator = "" if device in ("-", "cpu") else f"{device} beside "
        return (
            f"{accelerator}{processor}, {threads or 'an unknown number of'} CPU "
            f"thread{'s' if threads != 1 else ''}"
        )

    @property
    def weights_path(self) -> Path:
        """The final weights, there once the run is finished."""
        return self.path / "model.safetensors"

    def weights_sha256(self) -> str:
        """Checksum of the final weights."""
        return reading.sha256(self.weights_path)

    def refuse_unfinished(self) -> None:
        """Raise `ConfigError` if there are no final weights, with the command that makes them."""
        if not self.weights_path.is_file():
            raise ConfigError(
                f"{self.path} has no final weights: it is not finished. Go on with: innerloop "
                f"resume {self.path}"
            )

    def refuse_damaged(self) -> None:
        """Raise `DataError` if weights cannot be opened, or a finished run's metrics end early."""
        from safetensors import SafetensorError, safe_open

        if self.weights_path.is_file():
            try:
                # By numpy, since a report needs no torch.
                with safe_open(self.weights_path, "np"):
                    pass
            except (SafetensorError, ValueError) as error:
                raise DataError(
                    f"{self.weights_path} is no safetensors file, or it is damaged ({error})."
                ) from error
        records = self.read_metrics()
        status = self.status
        last = records[-1]["step"] if records else 0
        if status.state == "finished" and last < status.step:
            raise DataError(
                f"{self.path / 'metrics.jsonl'} ends at step {last} of {status.step}: it is "
                "damaged."
            )

    @property
    def status(self) -> Status:
        """Where the run stands."""
        return reading.status(self.path / "status.json")

    def set_status(self, state: str, step: int, message: str = "") -> None:
        """Write ``status.json``."""
        status = asdict(Status(state, step, message))
        write_atomic(self.path / "status.json", json.dumps(status) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for writing. The lock goes with the process, also when that is killed.

        Raises:
            ConfigError: if another process holds it.
        """
        with claim(self.path / "lock") as ours:
            if not ours:
                raise ConfigError(
                    f"{self.path} is in use by another process; wait for it, or choose another "
                    "--run-dir."
                )
            yield

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add one line to ``metrics.jsonl`` and flush it."""
        with (
            disk_errors(str(self.path / "metrics.jsonl")),
            open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file,
        ):
            file.write(json_text(record) + "\n")

    def read_metrics(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The records of ``metrics.jsonl``, all or of one kind (``train``, ``validation``).

        They are JSON, so that what no type has is there too; `validations` and `train_records` are
        typed. A torn last line, as a killed process leaves it, is passed over.

        Raises:
            DataError: if another line is damaged.
        """
        records = reading.records(self.path / "metrics.jsonl")
        return [record for record in records if kind in (None, record.get("kind"))]

    def validations(self) -> tuple[ValidationRecord, ...]:
        """The validations so far, in order.

        Raises:
            DataError: if one is damaged.
        """
        return reading.validations(self.path / "metrics.jsonl")

    def train_records(self) -> tuple[TrainRecord, ...]:
        """What was recorded of the outer steps so far, in order.

        Raises:
            DataError: if one is damaged.
        """
        return reading.train_records(self.path / "metrics.jsonl")

    def evaluations(self) -> tuple[EvaluationRow, ...]:
        """All evaluations of the run, whatever of and however, in the order of their files' names.

        Raises:
            DataError: if one is damaged.
        """
        rate = self.config.own.adaptation_rate
        files = sorted(self.path.glob("evaluation-*.json"))
        return tuple(reading.evaluation(file, rate) for file in files)

    def cut_metrics(self, step: int) -> None:
        """Drop what was recorded after a step, so that a resumed run does not say it twice."""
        path = self.path / "metrics.jsonl"
        # Lines as they stand in the file: what stays is not written anew.
        kept = [line for line, record in reading.lines(path) if record["step"] <= step]
        write_atomic(path, b"".join(line + b"\n" for line in kept))


def run_of_job(folder: Path, job: str, command: str) -> RunDirectory | None:
    """The newest run in a folder that a job of torchrun or SLURM began; None: there is none.

    Args:
        folder: of runs.
        job: as ``env.json`` has it.
        command: as it was typed: a job may begin several runs.
    """
    found = []
    for place in expanded(folder).glob("*/env.json"):
        try:
            environment = reading.environment(place)
            if (environment.job, environment.command) == (job, command):
                found.append((place.stat().st_mtime, place.parent))
        except (InnerloopError, OSError):
            continue  # somebody else's, and damaged
    return RunDirectory(max(found)[1]) if found else None


def _renamed_to_a_free_name(folder: Path, path: Path) -> Path:
    """Rename a folder to the path, or where that is taken to the first free of ``-2``, ``-3``."""
    for number in itertools.count(1):
        name = path if number == 1 else path.with_name(f"{path.name}-{number}")
        if os.path.lexists(name):
            continue
        try:
            # Fails, and replaces nothing, where another process has taken the name meanwhile.
            os.rename(folder, name)
            return name
        except OSError:
            if not os.path.lexists(name):
                raise
    raise AssertionError("there is always a next number")
