"""ProtoMAML: its settings, and what it changes in the common ones."""

from dataclasses import dataclass

from innerloop.methods.card import Card, Paper
from innerloop.settings.fields import Rate
from innerloop.settings.method import UnrolledSettings
from innerloop.settings.run import RunConfig


@dataclass(frozen=True)
class Settings(UnrolledSettings):
    """Of smaller rates: a head of prototypes is good before the first step."""

    inner_lr: Rate = 0.1
    """Learning rate of the inner steps."""

    def starts_at_chance(self, config: RunConfig) -> bool:
        """The head starts from prototypes, and so far above."""
        return False

    def image_passes(self, config: RunConfig, steps: int) -> int:
        """As for MAML, and the support set once more for the prototypes."""
        support = config.episode.ways * config.episode.shots
        return super().image_passes(config, steps) + steps * self.meta_batch_size * support


CARD = Card(
    name="protomaml",
    title="ProtoMAML",
    settings=Settings,
    learner="innerloop.methods.protomaml.learner:ProtoMAML",
    idea=(
        "ProtoMAML is MAML whose head starts in every episode from the prototypes c_j of the "
        "support set, the mean features of each class: weights 2 c_j and biases -‖c_j‖² give the "
        "logits of a prototypical network. Body and head then take inner steps, and the outer "
        "gradient goes through the prototypes, too."
    ),
    adapts="all weights, the head from prototypes",
    papers=(
        Paper(
            "E. Triantafillou, T. Zhu, V. Dumoulin, P. Lamblin, U. Evci, K. Xu, R. Goroshin, "
            "C. Gelada, K. Swersky, P.-A. Manzagol, H. Larochelle",
            "Meta-Dataset: A dataset of datasets for learning to learn from few examples",
            "ICLR",
            2020,
            "1903.03096",
        ),
    ),
    defaults=dict(conv_init="kaiming", clip_gradient=0.3, feature_scale=0.3),
    reason=(
        "Those of MAML; and logits are squared distances, which of larger features are so sure "
        "that the loss is flat. Tried on background-heldout."
    ),
)
