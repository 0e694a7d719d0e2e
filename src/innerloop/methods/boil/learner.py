"""BOIL: MAML whose inner loop adapts the body alone, before a head that stays as it was learnt."""

from typing import Any, ClassVar

from torch import nn

from innerloop.methods.maml.learner import MAML
from innerloop.methods.parts import PARTS, Parts, parameters_to_adapt, refuse_fixed

HEAD_IS_KEPT = "to keep: BOIL's network calls its last layer head"


class BOIL(MAML):
    """Body only update in inner loop (Oh, Yoo, Kim and Yun, 2021, arXiv 2008.08882, section 3).

    Let θ be the body's parameters, w the head's, L the loss, α the inner rate. For each episode,
    from θ_0 = θ::

        θ_{k+1} = θ_k − α ∇_θ L(θ_k, w; support)             k = 0 ... K − 1    (inner loop)
        minimise over θ, w:  mean over episodes of L(θ_K, w; query)             (outer loop)

    The paper writes an inner rate of its own for body and head, α_b and α_h: MAML has α_b = α_h,
    ANIL α_b = 0, and BOIL α_h = 0. So an episode's classes come to the rows of a head that is the
    same for all of them: the features change, and not what is made of them. The head's gradient,
    of second order too, is from the outer loop alone. This is `MAML` with ``adapts`` of all but the
    head.

    Where the head is zero, as `Conv4` makes it by default, the body's inner gradient is zero: give
    ``head_init="glorot"``.

    Deviation: that of `MAML`.

    Args:
        model: its last layer is called ``head``.
        settings: those of `MAML` without ``adapts`` and without a fresh head, which would never
            learn anything.

    Raises:
        ConfigError: as `MAML`; or if the model has no ``head``, a fresh one is asked for, or there
            is nothing beside it.
    """

    # A body before a fixed head, which `body` is, is not what was learnt.
    adaptable: ClassVar[tuple[Parts, ...]] = tuple(parts for parts in PARTS if parts != "body")
    own_parts: ClassVar[Parts | None] = None
    computes_as_maml: ClassVar[bool] = True
    can_have_fresh_head: ClassVar[bool] = False

    def __init__(self, model: nn.Module, **settings: Any):
        refuse_fixed("BOIL", settings, "adapts")
        super().__init__(model, **settings)
        self._adapted = self.params.keys() - parameters_to_adapt(model, ["head"], HEAD_IS_KEPT)
        self._refuse_nothing_to_adapt()
