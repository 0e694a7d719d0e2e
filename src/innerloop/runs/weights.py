"""Weight files: safetensors with a checksum, read as untrusted input. Never pickle."""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from innerloop.core.errors import DataError, NonFiniteError
from innerloop.core.files import write_atomic

if TYPE_CHECKING:
    from torch import Tensor


def save_weights(
    path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors by name, atomically, with a checksum over names, shapes and bytes.

    Raises:
        NonFiniteError: if a tensor holds NaN or infinity; nothing is written.
        DiskError: if the file cannot be written.
    """
    import torch
    from safetensors.torch import save

    # safetensors takes contiguous tensors alone, and weights that lie channels-last are none; nor
    # does it take tied ones, which share their memory: each name gets a copy.
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    if broken := [name for name, tensor in plain.items() if not bool(tensor.isfinite().all())]:
        raise NonFiniteError(f"{path.name} is not saved: {broken[0]!r} holds NaN or infinity.")
    write_atomic(path, _in_order(save(plain, dict(metadata or {}) | {"sha256": _digest(plain)})))


def load_weights(
    path: Path,
    expected: Mapping[str, "Tensor"] | None = None,
    *,
    spare: Collection[str] = (),
) -> dict[str, "Tensor"]:
    """Read what `save_weights` wrote, trusting nothing.

    Args:
        path: the file.
        expected: tensors that the file must hold by name, shape and kind; None takes any.
        spare: names of those that it may lack.

    Raises:
        DataError: if it is not a safetensors file, was changed, holds NaN or infinity, or does not
            fit.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read the weights {path}: {error.strerror}.") from error
    try:
        # The whole header is parsed by the library; only its free-text part is needed here.
        tensors = load(content)
        metadata = (
            json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__")
            or {}
        )
    except (
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
        MemoryError,
        RuntimeError,
    ) as error:
        raise DataError(
            f"{path} is not a safetensors file, or it is damaged ({error}). Pickled weights "
            "(.pt, .pth) are never read, since they can run code."
        ) from error
    if expected is not None:
        needed = {
            name: tensor
            for name, tensor in expected.items()
            if name in tensors or name not in spare
        }
        _refuse_misfits(path, tensors, needed)
    if metadata.get("sha256") != _digest(tensors):
        raise DataError(
            f"{path} was changed after it was saved: its checksum does not match its content."
        )
    for name, tensor in tensors.items():
        # The checksum says that nothing changed, and not that what was written was sound.
        if not bool(torch.isfinite(tensor).all()):
            raise DataError(f"{path}: tensor {name!r} holds NaN or infinity.")
    return tensors


def weights_settings(path: Path) -> tuple[str, str] | None:
    """The method and the text of the settings that a weight file names, or None if it names none.

    Raises:
        DataError: if it is no weight file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(f"{path} is no safetensors file, or it is damaged ({error}).") from error
    if "method" not in metadata or "config" not in metadata:
        return None
    return metadata["method"], metadata["config"]


def _in_order(content: bytes) -> bytes:
    """The file with a sorted header: the library's order is random; equal runs make equal files."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # so that tensors stay aligned in the file
    return len(header).to_bytes(8, "little") + header + content[end:]


def _refuse_misfits(
    path: Path, tensors: Mapping[str, "Tensor"], expected: Mapping[str, "Tensor"]
) -> None:
    if missing := sorted(expected.keys() - tensors.keys()):
        raise DataError(
            f"{path} lacks tensor {missing[0]!r}: it belongs to another network or method."
        )
    if foreign := sorted(tensors.keys() - expected.keys()):
        raise DataError(
            f"{path} holds a foreign tensor {foreign[0]!r}: it belongs to another network or "
            "method."
        )
    for name, tensor in tensors.items():
        stored = (tensor.shape, tensor.dtype)
        wanted = (expected[name].shape, expected[name].dtype)
        if stored != wanted:
            raise DataError(
                f"{path}: tensor {name!r} is {tuple(stored[0])} {stored[1]} and the network needs "
                f"{tuple(wanted[0])} {wanted[1]}."
            )


def _digest(tensors: Mapping[str, "Tensor"]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype}\n".encode())
        digest.update(tensor.reshape(-1).view(_byte()).numpy().data)
    return digest.hexdigest()


def _byte():
    import torch

    return torch.uint8
