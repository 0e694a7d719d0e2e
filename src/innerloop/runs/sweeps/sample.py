"""Points at random, or spread evenly, in stated ranges of settings."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from innerloop.core.errors import ConfigError
from innerloop.core.seeding import stream
from innerloop.settings.fields import between, check, plain_type, shown
from innerloop.settings.run import refuse_other_names

KEYS = {
    "kind": Literal["random", "sobol"],
    "size": Annotated[int, between(1, 100_000)],
    "seed": Annotated[int, between(0, 2**31 - 1)],
}
"""What a sample says beside its ranges, and of what kind that is."""
DIGITS = 9
"""Significant digits of a drawn number: enough that none comes twice, and short to type."""


@dataclass(frozen=True)
class Range:
    """From ``low`` to ``high``, both included, evenly in the number or in its logarithm."""

    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"

    @property
    def ends(self) -> tuple[Any, ...]:
        """The least and the largest value; they are in range if all are."""
        return self.low, self.high

    def value(self, share: float, kind: Any) -> float:
        """The number at a share of the way, a whole one where the setting has whole numbers.

        Args:
            share: in [0, 1); whole numbers have equal shares of it, or of the logarithm.
            kind: the setting's type.
        """
        whole = plain_type(kind) is int
        end = self.high + 1 if whole else self.high
        if self.scale == "log":
            number = self.low * (end / self.low) ** share
        else:
            number = self.low + share * (end - self.low)
        if whole:
            return min(math.floor(number), int(self.high))
        return min(max(float(f"{number:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Choices:
    """One of several values, each as likely."""

    ends: tuple[Any, ...]

    def value(self, share: float, kind: Any) -> Any:
        """The value at a share of the way through them, in [0, 1)."""
        return self.ends[math.floor(share * len(self.ends))]


@dataclass(frozen=True)
class Sample:
    """Points in the space of some settings.

    Attributes:
        kind: ``random``: independent; ``sobol``: spread evenly, a scrambled Sobol sequence
            (I. M. Sobol, 1967; A. B. Owen, 1998).
        size: how many. The points of a smaller sample are the first of a larger one.
        seed: of the points; the same for every method, so that each has the same trials.
        axes: range or choices of each setting, by its name.
    """

    kind: str
    size: int
    seed: int
    axes: dict[str, Range | Choices]

    def points(self, kinds: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The settings at each point.

        Args:
            kinds: the type of each setting, by its name.
        """
        return [
            {
                name: axis.value(float(share), kinds[name])
                for (name, axis), share in zip(self.axes.items(), shares, strict=True)
            }
            for shares in self._shares()
        ]

    def _shares(self) -> np.ndarray:
        """(size, settings) in [0, 1)."""
        if self.kind == "random":
            return np.array(
                [
                    stream(self.seed, "sweep/random", number).random(len(self.axes))
                    for number in range(self.size)
                ]
            )
        from scipy.stats import qmc  # takes a second to import

        # A number, since it makes generators of its own, which ours does not.
        seed = int(stream(self.seed, "sweep/sobol").integers(2**63))
        sequence = qmc.Sobol(len(self.axes), scramble=True, rng=seed)
        # A power of two, of which the first are taken: any other number is a warning.
        return sequence.random_base2(math.ceil(math.log2(self.size)))[: self.size]


def read_sample(values: Mapping[str, Any]) -> Sample:
    """Read a sample from the table of a grid.

    Raises:
        ConfigError: if something in it is unknown, missing or wrong.
    """
    keys = (*KEYS, "ranges")
    refuse_other_names(values, keys, "key of sample", optional=keys)
    known = {"kind": "random", "seed": 0} | dict(values)
    if "size" not in known:
        raise ConfigError("sample must say its size: how many points are drawn.")
    for name, kind in KEYS.items():
        check(name, kind, known[name])
    ranges = known.get("ranges")
    if not isinstance(ranges, dict) or not ranges:
        raise ConfigError("sample.ranges must be a table with a range of at least one setting.")
    axes = {name: _axis(name, values) for name, values in ranges.items()}
    return Sample(known["kind"], known["size"], known["seed"], axes)


def _axis(name: str, values: Any) -> Range | Choices:
    if isinstance(values, list) and values:
        return Choices(tuple(values))
    if not isinstance(values, dict):
        raise ConfigError(
            f"The range of {name} must be a list of values or {{low = ..., high = ...}}: got "
            f"{shown(values)}."
        )
    keys = ("low", "high", "scale")
    refuse_other_names(values, keys, f"key in the range of {name}:", optional=keys)
    for end in ("low", "high"):
        if end not in values:
            raise ConfigError(f"The range of {name} must say its {end}.")
        check(f"{end} of {name}", float, values[end])
    check(f"scale of {name}", Literal["linear", "log"], values.get("scale", "linear"))
    chosen = Range(**values)
    if not chosen.low < chosen.high:
        raise ConfigError(f"The range of {name} must rise: got {chosen.low} to {chosen.high}.")
    if chosen.scale == "log" and chosen.low <= 0:
        raise ConfigError(f"A range by logarithms begins above 0: {name} begins at {chosen.low}.")
    return chosen
