"""MAML and FO-MAML: an initialisation that a few gradient steps turn into a classifier."""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.functional import FastWeights
from innerloop.fast_weights.network import Network
from innerloop.fast_weights.objectives import LossFunction
from innerloop.fast_weights.sums import tree_mean
from innerloop.methods.base import Adaptation, Learner, accuracy, sharing_weights
from innerloop.methods.door import part_of
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.maml.descent import Descent
from innerloop.methods.parts import (
    PARTS,
    Head,
    HeadInit,
    InnerSteps,
    Parts,
    checked,
    refuse_steps_beside,
    submodules,
)
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.settings.fields import Rate, between
from innerloop.settings.method import MethodSettings
from innerloop.settings.run import RunConfig


def arguments_of(own: MethodSettings) -> dict[str, Any]:
    """A method's own settings as the arguments of its learner, which have their names."""
    arguments = dataclasses.asdict(own)
    # How many episodes there are in an outer step is no matter of the learner.
    arguments.pop("meta_batch_size")
    if "fresh_head" in arguments:
        arguments["fresh_head"] = "head" if arguments["fresh_head"] else None
    return arguments


class MAML(Descent):
    """Model-agnostic meta-learning (Finn, Abbeel and Levine, 2017, arXiv 1703.03400).

    Let θ be the parameters, L the loss, α the inner rate. For each episode, from φ_0 = θ::

        φ_{k+1} = φ_k − α ∇_φ L(φ_k; support)                k = 0 ... K − 1    (inner loop)
        minimise over θ:  mean over episodes of L(φ_K; query)                   (outer loop)

    With ``first_order=False`` the outer gradient goes through every inner gradient::

        ∂L/∂θ = Π_k (I − α ∇² L(φ_k; support)) ∇_φ L(φ_K; query)

    With ``first_order=True`` (FO-MAML, section 5.2) each inner gradient is a constant, ∂φ_K/∂θ is
    the identity, and the outer gradient is ∇_φ L(φ_K; query).

    Deviation from the paper: a mean over the episodes instead of a sum, so that losses, gradient
    norms and clipping compare across meta-batch sizes (under Adam the scale cancels).

    Args:
        model: maps images (n, channels, height, width) to logits (n, ways). Any module that
            `check_model` finds nothing against; every trainable parameter is adapted.
        inner_lr: α.
        inner_steps: K in training.
        first_order: FO-MAML if true, MAML if false.
        fresh_head: name of the submodule that is the head. It is not part of θ: in every episode it
            starts from zero, with as many outputs as the episode has ways, and only the inner loop
            trains it (the "zeroing trick" of Kao, Chiu and Chen, 2022, arXiv 2106.15367). So ways
            at test may
            differ from training. None: the head is meta-learned like everything else.
        fresh_head_init: ``zero``; ``glorot``: uniform weights, the same draw in every episode; or
            ``prototypes``: each class's mean feature, for other ways and shots than in training.
        adapts: names of submodules; only their parameters take inner steps. None: all parameters
            do.
        query_batches: the query loss is the mean over this many class-balanced mini-batches of the
            query set; more than one changes it only through batch statistics.
        loss_fn: L, for one episode: (outputs, labels) -> mean loss.
        batch_norm_modes: the modes that `predict` knows, the method's own first. With ``running``
            first every pass, the inner loop's too, uses the statistics stored in the model.

    Raises:
        ConfigError: if the model keeps running batch-norm statistics in layers of PyTorch's own,
            cannot be copied, or has no such head or submodule.
    """

    adaptable: ClassVar[tuple[Parts, ...]] = PARTS
    own_parts: ClassVar[Parts | None] = "all"
    computes_as_maml: ClassVar[bool] = True
    """Whether all steps are those above, with the model, head and parts that it was given. A
    subclass says so for itself alone: what its own subclasses change is not known again."""

    def __init_subclass__(cls, **named: Any) -> None:
        """Take nothing for known of a subclass that says nothing."""
        super().__init_subclass__(**named)
        cls.computes_as_maml = vars(cls).get("computes_as_maml", False)

    def __init__(
        self,
        model: nn.Module,
        *,
        inner_lr: float = 0.4,
        inner_steps: int = 5,
        first_order: bool = False,
        fresh_head: str | None = None,
        fresh_head_init: HeadInit = "zero",
        adapts: Sequence[str] | None = None,
        query_batches: int = 1,
        loss_fn: LossFunction = F.cross_entropy,
        batch_norm_modes: tuple[BatchNormMode, ...] = ("transductive", "support"),
    ):
        super().__init__(
            model,
            inner_lr=inner_lr,
            fresh_head=fresh_head,
            fresh_head_init=fresh_head_init,
            adapts=adapts,
            loss_fn=loss_fn,
            batch_norm_modes=batch_norm_modes,
        )
        self.inner_steps: int = checked("inner_steps", InnerSteps, inner_steps)
        self.first_order: bool = checked("first_order", bool, first_order)
        self.query_batches: int = checked(
            "query_batches", Annotated[int, between(1, 1000)], query_batches
        )

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """``first_order`` is a setting: it is all that FO-MAML is."""
        return cls(model, **arguments_of(config.own))

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
        """
        network = self._network()
        losses, fast_weights, logged = self._objective(network, episodes)
        with torch.no_grad():
            start = self._start(network, self.params, episodes.support)
            before = self._outputs(network, start, episodes.query.images, 0)
            _, support_after = self._losses(
                network, fast_weights, episodes.support, self.inner_steps
            )
        return tree_mean(losses), logged | {
            "support_accuracy_after": support_after,
            "query_accuracy_before": accuracy(before, episodes.query.labels),
        }

    def meta_loss(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective of `outer_loop`, without the forward passes that only its metrics need."""
        losses, _, logged = self._objective(self._network(), batch)
        return tree_mean(losses), {name: tree_mean(value) for name, value in logged.items()}

    def step_signature(self) -> Hashable | None:
        """Whether of first order; of a subclass that says nothing of its steps nothing is known."""
        return self.first_order if self.computes_as_maml else None

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

    def adapting(
        self,
        parts: Parts = "own",
        *,
        rate: float | None = None,
        head: Head = "gradient",
        head_init: HeadInit | None = None,
        penalty: float = 0.1,
    ) -> Learner:
        """Other parts of the network by the same steps; see `Learner.adapting`."""
        if parts == "own" and head == "gradient" and head_init is None:
            same = sharing_weights(self)
            same.inner_lr = self.inner_lr if rate is None else checked("inner_lr", Rate, rate)
            return same
        refuse_steps_beside(head, parts)
        named = submodules(self.model, parts)
        kept = self.meta_learned_head and head_init is None
        if parts == "head" and not (kept and head == "gradient"):
            if self.loss_fn is not F.cross_entropy:
                raise ConfigError("A new head on frozen features is fitted by cross-entropy alone.")
            return FrozenFeatures(
                self.model,
                batch_norm_modes=self.batch_norm_modes,
                head=head,
                head_init=head_init or self.fresh_head_init,
                inner_lr=self.inner_lr if rate is None else rate,
                inner_steps=self.inner_steps,
                penalty=penalty,
            )
        if not self.computes_as_maml:
            # What a subclass does in its inner loop would be lost without a word.
            return super().adapting(parts, rate=rate, head=head, head_init=head_init)
        tuned = MAML(
            self.model,
            inner_lr=self.inner_lr if rate is None else rate,
            inner_steps=self.inner_steps,
            fresh_head=None if kept and parts != "body" else "head",
            # A zero head gives the body no gradient.
            fresh_head_init="glorot" if parts == "body" else head_init or self.fresh_head_init,
            adapts=named,
            loss_fn=self.loss_fn,
            batch_norm_modes=self.batch_norm_modes,
        )
        if parts == "own":
            tuned._adapted = self._adapted
        return tuned

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
