"""FO-MAML: MAML that leaves out derivatives of second order."""

from dataclasses import dataclass

from innerloop.core.errors import ConfigError
from innerloop.methods.card import Card, Paper
from innerloop.methods.maml import card as maml
from innerloop.settings.fields import setting
from innerloop.settings.run import RunConfig


@dataclass(frozen=True)
class Settings(maml.AdaptationSettings):
    """Those of MAML, of first order."""

    first_order: bool = setting(True, seldom=True)
    """Leave out derivatives of second order."""

    def refuse_misfits(self, config: RunConfig) -> None:
        """FO-MAML is of first order: its other form has a name of its own."""
        super().refuse_misfits(config)
        if not self.first_order:
            raise ConfigError("FO-MAML of second order is MAML, a method of its own: train that.")


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
    adapts="all weights",
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
    presets={"course": maml.COURSE_BATCHES} | maml.PUBLISHED,
)
