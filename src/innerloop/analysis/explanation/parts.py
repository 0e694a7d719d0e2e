"""Accuracy by what is adapted at which rate, and by shots."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from innerloop.analysis.explanation.rows import STEPS_OF_PARTS, PartRow, ShotsRow
from innerloop.analysis.explanation.subjects import Subject
from innerloop.core.errors import ConfigError
from innerloop.core.intervals import mean_and_interval
from innerloop.data.episodes import EpisodeBatch
from innerloop.methods.parts import Parts
from innerloop.methods.variants import Variant

RATES = (0.01, 0.04, 0.1, 0.4, 1.0, 2.0)
"""Inner rates of the sensitivity, and among them the best one of what is adapted."""
PARTS: tuple[Parts, ...] = ("head", "head+1", "head+2", "head+3", "all", "body")
"""What is adapted, from the head alone to all of the network, and the body alone."""
SHOTS = (1, 2, 5, 10)
"""Support images a class of the rows over shots."""


def part_rows(
    subject: Subject, batches: Sequence[EpisodeBatch], say: Callable[[str], None]
) -> tuple[PartRow, ...]:
    """Accuracy by what is adapted and at which rate; ``own`` is the method's way, if by steps."""
    rows = []
    steps = None if subject.takes_steps else STEPS_OF_PARTS
    for adapts in PARTS:
        say(f"  {subject.name}, adapting {adapts}")
        for rate in RATES:
            variant = Variant(adapts=adapts, inner_lr=rate)
            accuracies = subject.accuracies(batches, variant, steps)
            mean, half = mean_and_interval(accuracies)
            rows.append(PartRow(adapts=adapts, rate=rate, mean=mean, ci95=half))
    own = subject.learner.own_parts if subject.takes_steps else None
    return (*(replace(row, adapts="own") for row in rows if row.adapts == own), *rows)


def shots_rows(subject: Subject, episodes: int) -> tuple[ShotsRow, ...]:
    """Accuracy by shots, 10 queries a class in every row, on the same classes."""
    rows = []
    for count in SHOTS:
        try:
            sampler = subject.experiment.evaluation_sampler("val", shots=count, queries=10)
        except ConfigError:  # fewer drawings than that
            continue
        accuracies = subject.accuracies(sampler.batch(index, 1) for index in range(episodes))
        mean, half = mean_and_interval(accuracies)
        rows.append(ShotsRow(shots=count, mean=mean, ci95=half))
    return tuple(rows)
