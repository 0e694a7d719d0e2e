"""What an explanation consists of, typed. Accuracies are fractions, intervals are half-widths."""

from dataclasses import dataclass

import numpy as np

from innerloop.core.intervals import Difference, mean_and_interval, paired_difference

STEPS_OF_PARTS = 5
"""Inner steps of parts of a network whose method takes none."""


@dataclass(frozen=True, kw_only=True)
class SubjectRow:
    """Which run was explained, and by which protocol.

    Attributes:
        name: what tables call it; keys of the explanation's mappings are these names.
        method: of the run.
        data: name of the data set.
        data_fingerprint: of its pixels and names.
        split: which classes train and validate.
        part: which of them were measured on.
        ways, shots, queries: of an episode.
        training_seed: of the run.
        adaptation: how its network was adapted for the evaluation: ``own``.
        inner_steps, inner_lr: of its own adaptation; a rate of None: it takes no steps.
        batch_norm: whose statistics normalise the query images.
        training_rotations, averaging: settings of the training that tables show.
        learned_rates: whether ``inner_lr`` is what learnt rates started from; None in explanations
            of long ago, as is the next.
        weights_sha256: of the run's weight file.
    """

    name: str
    method: str
    data: str
    data_fingerprint: str
    split: str
    part: str
    ways: int
    shots: int
    queries: int
    training_seed: int
    adaptation: str
    inner_steps: int
    inner_lr: float | None
    batch_norm: str
    training_rotations: bool | None
    averaging: float | None
    learned_rates: bool | None = None
    weights_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Mean:
    """An accuracy.

    Attributes:
        mean: over the episodes.
        ci95: half-width of its 95 % interval over the episodes.
    """

    mean: float
    ci95: float

    @classmethod
    def of(cls, accuracies: np.ndarray) -> "Mean":
        """Mean and interval of the accuracies (episodes,) of single episodes."""
        mean, half = mean_and_interval(accuracies)
        return Mean(mean=mean, ci95=half)


@dataclass(frozen=True, kw_only=True)
class PairedMeans:
    """Both runs on the same episodes.

    Attributes:
        a, b: accuracy of the first and of the second run.
        difference: the first minus the second, paired.
    """

    a: Mean
    b: Mean
    difference: Difference

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray) -> "PairedMeans":
        """Both means of accuracies (episodes,), and their difference."""
        return PairedMeans(a=Mean.of(a), b=Mean.of(b), difference=paired_difference(a, b))


@dataclass(frozen=True, kw_only=True)
class DisjointMeans(PairedMeans):
    """Both runs on episodes that share no character.

    Attributes:
        episodes: how many there are.
    """

    episodes: int


@dataclass(frozen=True, kw_only=True)
class PartRow(Mean):
    """Accuracy by what is adapted.

    Attributes:
        adapts: what takes inner steps; ``own``: what the method itself adapts.
        rate: of the steps.
    """

    adapts: str
    rate: float


@dataclass(frozen=True, kw_only=True)
class ShotsRow(Mean):
    """Accuracy by shots.

    Attributes:
        shots: support images a class.
    """

    shots: int


@dataclass(frozen=True, kw_only=True)
class Change:
    """What adaptation changes in a network, in means over episodes; NaN where it is undefined.

    Attributes:
        cka: unbiased linear CKA of a block's output on the query set before and after adaptation,
            by block.
        spread_before, spread_after: variance within the classes over that of their means, by block.
        weights: norm of the change over the norm before, by adapted tensor.
    """

    cka: dict[str, float]
    spread_before: dict[str, float]
    spread_after: dict[str, float]
    weights: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class ShiftedMean(Mean):
    """Accuracy of a run on shifted episodes.

    Attributes:
        batch_statistics: by the statistics of each batch; None where the run has no stored ones.
        change: from the first row, paired; None where the drawings are not those of that row.
    """

    batch_statistics: Mean | None = None
    change: Difference | None = None


@dataclass(frozen=True, kw_only=True)
class ShiftRow:
    """A step of the ladder of shift.

    Attributes:
        shift: which one.
        episodes: how many.
        paired_with_first: whether its drawings are those of the first row, changed.
        runs: each run's accuracy by its name.
        difference: the first run minus the second, paired.
    """

    shift: str
    episodes: int
    paired_with_first: bool
    runs: dict[str, ShiftedMean]
    difference: Difference
