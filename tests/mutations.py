"""Ways to damage a configuration or a weight file, shared by the tests and `benchmarks/fuzz.py`.

A ``check_*`` function reads one damaged file and says which of innerloop's own errors came out, or
``loaded``; anything else that comes out is a bug and passes through.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from innerloop.core.errors import ConfigError, DataError
from innerloop.methods.catalogue import load_config, read_config, settings_of
from innerloop.runs.weights import load_weights, save_weights

CONFIG = settings_of(
    "fomaml", data="strokes", split="alphabets", device="cpu", threads=1, episodes_per_chunk=1
)
TENSORS = {
    "head.weight": torch.arange(12.0).view(3, 4) / 7,
    "head.bias": torch.tensor([0.5, -0.25, 1.0]),
}

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**300, 10**400)
    | st.floats()
    | st.text(st.characters(), max_size=12)
    | st.sampled_from(["fomaml", "auto", "cpu", "", " ", "\ud800", "os:path", "1", "true"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def damaged_bytes(draw: st.DrawFn, original: bytes) -> bytes:
    """One to four flips, cuts, insertions, repetitions and overwritten stretches."""
    content = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        width = draw(st.integers(1, 16))
        match draw(st.sampled_from(["flip", "cut", "remove", "insert", "repeat", "overwrite"])):
            case "flip" if place < len(content):
                content[place] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del content[place:]
            case "remove":
                del content[place : place + width]
            case "insert":
                content[place:place] = draw(st.binary(min_size=1, max_size=16))
            case "repeat":
                content[place:place] = content[place : place + width]
            case "overwrite":
                content[place : place + width] = draw(st.binary(min_size=width, max_size=width))
    return bytes(content)


@st.composite
def damaged_object(draw: st.DrawFn, original: Mapping[str, Any]) -> Any:
    """A JSON object with one to three entries replaced, dropped, renamed or added, or another value
    instead."""
    values: dict[str, Any] = dict(original)
    if draw(st.integers(0, 15)) == 0:
        return draw(JSON_VALUES)
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(original)))
        match draw(st.sampled_from(["replace", "drop", "rename", "add"])):
            case "replace":
                values[name] = draw(JSON_VALUES)
            case "drop":
                values.pop(name, None)
            case "rename":
                values[name + draw(st.text(max_size=3))] = values.pop(name, None)
            case "add":
                values[draw(st.text(max_size=8))] = draw(JSON_VALUES)
    return values


def damaged_configs() -> st.SearchStrategy[bytes]:
    """``config.json``, damaged as bytes or as an object; also nested beyond any parser's
    patience."""
    text = CONFIG.to_json()
    deep = st.integers(1, 200_000).map(lambda depth: b"[" * depth)
    deep_value = st.integers(1, 3_000).map(
        lambda depth: text.replace('"fomaml"', "[" * depth + "]" * depth).encode(),
    )
    as_object = damaged_object(json.loads(text)).map(lambda values: json.dumps(values).encode())
    return st.one_of(damaged_bytes(text.encode()), as_object, as_object, deep | deep_value)


def weight_file(folder: Path) -> bytes:
    """The bytes of a good weight file, written into a folder."""
    save_weights(folder / "good.safetensors", TENSORS, {"method": "fomaml"})
    return (folder / "good.safetensors").read_bytes()


def damaged_weights(original: bytes) -> st.SearchStrategy[bytes]:
    """A weight file, damaged as bytes, in its header's entries, or in the header's length."""
    end = 8 + int.from_bytes(original[:8], "little")
    header = json.loads(original[8:end])
    parts = st.one_of(
        damaged_object(header),
        st.sampled_from(sorted(header)).flatmap(
            lambda name: damaged_object(header[name]).map(lambda entry: header | {name: entry})
        ),
    )

    def with_header(values: Any) -> bytes:
        text = json.dumps(values).encode()
        return len(text).to_bytes(8, "little") + text + original[end:]

    lengths = st.integers(0, 2**64 - 1).map(
        lambda length: length.to_bytes(8, "little") + original[8:]
    )
    return st.one_of(damaged_bytes(original), parts.map(with_header), lengths)


def check_config(content: bytes, path: Path) -> str:
    """Read a damaged configuration. One that loads must be whole: written again it reads as the
    same settings."""
    path.write_bytes(content)
    try:
        config = load_config(path)
    except ConfigError as error:
        _assert_one_sentence(error)
        return type(error).__name__
    assert read_config(config.to_json()) == config
    return "loaded"


def check_weights(content: bytes, path: Path, expected: Mapping[str, Tensor] | None) -> str:
    """Read damaged weights. Those that load must be the saved tensors, to the bit."""
    path.write_bytes(content)
    try:
        tensors = load_weights(path, expected)
    except DataError as error:
        _assert_one_sentence(error)
        return type(error).__name__
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    return "loaded"


def _assert_one_sentence(error: Exception) -> None:
    text = str(error)
    assert text.endswith((".", "?")) and len(text) < 1000, text
