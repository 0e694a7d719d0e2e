"""`innerloop explain`: why two runs differ."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from innerloop.cli.command import DeviceOptions, parse, print_json, sayer
from innerloop.core.errors import ConfigError
from innerloop.settings.sections import NETWORKS

if TYPE_CHECKING:
    from innerloop.analysis.explanation.results import Explanation
    from innerloop.runs.directory import RunDirectory


@dataclass(frozen=True)
class ExplainOptions(DeviceOptions):
    """Measure why two finished runs differ, on validation episodes; takes minutes, no training."""

    runs: tyro.conf.Positional[tuple[Path, Path]] = field(kw_only=True)
    """The two run directories; differences are the first minus the second."""
    episodes: int = 600
    """Fixed episodes of what is quick to measure: both runs' own accuracy, and heads on frozen
    features."""
    few_episodes: int = 16
    """Fixed episodes of what is slow: adapting whole networks, up to 200 steps, at many rates."""
    out: Path | None = None
    """Folder for page, figures and explanation.json; default: explanation, beside the first run."""


def run(arguments: list[str]) -> int:
    """Measure, and write a page with its figures."""
    options = parse(ExplainOptions, "explain", arguments)
    if options.few_episodes < 2:
        raise ConfigError(f"--few-episodes must be at least 2: got {options.few_episodes}.")
    from innerloop.analysis.explanation.storage import explanation_to_json
    from innerloop.experiments.ranks import first, joined
    from innerloop.report.explanation import explanation_page, write_explanation
    from innerloop.runs.directory import RunDirectory

    runs = [RunDirectory(path) for path in options.runs]
    say = sayer(options)
    with joined():
        explanation = _explained(runs, options)
        if not first():
            return 0
    out = options.out or runs[0].path.parent / "explanation"
    write_explanation(explanation, out)
    say(explanation_page(explanation))
    say(f"Look at {out / 'figures'}; the numbers are in {out / 'explanation.json'}.")
    print_json(options, explanation_to_json(explanation))
    return 0


def _explained(runs: "list[RunDirectory]", options: ExplainOptions) -> "Explanation":
    from innerloop.analysis.comparison import check_runs, refuse_differences
    from innerloop.analysis.explanation.explain import explain_runs
    from innerloop.analysis.explanation.measurements import refuse_what_cannot_be_explained
    from innerloop.cli.actions import evaluate_if_needed
    from innerloop.experiments.experiment import open_run
    from innerloop.experiments.ranks import refuse_others

    say = sayer(options)
    for directory in runs:
        # Before anything is evaluated, which takes minutes.
        if not directory.config.own.can_be_explained:
            raise ConfigError(
                f"{directory.path.name} cannot be explained: {directory.config.method} is adapted "
                "in its own way alone. Compare its accuracy, with innerloop compare."
            )
    check_runs(runs, options.episodes)
    refuse_differences(runs, "val", options.episodes)
    refuse_others({f"weights of {run.path.name}": run.weights_sha256() for run in runs})
    for directory in runs:
        if directory.config.network.name not in NETWORKS:
            _, learner = open_run(
                directory,
                data_dir=options.data_dir,
                device=options.device,
                engine=options.engine or "auto",
                say=say,
            )
            takes_steps = directory.config.own.adaptation_rate is not None
            refuse_what_cannot_be_explained(directory.path.name, learner, takes_steps=takes_steps)
    for directory in runs:
        evaluate_if_needed(
            directory,
            "val",
            options.episodes,
            data_dir=options.data_dir,
            device=options.device,
            engine=options.engine,
            say=say,
            quiet=options.json,
        )
    return explain_runs(
        *runs,
        episodes=options.episodes,
        few_episodes=options.few_episodes,
        data_dir=options.data_dir,
        device=options.device,
        engine=options.engine,
        say=say,
    )
