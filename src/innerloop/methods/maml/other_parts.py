"""A learner by gradient descent that adapts other parts of its network."""

from typing import TYPE_CHECKING

from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.methods.base import Learner, computed_alike
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.parts import Head, HeadInit, Parts, submodules

if TYPE_CHECKING:
    from innerloop.methods.maml.learner import MAML


def other_parts(
    learner: "MAML",
    parts: Parts,
    *,
    rate: float | None,
    head: Head,
    head_init: HeadInit | None,
    penalty: float,
) -> Learner:
    """What `MAML.adapting` gives where something else than the rate is to be another."""
    named = submodules(learner.model, parts)
    kept = learner.meta_learned_head and head_init is None
    if parts == "head" and not (kept and head == "gradient"):
        if learner.loss_fn is not F.cross_entropy:
            raise ConfigError("A new head on frozen features is fitted by cross-entropy alone.")
        frozen = FrozenFeatures(
            learner.model,
            batch_norm_modes=learner.batch_norm_modes,
            head=head,
            head_init=head_init or learner.fresh_head_init,
            inner_lr=learner.inner_lr if rate is None else rate,
            inner_steps=learner.inner_steps,
            penalty=penalty,
        )
        return computed_alike(frozen, learner)
    if not learner.computes_as_maml:
        # What a subclass does in its inner loop would be lost without a word.
        return Learner.adapting(
            learner, parts, rate=rate, head=head, head_init=head_init, penalty=penalty
        )
    from innerloop.methods.maml.learner import MAML

    tuned = MAML(
        learner.model,
        inner_lr=learner.inner_lr if rate is None else rate,
        inner_steps=learner.inner_steps,
        fresh_head=None if kept and parts != "body" else "head",
        # A zero head gives the body no gradient.
        fresh_head_init="glorot" if parts == "body" else head_init or learner.fresh_head_init,
        adapts=named,
        loss_fn=learner.loss_fn,
        batch_norm_modes=learner.batch_norm_modes,
    )
    return computed_alike(tuned, learner)
