"""How much faster two processes of one thread train than one process of one thread.

The same training, by turns: one process; two as torchrun starts them; and two that have nothing to
do with one another, which shows what the machine itself takes where both of its cores are busy.
Seconds of an outer step are those between the records of outer steps 20 and the last. Their bits
are compared, too.

    python benchmarks/processes.py

Keep all cores free of other work. Writes `results/processes.json`.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from innerloop.core.files import json_text, write_atomic
from innerloop.core.version import __version__
from innerloop.experiments.environment import processor

RESULTS = Path(__file__).parent / "results" / "processes.json"
ROUNDS = 3
STEPS = 120
FIRST = 20
"""Outer step from which on time is taken."""
SETTINGS = {
    "FO-MAML, strided": ("fomaml",),
    "MAML, strided": ("maml",),
}
COMMON = (
    f"--meta-steps {STEPS} --validation-episodes 2 --validation-every {STEPS} "
    f"--checkpoint-every {STEPS} --threads 1"
).split()
INNERLOOP = [sys.executable, "-m", "innerloop", "train"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]


def main() -> None:
    """Measure all settings."""
    rows = {name: measured(arguments) for name, arguments in SETTINGS.items()}
    result = {
        "what": "seconds of an outer step of 4 episodes; ratios are medians over rounds by turns",
        "command": "python benchmarks/processes.py",
        "rounds": ROUNDS,
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "innerloop": __version__,
        "rows": rows,
    }
    write_atomic(RESULTS, json_text(result, indent=1) + "\n")
    print(json_text(rows, indent=1))


def measured(arguments: tuple[str, ...]) -> dict[str, float | bool]:
    """Seconds of a step by one process and by two, how many times faster two are, and their bits.

    ``apart`` are two processes that know nothing of one another, each at the whole training.
    """
    seconds: dict[str, list[float]] = {"one": [], "two": [], "apart": []}
    alike = True
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            one = [*arguments, *COMMON, "--run-dir", str(place / "one")]
            two = [*arguments, *COMMON, "--run-dir", str(place / "two")]
            run([[*INNERLOOP, *one]])
            run([[*TORCHRUN, "-m", "innerloop", "train", *two]])
            others = [place / "apart-0", place / "apart-1"]
            run([[*INNERLOOP, *arguments, *COMMON, "--run-dir", str(of)] for of in others])
            seconds["one"].append(step_of(place / "one"))
            seconds["two"].append(step_of(place / "two"))
            seconds["apart"].append(statistics.mean(map(step_of, others)))
            weights = [(place / of / "model.safetensors").read_bytes() for of in ("one", "two")]
            alike &= weights[0] == weights[1]
    of_rounds = list(zip(*seconds.values(), strict=True))
    return {
        "one_s": round(statistics.median(seconds["one"]), 5),
        "two_s": round(statistics.median(seconds["two"]), 5),
        "times_faster": round(statistics.median(one / two for one, two, _ in of_rounds), 3),
        "at_best": round(statistics.median(2 * one / apart for one, _, apart in of_rounds), 3),
        "same_bits": alike,
    }


def run(commands: list[list[str]]) -> None:
    """Commands at the same time, each with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        for command in commands
    ]
    if any([process.wait() for process in started]):
        raise SystemExit("A training failed.")


def step_of(run: Path) -> float:
    """Mean seconds of an outer step."""
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    times = {
        row["step"]: row["elapsed_s"] for row in map(json.loads, lines) if row["kind"] == "train"
    }
    return (times[STEPS] - times[FIRST]) / (STEPS - FIRST)


if __name__ == "__main__":
    main()
