"""MLflow: one MLflow run a run, in the experiment and at the place that MLflow's variables name.

MLflow takes no point back. So a run that is tracked or exported again is logged anew, and what was
logged of it before is deleted, which MLflow can undo.
"""

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from innerloop.core.files import read_json, write_atomic
from innerloop.runs.trackers.base import Record

NAME = "mlflow.json"
"""The file in the run's folder that names the MLflow run."""
EXPERIMENT = "innerloop"
"""Unless MLFLOW_EXPERIMENT_NAME names another."""
SEND_EVERY_S = 5.0
"""A server, or a database on the disk, takes tens of milliseconds for each call."""
LARGEST_BATCH = 1000
"""Metrics in a call, at most; MLflow refuses more."""
STATES = {"finished": "FINISHED", "failed": "FAILED", "running": "RUNNING"}
"""A run's state -> MLflow's. Others are KILLED: the run is not at its end."""


class MLflow:
    """Logs metrics ``kind/name`` and the settings as parameters, every few seconds."""

    def start(self, folder: Path, settings: dict[str, Any], records: Sequence[Record]) -> None:
        """Delete what was logged of the run before, and log it anew."""
        self._client = MlflowClient()
        file = folder / NAME
        if file.is_file():
            # Of another place than MLFLOW_TRACKING_URI names now, or deleted by a person.
            with suppress(MlflowException):
                self._client.delete_run(read_json(file)["run_id"])
        run = self._client.create_run(self._experiment(), run_name=folder.resolve().name)
        self._id = run.info.run_id
        write_atomic(file, json.dumps({"run_id": self._id}) + "\n")
        parameters = [Param(name, str(value)) for name, value in settings.items()]
        self._client.log_batch(self._id, params=parameters)
        self._waiting = list(records)
        self._send()

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        known = self._client.get_experiment_by_name(name)
        return known.experiment_id if known else self._client.create_experiment(name)

    def record(self, record: Record) -> None:
        """Keep a record, and log all that were kept if the last time was long enough ago."""
        self._waiting.append(record)
        if time.monotonic() - self._sent >= SEND_EVERY_S:
            self._send()

    def _send(self) -> None:
        metrics = [metric for record in self._waiting for metric in _metrics(record)]
        for first in range(0, len(metrics), LARGEST_BATCH):
            batch = metrics[first : first + LARGEST_BATCH]
            self._client.log_batch(self._id, metrics=batch)
        self._waiting = []
        self._sent = time.monotonic()

    def finish(self, state: str) -> None:
        """Log what is left, and how the run stands."""
        self._send()
        self._client.update_run(self._id, status=STATES.get(state, "KILLED"))


def _metrics(record: Record) -> Iterator[Metric]:
    milliseconds = round(1000 * record.time)
    for name, value in record.values.items():
        # The letters that MLflow takes in a name.
        key = re.sub(r"[^\w\-. /]", "_", f"{record.kind}/{name}")
        yield Metric(key, value, milliseconds, record.step)
