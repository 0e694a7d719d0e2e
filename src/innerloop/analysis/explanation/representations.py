"""What adaptation does to a network: its blocks' outputs and its weights, before and after."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from innerloop.analysis.explanation.formulas import relative_change, spread_ratio, unbiased_cka
from innerloop.analysis.explanation.rows import Change
from innerloop.analysis.explanation.subjects import Subject
from innerloop.data.episodes import EpisodeBatch
from innerloop.experiments import ranks
from innerloop.methods.base import Learner


def mean_change(subject: Subject, batches: Sequence[EpisodeBatch]) -> Change:
    """What a run's adaptation changes, in means over episodes where it is defined."""
    config = subject.experiment.config

    def of_batch(batch: EpisodeBatch) -> Change:
        return change_by_adaptation(
            subject.adapted(), batch.to(config.machine.device), steps=config.own.adaptation_steps
        )

    changes = ranks.over(batches, of_batch)
    return Change(
        cka=_finite_means([change.cka for change in changes]),
        spread_before=_finite_means([change.spread_before for change in changes]),
        spread_after=_finite_means([change.spread_after for change in changes]),
        weights=_finite_means([change.weights for change in changes]),
    )


def _finite_means(episodes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean by name over the episodes in which it is finite; NaN where it never is."""
    means = {}
    for name in episodes[0]:
        finite = [values[name] for values in episodes if math.isfinite(values[name])]
        means[name] = float(np.mean(finite)) if finite else math.nan
    return means


def change_by_adaptation(learner: Learner, batch: EpisodeBatch, *, steps: int) -> Change:
    """How one episode's adaptation changes the network.

    Args:
        learner: knows the blocks of its network.
        batch: one episode.
        steps: inner steps K.

    Returns:
        The quantities of this episode; the change of a tensor that starts from zero is NaN, and one
        that is not there before adaptation has none.
    """
    states = list(learner.trajectory(batch.support, steps=steps))
    first = states[0]
    last = states[-1]
    labels = batch.query.labels[0]
    before, after = (
        {name: value[0] for name, value in outputs.items()}
        for outputs in (learner.block_outputs(state, batch.query.images) for state in (first, last))
    )
    return Change(
        cka={name: unbiased_cka(before[name], after[name]) for name in before},
        spread_before={name: spread_ratio(value, labels) for name, value in before.items()},
        spread_after={name: spread_ratio(value, labels) for name, value in after.items()},
        weights={
            name: relative_change(first.fast_weights[name][0].detach(), value[0].detach())
            for name, value in last.fast_weights.items()
            if name in first.fast_weights
        },
    )
