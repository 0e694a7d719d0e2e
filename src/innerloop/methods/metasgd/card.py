"""Meta-SGD: its settings, and what it changes in the common ones."""

from dataclasses import dataclass
from typing import Annotated

from innerloop.methods.card import Card, DiagnosticFigure, Paper
from innerloop.methods.maml.card import OF_FINN
from innerloop.settings.fields import Rate, between
from innerloop.settings.method import UnrolledSettings
from innerloop.settings.presets import paper_presets


@dataclass(frozen=True)
class Settings(UnrolledSettings):
    """The inner rates are learnt."""

    inner_steps: Annotated[int, between(0, 1000)] = 1
    """Gradient steps on the support set, all with the same learnt rates; the paper takes one."""
    inner_lr: Rate = 0.4
    """What every learnt rate of the inner steps starts from."""

    @property
    def learns_rates(self) -> bool:
        """One for every element of every parameter."""
        return True

    @property
    def has_fresh_head(self) -> bool:
        """Its elements have learnt rates, so the head is meta-learned."""
        return False


CARD = Card(
    name="metasgd",
    title="Meta-SGD",
    settings=Settings,
    learner="innerloop.methods.metasgd.learner:MetaSGD",
    idea=(
        "Meta-SGD learns an initialisation θ and, for every element of it, the rate of the inner "
        "steps: φ_0 = θ, φ_k = φ_(k-1) - α ∘ ∇L(φ_(k-1); S) on the support set S of an episode, "
        "with the product of elements. Rates may become negative, so that α changes the direction "
        "of a step, too."
    ),
    adapts="all weights, each at a learnt rate",
    papers=(
        Paper(
            "Z. Li, F. Zhou, F. Chen, H. Li",
            "Meta-SGD: Learning to learn quickly for few-shot learning",
            "",
            2017,
            "1707.09835",
        ),
    ),
    defaults=dict(conv_init="kaiming", clip_gradient=0.3, head_init="glorot"),
    reason="Those of MAML with a meta-learned head.",
    presets=paper_presets(
        {ways: of_finn | dict(inner_steps=1, inner_lr=0.05) for ways, of_finn in OF_FINN.items()}
    ),
    figures=(
        DiagnosticFigure(
            "mean_rates",
            "mean-rates",
            "Learnt inner rates",
            "mean rate",
            "the mean learnt inner rate of each parameter",
            "mean over elements",
        ),
        DiagnosticFigure(
            "negative_rates",
            "negative-rates",
            "Negative inner rates",
            "fraction",
            "the fraction of each parameter's learnt inner rates that are negative",
            "of all elements",
        ),
    ),
)
"""Li et al. (2017), section 4.2, with one step and what they take over from Finn et al. (2017).

Deviation: rates start from 0.05, where the paper draws a number in [0.005, 0.1].
"""
