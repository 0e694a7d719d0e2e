"""Which engine computes a network, and why."""

from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import nn

from innerloop.core.errors import ConfigError
from innerloop.fast_weights.fused_gpu import architecture as fused_gpu
from innerloop.fast_weights.fused_gpu.network import GpuNetwork
from innerloop.fast_weights.network import Network
from innerloop.fast_weights.precision import Wanted, precision_of
from innerloop.networks.conv4 import Conv4

Engine = Literal["auto", "reference", "fused"]
"""``reference``: PyTorch's own operations, for any network. ``fused``: `Conv4` by kernels on a CPU,
and on a CUDA device by passes for all episodes at once. ``auto``: fused where it applies."""


METHODS = ("forward", "embed")
"""What the kernels compute of a network: logits and features."""


def why_reference(
    model: nn.Module, engine: Engine, device: str | None = None, method: str = "forward"
) -> str | None:
    """Why a network is computed by the reference, to go on after "because"; None if it is not.

    Args:
        model: any module.
        engine: which one is wanted.
        device: where it will be computed; None: where it is.
        method: what will be called.
    """
    if engine == "reference":
        return "it was asked for"
    if method not in METHODS:
        return f"its kernels give logits and features, and no {method}"
    if _is_on_gpu(model, device):
        return fused_gpu.why_not(model)
    if device is not None and device != "cpu":
        return f"it is computed on {device}"
    try:
        from innerloop.fast_weights.fused_cpu.architecture import why_not
    except Exception as error:  # whatever a broken installation of numba raises
        return f"numba cannot be used ({type(error).__name__}: {error})"
    return why_not(model)


def _is_on_gpu(model: nn.Module, device: str | None) -> bool:
    """Whether a network is computed on a CUDA device."""
    if device is None:
        device = next((of.device.type for of in model.parameters()), "cpu")
    return torch.device(device).type == "cuda"


_threads = 0
"""Of the fused engine; 0: as many as PyTorch has."""


def threads() -> int:
    """How many threads compute."""
    return _threads or torch.get_num_threads()


def use_threads(number: int, engine: Engine) -> None:
    """Let so many threads compute, in this process.

    The fused engine has them for episodes, and PyTorch then none besides: its sums would depend on
    their number.
    """
    global _threads
    _threads = number if engine == "fused" else 0
    torch.set_num_threads(1 if engine == "fused" else number)


def make_ready(model: nn.Module, say: Callable[[str], None]) -> None:
    """Compile the fused kernels of a network, or load them; told is what is being waited for."""
    from innerloop.fast_weights.fused_cpu.ready import make_ready

    make_ready(cast(Conv4, model), say)


def network_of(
    model: nn.Module, engine: Engine, method: str = "forward", precision: Wanted = "auto"
) -> Network:
    """A network to be called with each episode's own weights, by the engine that applies.

    Args:
        model: any module.
        engine: which one is wanted.
        method: what to call, for instance ``embed``.
        precision: of products of matrices, by the fused engine on a GPU.

    Raises:
        ConfigError: if the module cannot be copied, or ``fused`` does not apply.
    """
    because = why_reference(model, engine, method=method)
    if because is None and _is_on_gpu(model, None):
        return GpuNetwork(cast(Conv4, model), method, precision_of(precision))
    if because is None:
        from innerloop.fast_weights.fused_cpu.network import FusedNetwork

        return FusedNetwork(cast(Conv4, model), method)
    if engine == "fused":
        raise ConfigError(f"The fused engine does not apply, because {because}.")
    return Network(model, method)
