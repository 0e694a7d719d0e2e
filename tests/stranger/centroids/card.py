"""Nearest class means; imports no torch."""

from dataclasses import dataclass
from typing import Annotated

from innerloop import Card
from innerloop.methods.card import DiagnosticFigure, Paper
from innerloop.settings.fields import between
from innerloop.settings.method import EpisodicSettings


@dataclass(frozen=True)
class Settings(EpisodicSettings):
    temperature: Annotated[float, between(0.01, 1000.0)] = 10.0
    """Divides the squared distances to the class means."""


CARD = Card(
    name="centroids",
    title="Nearest centroid",
    settings=Settings,
    learner="centroids.learner:Centroids",
    idea="A query image has the class whose mean feature vector is nearest.",
    papers=(Paper("A. Stranger", "Means are enough", "Journal of Means", 2026, "2601.00001"),),
    defaults=dict(outer_lr=0.002),
    reason="Distances want larger steps than weights.",
    presets={"warm": dict(temperature=100.0)},
    figures=(
        DiagnosticFigure(
            key="spread",
            name="spread",
            title="Spread of the class means",
            axis="distance",
            words="the mean distance between class means",
        ),
    ),
)
