"""Stand-ins for a GPU: operations that are recorded and replayed, and a guard against waiting."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = (
    "aten::_local_scalar_dense",
    "aten::equal",
    "aten::is_nonzero",
    "aten::item",
    "aten::masked_select",
    "aten::nonzero",
    "aten::unique_dim",
    "aten::_unique2",
)
"""Operations for whose result, or its shape, the CPU would wait for a GPU."""


def name_of(operation: Any) -> str:
    return operation.name().partition(".")[0]


class NoWaiting(TorchDispatchMode):
    """Within it an operation that would wait for a device fails, as in a CUDA graph."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if name_of(func) in WAITING:
            raise RuntimeError(f"{func.name()} waits for the device")
        if name_of(func) == "aten::index" and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
            for index in args[1]
        ):
            raise RuntimeError("indexing by a mask waits for the device")
        return func(*args, **(kwargs or {}))


class _Tape(NoWaiting):
    """Keeps every operation with its tensors, and what they held before they were changed."""

    def __init__(self):
        super().__init__()
        self.operations: list[tuple[Any, tuple, dict, list[Tensor]]] = []
        self.before: list[tuple[Tensor, Tensor]] = []
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in pytree.tree_leaves(value):
                    self._keep(tensor)
        results = super().__torch_dispatch__(func, types, args, kwargs)
        given = {storage(value) for value in pytree.tree_leaves((args, kwargs)) if is_tensor(value)}
        # Views and what was changed in place hold new values by themselves.
        fresh = [
            value
            for value in pytree.tree_leaves(results)
            if is_tensor(value) and storage(value) not in given
        ]
        self._known |= {storage(value) for value in fresh}
        self.operations.append((func, args, kwargs, fresh))
        return results

    def _keep(self, tensor: Any) -> None:
        if is_tensor(tensor) and storage(tensor) not in self._known:
            self._known.add(storage(tensor))
            whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
            self.before.append((whole, whole.clone()))


def is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def recorded(compute: Callable[[], None]) -> Callable[[], None]:
    """As a CUDA graph: the operations as they are now, on the very tensors; computed by the replay.

    Python is not looked at again, and numbers of Python stay what they are. As there, the
    operations are computed once before they are recorded.
    """
    compute()
    with _Tape() as tape:
        compute()
    with torch.no_grad():
        for tensor, value in tape.before:
            tensor.copy_(value)

    @torch.no_grad()
    def replay() -> None:
        for func, args, kwargs, fresh in tape.operations:
            results = func(*args, **kwargs)
            again = [value for value in pytree.tree_leaves(results) if is_tensor(value)]
            if fresh:
                places = iter(fresh)
                for value in again:
                    if storage(value) not in tape_inputs(args, kwargs):
                        next(places).copy_(value)

    return replay


def tape_inputs(args: tuple, kwargs: dict) -> set[int]:
    return {storage(value) for value in pytree.tree_leaves((args, kwargs)) if is_tensor(value)}
