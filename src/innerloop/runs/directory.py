"""The run directory: the contract between training and everything that reads it. Needs no torch.

::

    config.json  env.json  metrics.jsonl  status.json  lock
    checkpoints/step-00000050/  model.safetensors  evaluation-*.json  hyperparameters.md  figures/
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from innerloop.core.claims import claim
from innerloop.core.errors import ConfigError, DataError
from innerloop.core.files import disk_errors, json_text, parse_json_object, read_json, write_atomic
from innerloop.methods.catalogue import load_config
from innerloop.settings.run import RunConfig


class RunDirectory:
    """One run on the disk; `create` makes it, the constructor opens it.

    Args:
        path: an existing run directory.

    Raises:
        ConfigError: if there is no run there.
    """

    def __init__(self, path: Path):
        if not (path / "config.json").is_file():
            raise ConfigError(f"{path} is not a run directory: it holds no config.json.")
        self.path = path

    @classmethod
    def create(cls, config: RunConfig, environment: dict[str, Any], path: Path) -> "RunDirectory":
        """Make a new run directory; where the name is taken, ``-2``, ``-3`` ... is appended.

        Raises:
            DiskError: if it cannot be written.
        """
        with disk_errors(f"the run directory {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Filled under another name and renamed, so that a run directory is never half made.
            temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
            temporary.chmod(0o755)
            try:
                write_atomic(temporary / "config.json", config.to_json())
                write_atomic(temporary / "env.json", json.dumps(environment, indent=2) + "\n")
                (temporary / "metrics.jsonl").touch()
                (temporary / "checkpoints").mkdir()
                final = _free_name(path)
                os.rename(temporary, final)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        return cls(final)

    @property
    def config(self) -> RunConfig:
        """The resolved settings."""
        return load_config(self.path / "config.json")

    @property
    def config_text(self) -> str:
        """The settings as they were written, in the format of the innerloop that did."""
        return (self.path / "config.json").read_text(encoding="utf-8")

    @property
    def environment(self) -> dict[str, Any]:
        """What ``env.json`` records."""
        return read_json(self.path / "env.json")

    @property
    def machine(self) -> str:
        """What computed it, where recorded: seconds compare between equal machines alone."""
        environment = self.environment
        processor = environment.get("processor", "an unknown processor")
        threads = environment.get("threads")
        device = environment.get("device", "cpu")
        accelerator = "" if device == "cpu" else f"{device} beside "
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
        return hashlib.sha256(self.weights_path.read_bytes()).hexdigest()

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
                with safe_open(self.weights_path, "np"):
                    pass
            except (SafetensorError, ValueError) as error:
                raise DataError(
                    f"{self.weights_path} is no safetensors file, or it is damaged ({error})."
                ) from error
        records = self.read_metrics()
        status = self.status
        last = records[-1]["step"] if records else 0
        if status["state"] == "finished" and last < status["step"]:
            raise DataError(
                f"{self.path / 'metrics.jsonl'} ends at step {last} of {status['step']}: it is "
                "damaged."
            )

    @property
    def status(self) -> dict[str, Any]:
        """``state`` (running, interrupted, paused, failed, finished), ``step``, ``message``."""
        path = self.path / "status.json"
        return read_json(path) if path.is_file() else {"state": "running", "step": 0, "message": ""}

    def set_status(self, state: str, step: int, message: str = "") -> None:
        """Write ``status.json``."""
        write_atomic(
            self.path / "status.json",
            json.dumps({"state": state, "step": step, "message": message}) + "\n",
        )

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
            open(self.path / "metrics.jsonl", "a") as file,
        ):
            file.write(json_text(record) + "\n")

    def read_metrics(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The records of ``metrics.jsonl``, all or of one kind (``train``, ``validation``).

        A torn last line, as a killed process leaves it, is passed over.

        Raises:
            DataError: if another line is damaged.
        """
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return []
        state = path.stat()
        records = _parsed(path, state.st_mtime_ns, state.st_size)
        return [record for record in records if kind in (None, record.get("kind"))]

    def cut_metrics(self, step: int) -> None:
        """Drop what was recorded after a step, so that a resumed run does not say it twice."""
        kept = [record for record in self.read_metrics() if record["step"] <= step]
        write_atomic(
            self.path / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in kept)
        )


def _free_name(path: Path) -> Path:
    """The path, or where it is taken the first of ``-2``, ``-3`` ... that is not."""
    name = path
    number = 1
    while name.exists():
        number += 1
        name = path.with_name(f"{path.name}-{number}")
    return name


@lru_cache(maxsize=64)
def _parsed(path: Path, changed_ns: int, size: int) -> tuple[dict[str, Any], ...]:
    """The records of a file of metrics, read again only when it has changed; they are read-only."""
    records = []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            if line:
                record = parse_json_object(line, f"{path} line {number}")
                if not isinstance(record.get("step"), int):
                    raise ConfigError(f"{path} line {number} names no step.")
                records.append(record)
        except ConfigError as error:
            if number < len(lines):
                raise DataError(f"{error} Remove that line to go on without it.") from error
    return tuple(records)
