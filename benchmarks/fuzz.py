"""10,000 damaged configurations and weight files: only innerloop's own errors come out.

Run from the repository's root; any other exception, or a file that loads with another content,
stops it::

    python benchmarks/fuzz.py --examples 10000 --seed 0
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import hypothesis
import safetensors
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
import mutations  # noqa: E402  (the strategies of tests/test_fuzz.py)

RESULT = ROOT / "benchmarks" / "results" / "fuzz.json"


def count(
    strategy: st.SearchStrategy[bytes], check: Callable[[bytes], str], examples: int, seed: int
) -> dict:
    """Outcomes of that many examples, by the error's type; ``different`` of the files differed."""
    outcomes: Counter[str] = Counter()
    contents = set()

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
        ],
    )
    @given(strategy)
    def run(content):
        outcomes[check(content)] += 1
        contents.add(hash(content))

    run()
    return {
        "examples": outcomes.total(),
        "different": len(contents),
        "outcomes": dict(sorted(outcomes.items())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--examples", type=int, default=10_000, help="damaged files in all, half of each kind"
    )
    parser.add_argument("--seed", type=int, default=0, help="Hypothesis' seed")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = mutations.weight_file(folder)
        result = {
            "config.json": count(
                mutations.damaged_configs(),
                lambda content: mutations.check_config(content, folder / "config.json"),
                options.examples // 2,
                options.seed,
            ),
            "model.safetensors": count(
                mutations.damaged_weights(good),
                lambda content: mutations.check_weights(
                    content, folder / "damaged.safetensors", None
                ),
                options.examples - options.examples // 2,
                options.seed,
            ),
        }
    record = {
        "command": f"python benchmarks/fuzz.py --examples {options.examples} --seed {options.seed}",
        "claim": (
            "every file was refused with innerloop's own error in a sentence, or loaded as a "
            "whole configuration or as the saved tensors; nothing else came out"
        ),
        "files": result,
        "other_exceptions": 0,
        "seed": options.seed,
        "duration_s": round(time.monotonic() - started, 1),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "safetensors": safetensors.__version__,
            "hypothesis": hypothesis.__version__,
        },
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record["files"], indent=2))


if __name__ == "__main__":
    main()
