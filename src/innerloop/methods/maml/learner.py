"""MAML and FO-MAML: an initialisation that a few gradient steps turn into a classifier."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.functional import FastWeights, expand, gradient, step
from innerloop.fast_weights.network import Network
from innerloop.methods.base import Adaptation, Learner, accuracy, sharing_weights
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.parts import PARTS, Head, HeadInit, Parts, refuse_steps_beside, submodules
from innerloop.networks.base import last_of_blocks, parameters_under
from innerloop.networks.batch_norm import BatchNormMode, Statistics, Stored, of_first_episode
from innerloop.networks.checks import refuse_running_statistics
from innerloop.networks.plain import plain_network
from innerloop.settings.run import RunConfig

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""(outputs of one episode (n, ...), labels (n,)) -> scalar mean over the n examples."""


class MAML(Learner):
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
        fresh_head_init: ``zero``, or ``glorot``: uniform weights, the same draw in every episode.
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
        super().__init__()
        refuse_running_statistics(model)
        Network(model)  # refuses what cannot be copied
        self.model, self.batch_norm_modes = model, batch_norm_modes
        self.inner_lr, self.inner_steps, self.first_order = inner_lr, inner_steps, first_order
        self.query_batches, self.loss_fn = query_batches, loss_fn
        self.fresh_head_init: HeadInit = fresh_head_init
        self.meta_learned_head = fresh_head is None
        self._fresh = (
            _parameters_under(model, [fresh_head], "to be a fresh head") if fresh_head else []
        )
        self._adapted = (
            None if adapts is None else set(_parameters_under(model, adapts, "to adapt"))
        )

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """``first_order`` is a setting: it is all that FO-MAML is."""
        return cls(
            model,
            inner_lr=config.own.inner_lr,
            inner_steps=config.own.inner_steps,
            first_order=config.own.first_order,
            fresh_head="head" if config.own.fresh_head else None,
            query_batches=config.own.query_batches,
        )

    @property
    def params(self) -> dict[str, Tensor]:
        """θ: the model's trainable parameters by name, without a fresh head."""
        return {
            name: weight
            for name, weight in self.model.named_parameters()
            if weight.requires_grad and name not in self._fresh
        }

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
        if steps < 0:
            raise ConfigError(f"inner steps must be at least 0: got {steps}.")
        network, second_order = Network(self.model), not self.first_order
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
        network = Network(self.model)
        loss, fast_weights, logged = self._objective(network, episodes)
        with torch.no_grad():
            start = self._start(self.params, episodes.support)
            before = self._outputs(network, start, episodes.query.images, 0)
            _, support_after = self._losses(
                network, fast_weights, episodes.support, self.inner_steps
            )
        return loss, logged | {
            "support_accuracy_after": support_after,
            "query_accuracy_before": accuracy(before, episodes.query.labels),
        }

    def meta_loss(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective of `outer_loop`, without the forward passes that only its metrics need."""
        loss, _, logged = self._objective(Network(self.model), batch)
        return loss, {name: value.mean() for name, value in logged.items()}

    def _objective(
        self, network: Network, batch: EpisodeBatch
    ) -> tuple[Tensor, FastWeights, dict[str, Tensor]]:
        """The mean query loss at φ_K, a scalar; φ_K; and the accuracies (E,) that come with it."""
        fast_weights = self._start(self.params, batch.support)
        first = torch.full((len(batch),), torch.nan)
        for index in range(self.inner_steps):
            fast_weights, _, correct = self._inner_step(
                network, fast_weights, batch.support, index, create_graph=not self.first_order
            )
            first = correct if index == 0 else first
        loss, after = self._query_loss(network, fast_weights, batch, self.inner_steps)
        return loss, fast_weights, {"support_accuracy_before": first, "query_accuracy_after": after}

    def trajectory(self, support: LabelledImages, *, steps: int) -> Iterator[Adaptation]:
        """φ_0 ... φ_K without a graph back to θ; see `Learner.trajectory`."""
        theta = {name: weight.detach() for name, weight in self.params.items()}
        network = Network(self.model)
        yield from self._descend(network, theta, support, steps, create_graph=False, detach=True)

    def predict(
        self, adaptation: Adaptation, images: Tensor, *, batch_norm: BatchNormMode | None = None
    ) -> Tensor:
        """Logits (E, n, ways) at φ_K; see `Learner.predict`."""
        network, weights = Network(self.model), self._weights(adaptation)
        statistics = self._statistics(network, weights, adaptation, self.mode(batch_norm))
        return network.call(weights, images, statistics)

    @torch.no_grad()
    def block_outputs(self, adaptation: Adaptation, images: Tensor) -> dict[str, Tensor]:
        """Outputs (E, n, values) of blocks and head at φ_K; see `Learner.block_outputs`."""
        network, weights = Network(self.model), self._weights(adaptation)
        statistics = self._statistics(network, weights, adaptation, self.mode(None))
        blocks = last_of_blocks(self.model)
        logits, outputs = network.call_blocks(weights, images, blocks, statistics)
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
        weights = self._weights(alone)
        statistics = self._statistics(Network(self.model), weights, alone, self.mode(batch_norm))
        return plain_network(
            self.model,
            {name: weight[0] for name, weight in weights.items()},
            of_first_episode(statistics),
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
            same.inner_lr = self.inner_lr if rate is None else rate
            return same
        refuse_steps_beside(head, parts)
        named = submodules(self.model, parts)
        kept = self.meta_learned_head and head_init is None
        if parts == "head" and not (kept and head == "gradient"):
            return FrozenFeatures(
                self.model,
                batch_norm_modes=self.batch_norm_modes,
                head=head,
                head_init=head_init or self.fresh_head_init,
                inner_lr=self.inner_lr if rate is None else rate,
                inner_steps=self.inner_steps,
                penalty=penalty,
            )
        return MAML(
            self.model,
            inner_lr=self.inner_lr if rate is None else rate,
            inner_steps=self.inner_steps,
            fresh_head=None if kept and parts != "body" else "head",
            # A zero head gives the body no gradient.
            fresh_head_init="glorot" if parts == "body" else head_init or "zero",
            adapts=named,
            batch_norm_modes=self.batch_norm_modes,
        )

    def _weights(self, adaptation: Adaptation) -> FastWeights:
        """What predictions at φ_K are computed with."""
        return adaptation.fast_weights

    def _statistics(
        self, network: Network, weights: FastWeights, adaptation: Adaptation, mode: BatchNormMode
    ) -> Statistics | Stored | None:
        """What batch norm normalises predictions at φ_K by."""
        if mode == "support":
            return network.call_and_measure(weights, adaptation.support.images)[1]
        return "stored" if mode == "running" else None

    def _start(self, params: Mapping[str, Tensor], support: LabelledImages) -> FastWeights:
        """φ_0: every episode's copy of θ, and its fresh head if it has one."""
        fast_weights = expand(params, len(support))
        if self._fresh:
            ways = int(support.labels.max()) + 1
            for name in self._fresh:
                weight = self.model.get_parameter(name)
                head = weight.new_zeros(ways, *weight.shape[1:])
                if self.fresh_head_init == "glorot" and head.ndim > 1:
                    draw = torch.Generator().manual_seed(0)
                    head = nn.init.xavier_uniform_(
                        torch.empty_like(head, device="cpu"), generator=draw
                    ).to(head)
                fast_weights[name] = head.repeat(len(support), *[1] * head.ndim).requires_grad_()
        return fast_weights

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
        fast_weights = self._start(params, support)
        losses, accuracies = [], []
        for index in range(steps + 1):
            if index < steps:
                following, loss, correct = self._inner_step(
                    network, fast_weights, support, index, create_graph=create_graph
                )
                if detach:
                    following = {name: weight.detach() for name, weight in following.items()}
            else:
                following = fast_weights
                with torch.no_grad():
                    loss, correct = self._losses(network, fast_weights, support, index)
            losses.append(loss.detach())
            accuracies.append(correct)
            yield Adaptation(
                fast_weights, support, torch.stack(losses, 1), torch.stack(accuracies, 1)
            )
            fast_weights = following

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
            adapted = {
                name: weight
                for name, weight in fast_weights.items()
                if self._adapted is None or name in self._adapted
            }
            for weight in adapted.values():
                if not weight.requires_grad:  # the start of an adaptation without a graph back to θ
                    weight.requires_grad_()
            loss, correct = self._losses(network, fast_weights, support, index)
            gradients = gradient(loss, adapted, create_graph=create_graph)
            return fast_weights | self._stepped(adapted, gradients, index), loss, correct

    def _stepped(self, adapted: FastWeights, gradients: FastWeights, index: int) -> FastWeights:
        """What is adapted, after step number ``index``; the same rate for every tensor and step."""
        return step(adapted, gradients, self.inner_lr)

    def _outputs(
        self, network: Network, fast_weights: FastWeights, images: Tensor, index: int
    ) -> Tensor:
        """Outputs (E, n, ways) at φ_k with k = ``index``; the same network at every step."""
        stored = self.batch_norm_modes[0] == "running"
        return network.call(fast_weights, images, "stored" if stored else None)

    def _query_loss(
        self, network: Network, fast_weights: FastWeights, episodes: EpisodeBatch, index: int
    ) -> tuple[Tensor, Tensor]:
        """Mean query loss, a scalar, and accuracy (E,) at φ_k; both are means over mini-batches."""
        parts = [episodes.query]
        if self.query_batches > 1:
            parts = episodes.query_batches(self.query_batches)
        measured = [self._losses(network, fast_weights, part, index) for part in parts]
        losses, accuracies = zip(*measured, strict=True)
        return torch.stack(losses).mean(), torch.stack(accuracies).mean(dim=0)

    def _losses(
        self, network: Network, fast_weights: FastWeights, batch: LabelledImages, index: int
    ) -> tuple[Tensor, Tensor]:
        """Loss (E,) and accuracy (E,) of a labelled batch at φ_k with k = ``index``."""
        outputs = self._outputs(network, fast_weights, batch.images, index)
        if (
            batch.labels.dtype == torch.int64
            and (needed := int(batch.labels.max()) + 1) > outputs.shape[-1]
        ):
            raise ConfigError(
                f"The episodes are {needed}-way and the network has {outputs.shape[-1]} outputs. "
                "MAML learns the initial weights of every output, so it cannot tell more classes "
                f"apart than it was trained for: train with ways={needed}, or with a fresh head."
            )
        losses = [self.loss_fn(*pair) for pair in zip(outputs, batch.labels, strict=True)]
        return torch.stack(losses), accuracy(outputs.detach(), batch.labels)


def _parameters_under(model: nn.Module, modules: Sequence[str], purpose: str) -> list[str]:
    """Names of the parameters of some submodules, refusing one that has none."""
    for module in modules:
        if not parameters_under(model, [module]):
            raise ConfigError(f"The model has no parameters under {module!r} {purpose}.")
    return parameters_under(model, modules)
