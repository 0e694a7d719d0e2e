"""`innerloop doctor`: what this installation can do, in names and sentences."""

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from innerloop.cli.command import DataOptions, parse, print_json, sayer
from innerloop.core.errors import DataError


@dataclass(frozen=True)
class DoctorOptions(DataOptions):
    """Say what this installation can do: versions, device, engine, threads, data, disk."""


def run(arguments: list[str]) -> int:
    """Say it."""
    options = parse(DoctorOptions, "doctor", arguments)
    say = sayer(options)
    findings = diagnose(options.data_dir)
    for name, value in findings.items():
        say(f"{name:14s} {value}")
    print_json(options, findings)
    return 0


def diagnose(data_dir: Path | None) -> dict[str, str]:
    """Versions, device, engine, threads, data and free disk, ready to print.

    Args:
        data_dir: where to look for Omniglot before the other places.
    """
    import torch

    import innerloop
    from innerloop.experiments.environment import processor

    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    return {
        "innerloop": innerloop.__version__,
        "python": platform.python_version(),
        "torch": f"{torch.__version__}{_cuda_remark()}",
        "device": "cuda: " + torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "engine": _engine(),
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} processors",
        "processor": processor(),
        "omniglot": _omniglot(data_dir),
        "strokes": "built in",
        "free disk": f"{free_gb:.1f} GB here"
        + ("" if free_gb > 1 else "; a run needs up to 0.1 GB"),
    }


def _engine() -> str:
    """What computes the usual network here."""
    import torch

    from innerloop.fast_weights.engine import why_reference
    from innerloop.networks.conv4 import Conv4

    device = "cuda" if torch.cuda.is_available() else "cpu"
    because = why_reference(Conv4(2), "auto", device)
    return "fused" if because is None else f"reference, because {because}"


def _cuda_remark() -> str:
    import torch

    if torch.version.cuda and not torch.cuda.is_available():
        return (
            f"; a CUDA {torch.version.cuda} build on a machine where no GPU can be used. It "
            "works on the CPU; the CPU build is 3 GB smaller (see README)"
        )
    return ""


def _omniglot(data_dir: Path | None) -> str:
    from innerloop.data import omniglot

    try:
        dataset = omniglot.load(data_dir, download=False)
    except DataError as error:
        return f"not found: {error}"
    return f"found in {dataset.source}: {len(dataset.class_names)} characters"
