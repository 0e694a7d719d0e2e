"""Matching networks: a mean of support labels, weighted by attention."""

from typing import Annotated, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.methods.heads.episodic import EpisodicFeatures
from innerloop.methods.heads.rule import Fitted, Rule
from innerloop.methods.matchingnet.context import FullContext
from innerloop.methods.parts import checked
from innerloop.networks.base import feature_size
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.settings.fields import between
from innerloop.settings.run import RunConfig


class Attention(Rule):
    """Logits log p, where p is the mean of support labels by attention: see `MatchingNet`.

    Their softmax is p again, since p sums to one; so the cross-entropy is -log p(y | x).

    Args:
        scale: s, or where it starts.
        learn_scale: whether s is learnt.
        context: what embeds images in view of the support set, if something does.
    """

    def __init__(self, scale: float, *, learn_scale: bool, context: FullContext | None = None):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(float(scale))) if learn_scale else scale
        self.context = context

    def fit(self, features: Tensor, labels: Tensor, ways: int) -> Fitted:
        """The ``memory`` g(x_i, S) (n, features), and ``labels`` y_i (n, ways), one of them 1."""
        memory = self.context.embed_support(features, ways) if self.context else features
        return {"memory": memory, "labels": F.one_hot(labels, ways).to(features)}

    def logits(self, fitted: Fitted, features: Tensor) -> Tensor:
        """Logarithms of p (m, ways)."""
        memory = fitted["memory"]
        if self.context:
            features = self.context.embed_queries(features, memory)
        cosines = F.normalize(features, dim=-1) @ F.normalize(memory, dim=-1).T
        attention = F.log_softmax(self.scale * cosines, dim=-1)  # log a(x, x_i), (m, n)
        # log of sum_i a(x, x_i) y_i: images of other classes have the logarithm of 0.
        return torch.logsumexp(attention[:, :, None] + fitted["labels"].log(), dim=1)


class MatchingNet(EpisodicFeatures):
    """Matching networks (Vinyals et al., 2016, arXiv 1606.04080).

    With S = {(x_i, y_i)} the support set, y_i one-hot, c the cosine and f, g the embeddings
    (equation 1 and section 2.1.1)::

        a(x, x_i) = softmax over i of s c(f(x), g(x_i))
        p = sum over i of a(x, x_i) y_i
        minimise over f and g:  mean over episodes and queries of  -log p(y | x, S)

    The softmax is over the support images, not over the classes: a class's probability is the
    attention that all of its images get. log p is computed by log-sum-exp over each class's images,
    so that no logarithm is of a sum that rounded to zero.

    Deviation: the paper has no factor s. Without one, which is s = 1, attention is nearly flat, and
    learns far more slowly; it may be learnt, too.

    f and g are the network; with ``full_context`` both look at the whole support set, see
    `FullContext`.

    Deviation: a mean over the episodes of an outer step; the paper does not say how many it has.

    Args:
        model: has ``embed(images) -> (n, features)``; for ``full_context`` it says how many there
            are, see `innerloop.networks.base.feature_size`.
        full_context: embed in view of the support set.
        reading_steps: K of `FullContext`.
        scale: s.
        learn_scale: learn s, from there on.
        batch_norm_modes: as of `EpisodicFeatures`.

    Raises:
        ConfigError: if a setting is wrong, or the number of features is not known.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        full_context: bool = False,
        reading_steps: int = 5,
        scale: float = 10.0,
        learn_scale: bool = False,
        batch_norm_modes: tuple[BatchNormMode, ...] = ("running", "support", "transductive"),
    ):
        scale = checked("scale", Annotated[float, between(0.001, 1000.0)], scale)
        steps = checked("reading_steps", Annotated[int, between(0, 100)], reading_steps)
        in_view = checked("full_context", bool, full_context)
        context = FullContext(feature_size(model), steps) if in_view else None
        learnt = checked("learn_scale", bool, learn_scale)
        rule = Attention(scale, learn_scale=learnt, context=context)
        super().__init__(model, rule, batch_norm_modes=batch_norm_modes)

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """Its arguments are settings of the same names."""
        own = config.own
        return cls(
            model,
            full_context=own.full_context,
            reading_steps=own.reading_steps,
            scale=own.scale,
            learn_scale=own.learn_scale,
        )
