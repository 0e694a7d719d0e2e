"""Accuracy against the number of adaptation steps, at several rates."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from innerloop.analysis.explanation.features import Features, head_accuracies
from innerloop.analysis.explanation.rows import Mean
from innerloop.analysis.explanation.step_rows import StepCurve, StepDifferences, Steps
from innerloop.analysis.explanation.subjects import OWN, Subject, Subjects, query_accuracy
from innerloop.analysis.explanation.table import FeaturesByRun
from innerloop.core.intervals import paired_difference
from innerloop.data.episodes import EpisodeBatch
from innerloop.experiments import ranks
from innerloop.methods.base import Learner
from innerloop.methods.variants import Variant

STEP_RATES = (0.004, 0.04, 0.4)
"""Inner rates of the curves over adaptation steps."""
STEPS = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 140, 200)
"""Adaptation steps at which those curves are measured."""


def step_curves(
    subjects: Subjects,
    features: FeaturesByRun,
    batches: Sequence[EpisodeBatch],
    say: Callable[[str], None],
) -> Steps:
    """Accuracy after 0 ... 200 steps at each rate: own adaptation, and the head alone.

    The head alone is measured on all episodes, the own adaptation of a whole network on a few;
    there the paired difference of the runs is given at every step.
    """
    curves = []
    differences = []
    for rate in STEP_RATES:
        own = []
        for subject in subjects:
            head = _head_alone(subject, features[subject.name][subject.mode], rate)
            curves.append(_curve(subject.name, "head", rate, head))
            say(f"  {subject.name} at {rate:g}")
            own.append(_own_way(subject, batches, rate))
            curves.append(_curve(subject.name, "own", rate, own[-1]))
        differences.append(_differences(rate, *own))
    return Steps(curves=tuple(curves), differences=tuple(differences))


def _head_alone(subject: Subject, features: Features, rate: float) -> np.ndarray:
    """Accuracies (episodes, steps) of a new head on frozen features at `STEPS`."""
    heads = head_accuracies(
        features,
        head_init=subject.experiment.config.network.head_init,
        inner_lr=rate,
        at=STEPS,
    )
    return np.stack([heads[step] for step in STEPS], 1)


def _own_way(subject: Subject, batches: Sequence[EpisodeBatch], rate: float) -> np.ndarray:
    """Accuracies (episodes, steps) of the run's own adaptation at `STEPS`.

    One that takes no inner steps is the same at every rate, and from one step on.
    """
    learner = subject.adapted(Variant(inner_lr=rate) if subject.takes_steps else OWN)
    device = subject.experiment.config.machine.device
    return np.stack(ranks.over(batches, lambda batch: _trajectory(learner, batch.to(device))))


def _trajectory(learner: Learner, batch: EpisodeBatch) -> np.ndarray:
    """Query accuracy of one episode at `STEPS`."""
    states = learner.trajectory(batch.support, steps=max(STEPS))
    return np.array(
        [
            query_accuracy(learner, state, batch)[0]
            for step, state in enumerate(states)
            if step in STEPS
        ]
    )


def _curve(
    name: str, adapted: Literal["own", "head"], rate: float, accuracies: np.ndarray
) -> StepCurve:
    """A row from accuracies (episodes, steps)."""
    means = [Mean.of(column) for column in accuracies.T]
    return StepCurve(
        name=name,
        adapted=adapted,
        rate=rate,
        steps=STEPS,
        episodes=len(accuracies),
        accuracy=tuple(value.mean for value in means),
        ci95=tuple(value.ci95 for value in means),
    )


def _differences(rate: float, a: np.ndarray, b: np.ndarray) -> StepDifferences:
    """The first run's accuracies (episodes, steps) minus the second's at every step."""
    pairs = zip(a.T, b.T, strict=True)
    differences = tuple(paired_difference(first, second) for first, second in pairs)
    return StepDifferences(rate=rate, steps=STEPS, own_difference=differences)
