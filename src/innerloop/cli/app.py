"""The command line: which command is meant, and errors to exit codes.

This table, rather than tyro's subcommands, since those need the options of all commands at once:
2 ms become 11 ms without those of `train`, which depend on the method. And they answer a mistyped
command with a list of all, not with the nearest.
"""

import errno
import importlib
import os
import socket
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout

from innerloop.cli.streams import make_usable
from innerloop.core.errors import (
    ConfigError,
    DiskError,
    InnerloopError,
    OutOfMemoryError,
    did_you_mean,
    is_out_of_memory,
)
from innerloop.core.processes import this_process

COMMANDS: dict[str, tuple[str, str]] = {
    "adapt": ("adapt", "a classifier of your own pictures, from a folder: innerloop adapt FOLDER"),
    "predict": ("predict", "what that classifier says of pictures"),
    "export": ("export", "that classifier as an ONNX file, or as a page for a browser"),
    "methods": ("methods", "which methods there are, what each adapts, costs and reaches"),
    "train": ("train", "meta-train a method: innerloop train METHOD"),
    "resume": ("resume", "go on with an interrupted run"),
    "evaluate": ("evaluate", "accuracy of a finished run on fixed episodes, with interval"),
    "compare": ("compare", "which of several runs is better, by how much, and how sure"),
    "explain": ("explain", "why two runs differ: features, heads, steps, rates, shift"),
    "export-metrics": (
        "export_metrics",
        "what runs have recorded, for TensorBoard and other trackers",
    ),
    "report": (
        "report",
        "runs into a page and a PDF: plots, weights, settings, which is better and why",
    ),
    "sweep": (
        "sweep",
        "many runs, by any number of workers: plan, work, status, report",
    ),
    "data": ("data", "show, verify, download, info"),
    "doctor": ("doctor", "what this installation can do"),
    "reproduce": (
        "reproduce",
        "train, evaluate, compare, explain and report the course's four methods",
    ),
    "bundle": ("bundle", "pack the hand-in: report, plots, weights, settings, code; or check one"),
}
"""Name -> module of this package whose ``run`` takes the arguments, and what it does in words."""


BY_SEVERAL = ("train", "resume", "evaluate", "explain")
"""Commands that several processes compute together, as torchrun or SLURM starts them."""
BY_EACH = ["sweep", "work"]
"""What each of them does for itself: workers of a sweep know nothing of one another."""


FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Numbers of a disk that takes nothing more."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code.

    0 done, 2 usage, 3 non-finite, 4 disk, 5 data, 6 memory, 7 device, 8 another process of the
    run, 130 or 143 interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    make_usable()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from innerloop.core.version import __version__

        print(f"innerloop {__version__}")
        return 0
    try:
        if this_process().rank > 0 and arguments[:2] != BY_EACH:
            return _beside_the_first(arguments)
        return _run(*arguments)
    except InnerloopError as error:
        if "--debug" in arguments:
            traceback.print_exc()
        print(f"innerloop: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("innerloop: Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as with `| head`
        # Otherwise Python's flush at exit would meet the closed pipe again, and complain.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 141  # 128 + SIGPIPE, which not every system has
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print("innerloop: Out of memory: close other programs, or ask for less.", file=sys.stderr)
        return OutOfMemoryError.exit_code
    except OSError as error:
        # What was written by nobody's own door, as the standard output of a full disk.
        if error.errno not in FULL_DISK:
            raise
        print(f"innerloop: Cannot write: {error.strerror}; free some space.", file=sys.stderr)
        return DiskError.exit_code


def _run(command: str, *arguments: str) -> int:
    if command.startswith("-"):
        raise ConfigError(
            f"The command comes before its options: got {command!r} first. There are: "
            f"{', '.join(COMMANDS)}."
        )
    if command not in COMMANDS:
        raise ConfigError(
            f"There is no command {command!r}.{did_you_mean(command, list(COMMANDS))}"
        )
    # The command's own module alone: help must not wait for what other commands import.
    module = importlib.import_module(f"innerloop.cli.{COMMANDS[command][0]}")
    return module.run(list(arguments))


def _beside_the_first(arguments: list[str]) -> int:
    """A command by another process than the first of several, which alone writes and speaks."""
    if arguments[0] not in BY_SEVERAL:
        return 0
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            return _run(*arguments)
    except ConfigError as error:
        if this_process().local_rank:
            return error.exit_code  # the first of this machine says the same
        raise ConfigError(f"On {socket.gethostname()}: {error}") from error
    except InnerloopError as error:
        raise type(error)(f"On {socket.gethostname()}: {error}") from error


def _usage() -> str:
    rows = "\n".join(f"  {name:15s} {text}" for name, (_, text) in COMMANDS.items())
    return (
        f"usage: innerloop COMMAND [OPTIONS]\n\n{rows}\n\ninnerloop COMMAND --help tells its "
        "options."
    )
