"""A private copy of a network: another module tree around the same parameters."""

import copy
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.core.errors import ConfigError
from innerloop.networks.batch_norm import BatchNorm2d

_THEIR_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)
"""PyTorch's layers whose statistics on a CPU are off by up to 1e-4 in channels_last."""


class _Absent(nn.Parameter):
    """Stands, between the calls, where a parameter was that comes with every call."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Only activation checkpointing computes between calls: with the model's own parameters it
        # would give the gradient at θ instead of at φ, without a word.
        raise ConfigError(
            "The network computes parts of its forward pass again in the backward pass, when the "
            "weights of the episode are no longer in it: do without activation checkpointing "
            "(torch.utils.checkpoint), and take fewer episodes at once."
        )


class PrivateCopy:
    """A copy of a module tree, to be called with other weights than the model's.

    Parameters are the model's own, and so are the running statistics of `BatchNorm2d`; other
    buffers are copies, so that no forward pass can change the model's.

    Args:
        model: any module.

    Attributes:
        module: the copy.

    Raises:
        ConfigError: if it cannot be made, with the attribute in the way.
    """

    def __init__(self, model: nn.Module):
        self.module = private_copy(model, _copied_buffers(model))
        self._lent: frozenset[str] = frozenset()
        # A tied parameter has one name and several places.
        self._places: dict[nn.Parameter, list[tuple[nn.Module, str]]] = {}
        self._buffers: list[tuple[nn.Module, str, Tensor, int]] = []
        for module in self.module.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    self._places.setdefault(parameter, []).append((module, name))
            for name, buffer in module._buffers.items():
                if buffer is not None and not isinstance(module, BatchNorm2d):
                    self._buffers.append((module, name, buffer, version(buffer)))
            if isinstance(module, _THEIR_NORMS):
                module.register_forward_pre_hook(_in_default_layout)
        self._own = dict(self.module.named_parameters())

    def lend(self, names: Iterable[str]) -> None:
        """Take the parameters of these names out of the copy: they come with the next calls."""
        if (names := frozenset(names)) == self._lent:
            return
        for name, parameter in self._own.items():
            held = _Absent(torch.empty(0)) if name in names else parameter
            for module, key in self._places[parameter]:
                module._parameters[key] = held
        self._lent = names

    def refuse_changed_buffers(self) -> None:
        """Raise `ConfigError` if a call changed a buffer: episodes would leak into one another."""
        for module, name, buffer, before in self._buffers:
            if module._buffers[name] is not buffer or version(buffer) != before:
                raise ConfigError(changed_buffer(self._path_of(module, name)))

    def _path_of(self, module: nn.Module, name: str) -> str:
        path = next(path for path, other in self.module.named_modules() if other is module)
        return f"{path}.{name}" if path else name


def changed_buffer(name: str) -> str:
    """That a forward pass changes a buffer, and what to do."""
    return (
        f"Buffer {name!r} is changed by a forward pass, so episodes would leak into one another: "
        "keep no state in the forward pass, or compute it from the batch."
    )


def version(tensor: Tensor) -> int:
    """How often a tensor was written to; -1 of one made in inference mode, which does not count."""
    return -1 if tensor.is_inference() else tensor._version


class Snapshot:
    """What a tensor held, to tell later whether another, or the same one, holds it still.

    On a CPU its values are kept and compared: NumPy, and ``.data``, write without being counted.
    Elsewhere, where a comparison would wait for the device, it must be the very tensor, unwritten.

    Args:
        tensor: is read now.
    """

    def __init__(self, tensor: Tensor):
        by_values = tensor.device.type == "cpu"
        self._held = tensor.detach().clone() if by_values else tensor
        self._version = None if by_values else version(tensor)

    def is_of(self, tensor: Tensor) -> bool:
        """Whether the tensor holds what was there."""
        if self._version is not None:
            return self._held is tensor and self._version == version(tensor) != -1
        alike = (tensor.device, tensor.dtype) == (self._held.device, self._held.dtype)
        return alike and torch.equal(tensor, self._held)


def _copied_buffers(model: nn.Module) -> dict[int, Tensor]:
    return {
        id(buffer): buffer.detach().clone()
        for module in model.modules()
        if not isinstance(module, BatchNorm2d)
        for buffer in module._buffers.values()
        if buffer is not None
    }


def _in_default_layout(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    first, *others = inputs
    return (first.contiguous(), *others)


def private_copy(model: nn.Module, instead: Mapping[int, Any] | None = None) -> nn.Module:
    """A copy of a module tree around the same parameters and buffers.

    Args:
        model: any module.
        instead: id of a part of it -> what stands in the copy in its place.

    Raises:
        ConfigError: if it cannot be made, with the attribute in the way.
    """
    memo: dict[int, Any] = {id(value): value for value in [*model.parameters(), *model.buffers()]}
    memo |= instead or {}
    for module in model.modules():
        for value in vars(module).values():
            # These types exactly: a subclass may hold more than its items.
            if type(value) in (OrderedDict, dict, set) and not value:  # mostly hooks it lacks
                memo[id(value)] = type(value)()  # quicker than what deepcopy does
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # whatever a user's own attribute raises
        raise ConfigError(_not_copied(model, error)) from error


def _not_copied(model: nn.Module, error: Exception) -> str:
    """Which attribute cannot be copied, and what to do."""
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute in ("_parameters", "_buffers", "_modules"):
                continue
            try:
                copy.deepcopy(value, {id(of): of for of in module.modules()})
            except Exception:
                path = f"{name}.{attribute}" if name else attribute
                kind = f"{type(value).__module__}.{type(value).__qualname__}"
                return (
                    f"The network cannot be copied, and every adaptation works on a copy: "
                    f"{path!r}, of type {kind}, is in the way. Make it where it is used, or detach "
                    "it if it is a tensor."
                )
    return (
        f"The network cannot be copied, and every adaptation works on a copy: {error}. Give "
        f"{type(model).__name__} attributes that copy.deepcopy can take."
    )
