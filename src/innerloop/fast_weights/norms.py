"""What the batch norms of a module normalise by in a call, and what they saw in it.

The module's own code calls its layers, without statistics: hooks add and measure them.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from innerloop.networks.batch_norm import (
    BatchNorm2d,
    Moments,
    Statistics,
    Stored,
    in_one,
    of_pass,
    several_passes,
)


@contextmanager
def normalising_by(
    layers: Mapping[str, BatchNorm2d], statistics: Statistics | Stored | None
) -> Iterator[None]:
    """Within the context the layers are called with these statistics.

    Args:
        layers: by name.
        statistics: None, each pass's own; given moments (channels,) by layer; or what the layers
            keep. A layer that is not named has its own.

    Raises:
        ConfigError: if a layer runs again where its running statistics are to move.
    """

    def giving(name: str, value: Moments | Stored):
        passes = itertools.count()

        def hook(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]):
            number = next(passes)
            if number and value == "update":
                raise several_passes(name)
            return inputs, named | {"statistics": of_pass(value, number)}

        return hook

    with ExitStack() as hooks:
        for name, layer in layers.items() if statistics is not None else ():
            value = statistics.get(name) if isinstance(statistics, dict) else statistics
            if value is not None:
                hook = giving(name, value)
                hooks.enter_context(layer.register_forward_pre_hook(hook, with_kwargs=True))
        yield


@contextmanager
def measuring(
    layers: Mapping[str, BatchNorm2d], measure: Callable[[Tensor], Moments]
) -> Iterator[Statistics]:
    """Within the context every layer's input leaves its moments; they are in the dict after."""
    seen: Statistics = {}
    passes: dict[str, list[Moments]] = {}

    def measuring_of(name: str):
        def hook(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            passes.setdefault(name, []).append(measure(inputs[0] if inputs else named["x"]))

        return hook

    with ExitStack() as hooks:
        for name, layer in layers.items():
            hook = measuring_of(name)
            hooks.enter_context(layer.register_forward_pre_hook(hook, with_kwargs=True))
        yield seen
    seen |= {name: in_one(of) for name, of in passes.items()}
