"""A new head for every episode, found on features that stay as they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from innerloop.fast_weights.functional import FastWeights
from innerloop.methods.base import accuracy
from innerloop.methods.heads.gradient import gradient_step
from innerloop.methods.heads.linear import (
    episode_losses,
    initial_head,
    linear_logits,
    linear_module,
)
from innerloop.methods.heads.logistic import fit_logistic
from innerloop.methods.heads.prototypes import Directions, prototypes, scaled_directions
from innerloop.methods.parts import Head, HeadInit


class HeadOfFeatures(Protocol):
    """How heads are found on the features of support sets, and what they say of others."""

    def trajectory(
        self, features: Tensor, labels: Tensor, *, steps: int
    ) -> Iterator[tuple[FastWeights, Tensor, Tensor]]:
        """The heads after 0, 1, ..., ``steps`` steps, with losses and accuracies (E,).

        Args:
            features: (E, n, features) of the support set.
            labels: (E, n).
            steps: K >= 0.
        """
        ...

    def logits(self, head: FastWeights, features: Tensor) -> Tensor:
        """Logits (E, n, ways) of features (E, n, features)."""
        ...

    def module(self, head: FastWeights, episode: int) -> nn.Module:
        """One episode's head as a module of its own: features (n, features) -> (n, ways)."""
        ...


@dataclass(frozen=True)
class NewHead:
    """A linear head for every episode, or one of prototypes.

    Attributes:
        kind: by gradient steps, or in closed form; that is there after one step, and further steps
            change nothing.
        init: where it starts.
        rate: of the gradient steps.
        penalty: λ of ``logistic``.
    """

    kind: Head = "gradient"
    init: HeadInit = "zero"
    rate: float = 0.4
    penalty: float = 0.1

    def trajectory(
        self, features: Tensor, labels: Tensor, *, steps: int
    ) -> Iterator[tuple[FastWeights, Tensor, Tensor]]:
        """The head after 0, 1, ..., ``steps`` steps on support features, with loss and accuracy.

        Args:
            features: (E, n, features) of the support set.
            labels: (E, n).
            steps: K >= 0.

        Yields:
            The heads, ``weight`` (E, ways, features) and ``bias`` (E, ways); losses (E,);
            accuracies (E,).
        """
        head = initial_head(features, labels, int(labels.max()) + 1, self.init)
        for index in range(steps + 1):
            loss, correct, following = self._step(head, features, labels, index)
            yield head, loss, correct
            head = following

    def logits(self, head: FastWeights, features: Tensor) -> Tensor:
        """Logits (E, n, ways) of features (E, n, features)."""
        return linear_logits(
            head, scaled_directions(features) if self.kind == "cosine" else features
        )

    def module(self, head: FastWeights, episode: int) -> nn.Module:
        """One episode's head as a module of its own: features (n, features) -> (n, ways)."""
        linear = linear_module(head, episode)
        return nn.Sequential(Directions(), linear) if self.kind == "cosine" else linear

    def _step(
        self, head: FastWeights, features: Tensor, labels: Tensor, index: int
    ) -> tuple[Tensor, Tensor, FastWeights]:
        """Support loss and accuracy (E,) of a head after ``index`` steps, and the next head."""
        with torch.enable_grad():
            # Heads made anew, so that no graph reaches back over the steps.
            leaves = {name: value.detach().requires_grad_() for name, value in head.items()}
            logits = self.logits(leaves, features)
            loss = episode_losses(logits, labels)
            if self.kind == "gradient":
                following = gradient_step(loss, leaves, self.rate)
            else:
                following = head if index > 0 else self._closed_form(head, features, labels)
        return loss.detach(), accuracy(logits.detach(), labels), following

    def _closed_form(self, head: FastWeights, features: Tensor, labels: Tensor) -> FastWeights:
        if self.kind == "cosine":
            return prototypes(features, labels)
        weight, bias = fit_logistic(features, labels, head["bias"].shape[1], self.penalty)
        return {"weight": weight, "bias": bias}
