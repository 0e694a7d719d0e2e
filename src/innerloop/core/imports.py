"""The import of somebody else's module: whatever it raises is told in a sentence."""

import importlib
import os
import sys
import traceback
from types import ModuleType
from typing import Any

from innerloop.core.errors import ConfigError


def load(place: str, what: str) -> Any:
    """The object at ``module:name``; the module may be a file of the working directory.

    Args:
        place: the module and the name.
        what: it is, as the error begins.

    Raises:
        ConfigError: whatever the import raises, with the file and the line; only Ctrl-C passes.
    """
    module, _, name = place.partition(":")
    try:
        return getattr(_imported(module), name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ConfigError(
            f"{what} cannot be imported from {place}: {_reason(error)}{_where(error)}."
        ) from error


def _imported(module: str) -> ModuleType:
    """As `python -m` finds it: the installed command has no working directory on its path."""
    here = os.getcwd()
    if here in sys.path or "" in sys.path:
        return importlib.import_module(module)
    # At the end: a file here must not take the place of an installed module.
    sys.path.append(here)
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(here)


def _reason(error: BaseException) -> str:
    """The first line of what it says, under its kind where that is not plain from it."""
    said = str(error.msg if isinstance(error, SyntaxError) else error)
    line = said.partition("\n")[0].rstrip(".")
    if isinstance(error, ImportError | AttributeError) and line:
        return line
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _where(error: BaseException) -> str:
    """The file and line that raised it, unless the import itself did."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    foreign = [
        frame
        for frame in frames
        if frame.filename not in (__file__, importlib.__file__) and "<frozen" not in frame.filename
    ]
    return f" ({foreign[-1].filename}, line {foreign[-1].lineno})" if foreign else ""
