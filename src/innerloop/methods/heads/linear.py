"""A linear head for each episode: where it starts and what it says."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.fast_weights.functional import FastWeights
from innerloop.methods.parts import HeadInit


def initial_head(features: Tensor, ways: int, init: HeadInit) -> FastWeights:
    """Heads for features (E, n, features): ``weight`` (E, ways, features), ``bias`` (E, ways)."""
    episodes, _, size = features.shape
    weight = features.new_zeros(ways, size)
    if init == "glorot":
        generator = torch.Generator().manual_seed(0)
        # On the CPU, so that every device starts from the same numbers.
        draw = nn.init.xavier_uniform_(torch.empty(ways, size), generator=generator)
        weight = draw.to(features)
    return {
        "weight": weight.expand(episodes, -1, -1),
        "bias": features.new_zeros(episodes, ways),
    }


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
