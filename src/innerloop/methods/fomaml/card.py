"""FO-MAML: MAML that leaves out derivatives of second order."""

from dataclasses import dataclass

from innerloop.methods.card import Card, Paper
from innerloop.methods.maml import card as maml


@dataclass(frozen=True)
class Settings(maml.Settings):
    """Those of MAML, of first order."""

    first_order: bool = True
    """Leave out derivatives of second order."""


CARD = Card(
    name="fomaml",
    title="FO-MAML",
    settings=Settings,
    learner="innerloop.methods.maml.learner:MAML",
    idea=(
        "FO-MAML adapts all weights to the support set S of an episode by K gradient steps from "
        "the learnt weights θ: φ_0 = θ, φ_k = φ_(k-1) - α ∇L(φ_(k-1); S). Its outer gradient is "
        "the gradient of the query loss at φ_K, applied to θ as it is: derivatives of second "
        "order are left out."
    ),
    papers=(
        maml.FINN,
        Paper(
            "A. Nichol, J. Achiam, J. Schulman",
            "On first-order meta-learning algorithms",
            "",
            2018,
            "1803.02999",
        ),
    ),
)
