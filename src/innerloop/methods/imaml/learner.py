"""iMAML: an initialisation that holds each episode's weights near it, by the implicit gradient."""

import dataclasses
from collections.abc import Hashable
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.data.episodes import EpisodeBatch
from innerloop.fast_weights.functional import (
    FastWeights,
    gradient,
    hessian_product,
    step,
    with_gradient,
)
from innerloop.fast_weights.network import Network
from innerloop.fast_weights.objectives import LossFunction
from innerloop.fast_weights.sums import tree_mean
from innerloop.methods.imaml.card import Proximal, Solves, TrainSteps
from innerloop.methods.imaml.conjugate_gradient import by_name, conjugate_gradient, dot, rows_of
from innerloop.methods.maml.descent import Descent
from innerloop.methods.parts import Parts, checked
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.settings.run import RunConfig


class IMAML(Descent):
    """MAML with implicit gradients (Rajeswaran, Finn, Kakade and Levine, 2019, arXiv 1909.04630).

    Let θ be the parameters, L the loss, α the inner rate, λ the weight of the proximal term. Each
    episode's weights are to be a minimum near θ, which gradient descent from φ_0 = θ looks for::

        φ* = argmin over φ of  L(φ; support) + λ/2 |φ − θ|²                          (inner problem)
        φ_{k+1} = φ_k − α (∇L(φ_k; support) + λ (φ_k − θ))       k = 0 ... K − 1     (inner loop)
        minimise over θ:  mean over episodes of L(φ*; query)                         (outer loop)

    Where the inner problem's gradient is zero, ∂φ*/∂θ = (I + H/λ)⁻¹, with H = ∇² L(φ*; support)
    (Lemma 1). So the outer gradient of an episode is x, the solution of ::

        (I + H/λ) x = ∇_φ L(φ_K; query)                         by `conjugate_gradient`, H at φ_K

    It needs the last weights alone, and no graph of the steps. It is exact where K steps reach φ*
    and conjugate gradient its solution; how far both are from that is logged.

    Deviations from the paper: a mean over the episodes instead of a sum. A fresh head is held near
    the zero that it starts from, a constant: it is part of the inner problem and of H, and its part
    of x is left out. Where I + H/λ is not positive, x is what it was before, or g itself. There is
    no damping, as in the paper; the authors' code solves (2 I + H / (λ + 10)) x = g, and takes the
    proximal term into one step at the end of the inner loop.

    Args:
        model: maps images (n, channels, height, width) to logits (n, ways).
        inner_lr: α. Steps converge if α (λ + the largest curvature) < 2.
        inner_steps: K >= 1 in training.
        proximal: λ > 0.
        cg_steps: steps of conjugate gradient, with a product with the Hessian each.
        fresh_head: name of the head, if it starts from zero in every episode; None: it is part of
            θ, as in the paper.
        loss_fn: L, for one episode: (outputs, labels) -> mean loss.
        batch_norm_modes: the modes that `predict` knows, the method's own first.

    Raises:
        ConfigError: as `Descent`, or if λ is not above zero.
    """

    adaptable: ClassVar[tuple[Parts, ...]] = ("own",)
    own_parts: ClassVar[Parts | None] = "all"

    def __init__(
        self,
        model: nn.Module,
        *,
        inner_lr: float = 0.4,
        inner_steps: int = 5,
        proximal: float = 2.0,
        cg_steps: int = 5,
        fresh_head: str | None = None,
        loss_fn: LossFunction = F.cross_entropy,
        batch_norm_modes: tuple[BatchNormMode, ...] = ("transductive", "support"),
    ):
        super().__init__(
            model,
            inner_lr=inner_lr,
            fresh_head=fresh_head,
            fresh_head_init="zero",
            adapts=None,
            loss_fn=loss_fn,
            batch_norm_modes=batch_norm_modes,
        )
        self.inner_steps: int = checked("inner_steps", TrainSteps, inner_steps)
        self.proximal: float = checked("proximal", Proximal, proximal)
        self.cg_steps: int = checked("cg_steps", Solves, cg_steps)

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """The settings of the same names."""
        settings = dataclasses.asdict(config.own)
        # How many episodes there are in an outer step is no matter of the learner.
        settings.pop("meta_batch_size")
        fresh_head = settings.pop("fresh_head")
        return cls(model, fresh_head="head" if fresh_head else None, **settings)

    def meta_loss(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean query loss at φ_K; its gradient is the mean implicit one."""
        network = self._network()
        start = self._start(network, self.params, batch.support)
        batches = [batch.support] * self.inner_steps
        last, _, accuracies = self._last_weights(network, start, batches)
        adapted = {name: of.requires_grad_() for name, of in last.items()}
        # The implicit gradient is a number of this step: whoever asks for the loss alone gets both.
        with torch.enable_grad():
            query, after = self._losses(network, adapted, batch.query, self.inner_steps)
            target = gradient(query.values, adapted, create_graph=False)
            support, _ = self._losses(network, adapted, batch.support, self.inner_steps, twice=True)
            slope = gradient(support.values, adapted, create_graph=True)

            def product(vectors: Tensor) -> Tensor:
                curved = hessian_product(slope, adapted, by_name(vectors, adapted))
                return vectors + rows_of(curved) / self.proximal

            implicit, residual = conjugate_gradient(product, rows_of(target), self.cg_steps)
        gradients = by_name(implicit, adapted)
        values = with_gradient(query.values, start, {name: gradients[name] for name in self.params})
        pulled = rows_of(self._pulled(adapted, slope, start)).detach()
        logged = {
            "support_accuracy_before": accuracies[0],
            "query_accuracy_after": after,
            "inner_gradient_norm": dot(pulled, pulled).sqrt(),
            "cg_residual": residual,
        }
        return tree_mean(values), {name: tree_mean(value) for name, value in logged.items()}

    def step_signature(self) -> Hashable | None:
        """Every step is the same; of a subclass nothing is known."""
        return () if type(self) is IMAML else None

    def _stepped(
        self, network: Network, adapted: FastWeights, gradients: FastWeights, index: int
    ) -> FastWeights:
        # A weight is still where it started when it takes its first step, whichever that is.
        start = {name: network.memory.setdefault(name, of) for name, of in adapted.items()}
        return step(adapted, self._pulled(adapted, gradients, start), self.inner_lr)

    def _pulled(self, at: FastWeights, slope: FastWeights, start: FastWeights) -> FastWeights:
        """The gradient of the inner problem: that of the loss, and λ (φ − θ)."""
        return {name: slope[name] + self.proximal * (at[name] - start[name]) for name in at}
