"""Prototypical networks: a class is the mean of its support features."""

from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.methods.heads.episodic import EpisodicFeatures
from innerloop.methods.heads.linear import prototype_head
from innerloop.methods.heads.prototypes import prototypes
from innerloop.methods.heads.rule import Fitted, Rule
from innerloop.methods.parts import checked
from innerloop.methods.protonet.card import Scale
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.settings.run import RunConfig

Distance = Literal["euclidean", "cosine"]


class NearestPrototype(Rule):
    """Logits -‖f - c_k‖², with c_k the mean of class k's features, but for -‖f‖²: see `Rule`.

    That is common to all classes, and changes no probability.
    """

    def fit(self, features: Tensor, labels: Tensor, ways: int) -> Fitted:
        """A linear layer: weight 2 c_k and bias -‖c_k‖²."""
        head = prototype_head(features[None], labels[None], ways)
        return {name: value[0] for name, value in head.items()}


class MostAlike(Rule):
    """Logits s cos(f, c_k), with c_k the mean direction of class k's features and s learnt.

    Args:
        scale: where s starts.
    """

    def __init__(self, scale: float = 10.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(float(scale)))

    def fit(self, features: Tensor, labels: Tensor, ways: int) -> Fitted:
        """The directions (ways, features), of length one."""
        return {"directions": prototypes(features[None], labels[None])["weight"][0]}

    def logits(self, fitted: Fitted, features: Tensor) -> Tensor:
        """Scaled cosines (m, ways)."""
        return self.scale * F.linear(F.normalize(features, dim=-1), fitted["directions"])


class ProtoNet(EpisodicFeatures):
    """Prototypical networks (Snell, Swersky and Zemel, 2017, arXiv 1703.05175).

    With f the network's features, S_k the support images of class k in an episode and d a
    distance (equations 1 and 2)::

        c_k = mean of f(x) over x in S_k
        p(y = k | x) = softmax over k of -d(f(x), c_k)
        minimise over f:  mean over episodes and queries of  -log p(y | x)

    d is the squared Euclidean distance, for which p is a linear classifier (section 2.4). With
    ``cosine``, -d is the cosine times a learnt scale: the paper has no scale there, without which
    the softmax is nearly flat (Oreshkin et al. 2018, arXiv 1805.10123); and c_k is the mean of
    directions.

    Deviation: a mean over the episodes of an outer step; the paper has one episode in a step.

    Args:
        model: has ``embed(images) -> (n, features)``.
        distance: d.
        initial_scale: where the cosine's scale starts.
        halve_every: as of `EpisodicFeatures`.
        batch_norm_modes: as of `EpisodicFeatures`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        distance: Distance = "euclidean",
        initial_scale: float = 10.0,
        halve_every: int = 0,
        batch_norm_modes: tuple[BatchNormMode, ...] = ("running", "support", "transductive"),
    ):
        kind = checked("distance", Distance, distance)
        scale = checked("initial_scale", Scale, initial_scale)
        rule = NearestPrototype() if kind == "euclidean" else MostAlike(scale)
        super().__init__(model, rule, halve_every=halve_every, batch_norm_modes=batch_norm_modes)

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """The distance, its scale and the halvings are settings of the same names."""
        own = config.own
        return cls(
            model,
            distance=own.distance,
            initial_scale=own.initial_scale,
            halve_every=own.halve_every,
        )
