"""Meta-SGD: MAML with a learnt inner rate for every element of every parameter."""

from collections.abc import Hashable
from typing import Any, ClassVar

import torch
from torch import nn

from innerloop.fast_weights.functional import FastWeights
from innerloop.fast_weights.network import Network
from innerloop.methods.base import Learner
from innerloop.methods.keys import key_of, name_of
from innerloop.methods.maml.learner import MAML
from innerloop.methods.parts import Head, HeadInit, Parts


class MetaSGD(MAML):
    """Meta-SGD (Li, Zhou, Chen and Li, 2017, arXiv 1707.09835, section 3).

    Let θ be the parameters, L the loss, and α a vector as long as θ. For each episode, from
    φ_0 = θ, with the product ∘ of elements::

        φ_{k+1} = φ_k − α ∘ ∇_φ L(φ_k; support)              k = 0 ... K − 1    (inner loop)
        minimise over θ, α:  mean over episodes of L(φ_K; query)                (outer loop)

    So α is a direction, too: its elements are not constrained, and may become negative. The paper
    takes one step, K = 1, where the gradient of α is −∇L(θ; support) ∘ ∂L(φ_1; query)/∂φ_1; with
    more steps here, all have the same α.

    Deviations: that of `MAML`; and every element of α starts from ``inner_lr``, where the paper
    draws one number in [0.005, 0.1] for all.

    Args:
        model: as in `MAML`.
        inner_lr: what the rates start from.
        settings: those of `MAML`. The head is meta-learned: a fresh one has no elements whose rates
            could be learnt, since its size is that of the episode.

    Attributes:
        rates: α, by the keys of the parameters' names, shaped as they are.

    Raises:
        ConfigError: as `MAML`; or if a fresh head is asked for.
    """

    adaptable: ClassVar[tuple[Parts, ...]] = ("own",)
    can_have_fresh_head: ClassVar[bool] = False

    def __init__(self, model: nn.Module, *, inner_lr: float = 0.4, **settings: Any):
        super().__init__(model, inner_lr=inner_lr, **settings)
        self.rates = nn.ParameterDict()
        for name, weight in self.params.items():
            if self._adapted is None or name in self._adapted:
                self.rates[key_of(name)] = nn.Parameter(torch.full_like(weight, self.inner_lr))

    def _stepped(
        self, network: Network, adapted: FastWeights, gradients: FastWeights, index: int
    ) -> FastWeights:
        episodes = len(next(iter(adapted.values())))
        return {
            name: weight
            - network.share(f"rates of {name}", self.rates[key_of(name)], episodes)
            * gradients[name]
            for name, weight in adapted.items()
        }

    def step_signature(self) -> Hashable | None:
        """Whether of first order; of a subclass nothing is known."""
        return self.first_order if type(self) is MetaSGD else None

    def adapting(
        self,
        parts: Parts = "own",
        *,
        rate: float | None = None,
        head: Head = "gradient",
        head_init: HeadInit | None = None,
        penalty: float = 0.1,
    ) -> Learner:
        """Itself: it has learnt how to adapt; see `Learner.adapting`."""
        return Learner.adapting(
            self, parts, rate=rate, head=head, head_init=head_init, penalty=penalty
        )

    def diagnostics(self) -> dict[str, Any]:
        """Of each tensor's rates the mean, and how many are negative, as a fraction."""
        return {
            "mean_rates": {name_of(key): [of.mean().item()] for key, of in self.rates.items()},
            "negative_rates": {
                name_of(key): [(of < 0).float().mean().item()] for key, of in self.rates.items()
            },
        }
