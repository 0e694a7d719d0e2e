"""Figures. Importing them imports matplotlib, in whatever environment."""

import importlib
import os
import sys
from contextlib import suppress

from innerloop.core.errors import ConfigError


def _import_matplotlib() -> None:
    """Import it also where MPLBACKEND names no backend, which forbids the import.

    None is needed to write files; a name that is one is set as matplotlib itself would.
    """
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        matplotlib = importlib.import_module("matplotlib")
    except ValueError as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(
            f"matplotlib cannot read its settings ({reason}): repair or remove the file "
            "matplotlibrc in the working directory or in matplotlib's folder of settings."
        ) from error
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


_import_matplotlib()
