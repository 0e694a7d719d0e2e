"""100 SIGKILLs at training runs: what does `innerloop resume` make of them?

A third of them or more strike into the saving.

    python benchmarks/sigkill.py [--kills 100] [--seed 0]

Small runs on the synthetic strokes data set (settings in tests/killing.py) are killed up to five
times each, at random moments; `innerloop resume` is all the help they get. Each must end with the
uninterrupted run's weights, optimiser state and metrics, bit for bit. Figures are not drawn. Takes
minutes; writes benchmarks/results/sigkill.json.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
from killing import campaign, training_of  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="how many at least")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        tally = campaign(Path(directory), options.kills, seed=options.seed)
        environment = json.loads((Path(directory) / "whole" / "env.json").read_text())
    result = {
        "command": f"python benchmarks/sigkill.py --kills {options.kills} --seed {options.seed}",
        "settings": " ".join(training_of("fomaml")),
        **tally.to_json(),
        "seed": options.seed,
        "duration_s": round(time.monotonic() - begun),
        "machine": {
            name: environment[name]
            for name in ("platform", "processor", "threads", "python", "torch", "git")
        },
    }
    print(json.dumps(result, indent=2))
    if tally.failures:
        return 1
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "sigkill.json").write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
