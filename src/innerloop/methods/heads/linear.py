"""A linear head for each episode: where it starts and what it says."""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.fast_weights.functional import FastWeights
from innerloop.methods.parts import HeadInit


def initial_head(features: Tensor, labels: Tensor, ways: int, init: HeadInit) -> FastWeights:
    """Heads for support features: ``weight`` (E, ways, features), ``bias`` (E, ways).

    Args:
        features: (E, n, features).
        labels: (E, n).
        ways: number of classes.
        init: where they start.
    """
    episodes, _, size = features.shape
    if init == "prototypes":
        return prototype_head(features, labels, ways)
    weight = features.new_zeros(ways, size)
    if init == "glorot":
        weight = glorot_weight(weight.shape, features.dtype, features.device)
    return {
        "weight": weight.expand(episodes, -1, -1),
        "bias": features.new_zeros(episodes, ways),
    }


@lru_cache(maxsize=8)
def glorot_weight(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Uniform weights, the same at every call; read, never written."""
    # In float32 and on the CPU, so that every type and device starts from the same numbers; once,
    # since a GPU waits; and not of an inference mode, which it outlives.
    with torch.inference_mode(False), torch.no_grad():
        draw = torch.Generator().manual_seed(0)
        weight = nn.init.xavier_uniform_(torch.empty(shape, dtype=torch.float32), generator=draw)
        return weight.to(device, dtype)


def prototype_head(features: Tensor, labels: Tensor, ways: int) -> FastWeights:
    """Heads whose logits are -‖f - c_k‖² but for a number common to all classes.

    c_k is the mean of class k's features (Triantafillou et al. 2020, arXiv 1903.03096)::

        W_k = 2 c_k,   b_k = -‖c_k‖²

    Args:
        features: (E, n, features).
        labels: (E, n), every class of them.
        ways: number of classes.

    Returns:
        As `initial_head`; differentiable with respect to the features.
    """
    one_hot = F.one_hot(labels, ways).to(features)
    means = one_hot.transpose(1, 2) @ features / one_hot.sum(1)[..., None]
    return {"weight": 2 * means, "bias": -means.square().sum(-1)}


def linear_logits(head: FastWeights, features: Tensor) -> Tensor:
    """Logits (E, n, ways) of features (E, n, features)."""
    return torch.baddbmm(head["bias"].unsqueeze(1), features, head["weight"].transpose(1, 2))


def episode_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy (E,) of logits (E, n, ways)."""
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return losses.view(labels.shape).mean(dim=1)


def linear_module(head: FastWeights, episode: int) -> nn.Linear:
    """One episode's head as a layer of its own."""
    weight = head["weight"][episode].detach()
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight = nn.Parameter(weight.clone())
    linear.bias = nn.Parameter(head["bias"][episode].detach().clone())
    return linear
