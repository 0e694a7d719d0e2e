"""SimpleShot: the nearest class mean, of features that are centred and of length one."""

from collections.abc import Hashable
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.methods.heads.linear import prototype_head
from innerloop.methods.heads.pretrained import PretrainedFeatures
from innerloop.methods.heads.rule import Fitted, Rule, RuleHead
from innerloop.methods.parts import checked
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.settings.run import RunConfig

Transform = Literal["un", "l2n", "cl2n"]
MOMENTUM = 0.1
"""How far a mini-batch moves the mean feature, as batch norm's running statistics."""


class NearestMean(Rule):
    """Logits -‖z - c_k‖² but for -‖z‖², with c_k the mean of class k's z; see `SimpleShot`.

    Args:
        mean: (features,) where the mean feature starts.
        transform: features f to z.
    """

    mean: Tensor

    def __init__(self, mean: Tensor, transform: Transform):
        super().__init__()
        self.transform = transform
        self.register_buffer("mean", mean)

    def transformed(self, features: Tensor) -> Tensor:
        """What distances are taken of, (..., features); a vector of length zero stays as it is."""
        if self.transform == "un":
            return features
        centred = features - self.mean if self.transform == "cl2n" else features
        return F.normalize(centred, dim=-1)

    def fit(self, features: Tensor, labels: Tensor, ways: int) -> Fitted:
        """A linear layer on z: weight 2 c_k and bias -‖c_k‖²."""
        head = prototype_head(self.transformed(features)[None], labels[None], ways)
        return {name: value[0] for name, value in head.items()}

    def logits(self, fitted: Fitted, features: Tensor) -> Tensor:
        """Logits (m, ways) of features (m, features)."""
        return super().logits(fitted, self.transformed(features))

    @torch.no_grad()
    def gather(self, features: Tensor) -> None:
        """Move the mean feature towards that of a mini-batch (n, features)."""
        self.mean.lerp_(features.detach().mean(0), MOMENTUM)


class SimpleShot(PretrainedFeatures):
    """SimpleShot (Wang, Chao, Weinberger and van der Maaten, 2019, arXiv 1911.04623).

    Features f are pretrained by the cross-entropy of all training classes. With f̄ their mean over
    the images of these, and S_k the support images of class k (section 2)::

        z(x) = f(x)                          un
        z(x) = f(x) / ‖f(x)‖                 l2n
        z(x) = (f(x) - f̄) / ‖f(x) - f̄‖       cl2n
        c_k = mean of z(x) over x in S_k
        y(x) = argmin over k of ‖z(x) - c_k‖

    Logits are -‖z - c_k‖² but for what all classes have in common; the paper has no probabilities.

    Deviation: f̄ is a running mean over the mini-batches of pretraining, as they are normalised
    there, and part of the weights that are averaged and saved. So no pass over the training images
    is needed at the end.

    Args:
        model: has ``embed``, and ``head``, a linear layer with an output for each training class.
        transform: which z.
    """

    def __init__(self, model: nn.Module, *, transform: Transform = "cl2n"):
        super().__init__(model)
        weight = self.classification.weight
        self.rule = NearestMean(
            weight.new_zeros(weight.shape[1]), checked("transform", Transform, transform)
        )

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """The transform is a setting of the same name."""
        return cls(model, transform=config.own.transform)

    @property
    def head_kind(self) -> Hashable:
        """That of the rule."""
        return self.rule.kind

    def head_of(self, episodes: int, batch_norm: BatchNormMode) -> RuleHead:
        """The nearest mean, in so many episodes."""
        return RuleHead(self.rule, {})

    def class_logits(self, features: Tensor) -> Tensor:
        """As of `PretrainedFeatures`; the mean feature moves towards the mini-batch's."""
        if torch.is_grad_enabled():
            self.rule.gather(features)
        return super().class_logits(features)

    def step_signature(self) -> Hashable | None:
        """Every step is the same; of a subclass nothing is known."""
        return () if type(self) is SimpleShot else None
