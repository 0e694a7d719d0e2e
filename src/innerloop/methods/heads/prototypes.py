"""A head of prototypes: each class's mean direction."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.fast_weights.functional import FastWeights

SCALE = 10
"""Logits are cosines times this; it does not change which class wins."""


def prototypes(features: Tensor, labels: Tensor) -> FastWeights:
    """Each class's mean direction (E, ways, features), of length one; no bias.

    Args:
        features: (E, n, features).
        labels: (E, n), every class of them.
    """
    one_hot = F.one_hot(labels).to(features)  # (E, n, ways)
    means = one_hot.transpose(1, 2) @ F.normalize(features, dim=-1)
    return {"weight": F.normalize(means, dim=-1), "bias": features.new_zeros(means.shape[:2])}


def class_sums(features: Tensor, labels: Tensor, ways: int) -> Tensor:
    """The sum of each class's features (ways, F), class by class.

    To the last bit a class's sum depends on its own examples in their order alone.

    Args:
        features: (n, F).
        labels: (n,) int64.
        ways: number of classes.
    """
    return torch.stack([features[labels == label].sum(0) for label in range(ways)])


def scaled_directions(features: Tensor) -> Tensor:
    """Features of length `SCALE`: a prototype's inner product with them is a scaled cosine."""
    return SCALE * F.normalize(features, dim=-1)


class Directions(nn.Module):
    """`scaled_directions` as a layer."""

    def forward(self, features: Tensor) -> Tensor:
        """Features of length `SCALE`."""
        return scaled_directions(features)
