"""An objective through the inner steps: query losses at the adapted weights."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.functional import FastWeights
from innerloop.fast_weights.network import Network
from innerloop.fast_weights.objectives import of_ways
from innerloop.fast_weights.sums import tree_mean
from innerloop.methods.base import Adaptation, accuracy
from innerloop.methods.door import part_of, ways_of
from innerloop.methods.maml.descent import Descent
from innerloop.methods.parts import InnerSteps, checked
from innerloop.settings.fields import between
from innerloop.settings.method import NO_STEP, MethodSettings


class Unrolled(Descent):
    """Learns θ by the query losses at φ_K, with a gradient through the inner steps.

    Args:
        model: as in `Descent`.
        inner_steps: K in training.
        first_order: whether the gradient takes each inner gradient for a constant.
        query_batches: the query loss is the mean over this many class-balanced mini-batches of the
            query set.
        settings: those of `Descent`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        inner_steps: int,
        first_order: bool,
        query_batches: int,
        **settings: Any,
    ):
        super().__init__(model, **settings)
        self.inner_steps: int = checked("inner_steps", InnerSteps, inner_steps)
        self.first_order: bool = checked("first_order", bool, first_order)
        self.query_batches: int = checked(
            "query_batches", Annotated[int, between(1, 1000)], query_batches
        )

    def inner_loop(
        self, params: Mapping[str, Tensor], support: LabelledImages, *, steps: int
    ) -> Adaptation:
        """Adapt θ to each of E support sets by K = ``steps`` steps of gradient descent.

        The assignment prints φ^l = θ − η ∇L(φ^(l−1)); read with its own product formula the
        recursion meant is the standard one, from φ^(l−1), and that is what is done here.

        Args:
            params: θ, by name as in ``model.named_parameters()``. Read, never written.
            support: images (E, ways * shots, channels, height, width), labels (E, ways * shots).
            steps: K >= 0.

        Returns:
            φ_K as ``fast_weights``, with the support loss and accuracy at φ_0 ... φ_K. It stays
            differentiable with respect to θ, through every step if the learner is of second order.

        Raises:
            ConfigError: if ``steps`` is negative or a label has no output.

        Note: needs autograd, also at evaluation. With second order all K graphs are kept.
        """
        network = self._network()
        second_order = not self.first_order
        *_, last = self._descend(network, params, support, steps, create_graph=second_order)
        return last

    def outer_loop(self, episodes: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective over a batch of episodes, and accuracies before and after adaptation.

        Args:
            episodes: E episodes.

        Returns:
            The mean query loss at φ_K, a scalar whose gradient with respect to θ is the
            meta-gradient; and (E,) each: ``support_accuracy_before``, ``support_accuracy_after``,
            ``query_accuracy_before``, ``query_accuracy_after``. The model is not changed.

        It trains as `meta_loss` does, which is all that training needs.
        """
        network = self._network()
        losses, fast_weights, logged = self._training_objective(network, episodes)
        with torch.no_grad():
            start = self._start(network, self.params, episodes.support)
            outputs = self._outputs(network, start, episodes.query.images, 0)
            before = of_ways(outputs, ways_of(episodes.support))
            _, support_after = self._losses(
                network, fast_weights, episodes.support, self.inner_steps
            )
        return tree_mean(losses), logged | {
            "support_accuracy_after": support_after,
            "query_accuracy_before": accuracy(before, episodes.query.labels),
        }

    def meta_loss(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective of `outer_loop`, without the forward passes that only its metrics need."""
        losses, _, logged = self._training_objective(self._network(), batch)
        return tree_mean(losses), {name: tree_mean(value) for name, value in logged.items()}

    def _training_objective(
        self, network: Network, batch: EpisodeBatch
    ) -> tuple[Tensor, FastWeights, dict[str, Tensor]]:
        """`_objective`; a subclass gathers there what training sees."""
        if self._fresh and self.fresh_head_init == "zero" and not self.inner_steps:
            raise ConfigError(NO_STEP)
        return self._objective(network, batch)

    def _objective(
        self, network: Network, batch: EpisodeBatch
    ) -> tuple[Tensor, FastWeights, dict[str, Tensor]]:
        """Query losses (E,) at φ_K; φ_K; and the accuracies (E,) that come with it."""
        fast_weights = self._start(network, self.params, batch.support)
        # Without an inner step nothing is measured on the support set.
        first = batch.support.images.new_full((len(batch),), torch.nan)
        for index in range(self.inner_steps):
            fast_weights, _, correct = self._inner_step(
                network, fast_weights, batch.support, index, create_graph=not self.first_order
            )
            first = correct if index == 0 else first
        losses, after = self._query_loss(network, fast_weights, batch, self.inner_steps)
        return (
            losses,
            fast_weights,
            {"support_accuracy_before": first, "query_accuracy_after": after},
        )

    def _query_loss(
        self, network: Network, fast_weights: FastWeights, episodes: EpisodeBatch, index: int
    ) -> tuple[Tensor, Tensor]:
        """Query losses and accuracies (E,) at φ_k; both are means over mini-batches."""
        parts = [episodes.query]
        if self.query_batches > 1:
            batches = episodes.query_batches(self.query_batches)
            parts = [part_of(episodes.query, batch) for batch in batches]
        measured = [self._losses(network, fast_weights, part, index) for part in parts]
        losses, accuracies = zip(*measured, strict=True)
        values = torch.stack([of.values for of in losses])
        return values.mean(dim=0), torch.stack(accuracies).mean(dim=0)


def arguments_of(own: MethodSettings) -> dict[str, Any]:
    """A method's own settings as the arguments of its learner, which have their names."""
    arguments = dataclasses.asdict(own)
    # How many episodes there are in an outer step is no matter of the learner.
    arguments.pop("meta_batch_size")
    if "fresh_head" in arguments:
        arguments["fresh_head"] = "head" if arguments["fresh_head"] else None
    return arguments
