"""Two kinds of features under several heads: is it the features, or what is put on them?"""

from collections.abc import Mapping
from typing import get_args

import numpy as np

from innerloop.analysis.explanation.features import Features, accuracies_of, head_accuracies
from innerloop.analysis.explanation.head_rows import Gap, Head, HeadCell, HeadTable
from innerloop.analysis.explanation.subjects import Subject, Subjects
from innerloop.core.intervals import Difference, mean_and_interval, paired_difference
from innerloop.networks.batch_norm import BatchNormMode

FeaturesByRun = Mapping[str, Mapping[BatchNormMode, Features]]
"""Name of a run -> batch-norm mode of its network -> frozen features."""
Accuracies = dict[tuple[str, BatchNormMode, Head], np.ndarray]
"""Name of a run, batch-norm mode and head -> accuracies (episodes,)."""


def head_table(subjects: Subjects, features: FeaturesByRun) -> HeadTable:
    """Each network's frozen features under each head; the gap between the runs taken apart."""
    accuracies: Accuracies = {}
    for subject in subjects:
        for mode, of_mode in features[subject.name].items():
            for head in get_args(Head):
                accuracies[subject.name, mode, head] = _under(head, subject, mode, of_mode)
    cells = tuple(_cell(*where, values) for where, values in accuracies.items())
    return HeadTable(cells=cells, gap=_gap(subjects, accuracies))


def _under(head: Head, subject: Subject, mode: BatchNormMode, features: Features) -> np.ndarray:
    """Accuracies (episodes,) of a new head on frozen features, by the run's steps if it has any.

    A method without steps finds a head of its own in one go.
    """
    if head == "gradient" and not subject.takes_steps:
        own = subject.learner.head_of(len(features.support), mode)  # type: ignore[attr-defined]
        return accuracies_of(own, features, at=(1,))[1]
    config = subject.experiment.config
    steps = config.own.adaptation_steps if head == "gradient" else 1
    return head_accuracies(
        features,
        head=head,
        head_init=config.network.head_init,
        inner_lr=config.own.adaptation_rate,
        at=(steps,),
    )[steps]


def _cell(name: str, mode: BatchNormMode, head: Head, accuracies: np.ndarray) -> HeadCell:
    mean, half = mean_and_interval(accuracies)
    return HeadCell(features=name, batch_norm=mode, head=head, mean=mean, ci95=half)


def _gap(subjects: Subjects, accuracies: Accuracies) -> Gap:
    """The gap between the runs taken apart.

    With M(f, h) the accuracy of features f under head h, own the runs' own adaptation, and K steps
    against a converged head, the gap is an exact sum, episode by episode; of a method without steps
    the head that it finds in one go is in their place::

        own_a − own_b =
            [M(a, converged) − M(b, converged)]                                     features
            + [M(a, steps) − M(a, converged)] − [M(b, steps) − M(b, converged)]     head's steps
            + [own_a − M(a, steps)] − [own_b − M(b, steps)]                        body's adaptation
    """
    a, b = subjects

    def at(subject: Subject, head: Head) -> np.ndarray:
        return accuracies[subject.name, subject.mode, head]

    return Gap(
        features=_against_zero(at(a, "logistic") - at(b, "logistic")),
        cosine_features=_against_zero(at(a, "cosine") - at(b, "cosine")),
        head_steps=_against_zero(
            (at(a, "gradient") - at(a, "logistic")) - (at(b, "gradient") - at(b, "logistic"))
        ),
        body_adaptation=_against_zero(
            (a.own_accuracies - at(a, "gradient")) - (b.own_accuracies - at(b, "gradient"))
        ),
        all=_against_zero(a.own_accuracies - b.own_accuracies),
    )


def _against_zero(gap: np.ndarray) -> Difference:
    """A gap (episodes,) that is a difference already."""
    return paired_difference(gap, np.zeros_like(gap))
