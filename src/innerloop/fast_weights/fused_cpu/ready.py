"""Kernels compiled, or loaded, before anything waits for them."""

from collections.abc import Callable

import torch
from torch.nn import functional as F

from innerloop.data.images import LabelledImages
from innerloop.fast_weights.fused_cpu.compiling import CACHE
from innerloop.fast_weights.fused_cpu.network import FusedNetwork
from innerloop.fast_weights.objectives import Objective
from innerloop.networks.conv4 import Conv4


def make_ready(model: Conv4, say: Callable[[str], None]) -> None:
    """Run every kernel of a network once, on an episode of two images.

    Args:
        model: a small one of the same kind, of 32 x 32 pixels.
        say: told if that takes long.
    """
    # One for all networks: what one does not run is compiled with it.
    mark = CACHE / "ready" if CACHE else None
    if mark is None or not mark.exists():
        kept = "" if mark else ", anew in each process, since no folder for them can be written"
        say(f"Compiling the fused engine for this processor: one or two minutes, once{kept}.")
    channels = model.get_parameter("convs.0.weight").shape[1]
    network = FusedNetwork(model)
    parameters = {
        name: weight.detach()[None].requires_grad_() for name, weight in model.named_parameters()
    }
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(1, 2, channels, 32, 32, generator=draw)
    batch = LabelledImages(images, torch.tensor([[0, 1]]))
    with torch.enable_grad():
        losses = network.losses(parameters, batch, Objective(F.cross_entropy, twice=True))
        gradients = torch.autograd.grad(
            losses.values.sum(), list(parameters.values()), create_graph=True
        )
        torch.stack([gradient.sum() for gradient in gradients]).sum().backward()
    if mark:
        mark.touch()
