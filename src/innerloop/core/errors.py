"""The errors a user can meet. Each is one sentence, and each kind has its exit code.

Everything that innerloop refuses on purpose is an `InnerloopError`; any other exception is a bug.
"""

import difflib
from collections.abc import Sequence


class InnerloopError(Exception):
    """Base of all errors that innerloop raises on purpose."""

    exit_code = 1


class ConfigError(InnerloopError, ValueError):
    """A setting is unknown, out of range, or does not fit the others."""

    exit_code = 2


class NonFiniteError(InnerloopError, ArithmeticError):
    """Training reached a loss or gradient that is NaN or infinite."""

    exit_code = 3


class DiskError(InnerloopError):
    """A run directory, checkpoint or weight file cannot be written."""

    exit_code = 4


class DataError(InnerloopError, ValueError):
    """A data set, archive, image or weight file is missing, damaged or not what it claims to be."""

    exit_code = 5


class OutOfMemoryError(InnerloopError, MemoryError):
    """There is less memory than a computation takes."""

    exit_code = 6


class DeviceError(InnerloopError):
    """A GPU that a computation was on does not answer any more."""

    exit_code = 7


def is_lost_device(error: BaseException) -> bool:
    """Whether an exception, or what it came from, says that a GPU does not answer any more."""
    said = str(error)
    # What cannot be recorded as a CUDA graph is an error of CUDA, too.
    lost = isinstance(error, RuntimeError) and "CUDA error" in said and "captur" not in said
    return lost or (error.__cause__ is not None and is_lost_device(error.__cause__))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, Python's or PyTorch's, says that memory is used up."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(
            words in said
            for words in ("out of memory", "can't allocate memory", "status_alloc_failed")
        )
    )


def first_line(error: BaseException) -> str:
    """What another library's exception says first, to be quoted in a sentence."""
    said = str(error).strip().partition("\n")[0].rstrip(".")
    # The text of a KeyError is the key, that of the others is often a name alone.
    if not said or isinstance(error, LookupError | AttributeError | AssertionError):
        return f"{type(error).__name__}{said and ': '}{said}"
    return said


def described(value: object) -> str:
    """What was given where something else is needed: a class, None, or something of a type."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return "None" if value is None else type(value).__name__


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """To append to an error: the most similar name, or all of them."""
    return nearest(name, names) or f" There are: {', '.join(names)}."


def nearest(name: str, names: Sequence[str]) -> str:
    """Asks in an error whether the most similar name is meant, or nothing where none is similar."""
    # All names are lower case, so that "MAML" is near "maml".
    similar = difflib.get_close_matches(name.lower(), names, n=1)
    return f" Did you mean {similar[0]!r}?" if similar else ""
