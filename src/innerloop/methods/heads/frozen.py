"""A frozen network with a new head for every episode."""

from collections.abc import Hashable, Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.copies import Snapshot, private_copy, version
from innerloop.fast_weights.network import FastWeights, Network
from innerloop.methods.base import (
    Adaptation,
    Learner,
    accuracy,
    computed_alike,
    refuse_another_function,
    sharing_weights,
)
from innerloop.methods.door import ways_of
from innerloop.methods.heads.new_head import HeadOfFeatures, NewHead
from innerloop.methods.parts import (
    PARTS,
    Head,
    HeadInit,
    InnerSteps,
    Parts,
    Penalty,
    checked,
    possible_modes,
    refuse_contradictions,
    submodules,
)
from innerloop.networks.base import Embeds, last_of_blocks, refuse_other_features
from innerloop.networks.batch_norm import (
    BatchNormMode,
    Statistics,
    Stored,
    batch_norm_layers,
    keep_running_statistics,
    of_episode,
)
from innerloop.networks.checks import refuse_faults
from innerloop.networks.plain import CutNetwork, plain_network, refusing_lone_images
from innerloop.settings.fields import Rate


class FrozenFeatures(Learner):
    """A frozen body f with a new linear head (W, b) for every episode; L is the mean cross-entropy.

    ``gradient`` takes K steps of gradient descent at the inner rate α, on the head alone::

        (W, b)_{k+1} = (W, b)_k − α ∇ L((W, b)_k; f(support))

    ``logistic`` is what they converge to with a penalty, multinomial logistic regression by
    Newton's method::

        argmin over (W, b):  L((W, b); f(support)) + λ/2 ‖W‖²

    ``cosine`` takes no step: logits are s cos(f(x), c_j), where c_j is the mean of class j's
    support features, each of length one (s = 10 does not change which class wins). After 0 steps
    these two are the initial head, after one step they are done, and further steps change nothing.

    Args:
        model: has ``embed(images) -> (n, features)``, and ``head``, a linear layer that is not used
            here.
        batch_norm_modes: whose statistics normalise, the method's own first. With ``running`` the
            stored ones do; if `BatchNorm2d` layers have none, those of the learner's ``model`` get
            them, a module tree of its own around the same parameters. Otherwise the support
            features are normalised by the support set.
        head: how the head is found.
        head_init: ``zero``, or ``glorot``: uniform weights, the same draw in every episode.
        inner_lr: α.
        inner_steps: K of `transfer_learn`.
        penalty: λ of ``logistic``.

    Raises:
        ConfigError: if the model has no ``embed``, cannot be copied, or has layers of PyTorch's own
            that keep running statistics.
    """

    adaptable: ClassVar[tuple[Parts, ...]] = PARTS
    own_parts: ClassVar[Parts | None] = "head"
    own_choices: ClassVar[tuple[str, ...]] = ("rate", "head", "head_init")
    """What of its own way `adapting` can be asked to change."""
    network_method: ClassVar[str] = "embed"

    def __init__(
        self,
        model: nn.Module,
        *,
        batch_norm_modes: tuple[BatchNormMode, ...] = ("running",),
        head: Head = "gradient",
        head_init: HeadInit = "zero",
        inner_lr: float = 0.4,
        inner_steps: int = 5,
        penalty: float = 0.1,
    ):
        super().__init__()
        if not isinstance(model, Embeds):
            raise ConfigError(
                f"{type(self).__name__} needs a network that can be cut before its head: give "
                f"{type(model).__name__} a method embed(images) that returns features (n, "
                "features)."
            )
        refuse_faults(model)
        self.batch_norm_modes = possible_modes(model, batch_norm_modes)
        Network(model)  # refuses what cannot be copied
        if "running" in batch_norm_modes and any(
            layer.running_mean is None for layer in batch_norm_layers(model).values()
        ):
            # In a tree of its own: the caller's network keeps no statistics after it, either.
            model = private_copy(model)
            keep_running_statistics(model)
        self.model: nn.Module = model
        self.head: Head = checked("head", Head, head)
        self.head_init: HeadInit = checked("head_init", HeadInit, head_init)
        self.penalty: float = checked("penalty", Penalty, penalty)
        self.inner_lr: float = checked("inner_lr", Rate, inner_lr)
        self.inner_steps: int = checked("inner_steps", InnerSteps, inner_steps)

    def transfer_learn(self, episodes: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Give every episode a new head, adapt it to the support set, and measure on the query set.

        The body and its batch norm are frozen; nothing of the learner changes.

        Args:
            episodes: E episodes.

        Returns:
            The mean query loss after adaptation, a scalar; and (E,) each:
            ``support_accuracy_before``, ``support_accuracy_after``, ``query_accuracy_before``,
            ``query_accuracy_after``.
        """
        # One step at least, so that there are two states to take apart.
        first, *_, last = self.trajectory(episodes.support, steps=max(1, self.inner_steps))
        adapted = last if self.inner_steps else first
        before, after = (self.predict(state, episodes.query.images) for state in (first, adapted))
        loss = F.cross_entropy(after.flatten(0, 1), episodes.query.labels.flatten())
        return loss, {
            "support_accuracy_before": first.support_accuracy[:, 0],
            "support_accuracy_after": adapted.support_accuracy[:, -1],
            "query_accuracy_before": accuracy(before, episodes.query.labels),
            "query_accuracy_after": accuracy(after, episodes.query.labels),
        }

    def trajectory(self, support: LabelledImages, *, steps: int) -> Iterator[Adaptation]:
        """The head after 0, 1, ..., ``steps`` steps; see `Learner.trajectory`."""
        if ways_of(support) is None:
            raise ConfigError(
                f"Labels are {support.labels.dtype}, and a new head on frozen features tells "
                "classes apart: give int64 labels."
            )
        features = self.features(support.images, support.images, self.batch_norm_modes[0])
        losses = []
        accuracies = []
        memo = {}
        how = self.head_of(len(support), self.batch_norm_modes[0])
        found = how.trajectory(features, support.labels, steps=steps)
        for head, loss, correct in found:
            losses.append(loss)
            accuracies.append(correct)
            yield Adaptation(
                head,
                support,
                torch.stack(losses, 1),
                torch.stack(accuracies, 1),
                memo,
                type(self),
                self.head_kind,
            )

    @property
    def head_kind(self) -> Hashable:
        """What of the settings says what a head means, beside the learner's class."""
        return "cosine" if self.head == "cosine" else "linear"

    def head_of(self, episodes: int, batch_norm: BatchNormMode) -> HeadOfFeatures:
        """How the heads of so many episodes are found; one that has batch norms has them so."""
        return NewHead(self.head, self.head_init, self.inner_lr, self.penalty)

    @torch.no_grad()
    def predict(
        self, adaptation: Adaptation, images: Tensor, *, batch_norm: BatchNormMode | None = None
    ) -> Tensor:
        """Logits (E, n, ways), see `Learner.predict`; features of the same images computed once."""
        mode = self.mode(batch_norm)
        # Heads of several classes and kinds look alike, and mean something else.
        if adaptation.made_by not in (None, type(self)):
            raise ConfigError(
                f"The adaptation is another learner's, of {adaptation.made_by.__name__}: give what "
                f"this {type(self).__name__} returned."
            )
        if adaptation.head_kind not in (None, self.head_kind):
            raise ConfigError(
                f"The adaptation is another {type(self).__name__}'s, which has heads of another "
                "kind: give what this one returned."
            )
        # The same tensor may hold other pixels by now, and the body other weights.
        weights = list(self.model.state_dict(keep_vars=True).values())
        # What is made in inference mode counts no changes: its features are computed each time.
        counted = not any(tensor.is_inference() for tensor in weights)
        stamp = [(id(tensor), version(tensor)) for tensor in weights]
        known, seen, features, _ = adaptation.memo.get(mode, (None, None, None, None))
        if known != stamp or not counted or not seen.is_of(images):
            features = self.features(images, adaptation.support.images, mode)
            # The weights live on there, and so do their ids.
            adaptation.memo[mode] = stamp, Snapshot(images), features, weights
        head = self._head_under(adaptation, mode)
        return self.head_of(len(features), mode).logits(head, features)

    def _head_under(self, adaptation: Adaptation, mode: BatchNormMode) -> FastWeights:
        """The adaptation's head; found anew where a mode gives the support set other features."""
        own = self.batch_norm_modes[0]
        if (mode == "running") == (own == "running"):
            return adaptation.fast_weights
        support = adaptation.support
        features = self.features(support.images, support.images, mode)
        heads = self.head_of(len(support), mode).trajectory(
            features, support.labels, steps=adaptation.steps
        )
        *_, (head, _, _) = heads
        return head

    @torch.no_grad()
    def features(self, images: Tensor, support_images: Tensor, batch_norm: BatchNormMode) -> Tensor:
        """Features (E, n, ...) of images (E, n, C, H, W), normalised as the mode says."""
        network = self._network(self.network_method)
        statistics = self._statistics(network, support_images, batch_norm)
        features = network.call({}, images, statistics)
        refuse_other_features(features, self.model, self.network_method)
        return features

    @torch.no_grad()
    def block_outputs(self, adaptation: Adaptation, images: Tensor) -> dict[str, Tensor]:
        """Outputs (E, n, values) of blocks and the new head; see `Learner.block_outputs`."""
        network = self._network(self.network_method)
        statistics = self._statistics(network, adaptation.support.images, self.mode(None))
        features, outputs = network.call_blocks({}, images, last_of_blocks(self.model), statistics)
        how = self.head_of(len(features), self.mode(None))
        logits = how.logits(adaptation.fast_weights, features)
        return {name: value.flatten(2) for name, value in outputs.items()} | {"logits": logits}

    @torch.no_grad()
    def as_module(
        self,
        adaptation: Adaptation,
        *,
        episode: int = 0,
        batch_norm: BatchNormMode | None = None,
    ) -> nn.Module:
        """The frozen body and one episode's head; see `Learner.as_module`."""
        alone = adaptation.of_episode(episode)
        network = self._network(self.network_method)
        mode = self.lone_mode(batch_norm)
        statistics = self._statistics(network, alone.support.images, mode)
        # The head of pretraining is not used: it stays behind.
        unused = {"head": nn.Identity()} if hasattr(self.model, "head") else {}
        body = plain_network(self.model, {}, of_episode(statistics, 0), unused)
        head = self.head_of(1, mode).module(self._head_under(alone, mode), 0)
        plain = CutNetwork(body, head, self.network_method).eval()
        refuse_another_function(plain, self, alone, mode)
        return refusing_lone_images(plain)

    def adapting(
        self,
        parts: Parts = "own",
        *,
        rate: float | None = None,
        head: Head = "gradient",
        head_init: HeadInit | None = None,
        penalty: float = 0.1,
    ) -> Learner:
        """Another head, or parts of the body with it; see `Learner.adapting`."""
        refuse_contradictions("head" if parts == "own" else parts, rate, head, head_init, penalty)
        if parts == "own":
            self._refuse_other_ways(rate, head, head_init)
        if parts == "own" and head == "gradient" and head_init is None:
            if rate is None:
                return self
            same = sharing_weights(self)
            same.inner_lr = checked("inner_lr", Rate, rate)
            return same
        parts = "head" if parts == "own" else parts
        named = submodules(self.model, parts)
        if parts == "head":
            frozen = FrozenFeatures(
                self.model,
                batch_norm_modes=self.batch_norm_modes,
                head=head,
                head_init=head_init or self.head_init,
                inner_lr=self.inner_lr if rate is None else rate,
                inner_steps=self.inner_steps,
                penalty=penalty,
            )
            return computed_alike(frozen, self)
        from innerloop.methods.maml.learner import MAML  # which gives heads of this file

        tuned = MAML(
            self.model,
            inner_lr=self.inner_lr if rate is None else rate,
            inner_steps=self.inner_steps,
            fresh_head="head",
            # A zero head gives the body no gradient.
            fresh_head_init="glorot" if parts == "body" else head_init or self.head_init,
            adapts=named,
            batch_norm_modes=self.batch_norm_modes,
        )
        return computed_alike(tuned, self)

    def _refuse_other_ways(
        self, rate: float | None, head: Head, head_init: HeadInit | None
    ) -> None:
        """Raise `ConfigError` if its own way is asked to be another one."""
        asked = {"rate": rate is not None, "head": head != "gradient", "head_init": head_init}
        if any(value and name not in self.own_choices for name, value in asked.items()):
            raise ConfigError(
                f"{type(self).__name__} finds its heads in its own way: another rate or head needs "
                "something to adapt, the head or more."
            )

    def _statistics(
        self, network: Network, support_images: Tensor, mode: BatchNormMode
    ) -> Statistics | Stored | None:
        """What batch norm normalises features by."""
        if mode == "support":
            return network.call_and_measure({}, support_images)[1]
        return "stored" if mode == "running" else None
