"""Fast weights: a network's parameters as a dict of tensors with a leading episode dimension.

Everything here is a pure function of its arguments; the model lends its architecture and is not
changed. A faster engine for the stock networks can stand behind these functions and `Network`,
equal to them under test.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from innerloop.core.errors import ConfigError, InnerloopError, first_line
from innerloop.fast_weights.fused_gpu.buffers import shared_steps
from innerloop.fast_weights.network import FastWeights
from innerloop.fast_weights.sums import shared

_INDEPENDENT = (
    "The loss depends on none of the weights that take inner steps, so that nothing would be "
    "adapted: let the network compute with its own parameters, without detach or no_grad, and not "
    "through a function that holds another module."
)


def expand(params: Mapping[str, Tensor], episodes: int) -> FastWeights:
    """φ_0: every episode starts from the same θ. Views (E, *shape); nothing is copied.

    θ's gradient is the sum of the episodes', in the order of a tree: see `sums`.
    """
    return {name: shared(weight, episodes) for name, weight in params.items()}


def gradient(loss: Tensor, weights: FastWeights, *, create_graph: bool) -> FastWeights:
    """∇_φ of the summed losses: episodes are independent, so each gets its own gradient.

    Args:
        loss: (E,) one loss an episode.
        weights: φ, (E, *shape) each. One that the loss does not depend on gets a zero gradient.
        create_graph: keep the graph, so that the gradient itself can be differentiated (second
            order).

    Returns:
        One gradient (E, *shape) for each weight, under its name.

    Raises:
        ConfigError: if the loss depends on none of them, or cannot be differentiated.
    """
    if not loss.requires_grad:
        raise ConfigError(_INDEPENDENT)
    # Their sum, not their mean: that would make each episode's gradient smaller by their number.
    try:
        gradients = torch.autograd.grad(
            loss.sum(), list(weights.values()), create_graph=create_graph, allow_unused=True
        )
    except (InnerloopError, torch.OutOfMemoryError):
        raise
    except RuntimeError as error:
        raise ConfigError(
            f"The gradient of the inner loss fails: {first_line(error)}. Use operations that can "
            "be differentiated, for second order twice, and no activation checkpointing; "
            "innerloop.check_model tells what else would break."
        ) from error
    if all(one is None for one in gradients):
        raise ConfigError(_INDEPENDENT)
    return {
        name: torch.zeros_like(weight) if one is None else one
        for (name, weight), one in zip(weights.items(), gradients, strict=True)
    }


def step(weights: FastWeights, gradients: FastWeights, lr: float) -> FastWeights:
    """φ_{k+1} = φ_k − α g: new tensors; ``weights`` are left as they are."""
    # Where gradients have no graph, the path from φ_k through the identity is left: this is
    # FO-MAML, which therefore needs no code of its own.
    together = shared_steps(weights, gradients, lr)
    return {
        name: together[name] if name in together else weight - lr * gradients[name]
        for name, weight in weights.items()
    }
