"""`innerloop compare`: which of several runs is better, by how much, and how sure."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from innerloop.cli.command import DeviceOptions, parse, print_json, runs_among, sayer


@dataclass(frozen=True)
class CompareOptions(DeviceOptions):
    """Compare runs over the same episodes; those that differ in training seed alone are one row."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = field(kw_only=True)
    """The run directories, at least two. One that was not evaluated yet is evaluated first."""
    part: Literal["val", "test"] = "val"
    """Which classes of the split."""
    episodes: int = 600
    """How many of the part's fixed episodes, at least 2."""
    allow_different: tyro.conf.FlagCreatePairsOff[bool] = False
    """Go on where data, split or episodes differ, and print in which fields; differences are then
    not paired."""
    out: Path | None = None
    """Folder for table, figures and comparison.json; default: comparison, beside the first run."""


def run(arguments: list[str]) -> int:
    """Evaluate what was not evaluated, and compare."""
    options = parse(CompareOptions, "compare", arguments)
    # After the parsing, since help and wrong options need no torch.
    from innerloop.analysis.comparison import check_runs, compare, refuse_differences
    from innerloop.cli.actions import evaluate_if_needed
    from innerloop.report.comparison import comparison_page, write_comparison
    from innerloop.runs.directory import RunDirectory

    say = sayer(options)
    runs = [RunDirectory(path) for path in runs_among(options.runs, say)]
    part = options.part
    episodes = options.episodes
    check_runs(runs, episodes)
    if not options.allow_different:
        refuse_differences(runs, part, episodes)
    for directory in runs:
        evaluate_if_needed(
            directory,
            part,
            episodes,
            data_dir=options.data_dir,
            device=options.device,
            engine=options.engine,
            say=say,
            quiet=options.json,
        )
    comparison = compare(
        runs, part=part, episodes=episodes, allow_different=options.allow_different
    )
    out = options.out or runs[0].path.parent / "comparison"
    write_comparison(comparison, out)
    say(comparison_page(comparison))
    say(f"Look at {out / 'figures'}; the numbers are in {out / 'comparison.json'}.")
    print_json(options, comparison.to_json())
    return 0
