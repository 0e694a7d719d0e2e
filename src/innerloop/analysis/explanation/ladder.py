"""Each run on the steps of the ladder of shift."""

from collections.abc import Callable, Sequence

import numpy as np

from innerloop.analysis.explanation.rows import Mean, ShiftedMean, ShiftRow
from innerloop.analysis.explanation.shifts import SHIFTS, paired_with_the_first, shifted_episodes
from innerloop.analysis.explanation.subjects import Subject, Subjects, query_accuracy
from innerloop.core.errors import ConfigError
from innerloop.core.intervals import mean_and_interval, paired_difference
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.sampling import EpisodeSampler
from innerloop.experiments import ranks
from innerloop.methods.base import sharing_weights


def ladder(subjects: Subjects, episodes: int, say: Callable[[str], None]) -> tuple[ShiftRow, ...]:
    """Each run's accuracy by ladder step, and change from the first where drawings pair.

    A run with stored batch-norm statistics is measured with those of each batch too: stored ones
    are the first thing that a shift of the pixels breaks.
    """
    sampler = subjects[0].experiment.evaluation_sampler("val")
    rows: list[ShiftRow] = []
    first: list[np.ndarray] = []
    for shift in SHIFTS:
        batches = _episodes(shift, sampler, episodes, say)
        if not batches:
            continue
        a, b = (subject.accuracies(batches) for subject in subjects)
        accuracies = [a, b]
        first = first or accuracies
        paired = paired_with_the_first(shift)
        runs = {
            subject.name: _shifted(subject, batches, own, before if paired else None)
            for subject, own, before in zip(subjects, accuracies, first, strict=True)
        }
        rows.append(
            ShiftRow(
                shift=shift,
                episodes=episodes,
                paired_with_first=paired,
                runs=runs,
                difference=paired_difference(a, b),
            )
        )
    return tuple(rows)


def _episodes(
    shift: str, sampler: EpisodeSampler, episodes: int, say: Callable[[str], None]
) -> list[EpisodeBatch]:
    """The episodes of a step; none, and a sentence about it, where it cannot be had."""
    try:
        return list(shifted_episodes(shift, sampler, episodes))
    except ImportError:
        say("Digits are left out: they come with scikit-learn, pip install 'innerloop[sklearn]'.")
    except ConfigError as error:
        say(f"{shift.capitalize()} is left out: {error}")
    return []


def _shifted(
    subject: Subject,
    batches: Sequence[EpisodeBatch],
    accuracies: np.ndarray,
    before: np.ndarray | None,
) -> ShiftedMean:
    """A run's accuracies (episodes,) on shifted episodes, against those of the first step."""
    mean, half = mean_and_interval(accuracies)
    has_stored = subject.mode == "running"
    return ShiftedMean(
        mean=mean,
        ci95=half,
        batch_statistics=Mean.of(_by_batch_statistics(subject, batches)) if has_stored else None,
        change=None if before is None else paired_difference(accuracies, before),
    )


def _by_batch_statistics(subject: Subject, batches: Sequence[EpisodeBatch]) -> np.ndarray:
    """Accuracy of a run's own adaptation, normalised by support and by query set."""
    config = subject.experiment.config
    learner = sharing_weights(subject.learner)
    learner.batch_norm_modes = ("transductive",)

    def of_batch(batch: EpisodeBatch) -> np.ndarray:
        moved = batch.to(config.machine.device)
        adaptation = learner.adapt(moved.support, steps=config.own.adaptation_steps)
        return query_accuracy(learner, adaptation, moved)

    return np.concatenate(ranks.over(batches, of_batch))
