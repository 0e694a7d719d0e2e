"""Does `innerloop reproduce`, killed three times and typed again, end as it does undisturbed?

    python benchmarks/reproduction.py WHOLE [--kills 3] [--seed 0]

WHOLE is the folder that an uninterrupted `innerloop reproduce --budget quick` made, at
runs/reproduce/quick below where it was typed. The moments are drawn uniformly from its duration,
and every kill is SIGKILL. Weights, evaluations and explanation are compared byte by byte, the
report without dates and durations. Takes a little longer than the uninterrupted one; writes
benchmarks/results/reproduction.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
from innerloop.core.seeding import stream  # noqa: E402
from innerloop.runs.directory import RunDirectory  # noqa: E402
from killing import report_without_durations, results_of  # noqa: E402

COMMAND = ["innerloop", "reproduce", "--budget", "quick"]


def duration_s(folder: Path) -> float:
    """How long WHOLE took: from its first file to its report."""
    return max(path.stat().st_mtime for path in folder.rglob("report.*")) - min(
        path.stat().st_mtime for path in folder.rglob("config.json")
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("whole", type=Path, help="what an uninterrupted run made")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    whole, lasted = options.whole.resolve(), duration_s(options.whole)
    moments = sorted(
        stream(options.seed, "benchmarks/reproduction").uniform(0, lasted, options.kills)
    )
    killed_in, begun = [], time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        out = Path(directory) / "runs" / "reproduce" / "quick"
        for before, moment in zip([0.0, *moments], moments, strict=False):
            with log.open("w") as stdout:
                process = subprocess.Popen(
                    COMMAND,
                    cwd=directory,
                    stdout=stdout,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            time.sleep(moment - before)
            os.killpg(process.pid, 9)
            process.wait()
            killed_in.append(log.read_text(errors="replace").strip().splitlines()[-1:])
            print(f"killed after {moment:.0f} s, in: {killed_in[-1]}", flush=True)
        subprocess.run(
            COMMAND, cwd=directory, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        ours, theirs = results_of(out), results_of(whole)
        different = sorted(
            name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)
        )
        if report_without_durations(out) != report_without_durations(whole):
            different.append("report/report.html")
        environment = RunDirectory(next(whole.glob("fomaml-*"))).environment.recorded()
    result = {
        "command": (
            f"python benchmarks/reproduction.py WHOLE --kills {options.kills} --seed {options.seed}"
        ),
        "killed_after_s": [round(moment) for moment in moments],
        "last_line_before": [line for lines in killed_in for line in lines],
        "uninterrupted_s": round(lasted),
        "with_kills_s": round(time.monotonic() - begun),
        "files_compared": len(theirs) + 1,
        "files_that_differ": different,
        "machine": {
            name: environment[name]
            for name in ("platform", "processor", "threads", "python", "torch", "git")
        },
    }
    print(json.dumps(result, indent=2))
    (HERE / "results" / "reproduction.json").write_text(json.dumps(result, indent=2) + "\n")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
