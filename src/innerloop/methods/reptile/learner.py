"""Reptile: move the initial weights towards those that each episode's training ends at."""

import dataclasses
from collections.abc import Hashable
from typing import ClassVar, Self

from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.fast_weights.functional import FastWeights, with_gradient
from innerloop.fast_weights.network import Network
from innerloop.fast_weights.objectives import LossFunction
from innerloop.fast_weights.sums import tree_mean
from innerloop.methods.maml.descent import Descent
from innerloop.methods.parts import Parts, checked
from innerloop.methods.reptile.adam import adam_step
from innerloop.methods.reptile.card import (
    ONE_STEP,
    InnerOptimiser,
    InnerShots,
    TrainShots,
    TrainSteps,
)
from innerloop.methods.reptile.mini_batches import mini_batches
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.settings.run import RunConfig


class Reptile(Descent):
    """Reptile (Nichol, Achiam and Schulman, 2018, arXiv 1803.02999), Algorithm 2.

    Let θ be the parameters, L the loss, α the inner rate, B_k mini-batches of an episode's images.
    For each episode, from φ_0 = θ::

        φ_{k+1} = φ_k − α ∇_φ L(φ_k; B_k)                    k = 0 ... K − 1    (inner loop)
        outer gradient:  mean over episodes of θ − φ_K                          (outer loop)

    The outer gradient is a difference of weights, not the gradient of a loss on other images. With
    K = 1 it is α ∇L(θ; B_0): training on all tasks at once. From K = 2 on it holds, to first order
    in α, a term that raises the inner product of the gradients of an episode's mini-batches
    (section 5). In training an episode's shots and queries are one set of images, which has no
    other use. Evaluation adapts to the support set, as all methods do, and predicts other images.

    With ``inner_optimiser="adam"`` the inner steps are `adam_step`'s, as on Omniglot in the paper.

    Deviations from the paper: the difference goes into the outer loop's Adam, its authors'
    alternative to a plain step. Mini-batches have as many images of every class, in the order that
    the sampler draws; theirs are shuffled. The inner Adam begins anew in every episode; in their
    code its second moments go on from the episode before. Evaluation steps on the whole support
    set; theirs on mini-batches.

    Args:
        model: maps images (n, channels, height, width) to logits (n, ways).
        inner_lr: α.
        inner_steps: K >= 1 in training.
        inner_optimiser: ``sgd`` or ``adam``.
        inner_shots: images of each class in a mini-batch; of a regression, images.
        train_shots: of each class so many images are gone through, again and again; 0: all.
        outer_annealing: whether the outer rate falls linearly to 0 over the run.
        fresh_head: name of the head, if it starts from zero in every episode; None: it is part of
            θ, as in the paper.
        loss_fn: L, for one episode: (outputs, labels) -> mean loss.
        batch_norm_modes: the modes that `predict` knows, the method's own first.

    Raises:
        ConfigError: as `Descent`, or if a fresh head has one step alone.
    """

    adaptable: ClassVar[tuple[Parts, ...]] = ("own",)
    own_parts: ClassVar[Parts | None] = "all"

    def __init__(
        self,
        model: nn.Module,
        *,
        inner_lr: float = 0.4,
        inner_steps: int = 10,
        inner_optimiser: InnerOptimiser = "sgd",
        inner_shots: int = 2,
        train_shots: int = 0,
        outer_annealing: bool = True,
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
        self.inner_optimiser = checked("inner_optimiser", InnerOptimiser, inner_optimiser)
        self.inner_shots: int = checked("inner_shots", InnerShots, inner_shots)
        self.train_shots: int = checked("train_shots", TrainShots, train_shots)
        self.outer_annealing: bool = checked("outer_annealing", bool, outer_annealing)
        if fresh_head and self.inner_steps == 1:
            raise ConfigError(ONE_STEP)

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """The settings of the same names; ``eval_inner_steps`` are given to `adapt`."""
        settings = dataclasses.asdict(config.own)
        # How many episodes there are, and how evaluation adapts, is no matter of the learner.
        for name in ("meta_batch_size", "eval_inner_steps"):
            settings.pop(name)
        fresh_head = settings.pop("fresh_head")
        return cls(model, fresh_head="head" if fresh_head else None, **settings)

    def begin_outer_step(self, step: int, total: int) -> float:
        """The outer-rate factor: from 1 at the first step along a line to 0 after the last."""
        return 1 - step / total if self.outer_annealing else 1.0

    def meta_loss(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss of the inner steps' mini-batches; its gradient is the mean of θ − φ_K."""
        network = self._network()
        start = self._start(network, self.params, batch.support)
        batches = mini_batches(
            batch, self.inner_steps, shots=self.inner_shots, among=self.train_shots
        )
        last, losses, accuracies = self._last_weights(network, start, batches)
        moved = {name: start[name].detach() - last[name] for name in self.params}
        values = with_gradient(losses.mean(dim=0), start, moved)
        logged = {
            "loss_of_first_batch": losses[0],
            "loss_of_last_batch": losses[-1],
            "accuracy_on_last_batch": accuracies[-1],
        }
        return tree_mean(values), {name: tree_mean(value) for name, value in logged.items()}

    def step_signature(self) -> Hashable | None:
        """Every step is the same; of a subclass nothing is known."""
        return () if type(self) is Reptile else None

    def _stepped(
        self, network: Network, adapted: FastWeights, gradients: FastWeights, index: int
    ) -> FastWeights:
        if self.inner_optimiser == "sgd":
            return super()._stepped(network, adapted, gradients, index)
        return adam_step(adapted, gradients, self.inner_lr, index, network.memory)
