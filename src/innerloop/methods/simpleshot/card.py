"""SimpleShot: its settings, and what it changes in the common ones."""

from dataclasses import dataclass
from typing import Literal

from innerloop.methods.card import Card, Paper
from innerloop.settings.method import PretrainingSettings


@dataclass(frozen=True)
class Settings(PretrainingSettings):
    """SimpleShot's own settings."""

    transform: Literal["un", "l2n", "cl2n"] = "cl2n"
    """What is done to features before distances: nothing (un), scaled to length one (l2n), or
    centred by the training classes' mean feature and then scaled (cl2n)."""

    @property
    def inner_loop_in_words(self) -> str:
        """By which transform."""
        return f"no gradient steps: class means of features, transform {self.transform}"

    @property
    def can_be_explained(self) -> bool:
        """Features take any head."""
        return True


CARD = Card(
    name="simpleshot",
    title="SimpleShot",
    settings=Settings,
    learner="innerloop.methods.simpleshot.learner:SimpleShot",
    idea=(
        "SimpleShot trains the network to classify all training classes. Then its features are "
        "frozen. By the transform that is chosen they are scaled to length one, before that "
        "centred by their mean over the training classes, too, or left as they are. A query image "
        "has the class whose mean support feature is nearest."
    ),
    adapts="class means",
    papers=(
        Paper(
            "Y. Wang, W.-L. Chao, K. Weinberger, L. van der Maaten",
            "SimpleShot: revisiting nearest-neighbor classification for few-shot learning",
            "",
            2019,
            "1911.04623",
        ),
    ),
    defaults=dict(meta_steps=4800, validation_every=300, checkpoint_every=300),
    reason="As many mini-batches as transfer learning.",
)
