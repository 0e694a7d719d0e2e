"""BOIL: its settings, and what it changes in the common ones."""

from dataclasses import dataclass

from innerloop.methods.card import Card, Paper
from innerloop.settings.method import UnrolledSettings


@dataclass(frozen=True)
class Settings(UnrolledSettings):
    """The inner steps are the body's."""

    @property
    def has_fresh_head(self) -> bool:
        """The head is meta-learned, and takes no inner step."""
        return False


CARD = Card(
    name="boil",
    title="BOIL",
    settings=Settings,
    learner="innerloop.methods.boil.learner:BOIL",
    idea=(
        "BOIL is MAML whose inner loop adapts the body alone: θ_0 = θ, θ_k = θ_(k-1) - α "
        "∇L(θ_(k-1), w; S) on the support set S of an episode. The head w takes no inner step: it "
        "is the same for all episodes and learns from the outer gradient alone, so that the "
        "features have to change."
    ),
    adapts="the body",
    papers=(
        Paper(
            "J. Oh, H. Yoo, C. Kim, S.-Y. Yun",
            "BOIL: Towards representation change for few-shot learning",
            "ICLR",
            2021,
            "2008.08882",
        ),
    ),
    defaults=dict(conv_init="kaiming", clip_gradient=0.3, head_init="glorot"),
    reason=(
        "Those of MAML; and a head that starts from zero would give the body no inner gradient."
    ),
)
