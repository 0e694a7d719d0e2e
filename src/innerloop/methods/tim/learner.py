"""TIM: class weights that make predictions of the query images sure, and balanced as a whole."""

import warnings
from collections.abc import Hashable
from typing import Self

from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.data.episodes import EpisodeBatch
from innerloop.methods.door import ways_of
from innerloop.methods.heads.pretrained import PretrainedFeatures
from innerloop.methods.parts import checked
from innerloop.methods.tim.card import Steps, Temperature, Weight
from innerloop.methods.tim.informed import InformedHead
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.settings.fields import Rate
from innerloop.settings.run import RunConfig


class TIM(PretrainedFeatures):
    """Transductive information maximisation (Boudiaf et al. 2020, arXiv 2008.11297), by TIM-GD.

    Features f are pretrained by the cross-entropy of all training classes with smoothed labels.
    In an episode with support set S and query images Q, classes have weights w_k (equations 1 to
    3; z = f / ‖f‖)::

        p(k | x) ∝ exp(-τ/2 ‖w_k - z(x)‖²),   p̂_k = mean over x in Q of p(k | x)
        CE = mean over (x, y) in S of -log p(y | x)
        H(Y) = -Σ_k p̂_k log p̂_k,   H(Y | X) = mean over x in Q of -Σ_k p(k | x) log p(k | x)
        minimise over w:  λ CE - γ H(Y) + α H(Y | X)

    from w_k = mean of z(x) over class k of S, by Adam (section 3.1, TIM-GD). γ is 1 in the paper.

    After 0 steps of adaptation predictions are those of the nearest class mean, each image by
    itself; after one step or more they come from the whole objective, for the images that are
    predicted together. H(Y) makes classes equally frequent among these: where they are not,
    predictions are drawn away from the truth. Batch norm is by running statistics.

    Deviation: 100 steps of Adam at 0.001, where the paper has 1000 at 0.0001. TIM-ADM is left out:
    its step of the auxiliary variables finds their minimum by an approximation only.

    Args:
        model: has ``embed``, and ``head``, a linear layer with an output for each training class.
        label_smoothing: of pretraining.
        support_weight: λ.
        marginal_weight: γ.
        conditional_weight: α.
        temperature: τ.
        steps: of Adam on the class weights.
        rate: of Adam.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        label_smoothing: float = 0.1,
        support_weight: float = 0.1,
        marginal_weight: float = 1.0,
        conditional_weight: float = 0.1,
        temperature: float = 15.0,
        steps: int = 100,
        rate: float = 0.001,
    ):
        super().__init__(model, label_smoothing=label_smoothing)
        self.informed = InformedHead(
            checked("support_weight", Weight, support_weight),
            checked("marginal_weight", Weight, marginal_weight),
            checked("conditional_weight", Weight, conditional_weight),
            checked("temperature", Temperature, temperature),
            checked("steps", Steps, steps),
            checked("rate", Rate, rate),
        )

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """The objective's settings are of the names of its attributes; its steps, of queries."""
        own = config.own
        return cls(
            model,
            label_smoothing=own.label_smoothing,
            support_weight=own.support_weight,
            marginal_weight=own.marginal_weight,
            conditional_weight=own.conditional_weight,
            temperature=own.temperature,
            steps=own.query_steps,
            rate=own.query_lr,
        )

    def head_of(self, episodes: int, batch_norm: BatchNormMode) -> InformedHead:
        """Class weights that know the query images."""
        return self.informed

    def transfer_learn(self, episodes: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """As of `FrozenFeatures`; warns of query sets with more images of one class than another.

        Nothing is known of the labels where images are only predicted.
        """
        ways = ways_of(episodes.support)
        # Targets of a regression are refused like everywhere.
        counts = None if ways is None else F.one_hot(episodes.query.labels, ways).sum(1)
        if counts is not None and bool((counts != counts[:, :1]).any()):
            warnings.warn(
                f"Query sets have {int(counts.min())} to {int(counts.max())} images of a class, "
                "and TIM predicts as if classes were equally frequent: give as many of each, or "
                "lower marginal_weight.",
                stacklevel=3,
            )
        return super().transfer_learn(episodes)

    def step_signature(self) -> Hashable | None:
        """Every step is the same; of a subclass nothing is known."""
        return () if type(self) is TIM else None
