"""What every method is to the rest of the package, and how a method is found by name."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from innerloop.core.errors import ConfigError
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.functional import FastWeights
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.settings.run import RunConfig


@dataclass(frozen=True)
class Adaptation:
    """What adapting to E support sets left behind; `Learner.predict` takes it as it is.

    Attributes:
        fast_weights: φ_K, E tensors for each parameter, stacked: (E, shape of the parameter).
        support: the support set adapted to, whose statistics batch norm may need.
        support_loss: (E, K + 1) mean support loss at φ_0 ... φ_K.
        support_accuracy: (E, K + 1) fraction of the support set classified right at φ_0 ... φ_K;
            NaN where the labels are not classes.
        memo: what `Learner.predict` may keep between the steps of one trajectory, which share it.
    """

    fast_weights: FastWeights
    support: LabelledImages
    support_loss: Tensor
    support_accuracy: Tensor
    memo: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def steps(self) -> int:
        """Inner steps taken so far, K."""
        return self.support_loss.shape[1] - 1


class Learner(nn.Module):
    """A method of few-shot learning. Training, evaluation and reports know only this.

    Its `innerloop.methods.card.Card` names it; `innerloop.methods.catalogue` finds that. What it
    trains are its parameters, what is saved is its ``state_dict``.
    """

    batch_norm_modes: tuple[BatchNormMode, ...] = ("transductive", "support")
    """The modes that `predict` knows, the method's own first."""

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """Build the method around a network, from the settings of a run.

        ``config.own`` are the method's own settings, of the class that its card names. The network
        has ``config.episode.ways`` outputs, or, if the method trains on images, one for each class
        of them.
        """
        raise NotImplementedError(
            f"{cls.__name__} must say how it is built from a RunConfig."
        )  # pragma: no cover

    def meta_loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective of one outer step, and what to log beside it.

        Args:
            batch: E episodes, an `EpisodeBatch`: the objective is a mean over them, so that chunks
                can be averaged. Or, where the card says that it trains on images, `LabelledImages`
                without an episode dimension.

        Returns:
            A scalar to minimise, and detached scalars by name, also means over the episodes or
            images.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define meta_loss."
        )  # pragma: no cover

    def begin_outer_step(self, step: int, total: int) -> float:
        """Called before outer step ``step`` (from 0) of ``total``; returns an outer-rate factor.

        Schedules depend on these two alone, so that a resumed run goes on where it was.
        """
        return 1.0

    def end_outer_step(self) -> None:
        """Called after the optimiser's step."""

    def diagnostics(self) -> dict[str, Any]:
        """What the learner's own figures are drawn from, as JSON; recorded at every validation."""
        return {}

    def trajectory(self, support: LabelledImages, *, steps: int) -> Iterator[Adaptation]:
        """Adapt, yielding the state after 0, 1, ..., ``steps`` steps; the learner is unchanged."""
        raise NotImplementedError(
            f"{type(self).__name__} must define trajectory."
        )  # pragma: no cover

    def adapt(self, support: LabelledImages, *, steps: int) -> Adaptation:
        """Adapt to E support sets by ``steps`` inner steps. The learner is not changed.

        Args:
            support: images (E, ways * shots, channels, height, width), labels (E, ways * shots).
            steps: K >= 0; may be more than in training.

        Raises:
            ConfigError: if ``steps`` is negative or the labels do not fit the network.
        """
        if steps < 0:
            raise ConfigError(f"inner steps must be at least 0: got {steps}.")
        *_, last = self.trajectory(support, steps=steps)
        return last

    def predict(
        self, adaptation: Adaptation, images: Tensor, *, batch_norm: BatchNormMode | None = None
    ) -> Tensor:
        """Logits (E, n, ways) for images (E, n, channels, height, width).

        Args:
            adaptation: what `adapt` returned for the same E episodes.
            images: what to classify.
            batch_norm: whose statistics normalise; by default the first of ``batch_norm_modes``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define predict.")  # pragma: no cover


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Fraction classified right, per episode.

    Args:
        logits: (E, n, ways).
        labels: (E, n) int64; other labels (a regression's targets) have no accuracy.

    Returns:
        (E,) in [0, 1], or NaN.
    """
    if labels.dtype != torch.int64 or logits.ndim != 3:
        return torch.full((len(labels),), torch.nan)
    return (logits.argmax(dim=-1) == labels).float().mean(dim=-1)
