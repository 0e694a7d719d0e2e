"""Figures of an explanation, from its numbers alone; no torch."""

from collections.abc import Callable, Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from innerloop.analysis.explanation.head_rows import Head, HeadTable
from innerloop.analysis.explanation.results import Explanation
from innerloop.analysis.explanation.rows import Mean, PartRow, SubjectRow
from innerloop.analysis.explanation.step_rows import StepCurve
from innerloop.core.intervals import Difference
from innerloop.report.figures.run import data_name
from innerloop.report.figures.style import GREY, PALETTE, band, legend, panels, zoom


def heads_of(explanation: Explanation) -> dict[Head, str]:
    """How tables call the heads on frozen features."""
    own = "the run's steps" if explanation.take_steps else "the run's own"
    return {"gradient": own, "logistic": "converged", "cosine": "prototypes"}


def describe(explanation: Explanation, episodes: int) -> str:
    """Over which episodes, in one line."""
    first = explanation.subjects[0]
    modes = ", ".join(f"{subject.name}: {subject.batch_norm}" for subject in explanation.subjects)
    return (
        f"{data_name(first.data)}, split {first.split}, part {first.part}, {first.ways}-way "
        f"{first.shots}-shot, {first.queries} queries, {episodes} episodes; batch norm {modes}"
    )


def adapted_parts(rows: Iterable[PartRow]) -> list[str]:
    """What was adapted, each once."""
    return list(dict.fromkeys(row.adapts for row in rows))


def at_rates(
    rows: Sequence[PartRow], adapts: str, rate: float | None
) -> tuple[PartRow | None, PartRow]:
    """The row of what is adapted at the run's own rate, if that was tried, and the best one."""
    of_part = [row for row in rows if row.adapts == adapts]
    at_rate = next((row for row in of_part if row.rate == rate), None)
    return at_rate, max(of_part, key=lambda row: row.mean)


def draw_table(explanation: Explanation) -> Figure:
    """Accuracy of each network's frozen features under each head, and what the gap is made of."""
    subtitle = describe(explanation, explanation.episodes)
    figure, (left, right) = panels("Better features, or a better head?", subtitle, 2, width=10.5)
    _draw_heads(left, explanation.table, heads_of(explanation))
    _draw_gap(right, explanation.gap_in_words())
    a, b = explanation.names
    right.set_xlabel(f"{a} minus {b}, points, with 95 % interval")
    return figure


def _draw_heads(axes: Axes, table: HeadTable, heads: dict[Head, str]) -> None:
    rows = table.by_features()
    for index, ((name, mode), cells) in enumerate(rows.items()):
        shift = 0.12 * (index - (len(rows) - 1) / 2)
        axes.errorbar(
            [position + shift for position in range(len(heads))],
            [100 * cells[head].mean for head in heads],
            yerr=[100 * cells[head].ci95 for head in heads],
            fmt="o",
            capsize=3,
            color=PALETTE[index],
            label=f"{name}'s features ({mode})",
        )
    axes.set_xticks(range(len(heads)), list(heads.values()))
    axes.set_xlim(-0.5, len(heads) - 0.5)
    axes.set_xlabel("new head on frozen features")
    axes.set_ylabel("query accuracy, %")
    legend(axes, fontsize=8)


def _draw_gap(axes: Axes, parts: dict[str, Difference]) -> None:
    for index, part in enumerate(parts.values()):
        axes.errorbar(
            100 * part.mean, index, xerr=100 * part.ci95, fmt="o", capsize=4, color="black"
        )
    axes.axvline(0, color=GREY, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(parts)), list(parts), fontsize=8)
    axes.set_ylim(len(parts) - 0.5, -0.5)


def draw_steps(explanation: Explanation) -> Figure:
    """Accuracy against adaptation steps at three rates."""
    few = describe(explanation, explanation.few_episodes)
    subtitle = f"{few} (head alone: {explanation.episodes})"
    curves = explanation.steps.curves
    rates = list(dict.fromkeys(curve.rate for curve in curves))
    title = "Accuracy against adaptation steps"
    figure, axes = panels(title, subtitle, len(rates), width=12, share_y=True)
    for panel, rate in zip(axes, rates, strict=True):
        for curve in (curve for curve in curves if curve.rate == rate):
            _draw_curve(panel, curve, PALETTE[explanation.names.index(curve.name)])
        # A logarithmic axis has no place for 0 steps.
        panel.set_xscale("symlog", linthresh=1)
        panel.set_xticks([0, 1, 5, 20, 50, 200], ["0", "1", "5", "20", "50", "200"])
        panel.set_xlim(0, 220)
        panel.set_title(f"rate {rate:g}", fontsize=10)
        panel.set_xlabel("steps")
    zoom(axes[0], [value for curve in curves for value in curve.accuracy[1:]])
    axes[0].set_ylabel("query accuracy, %")
    legend(axes[-1], fontsize=8, loc="lower right")
    return figure


def _draw_curve(axes: Axes, curve: StepCurve, colour: str) -> None:
    if curve.adapted == "own":
        label = f"{curve.name}, its own way"
        band(axes, curve.steps, curve.accuracy, curve.ci95, label, colour)
    else:
        axes.plot(
            curve.steps,
            [100 * value for value in curve.accuracy],
            color=colour,
            linestyle="--",
            label=f"{curve.name}, head alone",
        )


def draw_parts(explanation: Explanation) -> Figure:
    """What is adapted: accuracy at the run's own rate and at the best one."""
    subtitle = describe(explanation, explanation.few_episodes)
    figure, axes = panels("Head or body?", subtitle, 2, width=10, share_y=True)
    for panel, subject in zip(axes, explanation.subjects, strict=True):
        _draw_parts_of(panel, subject, explanation.parts[subject.name])
    axes[0].set_ylabel("query accuracy, %")
    return figure


def _draw_parts_of(axes: Axes, subject: SubjectRow, all_rows: Sequence[PartRow]) -> None:
    rows = [row for row in all_rows if row.adapts != "own"]
    parts = adapted_parts(rows)
    for index, adapts in enumerate(parts):
        own, best = at_rates(rows, adapts, subject.inner_lr)
        if own:
            label = f"at {subject.inner_lr:g}" if index == 0 else None
            _point(axes, index - 0.1, own, PALETTE[0], label)
        label = "at its best rate" if index == 0 else None
        _point(axes, index + 0.1, best, PALETTE[1], label)
        axes.annotate(
            f"{best.rate:g}",
            (index + 0.1, 100 * best.mean),
            xytext=(6, -3),
            fontsize=7,
            textcoords="offset points",
            color=PALETTE[1],
        )
    axes.set_xticks(range(len(parts)), parts)
    axes.set_xlabel("what takes inner steps")
    axes.set_title(subject.name, fontsize=10)
    axes.set_ylim(0, 104)
    legend(axes, fontsize=8, loc="lower right")


def _point(axes: Axes, place: float, value: Mean, colour: str, label: str | None) -> None:
    axes.errorbar(
        place,
        100 * value.mean,
        yerr=100 * value.ci95,
        fmt="o",
        capsize=3,
        color=colour,
        label=label,
    )


def draw_change(explanation: Explanation) -> Figure:
    """Representation change by block, and how far apart the classes are before and after."""
    subtitle = describe(explanation, explanation.few_episodes)
    figure, (left, right) = panels("What adaptation changes", subtitle, 2, width=10.5)
    for name, colour in zip(explanation.names, PALETTE, strict=False):
        change = explanation.change[name]
        _by_block(left, change.cka, colour, "-", name)
        _by_block(right, change.spread_before, colour, ":", f"{name}, before")
        _by_block(right, change.spread_after, colour, "-", f"{name}, after")
    left.set_ylim(0, 1.05)
    left.set_ylabel("unbiased linear CKA, before against after")
    right.set_ylim(bottom=0)
    right.set_ylabel("variance within the classes / of their means")
    for panel in (left, right):
        panel.tick_params(axis="x", labelsize=8)
        legend(panel, fontsize=8)
    return figure


def _by_block(axes: Axes, values: dict[str, float], colour: str, style: str, label: str) -> None:
    axes.plot(
        list(values),
        list(values.values()),
        marker="o",
        linestyle=style,
        color=colour,
        label=label,
    )


def draw_sensitivity(explanation: Explanation) -> Figure:
    """Accuracy over inner rates, over shots, and each rate over the head's safe rate."""
    subtitle = describe(explanation, explanation.few_episodes)
    title = "Sensitivity of each run's own adaptation"
    figure, (rates, shots, safe) = panels(title, subtitle, 3, width=12.5)
    for subject, colour in zip(explanation.subjects, PALETTE, strict=False):
        name = subject.name
        rows = explanation.shots[name]
        _over(shots, [row.shots for row in rows], rows, name, colour)
        if subject.inner_lr is None:
            continue
        own = [row for row in explanation.parts[name] if row.adapts == "own"]
        _over(rates, [row.rate for row in own], own, name, colour)
        ratios = [subject.inner_lr / rate for rate in explanation.safe_rates[name]]
        label = f"{name} at {subject.inner_lr:g}"
        safe.hist(ratios, bins=30, color=colour, alpha=0.6, label=label)
    rates.set_xscale("log")
    rates.xaxis.set_major_formatter("{x:g}")
    rates.xaxis.set_minor_formatter("")
    rates.set_xlabel("inner rate")
    shots.set_xticks([row.shots for row in explanation.shots[explanation.names[0]]])
    shots.set_xlabel("shots, 10 queries")
    safe.set_xlabel("rate over the head's safe rate, before adaptation")
    safe.set_ylabel(f"episodes of {explanation.episodes}")
    for panel in (rates, shots):
        panel.set_ylabel("query accuracy, %")
    for panel in (rates, shots, safe):
        legend(panel, fontsize=8)
    return figure


def _over(
    axes: Axes, places: Sequence[float], values: Sequence[Mean], name: str, colour: str
) -> None:
    means = [value.mean for value in values]
    band(axes, places, means, [value.ci95 for value in values], name, colour)


def draw_shift(explanation: Explanation) -> Figure:
    """Accuracy of each run at each step of the ladder, and the difference."""
    rows = explanation.shift
    subtitle = describe(explanation, rows[0].episodes)
    figure, (left, right) = panels("A ladder of shift", subtitle, 2, width=10.5)
    by_batch = _by_batch_statistics(explanation)
    for index, name in enumerate(explanation.names):
        runs = [row.runs[name] for row in rows]
        _bars(left, runs, PALETTE[index], name, 0.24 * index - 0.12)
        label = f"{name}, batch statistics"
        if len(by_batch) == 1 and name in by_batch:
            _bars(left, by_batch[name], PALETTE[2], label, 0.0)
        elif name in by_batch:  # each in its run's colour, hollow, just under it
            _bars(left, by_batch[name], PALETTE[index], label, 0.24 * index, hollow=True)
    _bars(right, [row.difference for row in rows], "black", None, 0.0)
    for panel in (left, right):
        panel.set_yticks(range(len(rows)), [row.shift for row in rows], fontsize=8)
        panel.set_ylim(len(rows) - 0.5, -0.5)
    left.set_xlabel("query accuracy, %")
    legend(left, fontsize=8, loc="best")
    right.axvline(0, color=GREY, linestyle="--", linewidth=1)
    a, b = explanation.names
    right.set_xlabel(f"{a} minus {b}, points, with 95 % interval")
    return figure


def _by_batch_statistics(explanation: Explanation) -> dict[str, list[Mean]]:
    """Accuracies under batch statistics, of the runs that have stored ones as well."""
    means: dict[str, list[Mean]] = {}
    for name in explanation.names:
        measured = [row.runs[name].batch_statistics for row in explanation.shift]
        known = [mean for mean in measured if mean]
        if len(known) == len(measured):
            means[name] = known
    return means


def _bars(
    axes: Axes,
    values: Sequence[Mean] | Sequence[Difference],
    colour: str,
    label: str | None,
    offset: float,
    hollow: bool = False,
) -> None:
    axes.errorbar(
        [100 * value.mean for value in values],
        [index + offset for index in range(len(values))],
        xerr=[100 * value.ci95 for value in values],
        fmt="o",
        capsize=3,
        color=colour,
        markerfacecolor="white" if hollow else colour,
        label=label,
    )


DRAWINGS: dict[str, Callable[[Explanation], Figure]] = {
    "features-and-heads": draw_table,
    "steps": draw_steps,
    "head-and-body": draw_parts,
    "representation": draw_change,
    "sensitivity": draw_sensitivity,
    "shift": draw_shift,
}
"""File name of each figure -> what draws it."""
