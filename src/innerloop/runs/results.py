"""What trainings and evaluations found, typed: read once, checked once, written once.

On the disk a row is one flat JSON object. A number that is not finite, or was not measured, is null
there and NaN here, so that every number is a float.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from typing import Any, TypeVar, get_args, get_origin

import msgspec
import numpy as np

from innerloop.core.components import Design
from innerloop.core.errors import DataError
from innerloop.core.intervals import Covers

Row = TypeVar("Row")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Over which episodes something was measured: rows compare only where all of this is equal.

    Attributes:
        data: name of the data set.
        data_fingerprint: of its pixels and names.
        split: which classes train and validate.
        part: which of them were measured on.
        ways, shots, queries: of an episode.
        query_batches: the query set was classified in so many mini-batches.
        rotations: whether the images were turned.
        stream: of the episodes.
        episode_seed: of that stream.
        episodes: how many.
    """

    data: str
    data_fingerprint: str
    split: str
    part: str
    ways: int
    shots: int
    queries: int
    query_batches: int
    rotations: bool
    stream: str
    episode_seed: int
    episodes: int


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured on episodes, as means over them; accuracies are fractions.

    Attributes:
        batch_norm: whose statistics normalised the query images.
        inner_steps: inner steps K after which the accuracies were taken.
        episodes: how many.
        query_accuracy, query_accuracy_ci95: after K steps, and the half-width of its 95 % interval.
        query_accuracy_before, query_accuracy_before_ci95: at φ_0.
        query_loss: after K steps.
        support_accuracy, support_accuracy_before, support_loss: of the support set.
        query_accuracy_per_step, query_accuracy_per_step_ci95: at φ_0, φ_1, ...
        support_accuracy_per_step: the same of the support set.
        covers: what the intervals cover; in files of long ago, episodes.
    """

    batch_norm: str
    inner_steps: int
    episodes: int
    query_accuracy: float
    query_accuracy_ci95: float
    query_accuracy_before: float = math.nan
    query_accuracy_before_ci95: float = math.nan
    query_loss: float = math.nan
    support_accuracy: float = math.nan
    support_accuracy_before: float = math.nan
    support_loss: float = math.nan
    query_accuracy_per_step: list[float] = field(default_factory=list)
    query_accuracy_per_step_ci95: list[float] = field(default_factory=list)
    support_accuracy_per_step: list[float] = field(default_factory=list)
    covers: Covers = "episodes"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Whose result it is, and how the network was adapted for it.

    Attributes:
        method: of the run.
        training_seed: of the run.
        adaptation: how its network was adapted: ``own``, or another way.
        inner_lr: rate of the inner steps; None where none are taken.
        learned_rates: whether that is what learnt rates started from.
        transductive: whether each prediction depended on the episode's other query images by the
            method itself, whatever batch norm does.
        training_rotations, averaging: settings of the training that tables show.
    """

    method: str
    training_seed: int
    adaptation: str = "own"
    inner_lr: float | None
    learned_rates: bool = False
    transductive: bool = False
    training_rotations: bool | None = None
    averaging: float | None = None


@dataclass(frozen=True, kw_only=True)
class ResultRow(Measurement, Origin, Protocol):
    """A result with everything that it must not be quoted without."""

    @cached_property
    def protocol(self) -> Protocol:
        """Over which episodes it was measured."""
        return Protocol(**{spec.name: getattr(self, spec.name) for spec in fields(Protocol)})

    def to_json(self) -> dict[str, Any]:
        """The attributes, as one flat object."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class EvaluationRow(ResultRow):
    """An evaluation of a run: ``evaluation-*.json``.

    Attributes:
        query_accuracy_per_episode: of each episode after K steps.
        episode_classes: (episodes, ways), the data set's classes in each episode; None in files of
            long ago, whose intervals cover episodes alone.
    """

    query_accuracy_per_episode: list[float]
    episode_classes: list[list[int]] | None = None

    @cached_property
    def design(self) -> Design:
        """Which of its episodes share classes."""
        classes = None if self.episode_classes is None else np.array(self.episode_classes)
        return Design(self.episodes, classes)


@dataclass(frozen=True, kw_only=True)
class TrainRecord:
    """A line of ``metrics.jsonl`` for each outer step; what a method logs beside these is not read.

    Attributes:
        step: outer steps done.
        elapsed_s: seconds of training so far, with the validations.
        loss: of the meta-batch.
        gradient_norm: of the meta-gradient, before clipping; NaN where it was not recorded.
    """

    step: int
    elapsed_s: float = math.nan
    loss: float = math.nan
    gradient_norm: float = math.nan


@dataclass(frozen=True, kw_only=True)
class ValidationRecord(Measurement):
    """A line of ``metrics.jsonl`` for each validation.

    Attributes:
        step: outer steps done.
        elapsed_s: seconds of training so far, with the validations.
        image_passes: images sent forward and backward so far; None in records of long ago.
        diagnostics: what the learner records of itself, as JSON: figures of its own.
    """

    step: int
    elapsed_s: float = math.nan
    image_passes: int | None = None
    diagnostics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Status:
    """``status.json``: where a run stands.

    Attributes:
        state: running, interrupted, paused, failed or finished.
        step: outer steps done.
        message: what a person should know; often nothing.
    """

    state: str = "running"
    step: int = 0
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """``env.json``: with what, on what and from what a run was trained.

    ``-`` or None is what was not recorded; runs did not always record all of it.

    Attributes:
        innerloop, python, torch, numpy: versions.
        platform: the operating system.
        processor: the kind of processor.
        trains_on: episodes or images.
        device: where tensors are.
        threads: of the CPU.
        engine: what computed, and why the reference did if it did.
        git: commit of the source; empty outside a checkout.
        data_source: where the data came from.
        data_fingerprint: of the data set's pixels and names.
        split_digest: of the names of the split's classes.
        split_classes: their names by part, of a folder of pictures; other splits are known lists.
        never_drawn: how many training classes are in no episode, in a sentence, where some are not.
        command: as it was typed.
        processes: how many it was begun with, where several.
        job: of torchrun or SLURM, which may start it again.
        started: when the run was made, in ISO 8601 with its time zone.
    """

    innerloop: str = "-"
    python: str = "-"
    torch: str = "-"
    numpy: str = "-"
    platform: str = "-"
    processor: str = "-"
    trains_on: str = "-"
    device: str = "-"
    threads: int | None = None
    engine: str = "-"
    git: str = "-"
    data_source: str = "-"
    data_fingerprint: str | None = None
    split_digest: str = "-"
    split_classes: dict[str, list[str]] | None = None
    never_drawn: str = "-"
    command: str = "-"
    processes: int | None = None
    job: str = "-"
    started: str = "-"

    def recorded(self) -> dict[str, Any]:
        """What was recorded, by name."""
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if value not in ("-", None)
        }


def typed(values: Mapping[str, Any], kind: type[Row], source: str) -> Row:
    """A JSON object as a row; what the row does not have is passed over.

    Args:
        values: the object.
        kind: the class of the row.
        source: what an error calls the object.

    Raises:
        DataError: if something is missing or of another type.
    """
    numbers, lists = _of_numbers(kind)
    filled = dict(values)
    for name in numbers & filled.keys():
        filled[name] = math.nan if filled[name] is None else filled[name]
    for name in lists & filled.keys():
        if isinstance(filled[name], list):
            filled[name] = [math.nan if number is None else number for number in filled[name]]
    try:
        # Keys that a row does not have are no error: files of other versions are read too.
        return msgspec.convert(filled, kind, strict=True)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise DataError(f"{source} does not hold what it should: {error}.") from error


@lru_cache
def _of_numbers(kind: type) -> tuple[frozenset[str], frozenset[str]]:
    """Names of a row's fields that are numbers, and of those that are lists of numbers."""
    numbers = {spec.name for spec in fields(kind) if spec.type is float}
    lists = {spec.name for spec in fields(kind) if _is_list_of_numbers(spec.type)}
    return frozenset(numbers), frozenset(lists)


def _is_list_of_numbers(kind: Any) -> bool:
    return get_origin(kind) is list and get_args(kind) == (float,)
