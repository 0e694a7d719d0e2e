"""Page and figures of a sweep, from the run directories of what is done; no torch."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from innerloop.analysis.sweep import RULE, Choice, Table, Trial, tables
from innerloop.core.files import json_text, write_folder
from innerloop.methods.catalogue import title_of
from innerloop.report.comparison import COLUMNS, cells, describe, draw_rows, plus_minus
from innerloop.report.figures.style import PALETTE, legend, panels, pictures_of
from innerloop.report.render import markdown
from innerloop.runs.sweeps.directory import SweepDirectory
from innerloop.runs.sweeps.status import SweepStatus, status_of

DRAWN = 30
"""So many of the best trials are in the figure; all are in the table."""
DECADES = 1
"""A setting that spans more powers of ten is drawn on a logarithmic axis."""
MAX_PANELS = 6
"""Of so many settings the figure shows what they do; of more, of the first."""


def write_sweep(sweep: SweepDirectory) -> list[Table]:
    """Write ``report/`` of a sweep: ``sweep.md``, ``sweep.json`` and ``figures/``.

    Returns:
        What was written of.

    Raises:
        ConfigError: if no run is done.
        DiskError: if something cannot be written.
    """
    found = list(tables(sweep))
    status = status_of(sweep)
    contents: dict[str, bytes | str] = {
        "sweep.md": sweep_page(sweep, found, status),
        "sweep.json": json_text(_to_json(sweep, found, status), indent=1) + "\n",
    }
    for number, table in enumerate(found):
        suffix = f"-{number + 1}" if number else ""
        contents |= pictures_of(partial(draw_trials, table), f"figures/accuracy{suffix}")
        if numbers_of(table):
            contents |= pictures_of(partial(draw_settings, table), f"figures/settings{suffix}")
    write_folder(sweep.path / "report", contents)
    return found


def _to_json(sweep: SweepDirectory, found: Sequence[Table], status: SweepStatus) -> dict[str, Any]:
    return {
        "innerloop": sweep.plan.innerloop,
        "digest": sweep.plan.digest,
        "rule": RULE,
        "tables": [table.to_json() for table in found],
        "status": status.to_json(),
    }


def sweep_page(sweep: SweepDirectory, found: Sequence[Table], status: SweepStatus) -> str:
    """The text of ``sweep.md``."""
    missing = status.planned - status.done
    lines = [
        "# Sweep",
        "",
        f"{status.done} of {status.planned} planned runs are done"
        f"{f'; the {missing} others are not in the tables' if missing else ''}. Training seeds "
        f"{', '.join(map(str, sweep.plan.seeds))}.",
        "",
        markdown.text(RULE),
    ]
    for table in found:
        lines += ["", f"## {markdown.text(describe(table.protocol))}", ""]
        lines += [*_chosen(sweep, table), "", *_of_trials(table)]
    failed = [run for run in status.begun if run.failures]
    if failed:
        head = ["run", "state", "attempts", "why", "log"]
        rows = [[run.name, run.state, str(run.attempt), run.message, run.log] for run in failed]
        lines += ["", "## Failures", "", *markdown.table(head, rows)]
    return "\n".join(lines) + "\n"


def _chosen(sweep: SweepDirectory, table: Table) -> list[str]:
    if not table.may_choose:
        return [
            markdown.text(
                f"Nothing is chosen: split {table.protocol.split} is not one to choose settings on."
            )
        ]
    if not table.choices:
        return ["Nothing is chosen yet: no settings have all of their seeds."]
    return [line for choice in table.choices for line in _choice(sweep, choice)]


def _choice(sweep: SweepDirectory, choice: Choice) -> list[str]:
    row = choice.trial.row
    alike = (
        f"Not distinguishable from it: {'; '.join(choice.alike)}."
        if choice.alike
        else "It is distinguishable from all others."
    )
    best = f"{100 * row.query_accuracy:.2f} ± {100 * row.query_accuracy_ci95:.2f} %"
    sentence = f"{row.name}: {best}, the best of {choice.of}."
    if choice.of > 1:
        sentence += f" {alike} The best of several is flattered by chance: train it anew."
    command = f"innerloop train --config {sweep.run(choice.trial.run)}/config.json"
    return [f"- {markdown.text(sentence)}", f"  `{command}`"]


def _of_trials(table: Table) -> list[str]:
    rows = [trial.row for trial in table.trials]
    return [f"{plus_minus(rows)}.", "", *markdown.table(COLUMNS, map(cells, rows))]


def draw_trials(table: Table) -> Figure:
    """Accuracy of the best trials with intervals and seeds, the best on top."""
    rows = [trial.row for trial in table.trials[:DRAWN]]
    left_out = len(table.trials) - len(rows)
    title = "Query accuracy after adaptation"
    if left_out:
        title += f", the best {len(rows)} of {len(table.trials)}"
    height = 1.9 + 0.5 * len(rows)
    figure, (axes,) = panels(title, describe(table.protocol), 1, width=8, height=height)
    draw_rows(axes, rows)
    return figure


def numbers_of(table: Table) -> list[str]:
    """The varied settings that are numbers and take several values."""
    names = dict.fromkeys(name for trial in table.trials for name in trial.settings)
    return [name for name in names if len(set(_values(table.trials, name))) > 1][:MAX_PANELS]


def _values(trials: Sequence[Trial], name: str) -> list[float]:
    """The values of a setting in the trials that have it; those that are numbers."""
    values = [trial.settings.get(name) for trial in trials]
    return [
        float(value)
        for value in values
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]


def draw_settings(table: Table) -> Figure:
    """Accuracy of every trial over each setting that is a number."""
    names = numbers_of(table)
    figure, axes = panels(
        "Query accuracy over the settings",
        describe(table.protocol),
        len(names),
        width=1.5 + 3.2 * len(names),
        share_y=True,
    )
    for panel, name in zip(axes, names, strict=True):
        _draw_setting(panel, table.trials, name)
    axes[0].set_ylabel("query accuracy, %")
    legend(axes[-1], loc="lower right", fontsize=8)
    return figure


def _draw_setting(axes: Axes, trials: Sequence[Trial], name: str) -> None:
    methods = list(dict.fromkeys(trial.row.method for trial in trials))
    for index, method in enumerate(methods):
        own = [trial for trial in trials if trial.row.method == method and name in trial.settings]
        axes.errorbar(
            _values(own, name),
            [100 * trial.row.query_accuracy for trial in own],
            yerr=[100 * trial.row.query_accuracy_ci95 for trial in own],
            fmt="o",
            markersize=4,
            color=PALETTE[index % len(PALETTE)],
            alpha=0.7,
            label=title_of(method),
        )
    values = _values(trials, name)
    if min(values) > 0 and math.log10(max(values) / min(values)) > DECADES:
        axes.set_xscale("log")
    axes.set_xlabel(name)
