"""Baseline++: classes are told apart by cosines, in pretraining and in every episode's new head."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Annotated, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.fast_weights.functional import FastWeights
from innerloop.methods.heads.linear import linear_module
from innerloop.methods.heads.new_head import NewHead
from innerloop.methods.heads.pretrained import PretrainedFeatures
from innerloop.methods.heads.prototypes import SCALE, Directions
from innerloop.methods.parts import checked
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.settings.fields import between
from innerloop.settings.run import RunConfig

Scale = Annotated[float, between(0.001, 1000.0)]


@dataclass(frozen=True)
class CosineHead(NewHead):
    """A new head whose logits are scaled cosines, found by gradient steps; it has no bias.

    Attributes:
        scale: s.
    """

    scale: float = 2.0

    def logits(self, head: FastWeights, features: Tensor) -> Tensor:
        """Logits (E, n, ways) of features (E, n, features)."""
        return self.scale * cosines(features, head["weight"])

    def module(self, head: FastWeights, episode: int) -> nn.Module:
        """One episode's head as a module of its own: features (n, features) -> (n, ways)."""
        weight = self.scale / SCALE * F.normalize(head["weight"], dim=-1)
        linear = {"weight": weight, "bias": torch.zeros_like(weight[..., 0])}
        return nn.Sequential(Directions(), linear_module(linear, episode))


class BaselinePP(PretrainedFeatures):
    """Baseline++ (Chen, Liu, Kira, Wang and Huang, 2019, arXiv 1904.04232).

    With f the network's features and W = (w_1, ..., w_C) a vector for each of C classes, an image
    has the logits (section 3.2)::

        s cos(f(x), w_j) = s f(x)'w_j / (‖f(x)‖ ‖w_j‖)

    Pretraining minimises the cross-entropy L of these over f and the training classes' W. Then f
    is frozen, and every episode has a W of its own with one vector a class, found by K steps on
    the support set S::

        W_{k+1} = W_k - α ∇ L(W_k; f(S))

    s is fixed, one for pretraining and one for new heads: the paper scales by 2; the authors' code
    by 2, and by 10 where there are more than 200 classes.

    Deviations: plain steps on the whole support set; the paper takes 100 steps of 4 images with
    momentum and weight decay. The authors' code learns a length for each w_j besides, which the
    paper has not. W_0 is the same draw in every episode.

    Args:
        model: has ``embed``, and ``head``, a linear layer with an output for each training class
            and weights that are not zero; its bias is not used.
        scale: s of new heads.
        training_scale: s of pretraining.
        inner_lr: α.
        inner_steps: K of `transfer_learn`.

    Raises:
        ConfigError: as of `PretrainedFeatures`, or if a training class has a w_j of zero.
    """

    own_choices = ("rate",)

    def __init__(
        self,
        model: nn.Module,
        *,
        scale: float = 2.0,
        training_scale: float = 10.0,
        inner_lr: float = 1.0,
        inner_steps: int = 100,
    ):
        super().__init__(model, inner_lr=inner_lr, inner_steps=inner_steps)
        self.scale: float = checked("scale", Scale, scale)
        self.training_scale: float = checked("training_scale", Scale, training_scale)
        if not bool(self.classification.weight.any(dim=1).all()):
            raise ConfigError(
                "The network's head has a class whose weights are zero, and zero has no cosine: "
                "initialise the head otherwise (--head-init glorot)."
            )

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """All are settings of the same names."""
        own = config.own
        return cls(
            model,
            scale=own.scale,
            training_scale=own.training_scale,
            inner_lr=own.inner_lr,
            inner_steps=own.inner_steps,
        )

    def head_of(self, episodes: int, batch_norm: BatchNormMode) -> CosineHead:
        """New heads of cosines."""
        return CosineHead(init="glorot", rate=self.inner_lr, scale=self.scale)

    def class_logits(self, features: Tensor) -> Tensor:
        """Scaled cosines (n, training classes) of the features (n, features) of a mini-batch."""
        return self.training_scale * cosines(features, self.classification.weight)

    def step_signature(self) -> Hashable | None:
        """Every step is the same; of a subclass nothing is known."""
        return () if type(self) is BaselinePP else None


def cosines(features: Tensor, weight: Tensor) -> Tensor:
    """Cosines (..., n, classes) of features (..., n, F) with weight vectors (..., classes, F).

    Of a feature vector of length zero they are zero.
    """
    return F.normalize(features, dim=-1) @ F.normalize(weight, dim=-1).mT
