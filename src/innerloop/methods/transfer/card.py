"""Transfer learning: its settings, and what it changes in the common ones."""

from dataclasses import dataclass

from innerloop.methods.card import Card, Paper
from innerloop.settings.method import InnerLoopSettings, PretrainingSettings
from innerloop.settings.presets import COURSE


@dataclass(frozen=True)
class Settings(PretrainingSettings, InnerLoopSettings):
    """The inner steps are the new head's, on frozen features."""

    @property
    def objective_in_words(self) -> str:
        """That of pretraining; what is trained so is adapted no more."""
        frozen = "the body and its statistics are frozen in adaptation"
        return f"{super().objective_in_words}; {frozen}"


CARD = Card(
    name="transfer",
    title="Transfer",
    settings=Settings,
    learner="innerloop.methods.transfer.learner:Transfer",
    idea=(
        "Transfer learning trains the network to classify all training classes. Then its features "
        "and batch-norm statistics are frozen, and every episode gets a new linear head, which is "
        "adapted on the support set."
    ),
    adapts="a new head",
    papers=(
        Paper(
            "W.-Y. Chen, Y.-C. Liu, Z. Kira, Y.-C. Wang, J.-B. Huang",
            "A closer look at few-shot classification",
            "ICLR",
            2019,
            "1904.04232",
        ),
        Paper(
            "Y. Tian, Y. Wang, D. Krishnan, J. Tenenbaum, P. Isola",
            "Rethinking few-shot image classification: a good embedding is all you need?",
            "ECCV",
            2020,
            "2003.11539",
        ),
    ),
    defaults=dict(meta_steps=4800, validation_every=300, checkpoint_every=300),
    reason=(
        "An outer step is one mini-batch of images: 1000 of them are three epochs; 4800 were "
        "chosen on background-heldout."
    ),
    presets={"course": COURSE | dict(batch_size=25)},
)
