"""Fast weights: a network's parameters as a dict of tensors with a leading episode dimension.

Everything here is a pure function of its arguments; the model lends its architecture and is not
changed. A faster engine for the stock networks can stand behind these functions and `Network`,
equal to them under test.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from innerloop.fast_weights.network import FastWeights


def expand(params: Mapping[str, Tensor], episodes: int) -> FastWeights:
    """φ_0: every episode starts from the same θ. Views (E, *shape); nothing is copied."""
    return {name: weight.expand(episodes, *weight.shape) for name, weight in params.items()}


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
    # Their sum, not their mean: that would make each episode's gradient smaller by their number.
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
    # Where gradients have no graph, the path from φ_k through the identity is left: this is
    # FO-MAML, which therefore needs no code of its own.
    return {name: weight - lr * gradients[name] for name, weight in weights.items()}
