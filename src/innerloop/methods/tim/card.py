"""Transductive information maximisation: its settings, and what it changes in the common ones."""

from dataclasses import dataclass
from typing import Annotated

from innerloop.methods.card import Card, Paper
from innerloop.settings.fields import Rate, Smoothing, between, setting
from innerloop.settings.method import PretrainingSettings

Weight = Annotated[float, between(0.0, 1000.0)]
"""Of a term of the objective."""
Temperature = Annotated[float, between(0.001, 1000.0)]
Steps = Annotated[int, between(0, 100_000)]


@dataclass(frozen=True)
class Settings(PretrainingSettings):
    """TIM's own settings."""

    query_steps: Steps = 100
    """Steps of Adam on the class weights, once the query images are there."""
    query_lr: Rate = 0.001
    """Learning rate of these steps."""
    support_weight: Weight = 0.1
    """Of the support set's cross-entropy, λ."""
    marginal_weight: Weight = setting(1.0, seldom=True)
    """Of the entropy of the query set's mean prediction."""
    conditional_weight: Weight = 0.1
    """Of the mean entropy of each query image's prediction, α."""
    temperature: Temperature = 15.0
    """Factor on half the squared distances, τ."""
    label_smoothing: Smoothing = 0.1
    """Of pretraining: how much of a target is spread over all training classes."""

    @property
    def adaptation_in_words(self) -> str:
        """Its steps are of the images that are predicted, and not of inner loops."""
        return f"{self.query_steps} steps of Adam at {self.query_lr:g} on support and query images"

    @property
    def inner_loop_in_words(self) -> str:
        """The same, and of what."""
        return f"{self.adaptation_in_words} together, of the class weights"

    @property
    def can_be_explained(self) -> bool:
        """Features take any head."""
        return True


CARD = Card(
    name="tim",
    title="TIM",
    settings=Settings,
    learner="innerloop.methods.tim.learner:TIM",
    idea=(
        "TIM trains the network to classify all training classes, and freezes its features. In an "
        "episode each class starts at its mean support feature. Then these weights are optimised "
        "so that support images are classified right, and predictions of the query images are "
        "sure one by one and balanced as a whole: their mutual information is large. So a "
        "prediction depends on the other query images."
    ),
    adapts="class weights, by support and query images",
    transductive=True,
    papers=(
        Paper(
            "M. Boudiaf, I. Ziko, J. Rony, J. Dolz, P. Piantanida, I. Ben Ayed",
            "Transductive information maximization for few-shot learning",
            "NeurIPS",
            2020,
            "2008.11297",
        ),
    ),
    defaults=dict(meta_steps=4800, validation_every=300, checkpoint_every=300),
    reason="As many mini-batches as transfer learning.",
)
