"""How kernels are compiled, for which vectors, and where they are kept."""

import hashlib
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numba
from numba.core import config
from platformdirs import user_cache_path

from innerloop.core.version import __version__


class Registers(NamedTuple):
    """The registers that a kernel is written for.

    Attributes:
        width: floats of one.
        across: how many of them a tile of a product is wide.
    """

    width: int
    across: int


def vectors_of(features: dict[str, bool], machine: str) -> Registers:
    """The best vectors of a processor: a tile of six rows has to fit its registers."""
    if features.get("avx512f"):
        return Registers(16, 4)  # 24 of 32 registers
    if features.get("avx2") and features.get("fma"):
        return Registers(8, 2)  # 12 of 16
    if machine in ("arm64", "aarch64"):
        return Registers(4, 4)
    return Registers(4, 2)


HOST = vectors_of(dict(llvm.get_host_cpu_features()), platform.machine())


def cache_folder() -> Path | None:
    """Where compiled kernels are kept, made if need be; None where none can be written.

    One folder for each kind of processor, version and source, so that machines that share a home
    do not take one another's kernels, and none is older than its source.
    """
    sources = sorted(Path(__file__).parent.glob("*.py"))
    parts = [__version__, numba.__version__, llvm.get_host_cpu_name(), str(HOST)]
    parts += [str(dict(sorted(llvm.get_host_cpu_features().items())))]
    parts += [path.read_text("utf-8") for path in sources]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    root = os.environ.get("INNERLOOP_CACHE")
    place = Path(root).expanduser() if root else user_cache_path("innerloop")
    folder = place / "kernels" / digest
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError:
        return None
    return folder


CACHE = cache_folder()


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel at its first call, or load it: without the GIL, so that threads are free.

    Sums may be reordered and multiplications fused with additions; NaN and infinity stay.
    """
    settings: Any = config
    former = settings.CACHE_DIR
    if CACHE:
        settings.CACHE_DIR = str(CACHE)
    try:
        return numba.njit(
            nogil=True,
            error_model="numpy",
            fastmath={"contract", "reassoc", "nsz", "arcp"},
            cache=CACHE is not None,
        )(function)
    finally:
        settings.CACHE_DIR = former
