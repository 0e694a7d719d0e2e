"""Seconds from typing `innerloop train METHOD` to its first outer step, with cached Omniglot."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from innerloop.core.version import __version__
from innerloop.experiments.environment import processor

RESULT = Path(__file__).parent / "results" / "startup.json"


def seconds_to_first_step(method: str) -> float:
    """Start the command as it is typed, and end it once its metrics have a record of a step."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        command = [sys.executable, "-m", "innerloop", "train", method, "--run-dir", str(run)]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        metrics = run / "metrics.jsonl"
        while not (metrics.is_file() and '"train"' in metrics.read_text(encoding="utf-8")):
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command)} ended with {process.returncode}.")
            time.sleep(0.01)
        seconds = time.perf_counter() - started
        process.kill()
        process.wait()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="fomaml")
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    # The first one is not counted: it fills the caches of the data and of the disk.
    taken = [seconds_to_first_step(arguments.method) for _ in range(arguments.times + 1)][1:]
    result = {
        "command": " ".join(["python", "benchmarks/startup.py", *sys.argv[1:]]),
        "innerloop": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "load_average": round(os.getloadavg()[0], 1),  # of the machine: 0 is idle
        "method": arguments.method,
        "seconds": [round(seconds, 2) for seconds in taken],
        "median_s": round(median(taken), 2),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
