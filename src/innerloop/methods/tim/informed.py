"""Class weights that are found with the images that they are to classify."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.fast_weights.adam import Adam
from innerloop.fast_weights.functional import FastWeights
from innerloop.methods.base import accuracy
from innerloop.methods.heads.linear import episode_losses


@dataclass(frozen=True)
class InformedHead:
    """Class weights w_k that know the query images; see `innerloop.methods.tim.learner.TIM`.

    Attributes:
        support_weight: λ.
        marginal_weight: γ.
        conditional_weight: α.
        temperature: τ.
        steps: of Adam.
        rate: of Adam.
    """

    support_weight: float = 0.1
    marginal_weight: float = 1.0
    conditional_weight: float = 0.1
    temperature: float = 15.0
    steps: int = 100
    rate: float = 0.001

    def trajectory(
        self, features: Tensor, labels: Tensor, *, steps: int
    ) -> Iterator[tuple[FastWeights, Tensor, Tensor]]:
        """Heads that are to see no query image, and after one step heads that are to see them.

        Losses and accuracies on the support set are those of the class means, and after a step
        NaN: what becomes of them follows from the images that are predicted. See `HeadOfFeatures`.
        """
        z = F.normalize(features, dim=-1)
        targets = F.one_hot(labels, int(labels.max()) + 1).to(z)  # (E, n, ways)
        means = targets.mT @ z / targets.sum(1)[..., None]
        head = {"weight": means}
        logits = self._scores(means, z)
        yield head, episode_losses(logits, labels), accuracy(logits, labels)
        head = head | {"support": z, "targets": targets}
        unknown = z.new_full((len(z),), math.nan)
        for _ in range(steps):
            yield head, unknown, unknown

    def logits(self, head: FastWeights, features: Tensor) -> Tensor:
        """Logits (E, n, ways) of features (E, n, features); they depend on one another.

        Raises:
            ConfigError: for one image, which alone tells nothing.
        """
        z = F.normalize(features, dim=-1)
        if "support" not in head:
            return self._scores(head["weight"], z)
        if z.shape[1] == 1:
            raise ConfigError(
                "TIM learns from the images that it predicts together, and one image alone tells "
                "it nothing: give more images, or adapt by 0 steps, for the nearest class mean."
            )
        return self._scores(self._informed(head, z), z)

    def module(self, head: FastWeights, episode: int) -> nn.Module:
        """There is none."""
        raise ConfigError(
            "TIM cannot turn an adaptation into a module: its predictions depend on the images "
            "that are predicted together."
        )

    def _informed(self, head: FastWeights, z: Tensor) -> Tensor:
        """W (E, ways, features) after the steps of Adam."""
        weight = head["weight"].clone()
        optimiser = Adam([weight])
        for _ in range(self.steps):
            weight.grad = self.gradient(weight, head["support"], head["targets"], z)
            optimiser.step(self.rate)
        return weight

    def gradient(self, weight: Tensor, support: Tensor, targets: Tensor, query: Tensor) -> Tensor:
        """The gradient (E, ways, features) of the objective of each episode.

        With p = p(k | x) and l_k the logits of x, the objective's derivative by l_k is::

            λ (p_k - y_k) / |S|                                       x in S, labelled y
            p_k (g_k - Σ_j p_j g_j) / |Q|,  g = γ log p̂ - α log p     x in Q

        and that of l_k by w_k is τ (z - w_k).

        Args:
            weight: w_k, (E, ways, features).
            support: z of S, (E, n, features).
            targets: y, (E, n, ways), one-hot.
            query: z of Q, (E, m, features).
        """
        of_support = (self._scores(weight, support).softmax(-1) - targets) / support.shape[1]
        log_p = self._scores(weight, query).log_softmax(-1)
        p = log_p.exp()
        log_marginal = log_p.logsumexp(1, keepdim=True) - math.log(query.shape[1])
        g = self.marginal_weight * log_marginal - self.conditional_weight * log_p
        of_query = p * (g - (p * g).sum(-1, keepdim=True)) / query.shape[1]
        by_logits = torch.cat([self.support_weight * of_support, of_query], dim=1)
        z = torch.cat([support, query], dim=1)
        return self.temperature * (by_logits.mT @ z - by_logits.sum(1)[..., None] * weight)

    def _scores(self, weight: Tensor, z: Tensor) -> Tensor:
        """-τ/2 ‖z - w_k‖² (E, n, ways) but for what all classes have in common."""
        return self.temperature * (z @ weight.mT - weight.square().sum(-1)[:, None] / 2)
