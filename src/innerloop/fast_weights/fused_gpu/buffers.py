"""Weights of an episode side by side in one buffer, so that one operation changes them all.

A convolution's weights lie as its product takes them, (9 x inputs, outputs), tap after tap; as a
tensor that is (outputs, inputs, 3, 3) with other strides than usual. Body and head have a buffer
each, since a new head is no part of what is learnt.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

CONVOLUTION = 4
"""Dimensions of a convolution's weights."""


def taps_of(weight: Tensor) -> Tensor:
    """(..., outputs, inputs, 3, 3) as (..., 9 x inputs, outputs); a view where it lies so."""
    return weight.movedim((-4, -3), (-1, -2)).flatten(-4, -2)


def from_taps(taps: Tensor) -> Tensor:
    """The inverse of `taps_of`, a view."""
    return taps.unflatten(-2, (3, 3, -1)).movedim((-1, -2), (-4, -3))


def in_one_buffer(tensors: Sequence[Tensor]) -> Tensor:
    """(E, ...) each, side by side: (E, all of their numbers)."""
    return torch.cat([of.flatten(1) for of in tensors], dim=1)


def from_one_buffer(buffer: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The tensors of a buffer (E, all of their numbers), views of the shapes that others have.

    Args:
        buffer: convolutions in it lie tap after tap.
        like: (E, *shape) each.
    """
    parts = buffer.split([of[0].numel() for of in like], dim=1)
    return [_as(of.shape[1:], part) for part, of in zip(parts, like, strict=True)]


def _as(shape: torch.Size, part: Tensor) -> Tensor:
    if len(shape) != CONVOLUTION:
        return part.unflatten(1, shape)
    outputs, inputs = shape[:2]
    return from_taps(part.unflatten(1, (9 * inputs, outputs)))


def laid_out(params: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Parameters with those of some names in one buffer; differentiable, the same numbers.

    Args:
        params: *shape each.
        names: in the order in which they lie; those that are no parameters are passed over.
    """
    chosen = {name: params[name][None] for name in names if name in params}
    if not chosen:
        return dict(params)
    parts = [taps_of(of) if of.ndim == 1 + CONVOLUTION else of for of in chosen.values()]
    views = from_one_buffer(in_one_buffer(parts), list(chosen.values()))
    return dict(params) | {name: of[0] for name, of in zip(chosen, views, strict=True)}


def shared_steps(
    weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], lr: float
) -> dict[str, Tensor]:
    """One step of gradient descent of all weights that lie in a buffer, in one operation each.

    Args:
        weights: (E, *shape) each.
        gradients: under the same names.
        lr: the rate.

    Returns:
        Those weights after the step, in new buffers; the others are left out.
    """
    groups: dict[int, list[str]] = {}
    for name in sorted(weights, key=lambda name: weights[name].storage_offset()):
        groups.setdefault(id(weights[name]._base), []).append(name)
    stepped: dict[str, Tensor] = {}
    for names in groups.values():
        here = [weights[name] for name in names]
        there = [gradients[name] for name in names]
        buffer, gradient = _buffer_of(here), _buffer_of(there)
        if buffer is None or gradient is None or not _lie_alike(here, there):
            continue
        size = buffer.shape[1]
        if sum(of[0].numel() for of in here) == size <= gradient.shape[1]:
            after = torch.add(buffer, gradient[:, :size], alpha=-lr)
            stepped |= zip(names, from_one_buffer(after, there), strict=True)
    return stepped


def _buffer_of(tensors: Sequence[Tensor]) -> Tensor | None:
    """The buffer (E or 1, numbers) of which tensors (E, *shape) are the first numbers."""
    buffer = tensors[0]._base
    if buffer is None or buffer.ndim != 2 or not buffer.is_contiguous():
        return None
    start = buffer.storage_offset()
    for of in tensors:
        if of._base is not buffer or of.storage_offset() != start or not _is_dense(of[0]):
            return None
        # Episodes lie one after the other, or are all the same.
        if len(of) > 1 and of.stride(0) != (buffer.stride(0) if len(buffer) > 1 else 0):
            return None
        start += of[0].numel()
    return buffer


def _is_dense(tensor: Tensor) -> bool:
    """Whether a tensor has every number between its first and its last once."""
    reach = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return 0 not in tensor.shape and 1 + reach == tensor.numel()


def _lie_alike(ones: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Whether within an episode numbers of the same index have the same place."""
    pairs = zip(ones, others, strict=True)
    return all(a[0].shape == b[0].shape and _steps(a[0]) == _steps(b[0]) for a, b in pairs)


def _steps(tensor: Tensor) -> list[int]:
    """Strides along dimensions of more than one number; others mean nothing."""
    pairs = zip(tensor.stride(), tensor.shape, strict=True)
    return [step for step, size in pairs if size > 1]
