"""Gradient descent of a network on every support set, each episode with weights of its own."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.functional import FastWeights, detached, expand, gradient, step
from innerloop.fast_weights.network import Network
from innerloop.fast_weights.objectives import Losses, LossFunction, Objective, of_ways
from innerloop.methods.base import Adaptation, Learner, accuracy, refuse_another_function
from innerloop.methods.door import ways_of
from innerloop.methods.heads.linear import glorot_weight, prototype_head
from innerloop.methods.parts import (
    HeadInit,
    checked,
    linear_head,
    parameters_to_adapt,
    possible_modes,
)
from innerloop.networks.base import (
    Embeds,
    last_of_blocks,
    refuse_other_features,
    refuse_other_forward,
)
from innerloop.networks.batch_norm import (
    BatchNormMode,
    Moments,
    Statistics,
    Stored,
    of_episode,
)
from innerloop.networks.checks import refuse_faults
from innerloop.networks.plain import giving_ways, plain_network, refusing_lone_images
from innerloop.settings.fields import Rate


class Descent(Learner):
    """What adapts by gradient descent, from learnt or given weights, and predicts with the result.

    From φ_0 = θ: φ_{k+1} = φ_k − α ∇_φ L(φ_k; support). How θ is learnt is for a subclass to say.

    Args:
        model: maps images (n, channels, height, width) to logits (n, ways).
        inner_lr: α.
        fresh_head: name of the submodule that is the head, if it starts anew in every episode.
        fresh_head_init: ``zero``, or ``glorot``: uniform weights, the same draw in every episode.
        adapts: names of submodules; only their parameters take steps. None: all parameters do.
        loss_fn: L, for one episode: (outputs, labels) -> mean loss.
        batch_norm_modes: the modes that `predict` knows, the method's own first. With ``running``
            first every pass, the inner loop's too, uses the statistics stored in the model.

    Raises:
        ConfigError: if the model keeps running batch-norm statistics in layers of PyTorch's own,
            cannot be copied, has no such head or submodule, or nothing to adapt; or a setting is
            out of its range.
    """

    can_have_fresh_head: ClassVar[bool] = True
    """Whether the head may start anew in every episode; if not, it is meta-learned."""
    cuts_network: ClassVar[bool] = False
    """Whether head(embed(images)) takes the place of the network."""

    def __init__(
        self,
        model: nn.Module,
        *,
        inner_lr: float,
        fresh_head: str | None,
        fresh_head_init: HeadInit,
        adapts: Sequence[str] | None,
        loss_fn: LossFunction,
        batch_norm_modes: tuple[BatchNormMode, ...],
    ):
        super().__init__()
        refuse_faults(model)
        Network(model)  # refuses what cannot be copied
        if not callable(loss_fn) or isinstance(loss_fn, type):
            remedy = f" Give {loss_fn.__name__}()." if isinstance(loss_fn, type) else ""
            raise ConfigError(
                f"loss_fn must be a function of outputs and labels: got {loss_fn!r}.{remedy}"
            )
        if fresh_head is not None and not self.can_have_fresh_head:
            raise ConfigError(
                f"{type(self).__name__} meta-learns its head, so that it cannot start anew in "
                "every episode: leave fresh_head out."
            )
        self.model = model
        self.batch_norm_modes = possible_modes(model, batch_norm_modes)
        self.inner_lr = checked("inner_lr", Rate, inner_lr)
        self.loss_fn = loss_fn
        self.fresh_head_init: HeadInit = checked("fresh_head_init", HeadInit, fresh_head_init)
        self.meta_learned_head = fresh_head is None
        self._fresh = [] if fresh_head is None else linear_head(model, fresh_head)
        if fresh_head_init == "prototypes" and len(self._fresh) == 1:
            raise ConfigError(
                "A head that starts from prototypes has a bias, -‖c‖² of each class's mean c: "
                f"{fresh_head!r} has none."
            )
        if fresh_head_init == "prototypes" and not isinstance(model, Embeds):
            raise ConfigError(
                f"A head starts from prototypes of features: give {type(model).__name__} a method "
                "embed(images) that returns them, (n, features)."
            )
        self._is_cut_known = False
        self._adapted = None if adapts is None else set(parameters_to_adapt(model, adapts))
        self._refuse_nothing_to_adapt()
        self.refuse_still_head()

    def refuse_still_head(self) -> None:
        """Raise `ConfigError` for a head that starts from zero in every episode and stays there."""
        from_zero = bool(self._fresh) and self.fresh_head_init == "zero"
        if from_zero and self._adapted is not None and not self._adapted & {*self._fresh}:
            raise ConfigError(
                "A fresh head that starts from zero and takes no inner step tells nothing apart, "
                "and hands on no gradient: adapt it too, or let it start otherwise (glorot)."
            )

    def _refuse_nothing_to_adapt(self) -> None:
        names = {*self.params, *self._fresh}
        if not (names if self._adapted is None else names & self._adapted):
            raise ConfigError(
                f"No parameter of {type(self.model).__name__} would take inner steps: give it "
                "trainable parameters (requires_grad=True), and adapt submodules that have some."
            )

    @property
    def training_mode(self) -> BatchNormMode:
        """A batch's own statistics, unless stored ones come first."""
        return "running" if self.batch_norm_modes[0] == "running" else "transductive"

    @property
    def params(self) -> dict[str, Tensor]:
        """θ: the model's trainable parameters by name, without a fresh head."""
        return {
            name: weight
            for name, weight in self.model.named_parameters()
            if weight.requires_grad and name not in self._fresh
        }

    def trajectory(self, support: LabelledImages, *, steps: int) -> Iterator[Adaptation]:
        """φ_0 ... φ_K without a graph back to θ; see `Learner.trajectory`."""
        # Evaluation needs gradients within a step, and none across steps.
        theta = {name: weight.detach() for name, weight in self.params.items()}
        network = self._network()
        yield from self._descend(network, theta, support, steps, create_graph=False, detach=True)

    def predict(
        self, adaptation: Adaptation, images: Tensor, *, batch_norm: BatchNormMode | None = None
    ) -> Tensor:
        """Logits (E, n, ways) at φ_K; see `Learner.predict`."""
        network = self._network()
        weights = self._weights(network, adaptation)
        statistics = self._statistics(network, weights, adaptation, self.mode(batch_norm))
        outputs = network.call(weights, images, statistics)
        return of_ways(outputs, ways_of(adaptation.support))

    @torch.no_grad()
    def block_outputs(self, adaptation: Adaptation, images: Tensor) -> dict[str, Tensor]:
        """Outputs (E, n, values) of blocks and head at φ_K; see `Learner.block_outputs`."""
        network = self._network()
        weights = self._weights(network, adaptation)
        statistics = self._statistics(network, weights, adaptation, self.mode(None))
        blocks = last_of_blocks(self.model)
        logits, outputs = network.call_blocks(weights, images, blocks, statistics)
        logits = of_ways(logits, ways_of(adaptation.support))
        return {name: value.flatten(2) for name, value in outputs.items()} | {"logits": logits}

    @torch.no_grad()
    def as_module(
        self,
        adaptation: Adaptation,
        *,
        episode: int = 0,
        batch_norm: BatchNormMode | None = None,
    ) -> nn.Module:
        """The network at one episode's φ_K; see `Learner.as_module`."""
        alone = adaptation.of_episode(episode)
        network = self._network()
        weights = self._weights(network, alone)
        statistics = self._statistics(network, weights, alone, self.lone_mode(batch_norm))
        plain = plain_network(
            self.model,
            {name: weight[0] for name, weight in weights.items()},
            of_episode(statistics, 0),
        )
        plain = giving_ways(plain, alone.support.images[0], ways_of(alone.support))
        refuse_another_function(plain, self, alone, self.lone_mode(batch_norm))
        return refusing_lone_images(plain)

    def _weights(self, network: Network, adaptation: Adaptation) -> FastWeights:
        """What predictions at φ_K are computed with."""
        names = {*self.params, *self._fresh}
        if adaptation.fast_weights.keys() != names:
            raise ConfigError(
                f"The adaptation is another learner's: it has no weights for this network's "
                f"{min(names ^ adaptation.fast_weights.keys())!r}."
            )
        return adaptation.fast_weights

    def _statistics(
        self, network: Network, weights: FastWeights, adaptation: Adaptation, mode: BatchNormMode
    ) -> Statistics | Stored | None:
        """What batch norm normalises predictions at φ_K by."""
        if mode == "support":
            return network.call_and_measure(weights, adaptation.support.images)[1]
        return "stored" if mode == "running" else None

    def _start(
        self, network: Network, params: Mapping[str, Tensor], support: LabelledImages
    ) -> FastWeights:
        """φ_0: every episode's copy of θ, and its fresh head if it has one."""
        if self.cuts_network:
            self._look_at_cut(support)
        fast_weights = expand(network.laid_out(params), len(support))
        if self._fresh and self.fresh_head_init == "prototypes":
            head = self._prototypes(fast_weights, support)
            # Views, so that the body's first inner gradient is at this head, and not also that of
            # the prototypes behind it.
            return {name: of.view_as(of) for name, of in fast_weights.items()} | head
        if self._fresh:
            ways = ways_of(support)
            for name in self._fresh:
                weight = self.model.get_parameter(name)
                # Targets of a regression are no classes: the head keeps its size.
                rows = len(weight) if ways is None else ways
                head = weight.new_zeros(rows, *weight.shape[1:])
                if self.fresh_head_init == "glorot" and head.ndim > 1:
                    head = glorot_weight(head.shape, head.dtype, head.device)
                fast_weights[name] = head.repeat(len(support), *[1] * head.ndim).requires_grad_()
        return fast_weights

    def _look_at_cut(self, support: LabelledImages) -> None:
        """Raise `ConfigError` where logits are not the head's of the features; looked at once."""
        if not self._is_cut_known:
            refuse_other_forward(self.model, support.images[0])
            self._is_cut_known = True

    def _prototypes(self, fast_weights: FastWeights, support: LabelledImages) -> FastWeights:
        """Fresh heads at the means of each class's features, which θ has of the support set."""
        ways = ways_of(support)
        if ways is None:
            raise ConfigError("A head starts from prototypes of classes: give int64 labels.")
        network = self._network("embed")
        weights, statistics = self._call(network, fast_weights, 0)
        features = network.call(weights, support.images, statistics)
        refuse_other_features(features, self.model, "embed")
        self._look_at_cut(support)
        head = prototype_head(features, support.labels, ways)
        named = {name: head[name.rpartition(".")[2]] for name in self._fresh}
        return {
            name: value if value.requires_grad else value.requires_grad_()
            for name, value in named.items()
        }

    def _descend(
        self,
        network: Network,
        params: Mapping[str, Tensor],
        support: LabelledImages,
        steps: int,
        *,
        create_graph: bool,
        detach: bool = False,
    ) -> Iterator[Adaptation]:
        """Yield the adaptation at φ_0 ... φ_K; detached, no graph is kept from step to step."""
        fast_weights = self._start(network, params, support)
        if detach:
            fast_weights = detached(fast_weights)
        memo = {}
        values = []
        accuracies = []
        for index in range(steps + 1):
            if index < steps:
                following, loss, correct = self._inner_step(
                    network, fast_weights, support, index, create_graph=create_graph
                )
                if detach:
                    following = detached(following)
            else:
                following = fast_weights
                with torch.no_grad():
                    losses, correct = self._losses(network, fast_weights, support, index)
                loss = losses.values
            # For the record alone: with its graph it would hold every step's in memory.
            values.append(loss.detach())
            accuracies.append(correct)
            yield Adaptation(
                fast_weights,
                support,
                torch.stack(values, 1),
                torch.stack(accuracies, 1),
                memo,
                type(self),
            )
            fast_weights = following

    def _last_weights(
        self, network: Network, start: FastWeights, batches: Iterable[LabelledImages]
    ) -> tuple[FastWeights, Tensor, Tensor]:
        """φ_K from φ_0 by a step on each of K batches, for methods that need no graph of the steps.

        Returns:
            φ_K without a graph; and (K, E) each, losses and accuracies on every step's batch at the
            weights before it.
        """
        fast_weights = detached(start)
        losses, accuracies = [], []
        for index, batch in enumerate(batches):
            following, loss, correct = self._inner_step(
                network, fast_weights, batch, index, create_graph=False
            )
            fast_weights = detached(following)
            losses.append(loss.detach())
            accuracies.append(correct)
        return fast_weights, torch.stack(losses), torch.stack(accuracies)

    def _inner_step(
        self,
        network: Network,
        fast_weights: FastWeights,
        support: LabelledImages,
        index: int,
        *,
        create_graph: bool,
    ) -> tuple[FastWeights, Tensor, Tensor]:
        """φ_{k+1} from φ_k with k = ``index``, and support loss (E,) and accuracy (E,) at φ_k."""
        with torch.enable_grad():
            # Those without a graph back to θ get one for this step alone: predictions need none.
            adapted = {
                name: weight if weight.requires_grad else weight.detach().requires_grad_()
                for name, weight in fast_weights.items()
                if self._adapted is None or name in self._adapted
            }
            fast_weights = fast_weights | adapted
            fresh = {name: adapted[name] for name in self._fresh if name in adapted}
            from_zero = index == 0 and bool(fresh) and self.fresh_head_init == "zero"
            zero_head = self._fresh[0].rpartition(".")[0] if from_zero else None
            losses, correct = self._losses(
                network, fast_weights, support, index, zero_head=zero_head, twice=create_graph
            )
            if losses.head_alone:
                # A head that starts from zero hands no gradient on: nothing else moves. Views, so
                # that the next step's gradient is not also that of the head's step behind it.
                still = {name: of.view_as(of) for name, of in fast_weights.items()}
                fast_weights, adapted = still | fresh, fresh
            gradients = gradient(losses.values, adapted, create_graph=create_graph)
            following = fast_weights | self._stepped(network, adapted, gradients, index)
            return following, losses.values, correct

    def _stepped(
        self, network: Network, adapted: FastWeights, gradients: FastWeights, index: int
    ) -> FastWeights:
        """What is adapted, after step number ``index``; the same rate for every tensor and step."""
        return step(adapted, gradients, self.inner_lr)

    def _call(
        self, network: Network, fast_weights: FastWeights, index: int
    ) -> tuple[FastWeights, Stored | None]:
        """What the network is called with at φ_k, k = ``index``: the same at every step."""
        return fast_weights, "stored" if self.batch_norm_modes[0] == "running" else None

    def _outputs(
        self, network: Network, fast_weights: FastWeights, images: Tensor, index: int
    ) -> Tensor:
        """Outputs (E, n, ...) at φ_k with k = ``index``."""
        weights, statistics = self._call(network, fast_weights, index)
        return network.call(weights, images, statistics)

    def _losses(
        self,
        network: Network,
        fast_weights: FastWeights,
        batch: LabelledImages,
        index: int,
        *,
        zero_head: str | None = None,
        twice: bool = False,
    ) -> tuple[Losses, Tensor]:
        """Losses and accuracy (E,) of a labelled batch at φ_k with k = ``index``.

        Args:
            network: of this learner's model.
            fast_weights: φ_k.
            batch: labelled images.
            index: k.
            zero_head: see `Objective`.
            twice: see `Objective`.
        """
        weights, statistics = self._call(network, fast_weights, index)
        objective = Objective(
            self.loss_fn,
            partial(self._refuse_outputs, batch),
            ways_of(batch),
            self._measure(network),
            zero_head,
            twice,
        )
        losses = network.losses(weights, batch, objective, statistics)
        return losses, accuracy(losses.outputs.detach(), batch.labels)

    def _measure(self, network: Network) -> Callable[[Tensor], Moments] | None:
        """How batch norm's moments are to be taken on the way; None: not."""
        return None

    def _refuse_outputs(self, batch: LabelledImages, outputs: Tensor) -> None:
        """Raise `ConfigError` where outputs (E, n, ...) do not suit the labels."""
        ways = ways_of(batch)
        if ways is not None and outputs.ndim != 3 and self.loss_fn is F.cross_entropy:
            raise ConfigError(
                f"The network's output has shape {tuple(outputs.shape[1:])} for "
                f"{outputs.shape[1]} images: let forward return logits (n, ways), one row each."
            )
        if ways is None:
            self._refuse_targets(outputs, batch.labels)
        elif ways > outputs.shape[-1]:
            raise ConfigError(
                f"The episodes are {ways}-way and the network has {outputs.shape[-1]} outputs. "
                f"{type(self).__name__} learns the initial weights of every output, so it cannot "
                f"tell more classes apart than it was trained for: train with ways={ways}"
                f"{', or with a fresh head' if self.can_have_fresh_head else ''}."
            )

    def _refuse_targets(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise `ConfigError` where targets of a regression would be compared with other outputs.

        Args:
            outputs: (E, n, ...).
            targets: (E, n, ...).
        """
        if self.loss_fn is F.cross_entropy and not _are_shares(targets, outputs):
            raise ConfigError(
                f"Labels are {targets.dtype} and cross-entropy takes classes: give int64 labels, "
                "or loss_fn, the loss of a regression."
            )
        # Losses broadcast: (n, 1) against (n,) would compare each output with every target.
        if outputs.shape != targets.shape and _broadcast(outputs.shape[1:], targets.shape[1:]):
            raise ConfigError(
                f"The network's outputs have shape {tuple(outputs.shape)} and the targets "
                f"{tuple(targets.shape)}: give both the same."
            )


def _are_shares(targets: Tensor, outputs: Tensor) -> bool:
    """Whether targets are probabilities of classes, which cross-entropy takes as well as classes.

    Of other numbers it is a loss of nothing: of one output 0, whatever the target.
    """
    if targets.shape != outputs.shape or targets.ndim != 3 or targets.shape[-1] < 2:
        return False
    sums = targets.sum(dim=-1)
    return bool((targets >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)


def _broadcast(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether arithmetic takes tensors of two shapes, whatever it then means."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return all(a == b or 1 in (a, b) for a, b in pairs)
