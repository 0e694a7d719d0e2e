"""MAML and FO-MAML: an initialisation that a few gradient steps turn into a classifier."""

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, Self

from torch import nn
from torch.nn import functional as F

from innerloop.fast_weights.objectives import LossFunction
from innerloop.methods.base import Learner, sharing_weights
from innerloop.methods.maml.other_parts import other_parts
from innerloop.methods.maml.unrolled import Unrolled, arguments_of
from innerloop.methods.parts import PARTS, Head, HeadInit, Parts, checked, refuse_contradictions
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.settings.fields import Rate
from innerloop.settings.run import RunConfig


class MAML(Unrolled):
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
            at test may differ from training. None: the head is meta-learned like everything else.
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
            inner_steps=inner_steps,
            first_order=first_order,
            fresh_head=fresh_head,
            fresh_head_init=fresh_head_init,
            adapts=adapts,
            query_batches=query_batches,
            loss_fn=loss_fn,
            batch_norm_modes=batch_norm_modes,
        )

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """``first_order`` is a setting: it is all that FO-MAML is."""
        return cls(model, **arguments_of(config.own))

    def step_signature(self) -> Hashable | None:
        """Whether of first order; of a subclass that says nothing of its steps nothing is known."""
        return self.first_order if self.computes_as_maml else None

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
        refuse_contradictions(parts, rate, head, head_init, penalty)
        if parts == "own" and head == "gradient" and head_init is None:
            same = sharing_weights(self)
            same.inner_lr = self.inner_lr if rate is None else checked("inner_lr", Rate, rate)
            return same
        tuned = other_parts(self, parts, rate=rate, head=head, head_init=head_init, penalty=penalty)
        if parts == "own" and isinstance(tuned, MAML):
            tuned._adapted = self._adapted
            tuned.refuse_still_head()
        return tuned
