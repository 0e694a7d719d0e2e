"""What a training without a run directory is known by, where it goes on from a checkpoint."""

import hashlib
import types
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages

MODULE_STATE = {"training", *vars(nn.Module())}
"""What torch keeps in every module beside what a learner is set to."""


class Sampler(Protocol):
    """What a learner is trained on: counted episodes, or counted mini-batches of images."""

    def batch(self, start: int, count: int, /) -> EpisodeBatch | LabelledImages:
        """Numbers ``start`` to ``start + count - 1``, the same whenever they are asked for."""
        ...


def identity_of(learner: nn.Module) -> dict[str, Any]:
    """The class of a learner, its layers, and its settings, as JSON has them.

    Settings are its public attributes: numbers, texts, arrays, functions by their names, tuples and
    dataclasses of such; of other objects it is the class alone. What begins with an underscore is
    a state, which checkpoints hold or which follows from the rest.
    """
    settings = {
        f"the learner's {name}": _as_json(value)
        for name, value in vars(learner).items()
        if not name.startswith("_") and name not in MODULE_STATE
    }
    return {
        "the learner": _name_of(type(learner)),
        "the learner's layers": repr(learner),
    } | settings


def fingerprint_of(sampler: Sampler) -> str | None:
    """A hash of what a sampler gives first; None where it gives another each time it is asked."""
    first, again = (_digest(sampler.batch(0, 1)) for _ in range(2))
    return first if first == again else None


def differing(before: Any, now: Any) -> tuple[str, str]:
    """Both values in words; of texts of several lines the first lines that differ."""
    if isinstance(before, str) and isinstance(now, str):
        lines = zip(f"{before}\n".splitlines(), f"{now}\n".splitlines(), strict=False)
        for one, other in lines:
            if one != other:
                return repr(one.strip()), repr(other.strip())
        return f"{len(before.splitlines())} lines", f"{len(now.splitlines())} lines"
    return repr(before), repr(now)


def _digest(batch: EpisodeBatch | LabelledImages) -> str:
    parts = [batch] if isinstance(batch, LabelledImages) else [batch.support, batch.query]
    digest = hashlib.sha256()
    for part in parts:
        for tensor in (part.images, part.labels):
            digest.update(_of_tensor(tensor).encode())
    return digest.hexdigest()


def _of_tensor(tensor: Tensor) -> str:
    """A hash of what a tensor holds, and of its type and shape."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    described = f"{tensor.dtype}{tuple(tensor.shape)}".encode()
    return hashlib.sha256(described + flat.numpy().tobytes()).hexdigest()


def _as_json(value: Any) -> Any:
    """A setting as a checkpoint of it is read; of what has no such form the class alone."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return _of_tensor(value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        return _of_tensor(torch.from_numpy(np.array(value)))
    if isinstance(value, list | tuple):
        return [_as_json(one) for one in value]
    if isinstance(value, Mapping):
        return {str(name): _as_json(one) for name, one in value.items()}
    if isinstance(value, partial):
        return [_as_json(value.func), _as_json(value.args), _as_json(value.keywords)]
    if is_dataclass(value) and not isinstance(value, type):
        return [_name_of(type(value)), _as_json(asdict(value))]
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return _name_of(value)
    return _name_of(type(value))


def _name_of(what: Any) -> str:
    return f"{what.__module__}.{what.__qualname__}"
