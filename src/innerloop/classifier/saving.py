"""A classifier on the disk: a folder, or the same files in one zip. Never pickle.

::

    classifier.json  examples.safetensors  head.safetensors  README.md  SHA256SUMS  [thumbnails/...]

`innerloop.classifier.loading` reads them.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from safetensors.numpy import save

from innerloop.classifier.card import card
from innerloop.classifier.pictures import short_name
from innerloop.classifier.places import SUFFIXES, SUMS, refuse_taken
from innerloop.classifier.state import State
from innerloop.core.errors import DataError
from innerloop.core.files import disk_errors, json_text, write_atomic, write_folder
from innerloop.core.version import __version__

FORMAT = 1
"""Of the files; another number when they change."""
WHEN = (2020, 1, 1, 0, 0, 0)
"""In archives, so that the same classifier is the same bytes."""

Kind = Literal["text", "whole", "number"]
"""What classes are called by."""


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
