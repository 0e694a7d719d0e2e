"""ANIL: its settings, and what it changes in the common ones."""

from dataclasses import dataclass

from innerloop.methods.card import Card, Paper
from innerloop.methods.maml import card as maml
from innerloop.settings.fields import setting
from innerloop.settings.presets import paper_presets
from innerloop.settings.run import RunConfig


@dataclass(frozen=True)
class Settings(maml.AdaptationSettings):
    """Those of MAML; the inner steps are the head's."""

    first_order: bool = setting(False, seldom=True)
    """Leave out derivatives of second order."""

    def image_passes(self, config: RunConfig, steps: int) -> int:
        """Support and query set once, however many inner steps there are: features stay."""
        return (
            steps
            * self.meta_batch_size
            * config.episode.ways
            * (config.episode.shots + config.episode.queries)
        )


CARD = Card(
    name="anil",
    title="ANIL",
    settings=Settings,
    learner="innerloop.methods.anil.learner:ANIL",
    idea=(
        "ANIL is MAML whose inner loop adapts the head alone: w_0 = w, w_k = w_(k-1) - α ∇L(w_(k-1)"
        "; f_θ(S)) on the features f_θ of the support set S, which are computed once. The body θ "
        "takes no inner step and learns from the outer gradient alone, with derivatives of second "
        "order."
    ),
    adapts="the head",
    papers=(
        Paper(
            "A. Raghu, M. Raghu, S. Bengio, O. Vinyals",
            "Rapid learning or feature reuse? Towards understanding the effectiveness of MAML",
            "ICLR",
            2020,
            "1909.09157",
        ),
    ),
    defaults=dict(conv_init="kaiming", clip_gradient=0.3),
    reason="Those of MAML, with which it is compared at equal settings.",
    presets=paper_presets({20: maml.OF_FINN[20] | dict(fresh_head=False)}),
)
"""Raghu et al. (2020) publish 20 ways on Omniglot, by the protocol of Finn et al. (2017)."""
