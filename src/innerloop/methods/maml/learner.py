"""MAML and FO-MAML: an initialisation that a few gradient steps turn into a classifier."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.functional import (
    FastWeights,
    call,
    call_with_support_statistics,
    expand,
    gradient,
    step,
)
from innerloop.methods.base import Adaptation, Learner, accuracy
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.networks.checks import refuse_running_statistics
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

    Raises:
        ConfigError: if the model keeps running batch-norm statistics, or has no such head or
            submodule.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        inner_lr: float = 0.4,
        inner_steps: int = 5,
        first_order: bool = True,
        fresh_head: str | None = None,
        fresh_head_init: Literal["zero", "glorot"] = "zero",
        adapts: Sequence[str] | None = None,
        query_batches: int = 1,
        loss_fn: LossFunction = F.cross_entropy,
    ):
        super().__init__()
        refuse_running_statistics(model)
        self.model = model
        self.inner_lr, self.inner_steps, self.first_order = inner_lr, inner_steps, first_order
        self.query_batches, self.loss_fn = query_batches, loss_fn
        self.fresh_head_init = fresh_head_init
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
        *_, last = self._descend(params, support, steps, create_graph=not self.first_order)
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
        loss, fast_weights, logged = self._objective(episodes)
        with torch.no_grad():
            start = self._start(self.params, episodes.support)
            before = self._outputs(start, episodes.query.images, 0)
            _, support_after = self._losses(fast_weights, episodes.support, self.inner_steps)
        return loss, logged | {
            "support_accuracy_after": support_after,
            "query_accuracy_before": accuracy(before, episodes.query.labels),
        }

    def meta_loss(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective of `outer_loop`, without the forward passes that only its metrics need."""
        loss, _, logged = self._objective(batch)
        return loss, {name: value.mean() for name, value in logged.items()}

    def _objective(self, batch: EpisodeBatch) -> tuple[Tensor, FastWeights, dict[str, Tensor]]:
        """The mean query loss at φ_K, a scalar; φ_K; and the accuracies (E,) that come with it."""
        fast_weights, first = (
            self._start(self.params, batch.support),
            torch.full((len(batch),), torch.nan),
        )
        for index in range(self.inner_steps):
            fast_weights, _, correct = self._inner_step(
                fast_weights, batch.support, index, create_graph=not self.first_order
            )
            first = correct if index == 0 else first
        loss, after = self._query_loss(fast_weights, batch, self.inner_steps)
        return loss, fast_weights, {"support_accuracy_before": first, "query_accuracy_after": after}

    def trajectory(self, support: LabelledImages, *, steps: int) -> Iterator[Adaptation]:
        """φ_0 ... φ_K without a graph back to θ; see `Learner.trajectory`."""
        theta = {name: weight.detach() for name, weight in self.params.items()}
        yield from self._descend(theta, support, steps, create_graph=False, detach=True)

    def predict(
        self, adaptation: Adaptation, images: Tensor, *, batch_norm: BatchNormMode | None = None
    ) -> Tensor:
        """Logits (E, n, ways) at φ_K; see `Learner.predict`."""
        if batch_norm == "support":
            return call_with_support_statistics(
                self.model, adaptation.fast_weights, adaptation.support.images, images
            )
        return call(self.model, adaptation.fast_weights, images)

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
                    fast_weights, support, index, create_graph=create_graph
                )
                following = (
                    {name: weight.detach() for name, weight in following.items()}
                    if detach
                    else following
                )
            else:
                following = fast_weights
                with torch.no_grad():
                    loss, correct = self._losses(fast_weights, support, index)
            losses.append(loss.detach())
            accuracies.append(correct)
            yield Adaptation(
                fast_weights, support, torch.stack(losses, 1), torch.stack(accuracies, 1)
            )
            fast_weights = following

    def _inner_step(
        self, fast_weights: FastWeights, support: LabelledImages, index: int, *, create_graph: bool
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
            loss, correct = self._losses(fast_weights, support, index)
            gradients = gradient(loss, adapted, create_graph=create_graph)
            return fast_weights | self._stepped(adapted, gradients, index), loss, correct

    def _stepped(self, adapted: FastWeights, gradients: FastWeights, index: int) -> FastWeights:
        """What is adapted, after step number ``index``; the same rate for every tensor and step."""
        return step(adapted, gradients, self.inner_lr)

    def _outputs(self, fast_weights: FastWeights, images: Tensor, index: int) -> Tensor:
        """Outputs (E, n, ways) at φ_k with k = ``index``; the same network at every step."""
        return call(self.model, fast_weights, images)

    def _query_loss(
        self, fast_weights: FastWeights, episodes: EpisodeBatch, index: int
    ) -> tuple[Tensor, Tensor]:
        """Mean query loss, a scalar, and accuracy (E,) at φ_k; both are means over mini-batches."""
        parts = (
            [
                self._losses(fast_weights, part, index)
                for part in episodes.query_batches(self.query_batches)
            ]
            if self.query_batches > 1
            else [self._losses(fast_weights, episodes.query, index)]
        )
        losses, accuracies = zip(*parts, strict=True)
        return torch.stack(losses).mean(), torch.stack(accuracies).mean(dim=0)

    def _losses(
        self, fast_weights: FastWeights, batch: LabelledImages, index: int
    ) -> tuple[Tensor, Tensor]:
        """Loss (E,) and accuracy (E,) of a labelled batch at φ_k with k = ``index``."""
        outputs = self._outputs(fast_weights, batch.images, index)
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
    names = [name for name, _ in model.named_parameters()]
    for module in modules:
        if not any(name.startswith(f"{module}.") for name in names):
            raise ConfigError(f"The model has no parameters under {module!r} {purpose}.")
    return [name for name in names if name.startswith(tuple(f"{module}." for module in modules))]
