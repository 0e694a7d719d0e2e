"""What in a user's own network would break meta-learning, as far as it is seen without images."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import CellType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from innerloop.core.errors import ConfigError

_WEIGHTS_BY_HOOK = (WeightNorm, SpectralNorm, BasePruningMethod)


def refuse_faults(model: nn.Module) -> None:
    """Raise `ConfigError` with the first of the `faults` of a network that a learner takes."""
    if found := faults(model):
        raise ConfigError(found[0])


def faults(model: nn.Module) -> list[str]:
    """What makes a learner refuse a network: a sentence each, with the remedy."""
    if not isinstance(model, nn.Module):
        got = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        return [f"A network is a torch.nn.Module, made already: got {got}."]
    # In this order: what has no values, or runs elsewhere, cannot be looked at any further.
    for kind in (_other_ways_to_run, _values, _functions, _held_parameters, _layers):
        if found := list(kind(model)):
            return found
    return []


def remarks(model: nn.Module) -> list[str]:
    """What a learner takes, and a user should know of: a sentence each."""
    frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    hooked = [
        name
        for name, module in model.named_modules()
        if module._forward_hooks or module._forward_pre_hooks
    ]
    return [
        *(
            f"Parameter {name!r} is frozen (requires_grad=False), so neither loop changes it: "
            "unfreeze it, unless that is what you want."
            for name in frozen
        ),
        *(
            f"Layer {name!r} normalises by its own batch only, so predictions of single images and "
            "batch_norm='support' are not possible: use innerloop.BatchNorm2d for both."
            for name in norms_by_batch_alone(model)
        ),
        *(
            f"Layer {name!r} has a hook, which runs in every pass of every episode: remove it, "
            "unless it keeps nothing."
            for name in hooked
        ),
    ]


def norms_by_batch_alone(model: nn.Module) -> list[str]:
    """Names of batch norms of PyTorch's own: statistics cannot be given to them."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and not module.track_running_stats
    ]


def refuse_random_layers(model: nn.Module) -> None:
    """Raise `ConfigError` if a layer draws random numbers in every pass, as dropout does."""
    for sentence in _random_layers(model):
        raise ConfigError(sentence)


def _other_ways_to_run(model: nn.Module) -> Iterator[str]:
    for name, module in model.named_modules():
        what = f"Layer {name!r}" if name else "The network"
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            yield f"{what} is wrapped in {type(module).__name__}: give its .module instead."
        elif isinstance(getattr(module, "_orig_mod", None), nn.Module):
            yield (
                f"{what} is compiled, and compiled code has no second derivatives: give the "
                "module that torch.compile was given."
            )
        elif isinstance(module, torch.jit.ScriptModule):
            yield f"{what} is a TorchScript module: give the Python module that it was made from."


def _values(model: nn.Module) -> Iterator[str]:
    """Faults of parameters and buffers as tensors."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, tensor in tensors.items():
        if sentence := _fault_of(tensor):
            yield f"{name!r} {sentence}"
            return
    floating = {name: t for name, t in model.named_parameters() if t.is_floating_point()}
    for what, of in (("type", _type_of), ("device", _device_of)):
        kinds = {of(tensor): name for name, tensor in floating.items()}
        if len(kinds) > 1:
            (one, first), (other, second), *_ = kinds.items()
            yield (
                f"Parameters have more than one {what}, {first!r} {one} and {second!r} {other}: "
                "bring the whole network to one with model.to(...)."
            )


def _type_of(tensor: Tensor) -> str:
    return str(tensor.dtype)


def _device_of(tensor: Tensor) -> str:
    return str(tensor.device)


def _fault_of(tensor: Tensor) -> str:
    """What is wrong with a parameter or buffer, as the end of a sentence; nothing if it is fine."""
    if is_lazy(tensor):
        return "is not initialised: call the network once on images, then give it to a learner."
    if tensor.is_meta:
        return "is on the meta device and has no values: load the weights first."
    if tensor.is_inference():
        return "was made in torch.inference_mode and has no gradient: make the network outside."
    if tensor.is_complex():
        return "is complex, and gradient steps are of real numbers: hold two real parameters."
    if tensor.dtype in (torch.float16, torch.bfloat16):
        return f"is {tensor.dtype}, too coarse for inner steps: call model.float()."
    if tensor.is_floating_point() and not bool(tensor.detach().isfinite().all()):
        return "holds NaN or infinity: load or initialise the weights again."
    return ""


def _functions(model: nn.Module) -> Iterator[str]:
    """Functions that hold a part of the network: a copy of it would go on calling this one."""
    parts = {id(part) for part in [*model.modules(), *model.parameters()]}
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            for held in _held_in(value):
                if isinstance(held, FunctionType) and parts & _held_by(held):
                    yield (
                        f"{attribute!r} of {name or type(model).__name__!r} is or has a function "
                        "that holds a part of the network, and would call that one with its own "
                        "weights, not the episode's: make it a method."
                    )


def _held_parameters(model: nn.Module) -> Iterator[str]:
    """Parameters of the network in a list or the like, where those of an episode never come."""
    parameters = {id(parameter): name for name, parameter in model.named_parameters()}
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            # PyTorch's own lists: those of a recurrent layer follow what is set.
            if attribute in ("_parameters", "_modules", "_buffers", "_flat_weights"):
                continue
            for held in _held_in(value):
                if id(held) in parameters:
                    yield (
                        f"{attribute!r} of {name or type(model).__name__!r} holds the parameter "
                        f"{parameters[id(held)]!r} as a plain value, which would stay as it is "
                        "while the episode's changes: use the layer's own, or keep it in a "
                        "torch.nn.ParameterList."
                    )
                    return


def _held_in(value: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """A value, and what a partial, a collection, a dataclass or slots hold, however deep."""
    seen = set() if seen is None else seen
    if id(value) in seen:  # what holds itself, or is held twice
        return
    seen.add(id(value))
    yield value
    held: Iterable[Any] = ()
    if isinstance(value, partial):
        held = (value.func, value.args, value.keywords)
    elif isinstance(value, dict):
        held = list(value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        held = value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = [getattr(value, of.name, None) for of in dataclasses.fields(value)]
    elif slots := getattr(type(value), "__slots__", ()):
        held = [
            getattr(value, name, None) for name in ([slots] if isinstance(slots, str) else slots)
        ]
    for one in held:
        yield from _held_in(one, seen)


def _held_by(function: FunctionType) -> set[int]:
    held = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    by_default = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return {id(value) for value in [*held, *by_default]}


def _is_filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a variable that has no value yet
        return False


def _layers(model: nn.Module) -> Iterator[str]:
    """Faults of layers by their kind."""
    if layers := _named(model, lambda m: isinstance(m, _NormBase) and m.track_running_stats):
        yield (
            "Layer "
            f"{layers[0]!r}{f' and {len(layers) - 1} more keep' if len(layers) > 1 else ' keeps'} "
            "running batch-norm statistics, which every inner step of every episode would "
            "overwrite: use innerloop.BatchNorm2d, or pass track_running_stats=False."
        )
    for name in _named(model, _has_weights_by_hook):
        yield (
            f"Layer {name!r} computes its weight in a hook, where inner steps do not reach: use "
            "torch.nn.utils.parametrizations, or make it permanent."
        )
    for name in _named(model, lambda m: isinstance(m, _SpectralNorm) and m.training):
        yield (
            f"Layer {name!r} is spectral normalisation, whose buffers every pass of every episode "
            "would change: call model.eval()."
        )
    for name in _named(model, lambda m: isinstance(m, nn.Embedding) and m.max_norm is not None):
        yield (
            f"Layer {name!r} has a max_norm, which changes its weight in place in every pass: "
            "leave it out."
        )
    yield from _random_layers(model)


def _random_layers(model: nn.Module) -> Iterator[str]:
    for name in _named(model, _is_random):
        yield (
            f"Layer {name!r} is dropout, or draws random numbers as it does: support and query "
            "passes of one episode would use different networks. Set its p to 0, or call "
            "model.eval()."
        )


def _is_random(module: nn.Module) -> bool:
    if isinstance(module, nn.FractionalMaxPool2d | nn.FractionalMaxPool3d):
        return True
    if not module.training:
        return False
    if isinstance(module, _DropoutNd):
        return module.p > 0
    if isinstance(module, nn.RNNBase):
        return module.dropout > 0 and module.num_layers > 1
    if isinstance(module, nn.MultiheadAttention):
        return module.dropout > 0
    return isinstance(module, nn.RReLU)


def _has_weights_by_hook(module: nn.Module) -> bool:
    return any(isinstance(hook, _WEIGHTS_BY_HOOK) for hook in module._forward_pre_hooks.values())


def _named(model: nn.Module, is_one: Callable[[nn.Module], bool]) -> list[str]:
    return [name for name, module in model.named_modules() if is_one(module)]
