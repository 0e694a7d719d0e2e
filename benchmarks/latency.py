"""How long a user waits for what should come at once: help, episodes, drawings, a report.

Each is done a few times, and the fastest counts: other work on the machine only adds. Writes JSON.

    python benchmarks/latency.py [--rounds 3] [--out benchmarks/results/latency.json]
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from innerloop import EpisodeSampler, FewShotDataset, cli
from innerloop.data import strokes

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from making import make_run


def fastest(do: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest of some rounds."""
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - begun)
    return round(min(seconds), 4)


def show_help(command: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "innerloop", command, "--help"], check=True, capture_output=True
    )


def omniglots_size() -> EpisodeSampler:
    """Episodes of a data set as large as Omniglot's background set."""
    images = np.zeros((964, 20, 1, 28, 28), dtype=np.uint8)
    dataset = FewShotDataset("omniglot", images, tuple(f"a/{index:04d}" for index in range(964)))
    return EpisodeSampler(
        dataset, np.arange(964), ways=5, shots=5, queries=15, seed=0, stream_name="benchmark"
    )


def report(folder: Path) -> None:
    """The report of four runs as a page and a PDF."""
    runs = [str(path) for path in sorted((folder / "runs").iterdir())]
    assert cli.main(["report", *runs, "--out", str(folder / "report")]) == 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/latency.json"))
    options = parser.parse_args()
    episodes = omniglots_size()
    seconds = {
        f"{command} --help": fastest(lambda command=command: show_help(command), options.rounds)
        for command in cli.COMMANDS
    }
    seconds["16 episodes"] = fastest(lambda: episodes.batch(0, 16), 20 * options.rounds)
    seconds["200 characters of strokes"] = fastest(lambda: strokes.generate(200), options.rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for method in ("fomaml", "maml", "mamlpp", "transfer"):
            make_run(folder / "runs", method)
        seconds["report of four runs"] = fastest(lambda: report(folder), options.rounds)
    row = {
        "command": "python benchmarks/latency.py",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "rounds": options.rounds,
        "seconds": seconds,
    }
    options.out.write_text(json.dumps(row, indent=1) + "\n")
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
