"""What the benchmark of the family found of each method: one file, which comes with the package.

Imports no torch.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from innerloop.core.errors import DataError
from innerloop.core.intervals import Covers

FILE = Path(__file__).with_name("measured.json")
"""Written by the benchmark of the family; without rows as long as nothing was measured."""

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
"""An accuracy, or the half-width of its interval, as a fraction."""
Amount = Annotated[float, msgspec.Meta(ge=0)]
"""Of seconds."""
Count = Annotated[int, msgspec.Meta(ge=0)]
"""Of something whole."""


@dataclass(frozen=True, kw_only=True)
class MeasuredRow:
    """What a method reaches with episodes of one shape, and what its training costs.

    Attributes:
        method: its name.
        ways, shots: of the episodes, in training and test.
        training_seeds: of the networks that were measured.
        batch_norm: whose statistics normalised the query images.
        query_accuracy, query_accuracy_ci95: mean over the networks and test episodes, and the
            half-width of its 95 % interval.
        covers: what the interval covers.
        seconds: of one training on one core of an idle machine, without its validations.
        image_passes: images sent forward and backward in one training.
        command: that trains the first of the networks.
        innerloop: the version that trained the first of them.
        processor: that the seconds were measured on.
        variant: of the method, where it is not the usual one: MetaOptNet's solver.
    """

    method: str
    ways: Count
    shots: Count
    training_seeds: tuple[Count, ...]
    batch_norm: str
    query_accuracy: Share
    query_accuracy_ci95: Share
    covers: Covers
    seconds: Amount
    image_passes: Count
    command: str
    innerloop: str
    processor: str
    variant: str = ""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that was measured, on the same classes and with as many episodes for every method.

    Attributes:
        data: name of the data set.
        split: which classes train and validate.
        part: which of them were measured on.
        queries: query images per class.
        episodes: how many of the part's fixed episodes.
        rows: one for each method and shape of episode.
    """

    data: str
    split: str
    part: str
    queries: Count
    episodes: Count
    rows: tuple[MeasuredRow, ...]

    def row(self, method: str, ways: int, shots: int) -> MeasuredRow | None:
        """A method's row of one shape of episode; None: it was not measured."""
        return next(
            (row for row in self.of(method) if (row.ways, row.shots) == (ways, shots)), None
        )

    def of(self, method: str) -> list[MeasuredRow]:
        """A method's rows, in the order of their shapes."""
        rows = [row for row in self.rows if row.method == method]
        return sorted(rows, key=lambda row: (row.ways, row.shots))


def read_measured(file: Path) -> Measured:
    """Read such a file.

    Raises:
        DataError: if it cannot be read, does not hold what it should, or has a method twice in one
            shape of episode.
    """
    try:
        measured = msgspec.json.decode(file.read_bytes(), type=Measured)
    except OSError as error:
        raise DataError(f"Cannot read {file}: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file} does not hold what it should: {error}.") from error
    counts = Counter((row.method, row.ways, row.shots) for row in measured.rows)
    for (method, ways, shots), count in counts.items():
        if count > 1:
            raise DataError(f"{file} has {method} at {ways}-way {shots}-shot {count} times.")
    return measured
