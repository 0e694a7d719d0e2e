"""Names of what can be adapted in a trained network, and of the heads that it can be given."""

from typing import Literal

from torch import nn

from innerloop.core.errors import ConfigError
from innerloop.networks.base import blocks_of, parameters_under

Parts = Literal["own", "head", "head+1", "head+2", "head+3", "all", "body"]
"""What takes inner steps: what the method itself adapts, the head, it and the last blocks,
everything, or the body."""

Head = Literal["gradient", "logistic", "cosine"]
"""How a head is found on frozen features: some gradient steps, a converged logistic regression, or
prototypes."""

HeadInit = Literal["zero", "glorot"]
"""Where a new head starts: at zero, or at uniform weights, the same draw in every episode."""

PARTS: tuple[Parts, ...] = ("own", "head", "head+1", "head+2", "head+3", "all", "body")


def refuse_steps_beside(head: Head, parts: Parts) -> None:
    """Raise `ConfigError` if more than the head is to be adapted by a head in closed form."""
    if head != "gradient" and parts != "head":
        raise ConfigError(
            f"A {head} head is found on frozen features: it adapts the head alone, not {parts!r}."
        )


def submodules(model: nn.Module, parts: Parts) -> list[str] | None:
    """Names of the submodules that take inner steps; None: all of the network.

    Raises:
        ConfigError: if the network's parts have no names, or it has fewer blocks.
    """
    blocks = [names for names in blocks_of(model).values() if parameters_under(model, names)]
    if parts in ("own", "all"):
        return None
    if parts == "body":
        return [name for block in blocks for name in block]
    count = int(parts.partition("+")[2] or 0)
    if count > len(blocks):
        raise ConfigError(f"{type(model).__name__} has {len(blocks)} blocks: {parts} is too many.")
    return ["head", *(name for block in blocks[len(blocks) - count :] for name in block)]
