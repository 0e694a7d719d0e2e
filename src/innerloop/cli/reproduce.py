"""`innerloop reproduce`: everything about the course's four methods, from training to report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from innerloop.cli.command import DataOptions, parse, print_json, sayer


@dataclass(frozen=True)
class ReproduceOptions(DataOptions):
    """Train, evaluate and draw what the README shows; typed again after a kill, it goes on."""

    budget: Literal["quick", "full"] = "quick"
    """quick: one training seed and fewer episodes in the evaluation, takes minutes; full: three
    seeds, as published."""
    data: str = "auto"
    """Data set: omniglot, strokes, auto (Omniglot where it is found, else strokes), or the path of
    a folder of pictures."""
    out: Path = Path("runs/reproduce")
    """Folder that the run directories go into."""
    max_minutes: float | None = None
    """Stop and save after this many minutes of training; default: no limit."""


def run(arguments: list[str]) -> int:
    """Follow the plan, and say where everything is."""
    options = parse(ReproduceOptions, "reproduce", arguments)
    from innerloop.cli.reproduction import reproduce

    say = sayer(options)
    code, results = reproduce(
        options.budget,
        options.data,
        options.out,
        data_dir=options.data_dir,
        say=say,
        quiet=options.json,
        max_minutes=options.max_minutes,
    )
    if "html" in results:
        say("weights:\n  " + "\n  ".join(results["weights"]))
        say(f"report:\n  {results['html']}\n  {results['pdf']}")
    print_json(options, results)
    return code
