"""Reptile: its settings, and what it changes in the common ones."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from innerloop.core.errors import ConfigError
from innerloop.methods.card import Card, Paper
from innerloop.settings.fields import between, setting
from innerloop.settings.method import EpisodicSettings, InnerLoopSettings
from innerloop.settings.presets import paper_presets
from innerloop.settings.run import RunConfig

InnerShots = Annotated[int, between(1, 1000)]
"""Images of each class in a mini-batch."""
TrainShots = Annotated[int, between(0, 1000)]
"""Images of each class that training goes through; 0: all."""
InnerOptimiser = Literal["sgd", "adam"]
"""What takes the inner steps: gradient descent, or Adam without momentum."""
TrainSteps = Annotated[int, between(1, 1000)]
"""A number of inner steps, of which there has to be one."""
ONE_STEP = (
    "After one inner step only a fresh head has moved, so nothing would be learnt: take "
    "inner_steps of at least 2, or a meta-learned head."
)
"""What is said of a training that could learn nothing."""


@dataclass(frozen=True)
class Settings(EpisodicSettings, InnerLoopSettings):
    """Reptile's own settings."""

    inner_steps: TrainSteps = 10
    """Inner steps of training, each on a mini-batch."""
    eval_inner_steps: Annotated[int, between(0, 1000)] = 10
    """Inner steps of adaptation, each on the whole support set."""
    inner_shots: InnerShots = 2
    """Images of each class in a mini-batch of training."""
    train_shots: TrainShots = setting(0, seldom=True)
    """Images of each class that training goes through, of an episode's shots and queries; 0 takes
    all."""
    inner_optimiser: InnerOptimiser = "sgd"
    """What takes inner steps: sgd (gradient descent), or adam without momentum."""
    outer_annealing: bool = setting(True, seldom=True)
    """Let the outer rate fall linearly to 0."""
    fresh_head: bool = setting(True, seldom=True)
    """Start every episode's head from zero, so that ways are free; else it is meta-learned."""

    @property
    def adaptation_steps(self) -> int:
        """Those of adaptation, not of training."""
        return self.eval_inner_steps

    @property
    def descent_in_words(self) -> str:
        """Of the optimiser."""
        if self.inner_optimiser == "sgd":
            return super().descent_in_words
        return "Adam without momentum"

    @property
    def objective_in_words(self) -> str:
        """What an outer step follows, which is no gradient of a loss."""
        return (
            "the outer gradient is the mean over the episodes of a meta-batch of the initial "
            "weights minus those after the inner steps; batch norm in training by the statistics "
            "of each mini-batch (transductive), eps 1e-5"
        )

    @property
    def has_fresh_head(self) -> bool:
        """Unless its initial weights are meta-learned."""
        return self.fresh_head

    @property
    def can_be_explained(self) -> bool:
        """Its learner adapts in its own way alone."""
        return False

    def schedule(self, outer_lr: float) -> str:
        """The line to zero, where it is on."""
        return ", falling linearly to 0" if self.outer_annealing else ""

    def image_passes(self, config: RunConfig, steps: int) -> int:
        """A mini-batch for every inner step, and nothing else."""
        batch = config.episode.ways * self.inner_shots
        return steps * self.meta_batch_size * self.inner_steps * batch

    def refuse_misfits(self, config: RunConfig) -> None:
        """Mini-batches are of images that an episode has, and a fresh head needs a second step."""
        super().refuse_misfits(config)
        there = config.episode.shots + config.episode.queries
        if self.train_shots > there:
            raise ConfigError(
                f"train_shots={self.train_shots} is more than the {there} images that an episode "
                "has of a class, its shots and queries: raise queries, or lower train_shots."
            )
        if self.inner_shots > (self.train_shots or there):
            raise ConfigError(
                f"inner_shots={self.inner_shots} is more than the {self.train_shots or there} "
                "images of a class that training goes through: lower inner_shots."
            )
        if self.fresh_head and self.inner_steps == 1:
            raise ConfigError(ONE_STEP)
        if self.inner_lr == 0:
            raise ConfigError(
                "inner_lr=0 leaves the weights where they are, whose difference is what Reptile "
                "learns from: take a rate above 0."
            )


_TRAIN_SHOTS = 10
_PUBLISHED: dict[str, Any] = dict(
    inner_optimiser="adam",
    train_shots=_TRAIN_SHOTS,
    eval_inner_steps=50,
    meta_batch_size=5,
    fresh_head=False,
)


def _with_images(preset: dict[str, Any]) -> dict[str, Any]:
    """A preset whose episodes have as many images of a class as the paper trains on."""
    return preset | dict(queries=_TRAIN_SHOTS - preset["shots"])


PUBLISHED = {
    name: _with_images(preset)
    for name, preset in paper_presets(
        {
            5: _PUBLISHED | dict(inner_shots=2, inner_steps=5, inner_lr=0.001, meta_steps=100_000),
            20: _PUBLISHED
            | dict(inner_shots=1, inner_steps=10, inner_lr=0.0005, meta_steps=200_000),
        }
    ).items()
}
"""Nichol et al. (2018), the appendix's table for Omniglot: mini-batches of 10 and 20 images.

Deviations: the outer optimiser is Adam, whose rate falls from 0.001 to 0 as theirs does from 1;
their queries are one of each class, here they are what training goes through besides the shots.
"""

CARD = Card(
    name="reptile",
    title="Reptile",
    settings=Settings,
    learner="innerloop.methods.reptile.learner:Reptile",
    idea=(
        "Reptile trains on the images of an episode by K steps on mini-batches, from the learnt "
        "weights θ to φ_K, and then moves θ towards φ_K: its outer gradient is the difference "
        "θ - φ_K. There is no query set in training and no derivative of second order."
    ),
    adapts="all weights",
    papers=(
        Paper(
            "A. Nichol, J. Achiam, J. Schulman",
            "On first-order meta-learning algorithms",
            "",
            2018,
            "1803.02999",
        ),
    ),
    defaults=dict(outer_lr=0.003),
    reason=(
        "The outer rate falls to 0 over the run, so it starts from a larger one; 10 inner steps "
        "were the best of four short trainings at it on background-heldout."
    ),
    presets=PUBLISHED,
)
