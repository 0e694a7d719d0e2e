"""Everything that is claimed of a GPU, measured in one command of under 9 minutes.

Rates are of whole outer steps as `innerloop train` takes them, 5-way 5-shot, 15 queries, 5 inner
steps, 64 filters, 28 x 28, 32 episodes; those of others are of gradient and Adam alone, on episodes
that are on the device already. Each part has a time of its own, and one that fails leaves the
others: its row says why. The table comes last.

    python benchmarks/gpu.py                        # writes results/gpu.json
    python benchmarks/gpu.py --device cpu --small   # tries the script out, in about a minute
    python benchmarks/gpu.py --parts first_order others
"""

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_parts as parts
import torch
from gpu_bench import Bench, Row

from innerloop import load_dataset
from innerloop.core.files import json_text, write_atomic
from innerloop.experiments.environment import processor
from innerloop.experiments.machine import usable_device

RESULTS = Path(__file__).parent / "results" / "gpu.json"
LIMIT_S = 510.0
PARTS: dict[str, tuple[Callable[[Bench], None], float]] = {
    "first_order": (parts.first_order, 80),
    "others": (parts.others, 50),
    "second_order": (parts.second_order, 80),
    "whole_training": (parts.whole_training, 60),
    "exactness": (parts.exactness, 60),
    "seeds": (parts.seeds, 90),
    "mamlpp": (parts.mamlpp, 40),
    "memory": (parts.memory, 30),
    "resume": (parts.resume, 90),
    "profile": (parts.profile, 20),
}
"""What is measured, in this order, and the seconds that each may take."""


def ratios(rows: list[Row]) -> list[Row]:
    """How many times as fast as the others innerloop's best is, of each order."""
    rates = {row["what"]: row["value"] for row in rows if "value" in row}
    found = []
    for method, other in (
        ("fomaml", "learn2learn's algorithm, first order"),
        ("maml", "vmapped plain version, second order"),
    ):
        ours = {what: of for what, of in rates.items() if what.startswith(f"{method}, ")}
        ours = {what: of for what, of in ours.items() if "--deterministic" not in what}
        if ours and other in rates:
            best = max(ours, key=ours.__getitem__)
            row = {"what": f"{best}, over {other}", "value": ours[best] / rates[other]}
            found.append(row | {"unit": "times as fast"})
    return found


def table(rows: list[Row]) -> str:
    """A line for each row."""
    width = max((len(row["what"]) for row in rows), default=0)
    lines = []
    for row in rows:
        said = row.get("failed") or f"{row['value']:12.4g}  {row['unit']}"
        if "ms_a_step" in row:
            said += f"  ({row['ms_a_step']:.3g} ms a step)"
        lines.append(f"{row['what']:{width}s}  {said}")
        lines += [f"{'':{width}s}    {sentence}" for sentence in row.get("said", [])]
    return "\n".join(lines)


def machine(device: str) -> dict[str, Any]:
    """The card, or the processor, and the versions."""
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    if not device.startswith("cuda"):
        return versions | {"card": "", "machine": processor()}
    properties = torch.cuda.get_device_properties(device)
    return versions | {
        "card": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "machine": processor(),
    }


def main() -> None:
    """Measure the parts, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--data", default="auto", help="omniglot, strokes or auto (default: auto)")
    parser.add_argument("--small", action="store_true", help="try the script out")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds of everything")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    started = time.monotonic()
    device = usable_device(options.device)
    if options.small:
        torch.set_num_threads(1)
    bench = Bench(device, load_dataset(options.data, size=28), options.small)
    result: dict[str, Any] = machine(device) | {
        "what": "5-way 5-shot, 15 queries, 32 episodes an outer step; see benchmarks/gpu.py",
        "command": "python benchmarks/gpu.py",
        "data": bench.dataset.name,
        "small": options.small,
        "rows": [],
        "seconds": {},
    }
    for name in options.parts:
        measure, limit_s = PARTS[name]
        began = time.monotonic()
        bench.until, bench.rows = min(began + limit_s, started + options.limit), []
        try:
            measure(bench)
        except Exception as error:  # whatever it is, the other parts' rows are kept
            failed = f"{type(error).__name__}: {error}"[:300]
            bench.rows.append({"what": name, "failed": failed})
        result["rows"] += bench.rows
        result["seconds"][name] = round(time.monotonic() - began, 1)
        write_atomic(options.out, json_text(result, indent=1) + "\n")
    result["rows"] += ratios(result["rows"])
    write_atomic(options.out, json_text(result, indent=1) + "\n")
    print(f"\n{result['card'] or result['machine']}, torch {result['torch']}, {bench.dataset.name}")
    print(table(result["rows"]))
    print(f"seconds: {result['seconds']}")


if __name__ == "__main__":
    main()
