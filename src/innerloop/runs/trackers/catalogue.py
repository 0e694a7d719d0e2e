"""Which trackers there are: this package's, and those of others by entry point."""

from importlib.metadata import entry_points

from innerloop.core.errors import ConfigError, did_you_mean
from innerloop.core.imports import load
from innerloop.runs.trackers.base import Tracker

GROUP = "innerloop.trackers"
"""Entry points of this group name the classes of other packages: ``name = "module:Class"``."""
BUILT_IN = {
    "tensorboard": "innerloop.runs.trackers.tensorboard:TensorBoard",
    "mlflow": "innerloop.runs.trackers.mlflow:MLflow",
}
"""Name -> class. Each needs the extra of its name."""


def names() -> list[str]:
    """Every tracker that can be asked for, this package's first."""
    return list(_places())


def _places() -> dict[str, str]:
    return {entry.name: entry.value for entry in entry_points(group=GROUP)} | BUILT_IN


def new_tracker(name: str) -> Tracker:
    """A tracker by its name, or by ``module:Class``.

    Raises:
        ConfigError: if there is none, with the nearest name; or if it cannot be imported or made,
            with the command that installs what this package's own need.
    """
    place = _places().get(name, name if ":" in name else "")
    if not place:
        hint = did_you_mean(name, names())
        raise ConfigError(f"There is no tracker {name!r}.{hint} One of your own is module:Class.")
    try:
        return load(place, f"The tracker {name!r}")()
    except ConfigError as error:
        if name in BUILT_IN and isinstance(error.__cause__, ModuleNotFoundError):
            raise ConfigError(
                f"The tracker {name!r} needs a package that is not installed: pip install "
                f"'innerloop[{name}]'."
            ) from error
        raise
    except Exception as error:  # of somebody else's class
        raise ConfigError(
            f"The tracker {name!r} cannot be made: {type(error).__name__}: {error}."
        ) from error
