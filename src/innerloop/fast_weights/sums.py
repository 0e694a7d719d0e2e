"""Sums over episodes whose bits do not depend on how the episodes are divided.

Episodes 0 ... B - 1 are the leaves of a tree: neighbours 2i and 2i + 1 are added, then their sums,
level by level; a last one without a neighbour goes up as it is. A block of 2^l episodes that begins
at a multiple of 2^l is node (l, number) of that tree, whoever adds it up: chunks of any size, and
processes with slices of any size, so end with the same bits.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")

Node = tuple[int, int]
"""Level and number."""


def tree_sum(values: Tensor) -> Tensor:
    """The sum (...) over the first dimension of (E, ...), in the order of the tree."""
    while len(values) > 1:
        even = len(values) // 2 * 2
        sums = values[0:even:2] + values[1:even:2]
        values = torch.cat([sums, values[even:]]) if even < len(values) else sums
    return values[0]


def tree_mean(values: Tensor) -> Tensor:
    """The mean () of (E,), one value an episode."""
    return tree_sum(values) / len(values)


class Shared(torch.autograd.Function):
    """θ (...) as each of E episodes has it, (E, ...): a view, whose gradient is a `tree_sum`."""

    @staticmethod
    def forward(weight: Tensor, episodes: int) -> Tensor:
        """Nothing is copied."""
        return weight.expand(episodes, *weight.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The sum over the episodes."""
        return tree_sum(gradient), None


def shared(weight: Tensor, episodes: int) -> Tensor:
    """θ (...) as each of E episodes has it, (E, ...); see `Shared`."""
    if not torch.is_grad_enabled():
        # A view by a function of ours would still say that it has a graph.
        return weight.detach().expand(episodes, *weight.shape)
    return Shared.apply(weight, episodes)  # pyright: ignore[reportReturnType]


def blocks(start: int, stop: int, total: int, most: int) -> list[range]:
    """Episodes ``start`` to ``stop`` of ``total`` in blocks of which each is a node, in order.

    Args:
        start: the first episode.
        stop: one beyond the last.
        total: episodes of the tree, B.
        most: how many may be in a block. All B are one where they are no more than that.
    """
    if (start, stop) == (0, total) and total <= most:
        return [range(total)] if total else []
    found = []
    while start < stop:
        size = 1
        while 2 * size <= min(most, stop - start) and start % (2 * size) == 0:
            size *= 2
        found.append(range(start, start + size))
        start += size
    return found


def node_of(block: range, total: int) -> Node:
    """Which node of the tree over ``total`` episodes a block of `blocks` is."""
    level = (len(block) - 1).bit_length() if len(block) < total else (total - 1).bit_length()
    return level, block.start >> level


def insert(
    nodes: dict[Node, Value], node: Node, value: Value, add: Callable[[Value, Value], Value]
) -> None:
    """Put a node among others, and add up what then has its neighbour: few are left at any time."""
    level, number = node
    while number % 2 and (level, number - 1) in nodes:
        value = add(nodes.pop((level, number - 1)), value)
        level, number = level + 1, number // 2
    nodes[level, number] = value


def merged(nodes: dict[Node, Value], total: int, add: Callable[[Value, Value], Value]) -> Value:
    """The root of the tree over ``total`` episodes, of nodes that cover all of them once."""
    waiting = dict(nodes)
    for level in range((total - 1).bit_length()):
        there = -(-total >> level)  # nodes of this level
        for of, number in sorted(node for node in waiting if node[0] == level):
            if number % 2 == 0:
                value = waiting.pop((of, number))
                if number + 1 < there:
                    value = add(value, waiting.pop((of, number + 1)))
                waiting[of + 1, number // 2] = value
    (root,) = waiting.values()
    return root
