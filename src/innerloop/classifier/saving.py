"""A classifier on the disk: a folder, or the same files in one zip. Never pickle.

::

    classifier.json  examples.safetensors  head.safetensors  README.md  SHA256SUMS  [thumbnails/...]

What is read is untrusted: only files that ``SHA256SUMS`` names, up to a size, with its checksums.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from innerloop.classifier.calibration import COLDEST, WARMEST
from innerloop.classifier.card import card
from innerloop.classifier.heads import HEADS
from innerloop.classifier.pictures import short_name
from innerloop.classifier.places import SUFFIXES, SUMS, refuse_taken
from innerloop.classifier.state import Kept, Scale, State
from innerloop.core.errors import DataError, first_line
from innerloop.core.files import disk_errors, json_text, write_atomic, write_folder
from innerloop.core.version import __version__
from innerloop.core.zips import Limits, open_archive

FORMAT = 1
"""Of the files; another number when they change."""
LIMITS = Limits(entries=200_000, file_bytes=256 * 2**20, total_bytes=512 * 2**20)
WHEN = (2020, 1, 1, 0, 0, 0)
"""In archives, so that the same classifier is the same bytes."""
REMEDY = "make it again with innerloop adapt"

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

Kind = Literal["text", "whole", "number"]
"""What classes are called by."""
KINDS: dict[Kind, type] = {"text": str, "whole": int, "number": float}
DTYPES: dict[Kind, Any] = {"text": str, "whole": np.int64, "number": np.float64}


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``classifier.json``.

    Attributes:
        format: `FORMAT`.
        innerloop: the version that wrote it.
        backbone: name of the network; None for vectors.
        backbone_version: of the network; empty for a function of the person's own.
        columns: of a table; None for pictures.
        wanted: the head that was asked for.
        unknown: what was asked for.
        head: kind of the head.
        settings: numbers that the head was fitted with.
        temperature: scores are divided by it.
        threshold: see `State`.
        kind: of the classes.
        classes: their names, sorted.
        names: of the examples, with the last folder of each.
        digests: of the examples; empty for vectors.
    """

    format: int
    innerloop: str
    backbone: str | None
    backbone_version: str
    columns: int | None
    wanted: str
    unknown: float | Literal["auto"] | None
    head: str
    settings: dict[str, float]
    temperature: float
    threshold: float | None
    kind: Kind
    classes: list[str | int | float]
    names: list[str]
    digests: list[str]


def save_state(
    path: Path,
    state: State,
    *,
    backbone: str | None,
    version: str,
    thumbnails: bool = False,
) -> None:
    """Write a classifier, as one file where its name ends as `SUFFIXES` do, else as a folder.

    Raises:
        ConfigError: if something else lies there.
        DiskError: if it cannot be written.
    """
    refuse_taken(path)
    contents = _contents(state, backbone, version, thumbnails)
    sums = "".join(f"{_sha256(content)}  {name}\n" for name, content in sorted(contents.items()))
    contents[SUMS] = sums.encode()
    if path.suffix.lower() in SUFFIXES:
        write_atomic(path, _archive(contents))
    else:
        with disk_errors(str(path)):
            for left in (path / "thumbnails").glob("*.jpg"):  # of a former classifier
                left.unlink()
        write_folder(path, contents)


def _contents(
    state: State,
    backbone: str | None,
    version: str,
    thumbnails: bool,
) -> dict[str, bytes]:
    kind, classes = _as_json(state.classes)
    header = Header(
        FORMAT,
        __version__,
        backbone,
        version,
        len(state.scale.mean) if state.scale else None,
        state.wanted,
        state.unknown,
        state.head.kind,
        state.head.settings,
        state.temperature,
        state.threshold,
        kind,
        classes,
        [short_name(name) for name in state.kept.names],
        list(state.kept.digests),
    )
    examples = {"codes": state.kept.codes, "labels": state.kept.labels.astype(np.int32)}
    if state.scale:
        examples |= {"mean": state.scale.mean, "spread": state.scale.spread}
    head = {name: tensor.float().numpy() for name, tensor in state.head.tensors.items()}
    files = {
        "classifier.json": json_text(msgspec.to_builtins(header)).encode(),
        "examples.safetensors": save(_contiguous(examples)),
        "head.safetensors": save(_contiguous(head)),
        "README.md": card(state, backbone).encode(),
    }
    if thumbnails:
        for place, picture in enumerate(state.kept.thumbnails):
            if picture:
                files[f"thumbnails/{place:06d}.jpg"] = picture
    return files


def _contiguous(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _as_json(classes: np.ndarray) -> tuple[Kind, Any]:
    values = classes.tolist()
    if all(isinstance(of, str) for of in values):
        return "text", values
    if all(isinstance(of, int) for of in values):
        return "whole", [int(of) for of in values]
    if all(isinstance(of, int | float) for of in values):
        return "number", [float(of) for of in values]
    raise DataError(
        f"Classes of type {type(values[0]).__name__} cannot be saved: call them by texts or "
        "numbers."
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _archive(contents: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in sorted(contents.items()):
            entry = zipfile.ZipInfo(name, WHEN)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def load_state(path: Path) -> tuple[State, Header]:
    """Read what `save_state` wrote, trusting nothing.

    Raises:
        DataError: if it is not there, is damaged, was changed, or is of another version.
    """
    if not path.exists():
        raise DataError(f"There is no classifier {str(path)!r}: innerloop adapt makes one.")
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
    if _sha256(content) != digest:
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
