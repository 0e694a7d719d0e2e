"""Fast weights: a network's parameters as a dict of tensors with a leading episode dimension.

Everything here is a pure function of its arguments; the model lends its architecture and is not
changed. A faster engine for the stock networks can stand behind these functions and `Network`,
equal to them under test.
"""

from collections.abc import Mapping, Sequence
from typing import Any

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
    gradients = _derivatives([loss.sum()], weights, create_graph=create_graph)
    if all(one is None for one in gradients):
        raise ConfigError(_INDEPENDENT)
    return _named(gradients, weights)


def hessian_product(
    gradients: FastWeights, weights: FastWeights, directions: FastWeights
) -> FastWeights:
    """H_e v_e of every episode e, where H_e is the Hessian of its loss; the graph is kept.

    Args:
        gradients: what `gradient` returned with ``create_graph``, (E, *shape) each.
        weights: the φ that it was taken at.
        directions: v, (E, *shape) each, under the same names.

    Returns:
        H v, (E, *shape) each; zero where the gradient depends on no weight.

    Raises:
        ConfigError: if the gradient cannot be differentiated.
    """
    # Of a loss that is linear in some weights the gradient has no graph.
    curved = [name for name, of in gradients.items() if of.requires_grad]
    if not curved:
        return {name: torch.zeros_like(weight) for name, weight in weights.items()}
    products = _derivatives(
        [gradients[name] for name in curved],
        weights,
        grad_outputs=[directions[name] for name in curved],
        retain_graph=True,
    )
    return _named(products, weights)


def _derivatives(
    outputs: Sequence[Tensor], weights: FastWeights, **how: Any
) -> tuple[Tensor | None, ...]:
    """What autograd gives for each weight; None: it has no influence."""
    try:
        return torch.autograd.grad(outputs, list(weights.values()), allow_unused=True, **how)
    except (InnerloopError, torch.OutOfMemoryError):
        raise
    except RuntimeError as error:
        raise ConfigError(
            f"The gradient of the inner loss fails: {first_line(error)}. Use operations that can "
            "be differentiated, for second order twice, and no activation checkpointing; "
            "innerloop.check_model tells what else would break."
        ) from error


def _named(derivatives: Sequence[Tensor | None], weights: FastWeights) -> FastWeights:
    """One derivative for each weight, under its name: zero where there is none."""
    return {
        name: torch.zeros_like(weight) if one is None else one
        for (name, weight), one in zip(weights.items(), derivatives, strict=True)
    }


def with_gradient(values: Tensor, weights: FastWeights, gradients: FastWeights) -> Tensor:
    """Values (E,) whose gradient by each episode's weights is given, and not that of the values.

    ::

        value + ⟨φ, g⟩ − stop(⟨φ, g⟩)

    Args:
        values: (E,), read as constants.
        weights: φ, (E, *shape) each, with a graph back to θ.
        gradients: g, (E, *shape) each, constants; weights that they do not name get none.
    """
    products = [
        (weights[name] * of.detach()).reshape(len(of), -1).sum(dim=1)
        for name, of in gradients.items()
    ]
    total = torch.stack(products).sum(dim=0)
    return values.detach() + (total - total.detach())


def detached(weights: FastWeights) -> FastWeights:
    """The same numbers without a graph."""
    return {name: weight.detach() for name, weight in weights.items()}


def step(weights: FastWeights, gradients: FastWeights, lr: float) -> FastWeights:
    """φ_{k+1} = φ_k − α g: new tensors; ``weights`` are left as they are."""
    # Where gradients have no graph, the path from φ_k through the identity is left: this is
    # FO-MAML, which therefore needs no code of its own.
    together = shared_steps(weights, gradients, lr)
    return {
        name: together[name] if name in together else weight - lr * gradients[name]
        for name, weight in weights.items()
    }
