"""Checkpoints: everything a run needs to go on as if it had never stopped.

Written so that a kill at any moment leaves the previous one whole.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.core.errors import DataError, DiskError
from innerloop.core.files import disk_errors, read_json, write_atomic
from innerloop.runs.weights import load_weights, save_weights

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 2
"""How many of the newest checkpoints are kept."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after ``step`` outer steps.

    Attributes:
        step: outer steps done.
        tensors: the learner's state, the optimiser's moments, the averaged weights, by name.
        state: what is not a tensor: ``elapsed_s``, ``config``, ``data_fingerprint``.
    """

    step: int
    tensors: Mapping[str, "Tensor"]
    state: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint of a run directory, or of any folder; drop all but the newest two.

    Into a temporary directory, each file synced, the manifest with SHA-256 last, then renamed: a
    directory under a final name is complete.

    Raises:
        NonFiniteError: if a tensor is not finite.
        DiskError: if it cannot be written. In both cases the previous checkpoints are intact.
    """
    parent = folder / "checkpoints"
    # Eight digits, so that the names sort as the steps do.
    final = parent / f"step-{checkpoint.step:08d}"
    temporary = parent / f".step-{checkpoint.step:08d}.tmp"
    with disk_errors(f"the checkpoint {final}"):
        for half_written in parent.glob(".step-*.tmp"):  # by a process that was killed
            shutil.rmtree(half_written, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            save_weights(temporary / "state.safetensors", checkpoint.tensors)
            write_atomic(
                temporary / "state.json", json.dumps({"step": checkpoint.step} | checkpoint.state)
            )
            # Last, over what is read back from the disk: without it nothing counts as whole.
            write_atomic(temporary / "manifest.json", json.dumps(_checksums(temporary)))
            # A damaged one that was passed over; a rename replaces no folder that holds files.
            if final.exists():
                shutil.rmtree(final)
            os.rename(temporary, final)
            # A new name is on the disk only once the folder that it stands in is.
            _sync_directory(parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    # Those of later steps are damaged ones that a resume passed over.
    kept = [directory for directory in _numbered(folder) if directory <= final][-KEPT:]
    for old in _numbered(folder):
        if old not in kept:
            shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(
    folder: Path,
    expected: Mapping[str, "Tensor"],
    refuse_changes: Callable[[dict[str, Any]], None] = lambda state: None,
) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, or None where there is none.

    Args:
        folder: where to look, that of `save_checkpoint`.
        expected: the tensors that it must hold by name, shape and kind.
        refuse_changes: given the state of an undamaged checkpoint, before its tensors are looked
            at; what it raises is passed on. So other settings are not taken for damage.

    Returns:
        The checkpoint, and a sentence for each newer one that was passed over because it is
        damaged.
    """
    warnings = []
    for directory in reversed(_numbered(folder)):
        try:
            return _read(directory, expected, refuse_changes), warnings
        except DataError as error:
            warnings.append(f"Checkpoint {directory.name} is damaged and passed over: {error}")
    return None, warnings


def _read(
    directory: Path,
    expected: Mapping[str, "Tensor"],
    refuse_changes: Callable[[dict[str, Any]], None],
) -> Checkpoint:
    manifest = read_json(directory / "manifest.json")
    try:
        checksums = _checksums(directory)
    except DiskError as error:
        raise DataError(str(error)) from error
    for name in ("state.safetensors", "state.json"):
        if manifest.get(name) is None or checksums.get(name) != manifest[name]:
            raise DataError(f"{directory / name} is missing or does not match its checksum.")
    state = read_json(directory / "state.json")
    step = state.pop("step", None)
    if not isinstance(step, int):
        raise DataError(f"{directory / 'state.json'} names no step.")
    refuse_changes(state)
    tensors = load_weights(directory / "state.safetensors", expected)
    return Checkpoint(step, tensors, state)


def _checksums(directory: Path) -> dict[str, str]:
    with disk_errors(f"a manifest of {directory}"):
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(directory.iterdir())
            if path.name != "manifest.json"
        }


def _numbered(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("step-*"))


def _sync_directory(path: Path) -> None:
    if os.name == "nt":  # where a directory cannot be opened
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
