"""What in a user's own network would break meta-learning, told in sentences."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from innerloop.core.errors import ConfigError


def _tracking_layers(model: nn.Module) -> list[str]:
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, _NormBase) and module.track_running_stats
    ]


def refuse_running_statistics(model: nn.Module) -> None:
    """Raise `ConfigError` if a layer has running statistics: inner steps would overwrite them."""
    if layers := _tracking_layers(model):
        raise ConfigError(_running_statistics(layers))


def _running_statistics(layers: list[str]) -> str:
    return (
        "Layer "
        f"{layers[0]!r}{f' and {len(layers) - 1} more keep' if len(layers) > 1 else ' keeps'} "
        "running batch-norm statistics, which every inner step of every episode would overwrite: "
        "use innerloop.BatchNorm2d, or pass track_running_stats=False."
    )


def check_model(model: nn.Module, images: Tensor) -> list[str]:
    """Tell what in a network would break meta-learning, and the remedy; the network stays as it is.

    Args:
        model: any module that maps images to logits.
        images: a batch (n, channels, height, width) that it can take.

    Returns:
        One sentence for each problem; an empty list if there is none. Looked for: running
        batch-norm statistics, buffers that a forward pass changes, frozen parameters, parameters
        that the output does not depend on, active dropout, and batch norm that has no ``support``
        mode.
    """
    findings = []
    if layers := _tracking_layers(model):
        findings.append(_running_statistics(layers))
    findings += _changed_buffers(model, images, set(layers))
    findings += _parameters(model, images)
    findings += [
        f"Layer {name!r} is dropout: support and query passes of one episode would use different "
        "networks. Set its p to 0, or call model.eval()."
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 and module.training
    ]
    findings += [
        f"Layer {name!r} normalises by its own batch only, so predictions of single images and "
        f"batch_norm='support' are not possible: use innerloop.BatchNorm2d for both."
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.track_running_stats
    ]
    return findings


def _changed_buffers(model: nn.Module, images: Tensor, known: set[str]) -> list[str]:
    trial = copy.deepcopy(model)
    before = {name: buffer.clone() for name, buffer in trial.named_buffers()}
    with torch.no_grad():
        trial(images)
    return [
        f"Buffer {name!r} is changed by a forward pass, so episodes would leak into one another: "
        "keep no state in the forward pass, or compute it from the batch."
        for name, buffer in trial.named_buffers()
        if name.rpartition(".")[0] not in known and not torch.equal(buffer, before[name])
    ]


def _parameters(model: nn.Module, images: Tensor) -> list[str]:
    trial = copy.deepcopy(model)
    named = {name: weight for name, weight in trial.named_parameters() if weight.requires_grad}
    findings = [
        f"Parameter {name!r} is frozen (requires_grad=False), so neither loop changes it: "
        "unfreeze it, unless that is what you want."
        for name, weight in trial.named_parameters()
        if not weight.requires_grad
    ]
    if not named:
        return findings
    # A random projection of the output: a plain sum would hide weights that batch norm or softmax
    # cancels.
    output = trial(images)
    projection = torch.randn(
        output.shape, generator=torch.Generator().manual_seed(0), dtype=output.dtype
    )
    gradients = torch.autograd.grad(
        (output * projection).sum(), list(named.values()), allow_unused=True
    )
    return findings + [
        f"Parameter {name!r} has no influence on the output, so it is never learnt: remove it, "
        "or use it."
        for name, gradient in zip(named, gradients, strict=True)
        if gradient is None
    ]
