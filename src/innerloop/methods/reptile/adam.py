"""Adam without momentum, as an inner optimiser."""

import torch

from innerloop.fast_weights.functional import FastWeights

DECAY = 0.999
"""Of the second moments, β₂."""
EPSILON = 1e-8
"""Beside the root of the second moments."""


def adam_step(
    weights: FastWeights, gradients: FastWeights, lr: float, index: int, memory: FastWeights
) -> FastWeights:
    """φ_{k+1} after a step of Adam (Kingma and Ba, 2015) with β₁ = 0, k = ``index``.

    ::

        v_{k+1} = β₂ v_k + (1 − β₂) g_k²
        φ_{k+1} = φ_k − α g_k / (√(v_{k+1} / (1 − β₂^{k+1})) + ε)

    Args:
        weights: φ_k, (E, *shape) each.
        gradients: g_k, without a graph.
        lr: α.
        index: k. A weight that takes its first step later had zero gradients until then.
        memory: v_k by name, zero where there is none; v_{k+1} takes its place.
    """
    stepped = {}
    for name, weight in weights.items():
        square = gradients[name].square()
        former = memory.get(name, torch.zeros_like(square))
        memory[name] = DECAY * former + (1 - DECAY) * square
        scale = (memory[name] / (1 - DECAY ** (index + 1))).sqrt() + EPSILON
        stepped[name] = weight - lr * gradients[name] / scale
    return stepped
