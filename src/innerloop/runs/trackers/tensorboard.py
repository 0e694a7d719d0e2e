"""TensorBoard: one event file a run, written without TensorFlow, PyTorch or a thread.

The file is a function of the run's metrics and settings alone, and is always written from its
beginning: writing it twice gives the same bytes, and no point comes twice. The library's own
``EventFileWriter`` adds a file at every start, and writes from a thread.
"""

import io
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import (
    Summary,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from innerloop.core.claims import claim
from innerloop.core.errors import ConfigError
from innerloop.core.files import disk_errors
from innerloop.runs.trackers.base import Record

NAME = "events.out.tfevents.innerloop"
"""TensorBoard reads every file with ``tfevents`` in its name."""
VERSION = "brain.Event:2"
"""What the first record of an event file says of its format."""


class TensorBoard:
    """Writes `NAME` into the run's folder: scalars ``kind/name``, and the settings (HPARAMS)."""

    def start(self, folder: Path, settings: dict[str, Any], records: Sequence[Record]) -> None:
        """Write the file from its beginning; the records to come are appended.

        Raises:
            ConfigError: if another process writes it.
            DiskError: if it cannot be written.
        """
        with ExitStack() as held:
            if not held.enter_context(claim(folder / "events.lock")):
                raise ConfigError(
                    f"{folder / NAME} is being written by another process, which keeps it up to "
                    "date."
                )
            self._path = folder / NAME
            begun = records[0].time if records else 0.0
            head = [_version(begun), _settings(settings, begun)]
            self._write(encoded([*head, *map(_scalars, records)]))
            self._held = held.pop_all()

    def _write(self, content: bytes) -> None:
        """Replace the file's content in place.

        TensorBoard keeps open what it shows, and would not see a new file of the same name. What it
        has read stays as it was, but for points that a resumed run had to cut.
        """
        with disk_errors(str(self._path)):
            self._path.touch()
            with open(self._path, "r+b") as file:
                file.write(content)
                file.truncate()

    def record(self, record: Record) -> None:
        """Append a record, so that it can be seen at once."""
        with disk_errors(str(self._path)), open(self._path, "ab") as file:
            file.write(encoded([_scalars(record)]))

    def finish(self, state: str) -> None:
        """Let others write the file."""
        self._held.close()


def encoded(events: Iterable[Event]) -> bytes:
    """Events as an event file has them, with their lengths and checksums."""
    content = io.BytesIO()
    writer = RecordWriter(content)
    for event in events:
        writer.write(event.SerializeToString())
    return content.getvalue()


def _version(time: float) -> Event:
    return Event(wall_time=time, file_version=VERSION)


def _settings(settings: dict[str, Any], time: float) -> Event:
    """The settings of the run, as TensorBoard's table of runs (HPARAMS) has them."""
    known = {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in settings.items()
    }
    summary = hparams_pb(known, start_time_secs=time)
    # Once more, since a table of names is serialised in a random order unless told otherwise.
    plugin = summary.value[0].metadata.plugin_data
    table = HParamsPluginData.FromString(plugin.content)
    plugin.content = table.SerializeToString(deterministic=True)
    return Event(wall_time=time, summary=summary)


def _scalars(record: Record) -> Event:
    values = [
        Summary.Value(tag=f"{record.kind}/{name}", simple_value=value)
        for name, value in record.values.items()
    ]
    return Event(wall_time=record.time, step=record.step, summary=Summary(value=values))
