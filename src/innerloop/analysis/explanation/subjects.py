"""A trained run that is explained, and how often it is right when it adapts in some way."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from innerloop.analysis.explanation.rows import SubjectRow
from innerloop.data.episodes import EpisodeBatch
from innerloop.experiments import ranks
from innerloop.experiments.experiment import Experiment
from innerloop.methods.base import Learner, accuracy
from innerloop.methods.variants import Variant
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.runs.results import typed

OWN = Variant()
"""Adaptation as the method itself does it."""


@dataclass(frozen=True)
class Subject:
    """A trained run that is explained.

    Attributes:
        name: what tables call it, for instance the method.
        experiment: its data and settings.
        learner: its trained learner, around an `innerloop.Conv4`.
        own_accuracies: (episodes,) accuracy of its own adaptation, from its evaluation.
    """

    name: str
    experiment: Experiment
    learner: Learner
    own_accuracies: np.ndarray

    def renamed(self, name: str) -> "Subject":
        """The same run under another name."""
        return replace(self, name=name)

    @property
    def mode(self) -> BatchNormMode:
        """Its own batch-norm mode."""
        return self.learner.batch_norm_modes[0]

    @property
    def takes_steps(self) -> bool:
        """Whether its own adaptation takes inner steps, at a rate."""
        return self.experiment.config.own.adaptation_rate is not None

    @property
    def row(self) -> SubjectRow:
        """Which run it is, and by which protocol it is measured."""
        config = self.experiment.config
        row = asdict(self.experiment.origin()) | {
            "name": self.name,
            "data": config.data.name,
            "data_fingerprint": self.experiment.dataset.fingerprint,
            "split": self.experiment.split.name,
            "part": "val",
            "ways": config.episode.ways,
            "shots": config.episode.shots,
            "queries": config.episode.queries,
            "inner_steps": config.own.adaptation_steps,
            "batch_norm": self.mode,
        }
        return typed(row, SubjectRow, f"The protocol of {self.name}")

    def adapted(self, variant: Variant = OWN) -> Learner:
        """The learner that adapts its network another way."""
        return variant.of(self.learner, self.experiment.config)

    def accuracies(
        self,
        batches: Iterable[EpisodeBatch],
        variant: Variant = OWN,
        steps: int | None = None,
    ) -> np.ndarray:
        """Query accuracy of each of some episodes, after the run's inner steps."""
        learner = self.adapted(variant)
        config = self.experiment.config

        def of_batch(batch: EpisodeBatch) -> np.ndarray:
            moved = batch.to(config.machine.device)
            adaptation = learner.adapt(
                moved.support, steps=config.own.adaptation_steps if steps is None else steps
            )
            return query_accuracy(learner, adaptation, moved)

        return np.concatenate(ranks.over(batches, of_batch))


@torch.no_grad()
def query_accuracy(learner: Learner, adaptation: Any, batch: EpisodeBatch) -> np.ndarray:
    """(E,) accuracy on the query set under the learner's own batch norm."""
    return (
        accuracy(learner.predict(adaptation, batch.query.images), batch.query.labels).cpu().numpy()
    )


Subjects = tuple[Subject, Subject]
"""The two runs; differences are the first minus the second."""
