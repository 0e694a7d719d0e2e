"""Fast weights: a network's parameters as a dict of tensors with a leading episode dimension.

Everything here is a pure function of its arguments; the model lends its architecture and is not
changed. A faster engine for the stock networks can stand behind these functions, equal to them
under test.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from innerloop.networks.batch_norm import batch_norm_statistics, forget_statistics

FastWeights = dict[str, Tensor]
"""Name of a parameter -> (E, *shape): one copy for each episode."""


def expand(params: Mapping[str, Tensor], episodes: int) -> FastWeights:
    """φ_0: every episode starts from the same θ. Views (E, *shape); nothing is copied."""
    return {name: weight.expand(episodes, *weight.shape) for name, weight in params.items()}


def call(model: nn.Module, weights: FastWeights, images: Tensor) -> Tensor:
    """Run each episode's images through the model with that episode's weights.

    Args:
        model: any module that maps (n, ...) to (n, ...); parameters that ``weights`` does not name
            are its own.
        weights: φ, (E, *shape) each.
        images: (E, n, channels, height, width).

    Returns:
        (E, n, ...) outputs, for instance logits.
    """
    # On a CPU per-episode convolutions under vmap become grouped ones, which are slower than a
    # loop.
    if len(images) == 1 or images.device.type == "cpu":
        return call_looped(model, weights, images)
    return call_vmapped(model, weights, images)


def call_looped(model: nn.Module, weights: FastWeights, images: Tensor) -> Tensor:
    """`call` as a plain loop over the episodes."""
    outputs = [
        functional_call(
            model,
            {name: weight[episode] for name, weight in weights.items()},
            (_of_episode(images, episode),),
        )
        for episode in range(len(images))
    ]
    return torch.stack(outputs)


def _of_episode(images: Tensor, episode: int) -> Tensor:
    """One episode's images, a pixel's channels together: the layout that CPU convolutions like."""
    of_one = images[episode]
    return of_one.contiguous(memory_format=torch.channels_last) if of_one.ndim == 4 else of_one


def call_vmapped(model: nn.Module, weights: FastWeights, images: Tensor) -> Tensor:
    """`call` as one vectorised pass over the episodes."""

    def call_one(weights_of_one: FastWeights, images_of_one: Tensor) -> Tensor:
        return functional_call(model, weights_of_one, (images_of_one,))

    return torch.vmap(call_one)(weights, images)


def call_with_support_statistics(
    model: nn.Module, weights: FastWeights, support_images: Tensor, images: Tensor
) -> Tensor:
    """`call`, with batch norm by the statistics of the support images at the same weights.

    Gradients flow through the statistics too.

    Args:
        model: its batch-norm layers are `innerloop.BatchNorm2d`.
        weights: φ, (E, *shape) each.
        support_images: (E, ways * shots, channels, height, width), forwarded once to record
            statistics.
        images: (E, n, channels, height, width); n may be one.

    Returns:
        (E, n, ...) outputs for ``images``.
    """
    outputs = []
    try:
        for episode in range(len(images)):
            of_one = {name: weight[episode] for name, weight in weights.items()}
            with batch_norm_statistics(model, "record"):
                functional_call(model, of_one, (_of_episode(support_images, episode),))
            with batch_norm_statistics(model, "recorded"):
                outputs.append(functional_call(model, of_one, (_of_episode(images, episode),)))
    finally:
        forget_statistics(model)
    return torch.stack(outputs)


def gradient(loss: Tensor, weights: FastWeights, *, create_graph: bool) -> FastWeights:
    """∇_φ of the summed losses: episodes are independent, so each gets its own gradient.

    Args:
        loss: (E,) one loss an episode.
        weights: φ, (E, *shape) each. One that the loss does not depend on gets a zero gradient.
        create_graph: keep the graph, so that the gradient itself can be differentiated (second
            order).

    Returns:
        One gradient (E, *shape) for each weight, under its name.
    """
    gradients = torch.autograd.grad(
        loss.sum(),
        list(weights.values()),
        create_graph=create_graph,
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(weights, gradients, strict=True))


def step(weights: FastWeights, gradients: FastWeights, lr: float) -> FastWeights:
    """φ_{k+1} = φ_k − α g: new tensors; ``weights`` are left as they are."""
    return {name: weight - lr * gradients[name] for name, weight in weights.items()}
