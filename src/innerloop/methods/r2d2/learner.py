"""R2-D2: features for a ridge regression of the classes, which is differentiated through."""

import math
from typing import Annotated, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.methods.heads.episodic import EpisodicFeatures
from innerloop.methods.heads.ridge import ridge_weights
from innerloop.methods.heads.rule import Fitted, Rule
from innerloop.methods.parts import checked
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.settings.fields import between
from innerloop.settings.run import RunConfig

Positive = Annotated[float, between(1e-6, 1e6)]
LEAST = 1e-10
"""Of the mean squared length of the support features: a penalty that double precision resolves,
where examples are equal and the learnt one has become too small."""


class RidgeRegression(Rule):
    """Logits α W'f + β of the ridge regression W: see `R2D2`.

    Args:
        penalty: where λ starts.
        scale: where α starts.
    """

    def __init__(self, penalty: float, scale: float):
        super().__init__()
        self.log_penalty = nn.Parameter(torch.tensor(math.log(penalty)))
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        self.bias = nn.Parameter(torch.zeros(()))

    def fit(self, features: Tensor, labels: Tensor, ways: int) -> Fitted:
        """A linear layer: weight α W' and bias β."""
        x = features.double()
        least = LEAST * x.detach().square().sum(1).mean()
        penalty = torch.maximum(self.log_penalty.double().exp(), least)
        weights = ridge_weights(x, F.one_hot(labels, ways).double(), penalty)
        return {
            "weight": (self.scale * weights.T).to(features),
            "bias": self.bias.to(features).expand(ways),
        }


class R2D2(EpisodicFeatures):
    """R2-D2 (Bertinetto, Henriques, Torr and Vedaldi, 2019, arXiv 1805.08136).

    With X (n, features) the features f of an episode's support set and Y (n, ways) its labels, one
    in the column of the class and zero elsewhere::

        W = argmin ‖XW − Y‖² + λ ‖W‖² = (X'X + λI)⁻¹ X'Y = X' (XX' + λI)⁻¹ Y
        p(y = k | x) = softmax over k of  α W'f(x) + β
        minimise over f, λ, α and β:  mean over episodes and queries of  -log p(y | x)

    by the form whose matrix is smaller: usually the latter, (n, n), which is Woodbury's identity.
    α and β make logits of what the regression says, which is near zero or one. λ, α and β are
    learnt with the features; λ = exp(l) stays positive, and l is what is learnt. β is common to
    all classes: it changes no probability.

    The regression is computed in double precision, whatever the network has. λ is at least 1e-10 of
    the features' mean squared length, so that equal examples are no obstacle.

    Deviations: the authors' code keeps λ at 50 unless asked otherwise, then learns it as it is, or
    the exponent of a base; it adds a column of ones to X, and divides X and Y by √n, so that its 50
    is λ = 50 n here. A mean over the episodes of an outer step; the paper has one episode in a
    step.

    Args:
        model: has ``embed(images) -> (n, features)``.
        initial_penalty: where λ starts.
        initial_scale: where α starts.
        batch_norm_modes: as of `EpisodicFeatures`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        initial_penalty: float = 50.0,
        initial_scale: float = 10.0,
        batch_norm_modes: tuple[BatchNormMode, ...] = ("running", "support", "transductive"),
    ):
        rule = RidgeRegression(
            checked("initial_penalty", Positive, initial_penalty),
            checked("initial_scale", Positive, initial_scale),
        )
        super().__init__(model, rule, batch_norm_modes=batch_norm_modes)

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """Where penalty and scale start are settings of the same names."""
        own = config.own
        return cls(model, initial_penalty=own.initial_penalty, initial_scale=own.initial_scale)
