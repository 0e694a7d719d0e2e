"""MetaOptNet: features for a linear classifier that solves a convex problem."""

from typing import Annotated, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.methods.heads.episodic import EpisodicFeatures
from innerloop.methods.heads.ridge import ridge_weights
from innerloop.methods.heads.rule import Fitted, Rule
from innerloop.methods.heads.svm import fit_svm
from innerloop.methods.parts import checked
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.settings.fields import between
from innerloop.settings.run import RunConfig

Solver = Literal["svm", "ridge"]
Positive = Annotated[float, between(1e-6, 1e6)]


class ConvexHead(Rule):
    """Logits γ W'f, with W the solution of a convex problem, and γ learnt: see `MetaOptNet`.

    Args:
        solver: which problem.
        cost: C of ``svm``.
        penalty: λ of ``ridge``.
        scale: where γ starts.
    """

    def __init__(self, solver: Solver, cost: float, penalty: float, scale: float):
        super().__init__()
        self._solver = solver
        self._cost = cost
        self._penalty = penalty
        self.scale = nn.Parameter(torch.tensor(float(scale)))

    def fit(self, features: Tensor, labels: Tensor, ways: int) -> Fitted:
        """A linear layer: weight γ W', and no bias."""
        weights = self.scale * self._weights(features, labels, ways).T
        return {"weight": weights.to(features), "bias": features.new_zeros(ways)}

    def _weights(self, features: Tensor, labels: Tensor, ways: int) -> Tensor:
        """W (F, ways) float64."""
        if self._solver == "svm":
            return fit_svm(features, labels, ways, self._cost)
        targets = F.one_hot(labels, ways).double()
        return ridge_weights(features.double(), targets, self._penalty)


class MetaOptNet(EpisodicFeatures):
    """MetaOptNet (Lee, Maji, Ravichandran and Soatto, 2019, arXiv 1904.03758).

    With x_i the features f of an episode's support images and y_i their labels, the classifier is
    the support vector machine of Crammer and Singer, without a bias (equations 5 and 6)::

        W = argmin  ½ Σ_k ‖w_k‖² + C Σ_i ξ_i  with  (w_{y_i} − w_k)'x_i ≥ [k ≠ y_i] − ξ_i
        p(y = k | x) = softmax over k of  γ w_k'f(x)
        minimise over f and γ:  mean over episodes and queries of  -log p(y | x)

    `innerloop.methods.heads.svm` solves its dual, exactly and in double precision, and has its
    derivative by the implicit function theorem at the solution. With ``ridge`` W is that of
    `innerloop.methods.heads.ridge`, argmin ‖XW − Y‖² + λ ‖W‖², with fixed λ.

    Deviations: the authors' code adds one to the diagonal of the dual's matrix, "to avoid errors"
    of its solver, which solves another problem than the paper's; it stops after a fixed number of
    steps in single precision. Its ridge has twice these weights, which γ makes good. It smooths
    labels and trains by momentum; here the loss is the plain cross-entropy, as in the paper's
    equation 12, and the outer optimiser that of all methods.

    Args:
        model: has ``embed(images) -> (n, features)``.
        solver: ``svm`` or ``ridge``.
        cost: C.
        ridge_penalty: λ.
        initial_scale: where γ starts.
        batch_norm_modes: as of `EpisodicFeatures`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        solver: Solver = "svm",
        cost: float = 0.1,
        ridge_penalty: float = 50.0,
        initial_scale: float = 10.0,
        batch_norm_modes: tuple[BatchNormMode, ...] = ("running", "support", "transductive"),
    ):
        rule = ConvexHead(
            checked("solver", Solver, solver),
            checked("cost", Positive, cost),
            checked("ridge_penalty", Positive, ridge_penalty),
            checked("initial_scale", Positive, initial_scale),
        )
        super().__init__(model, rule, batch_norm_modes=batch_norm_modes)

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """The solver and its numbers are settings of the same names."""
        own = config.own
        return cls(
            model,
            solver=own.solver,
            cost=own.cost,
            ridge_penalty=own.ridge_penalty,
            initial_scale=own.initial_scale,
        )
