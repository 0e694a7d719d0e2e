"""From a grid to the runs of a sweep, all of them checked; and to the directory, at once or not."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from innerloop.core.errors import ConfigError, did_you_mean
from innerloop.core.files import disk_errors, json_text, write_atomic
from innerloop.core.version import __version__
from innerloop.data.splits import SPLITS_OF_FOLDERS, SPLITS_OF_NAMED
from innerloop.methods.catalogue import settings_of
from innerloop.runs.evaluations import NOT_THE_METHOD
from innerloop.runs.sweeps.directory import FOLDERS, FORMAT_VERSION, PLAN, SweepDirectory
from innerloop.runs.sweeps.grid import Grid, MethodGrid
from innerloop.settings.run import RunConfig
from innerloop.settings.sections import DEVICES

MOST_RUNS = 100_000
"""A larger grid is a slip."""
CHOOSES_ON = "background-heldout"
"""Omniglot's split on which settings are chosen, so that no class of another's test is seen."""


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep.

    Attributes:
        grid: what they come from.
        configs: the settings of each, by its name, in the order in which they are begun.
        drawn_twice: how many points of a sample came again, and are planned once.
    """

    grid: Grid
    configs: dict[str, RunConfig]
    drawn_twice: int

    @property
    def varied(self) -> list[str]:
        """The settings that differ from run to run."""
        return list(dict.fromkeys(name for method in self.grid.methods for name in method.varied))

    def to_json(self) -> dict[str, Any]:
        """What ``sweep.json`` holds."""
        values = {
            "format_version": FORMAT_VERSION,
            "innerloop": __version__,
            **asdict(self.grid.settings),
            "seeds": list(self.grid.seeds),
            "varied": self.varied,
            "runs": list(self.configs),
        }
        return values | {"digest": self._digest(values)}

    def _digest(self, values: Mapping[str, Any]) -> str:
        """SHA-256 of all that is planned: another grid has another one."""
        settings = {name: config.to_json() for name, config in self.configs.items()}
        text = json.dumps([values, settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def plan_of(grid: Grid, *, source: str) -> Plan:
    """The runs of a grid; ``source`` is what errors call it. See `_planned`.

    Raises:
        ConfigError: if a setting is unknown or wrong, or settings do not fit one another.
    """
    try:
        return _planned(grid)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def _planned(grid: Grid) -> Plan:
    """The runs of a grid: of the first seed those of all settings, then of the next seed.

    So a sweep that is cut short has compared all settings. What a grid leaves open is settled here,
    so that every worker computes the same: data set ``omniglot``, of which the split on which
    settings are chosen, and one thread.
    """
    size = len(grid.seeds) * sum(method.size for method in grid.methods)
    if size > MOST_RUNS:
        raise ConfigError(f"This grid has {size:,} runs, and a sweep at most {MOST_RUNS:,}.")
    unique: dict[str, RunConfig] = {}
    # Of each method the settings once; the seeds are put in after.
    settings = [config for method in grid.methods for config in _of_method(method)]
    for seed in grid.seeds:
        for config in settings:
            seeded = config.replace(seed=seed)
            unique.setdefault(seeded.to_json(), seeded)
    configs = {_name(number, config): config for number, config in enumerate(unique.values())}
    return Plan(grid, configs, drawn_twice=(size - len(configs)) // len(grid.seeds))


def _name(number: int, config: RunConfig) -> str:
    method = re.sub(r"\W", "-", config.method.rpartition(":")[2].lower())
    return f"{number:05d}-{method}-s{config.training.seed}"


def _of_method(grid: MethodGrid) -> Iterator[RunConfig]:
    start = _settled(settings_of(grid.method, grid.preset, **grid.settings), grid)
    kinds = {
        flag: section.kinds()[name]
        for section in start.sections.values()
        for flag, name in section.flags().items()
    }
    _refuse_misnamed(grid, start)
    for axis in grid.sample.axes.items() if grid.sample else ():
        _refuse_ends(start, *axis)
    for settings in grid.combinations(kinds):
        config = start.replace(**settings)
        refuse_unknown_places(config)
        yield config


def _settled(config: RunConfig, grid: MethodGrid) -> RunConfig:
    """With what the grid leaves open and workers would each choose for themselves."""
    settled: dict[str, Any] = {}
    if config.data.name == "auto":
        settled["data"] = "omniglot"
    elif config.data.name not in SPLITS_OF_NAMED:
        # Workers start elsewhere, and a path of here must lead them to the same folder.
        settled["data"] = str(Path(config.data.name).expanduser().absolute())
    if config.data.split == "auto" and settled.get("data", config.data.name) == "omniglot":
        settled["split"] = CHOOSES_ON
    if config.machine.threads == 0:
        settled["threads"] = 1
    return config.replace(**{name: settled[name] for name in settled if name not in grid.varied})


def _refuse_misnamed(grid: MethodGrid, start: RunConfig) -> None:
    """Refuse to vary what decides no result, and what is no setting of the method."""
    if "seed" in grid.settings or "seed" in grid.varied:
        raise ConfigError("Give training seeds as seeds = [...], not as a setting.")
    for name in grid.varied:
        if name in NOT_THE_METHOD and name not in ("data", "split"):
            raise ConfigError(
                f"{name} decides nothing that a sweep compares: give it once, under settings."
            )
        if name not in start.flat():
            start.replace(**{name: None})  # which says so, with the nearest name


def _refuse_ends(start: RunConfig, name: str, axis: Any) -> None:
    """Refuse a range that leaves the setting's own, whatever the sample holds of it."""
    for end in axis.ends:
        start.replace(**{name: end})


def refuse_unknown_places(config: RunConfig) -> None:
    """Raise `ConfigError` for data, a split or a device that there cannot be anywhere."""
    data = config.data.name
    if data not in SPLITS_OF_NAMED and not Path(data).is_dir():
        raise ConfigError(
            f"There is no data set {data!r}.{did_you_mean(data, list(SPLITS_OF_NAMED))} A folder "
            "of pictures is named by its path."
        )
    splits = SPLITS_OF_NAMED.get(data, ("auto", *SPLITS_OF_FOLDERS))
    if config.data.split not in (*splits, "auto"):
        hint = did_you_mean(config.data.split, list(splits))
        raise ConfigError(f"Data set {data!r} has no split {config.data.split!r}.{hint}")
    device = config.machine.device
    if device != "auto" and not re.fullmatch(DEVICES, device):
        hint = did_you_mean(device, ["auto", "cpu", "cuda", "mps"])
        raise ConfigError(f"There is no device {device!r}.{hint}")


def write_plan(plan: Plan, path: Path, say: Callable[[str], None]) -> SweepDirectory:
    """Make the directory of a sweep; where it is planned already, mend what is missing.

    Raises:
        ConfigError: if the directory holds another sweep, or something else.
        DiskError: if it cannot be written; then there is no directory.
    """
    if (path / PLAN).is_file():
        return _mended(plan, path, say)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"{path} holds something that is no sweep: choose another directory.")
    with disk_errors(f"the sweep {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Filled under another name and renamed, so that a sweep is planned whole or not at all.
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        temporary.chmod(0o755)
        try:
            _fill(plan, temporary)
            if path.exists():
                path.rmdir()  # an empty one, which not every system replaces
            os.rename(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return SweepDirectory(path)


def _fill(plan: Plan, folder: Path) -> None:
    for name in FOLDERS:
        (folder / name).mkdir()
    for name, config in plan.configs.items():
        # Not each on the disk before the next: of 10,000 that would take minutes.
        (folder / "planned" / f"{name}.json").write_text(config.to_json(), encoding="utf-8")
    write_atomic(folder / PLAN, json_text(plan.to_json(), indent=1) + "\n")


def _mended(plan: Plan, path: Path, say: Callable[[str], None]) -> SweepDirectory:
    sweep = SweepDirectory(path)
    if sweep.plan.digest != plan.to_json()["digest"]:
        version = sweep.plan.innerloop
        planned_by = "" if version == __version__ else f", planned by innerloop {version}"
        raise ConfigError(
            f"{path} holds another sweep{planned_by}: choose another directory for this grid."
        )
    for name, config in plan.configs.items():
        file = sweep.planned(name)
        text = config.to_json()
        if not file.is_file() or file.read_bytes() != text.encode():
            write_atomic(file, text)
            say(f"{file} was missing or damaged, and is written again.")
    for name in FOLDERS:
        (path / name).mkdir(exist_ok=True)
    return sweep
