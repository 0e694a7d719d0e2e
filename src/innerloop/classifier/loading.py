"""A saved classifier, read as what it is: a stranger's file.

Only three files are read, up to a size, each with its checksum; numbers and shapes have to fit. A
network that might be downloaded is taken only if the person names it.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load

from innerloop.classifier.backbones import Backbone, find_backbone
from innerloop.classifier.calibration import COLDEST, WARMEST
from innerloop.classifier.heads import HEADS
from innerloop.classifier.places import SUMS, refuse_other
from innerloop.classifier.saving import FORMAT, Header, Kind
from innerloop.classifier.state import Kept, Scale, State
from innerloop.core.errors import ConfigError, DataError, first_line
from innerloop.core.version import __version__
from innerloop.core.zips import Limits, open_archive

LIMITS = Limits(entries=200_000, file_bytes=256 * 2**20, total_bytes=512 * 2**20)
REMEDY = "make it again with innerloop adapt"
KINDS: dict[Kind, type] = {"text": str, "whole": int, "number": float}
DTYPES: dict[Kind, Any] = {"text": str, "whole": np.int64, "number": np.float64}
UNFIT = (
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    OverflowError,
    MemoryError,
    SafetensorError,
)
"""What numbers and tensors raise that do not fit one another."""


def load_state(path: Path) -> tuple[State, Header]:
    """Read what `save_state` wrote, trusting nothing.

    Raises:
        DataError: if it is not there, is damaged, was changed, or is of another version.
    """
    refuse_other(path)
    files = _read_archive(path) if path.is_file() else _read_folder(path)
    header = _header(files["classifier.json"], path)
    try:
        return _state(header, files, path), header
    except UNFIT as error:
        if isinstance(error, DataError):
            raise
        raise _damaged(path, first_line(error)) from error


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path} is no classifier, or a damaged one ({why}): {REMEDY}.")


def _read_folder(path: Path) -> dict[str, bytes]:
    if not (path / SUMS).is_file():
        raise DataError(f"{path} is no classifier: it holds no {SUMS}; {REMEDY}.")

    def read(name: str) -> bytes:
        file = path / name
        try:
            if file.is_symlink() or file.stat().st_size > LIMITS.file_bytes:
                raise _damaged(path, f"{name} is a link, or too large")
            return file.read_bytes()
        except OSError as error:
            raise _damaged(path, f"{name}: {error.strerror}") from error

    return {
        name: _checked(read(name), digest, name, path) for name, digest in _sums(read(SUMS), path)
    }


def _read_archive(path: Path) -> dict[str, bytes]:
    try:
        file = open(path, "rb")
    except OSError as error:
        raise _damaged(path, str(error.strerror)) from error
    with file, open_archive(file, str(path), LIMITS, remedy=REMEDY) as archive:
        names = set(archive.names)
        if SUMS not in names:
            raise _damaged(path, f"it holds no {SUMS}")
        listed = _sums(archive.read(SUMS), path)
        for name, _ in listed:
            if name not in names:
                raise _damaged(path, f"it holds no {name}")
        return {name: _checked(archive.read(name), digest, name, path) for name, digest in listed}


def _sums(content: bytes, path: Path) -> list[tuple[str, str]]:
    """Names of the files that are read, each with its checksum; thumbnails are not."""
    try:
        pairs = [line.split("  ", 1) for line in content.decode("utf-8").splitlines()]
        digests = {name: digest for digest, name in pairs}
    except ValueError as error:
        raise _damaged(path, f"{SUMS}: {first_line(error)}") from error
    needed = ("classifier.json", "examples.safetensors", "head.safetensors")
    for name in needed:
        if name not in digests:
            raise _damaged(path, f"{SUMS} does not name {name}")
    return [(name, digests[name]) for name in needed]


def _checked(content: bytes, digest: str, name: str, path: Path) -> bytes:
    if hashlib.sha256(content).hexdigest() != digest:
        raise _damaged(path, f"{name} was changed")
    return content


def _header(content: bytes, path: Path) -> Header:
    try:
        loose = json.loads(content)
        number = loose.get("format") if isinstance(loose, dict) else None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"classifier.json: {first_line(error)}") from error
    if isinstance(number, int) and number > FORMAT:
        raise DataError(
            f"{path} is of a later innerloop than this one, {__version__}: update innerloop."
        )
    try:
        return msgspec.json.decode(content, type=Header)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _damaged(path, f"classifier.json: {first_line(error)}") from error


def _state(header: Header, files: Mapping[str, bytes], path: Path) -> State:
    examples = load(files["examples.safetensors"])
    tensors = load(files["head.safetensors"])
    codes, labels = examples["codes"], examples["labels"].astype(np.int64)
    ways, n = len(header.classes), len(labels)
    for array in (*examples.values(), *tensors.values()):
        if array.dtype.kind not in "fi" or not np.isfinite(array).all():
            raise _damaged(path, "it holds NaN, infinity or no numbers")
    if header.head not in HEADS or header.wanted not in ("auto", *HEADS):
        raise _damaged(path, f"there is no head {header.head!r}")
    counts = np.bincount(labels, minlength=ways) if n and labels.min() >= 0 else np.zeros(1)
    sound = (
        codes.ndim == 2
        and codes.dtype in (np.int8, np.float32)
        and len(codes) == n == len(header.names)
        and len(header.digests) == (n if header.columns is None else 0)
        and 2 <= ways == len(counts)
        and counts.min() > 0
        and bool((np.diff(labels) >= 0).all())
        and (header.backbone is None) == (header.columns is not None)
        and all(type(of) is KINDS[header.kind] for of in header.classes)
        and not any("\0" in str(of) for of in header.classes)
        and header.classes == sorted(set(header.classes))
    )
    if not sound:
        raise _damaged(path, "its examples and classes do not fit")
    scale = None
    if header.columns is not None:
        scale = Scale(examples["mean"].astype(float), examples["spread"].astype(float))
        fits = scale.mean.shape == scale.spread.shape == (header.columns,)
        if not fits or header.columns + 1 != codes.shape[1] or not (scale.spread > 0).all():
            raise _damaged(path, "its columns do not fit")
    expected = HEADS[header.head].shapes(codes.shape[1], ways)
    if {name: array.shape for name, array in tensors.items()} != expected:
        raise _damaged(path, "its head does not fit")
    numbers = [header.settings.get(name, 0.0) for name in HEADS[header.head].numbers]
    in_range = all(0 < number < np.inf for number in numbers) and (
        COLDEST <= header.temperature <= WARMEST
    )
    if not in_range:
        raise _damaged(path, "its numbers are out of range")
    head = HEADS[header.head](
        {name: torch.from_numpy(array.copy()).double() for name, array in tensors.items()},
        dict(header.settings),
    )
    pictures = () if header.columns is not None else (b"",) * n
    kept = Kept(codes, labels, tuple(header.names), tuple(header.digests), pictures)
    classes = np.array(header.classes, dtype=DTYPES[header.kind])
    return State(
        classes,
        kept,
        header.wanted,
        header.unknown,
        head,
        header.temperature,
        header.threshold,
        scale,
    )


def network_for(header: Header, state: State, place: Path, backbone: Any) -> Backbone | None:
    """The network that a classifier was made with; None for one of vectors.

    Args:
        header: of the saved classifier.
        state: of it.
        place: what errors call it.
        backbone: as the person gives it; None: as the file says.

    Raises:
        ConfigError: if it has to be given, or is not installed.
        DataError: if it is another one.
    """
    wanted = header.backbone
    if wanted is None:
        if backbone is not None:
            raise ConfigError(f"{place} is of vectors: it takes no backbone.")
        return None
    if backbone is None and not header.backbone_version:
        raise ConfigError(
            f"{place} was made with {wanted}, a function of your own: give it as backbone."
        )
    if backbone is None and ":" in wanted:
        # A stranger's file must not choose what is downloaded.
        raise ConfigError(
            f"{place} was made with {wanted}, a network of another library, which may be "
            f"downloaded: give it as backbone ({wanted!r}, in the shell --backbone "
            f"{shlex.quote(wanted)}) if you want that."
        )
    network = find_backbone(wanted if backbone is None else backbone, header.backbone_version)
    refuse_another(network, header.backbone_version)
    size = len(network.vector(np.full((8, 8), 255, np.uint8), "a white picture"))
    if size != state.kept.codes.shape[1]:
        raise DataError(
            f"{place} has vectors of {state.kept.codes.shape[1]} numbers and the backbone "
            f"{network.name} gives {size}: it is another one, or the file is damaged."
        )
    return network


def refuse_another(network: Backbone, version: str) -> None:
    """Raise `DataError` unless a network is of a version; an empty one is any."""
    if version and network.version != version:
        raise DataError(
            f"The classifier was made with another version of the backbone {network.name}: make it "
            "again with innerloop adapt."
        )
