"""A grid in TOML: which methods, settings and seeds a sweep trains, each checked when it is read.

``docs/sweeps.md`` has the format. What is wrong is one sentence, and nothing is planned.
"""

import itertools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from innerloop.core.errors import ConfigError
from innerloop.methods.catalogue import find_card
from innerloop.runs.sweeps.sample import Sample, read_sample
from innerloop.settings.fields import Section, between, check, shown
from innerloop.settings.run import refuse_other_names

OF_A_METHOD = ("preset", "settings", "grid", "sample")
"""Keys that stand at the top, for all methods, or under ``method.NAME``."""
Seed = Annotated[int, between(0, 2**31 - 1)]
"""As the setting ``seed`` has it."""


@dataclass(frozen=True)
class SweepSettings(Section):
    """What holds for all runs of a sweep."""

    attempts: Annotated[int, between(1, 100)] = 3
    """How often a failing run is tried."""
    episodes: Annotated[int, between(2, 100_000)] = 600
    """Fixed validation episodes on which each run is evaluated after its training."""
    limit_s: Annotated[float, between(0.5, 86_400.0)] = 60.0
    """Seconds without a sign of life after which a worker counts as dead."""


@dataclass(frozen=True)
class MethodGrid:
    """What is trained of one method.

    Attributes:
        method: its name.
        preset: what its settings start from; None: its defaults.
        settings: one value each, for every run.
        axes: every combination of one element of each axis is a run; an element is some settings.
        sample: each combination is trained at each point of it; None: there is none.
    """

    method: str
    preset: str | None
    settings: dict[str, Any]
    axes: tuple[tuple[dict[str, Any], ...], ...]
    sample: Sample | None

    @property
    def varied(self) -> tuple[str, ...]:
        """The settings that differ from run to run, in the order of the file."""
        of_axes = [name for axis in self.axes for element in axis for name in element]
        of_sample = self.sample.axes if self.sample else {}
        return tuple(dict.fromkeys([*of_axes, *of_sample]))

    @property
    def size(self) -> int:
        """How many runs it is of each seed."""
        size = self.sample.size if self.sample else 1
        for axis in self.axes:
            size *= len(axis)
        return size

    def combinations(self, kinds: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The settings of each run, without those that all have.

        Args:
            kinds: the type of each setting, by its name.
        """
        points = self.sample.points(kinds) if self.sample else [{}]
        for elements in itertools.product(*self.axes):
            chosen = {name: value for element in elements for name, value in element.items()}
            for point in points:
                yield chosen | point


@dataclass(frozen=True)
class Grid:
    """A grid as it was read.

    Attributes:
        methods: what is trained of each.
        seeds: of training; every combination is trained from each.
        settings: what holds for all runs.
    """

    methods: tuple[MethodGrid, ...]
    seeds: tuple[int, ...]
    settings: SweepSettings


def read_grid(path: Path) -> Grid:
    """Read a grid from a file of TOML.

    Raises:
        ConfigError: if it cannot be read, or anything in it is unknown or wrong.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read the grid {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The grid {path} is not TOML: {error}.") from error
    try:
        return _grid(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _grid(values: dict[str, Any]) -> Grid:
    of_all = tuple(SweepSettings.flags())
    keys = ("methods", "seeds", "method", *OF_A_METHOD, *of_all)
    refuse_other_names(values, keys, "key", optional=keys)
    names = _list("methods", values.get("methods", []), str)
    seeds = _list("seeds", values.get("seeds", [0]), Seed)
    own = _table("method", values.get("method", {}))
    # Of a method that is not trained: mistyped, or left out of the list.
    refuse_other_names(own, tuple(names), "method among those of `methods`:", optional=names)
    return Grid(
        tuple(_method_grid(name, values, _table(name, own.get(name, {}))) for name in names),
        tuple(seeds),
        SweepSettings(**{name: values[name] for name in of_all if name in values}),
    )


def _method_grid(method: str, common: dict[str, Any], own: dict[str, Any]) -> MethodGrid:
    find_card(method)  # refuses a name that no method has
    refuse_other_names(own, OF_A_METHOD, f"key of method {method}", optional=OF_A_METHOD)
    preset = own.get("preset", common.get("preset"))
    if preset is not None:
        check("preset", str, preset)
    settings = _merged("settings", common, own)
    axes = tuple(_axis(label, values) for label, values in _merged("grid", common, own).items())
    sample = own.get("sample", common.get("sample"))
    grid = MethodGrid(
        method,
        preset,
        settings,
        axes,
        None if sample is None else read_sample(_table("sample", sample)),
    )
    _refuse_twice(grid)
    return grid


def _merged(key: str, common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The table of all methods, with what one method has in its place."""
    return _table(key, common.get(key, {})) | _table(key, own.get(key, {}))


def _axis(label: str, values: Any) -> tuple[dict[str, Any], ...]:
    """A setting's values; or, of tables, the values of several settings that go together."""
    elements = _list(label, values)
    if all(isinstance(element, dict) for element in elements):
        return tuple(elements)
    return tuple({label: element} for element in elements)


def _refuse_twice(grid: MethodGrid) -> None:
    """Raise `ConfigError` for a setting that is given in two places."""
    axes = [{name for element in axis for name in element} for axis in grid.axes]
    given = [set(grid.settings), *axes, set(grid.sample.axes if grid.sample else ())]
    for first, second in itertools.combinations(given, 2):
        for name in sorted(first & second):
            raise ConfigError(
                f"{name} of {grid.method} is given in two places: give it once, under settings, "
                "grid or sample."
            )


def _table(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{key} must be a table: got {shown(value)}.")
    return value


def _list(key: str, values: Any, kind: Any = None) -> list[Any]:
    """A list that holds something, nothing twice, and, if a kind is given, only of that."""
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{key} must be a list with at least one value: got {shown(values)}.")
    for number, value in enumerate(values):
        if kind is not None:
            check(key, kind, value)
        if value in values[:number]:
            raise ConfigError(f"{key} lists {shown(value)} twice: list it once.")
    return values
