"""Figures and page of an explanation, from ``explanation.json`` alone; no torch."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from innerloop.core.files import disk_errors, json_text, write_atomic
from innerloop.report.figures.run import GREY, PALETTE, band, data_name, panels, save_figure, zoom

HEADS = {"gradient": "the run's steps", "logistic": "converged", "cosine": "prototypes"}
"""How tables call the heads on frozen features."""


def write_explanation(explanation: dict[str, Any], folder: Path) -> None:
    """Write ``explanation.json``, ``explanation.md`` and ``figures/`` into a folder.

    Raises:
        DiskError: if something cannot be written.
    """
    with disk_errors(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "explanation.json", json_text(explanation, indent=1) + "\n")
    write_atomic(folder / "explanation.md", explanation_page(explanation))
    drawings = {
        "features-and-heads": draw_table,
        "steps": draw_steps,
        "head-and-body": draw_parts,
        "representation": draw_change,
        "sensitivity": draw_sensitivity,
        "shift": draw_shift,
    }
    for name, draw in drawings.items():
        save_figure(draw(explanation), folder / "figures", name)


def names(explanation: dict[str, Any]) -> list[str]:
    """The two runs' names."""
    return [subject["name"] for subject in explanation["subjects"]]


def describe(explanation: dict[str, Any], episodes: int) -> str:
    """Over which episodes, in one line."""
    one = explanation["subjects"][0]
    modes = ", ".join(
        f"{subject['name']}: {subject['batch_norm']}" for subject in explanation["subjects"]
    )
    return (
        f"{data_name(one['data'])}, split {one['split']}, part {one['part']}, {one['ways']}-way "
        f"{one['shots']}-shot, {one['queries']} queries, {episodes} episodes; batch norm {modes}"
    )


def _percent(value: dict[str, float]) -> str:
    return f"{100 * value['mean']:.2f} ± {100 * value['ci95']:.2f}"


def explanation_page(explanation: dict[str, Any]) -> str:
    """The text of ``explanation.md``: the verdict, and every number behind it."""
    a, b = names(explanation)
    lines = [
        f"# Why {a} and {b} differ",
        "",
        *(f"- {sentence}" for sentence in explanation["verdict"]),
        "",
        f"{describe(explanation, explanation['episodes'])}. ± is the 95 % interval over episodes.",
        "",
        "## Features and heads",
        "",
        "Frozen features of each network, a new head in every episode; query accuracy in percent.",
        "",
        "| features | batch norm | " + " | ".join(HEADS.values()) + " |",
        "|---|---|---|---|---|",
    ]
    cells = explanation["table"]["cells"]
    for name, mode in dict.fromkeys((cell["features"], cell["batch_norm"]) for cell in cells):
        found = {
            cell["head"]: cell
            for cell in cells
            if (cell["features"], cell["batch_norm"]) == (name, mode)
        }
        lines.append(
            f"| {name} | {mode} | " + " | ".join(_percent(found[head]) for head in HEADS) + " |"
        )
    lines += ["", f"The gap, {a} minus {b}, in points:", "", "| part | points |", "|---|---|"]
    lines += [f"| {name} | {_points(part)} |" for name, part in explanation["table"]["gap"].items()]
    lines += ["", "## Steps and rates", ""]
    lines += _steps_table(explanation)
    lines += [
        "",
        "## What is adapted",
        "",
        f"{explanation['few_episodes']} episodes. Best is the best rate of those "
        "tried, on these same episodes.",
        "",
        "| adapted | "
        + " | ".join(
            f"{name}, {column}"
            for name in (a, b)
            for column in ("at its rate", "best", "best rate")
        )
        + " |",
        "|---|" + "---|" * 6,
    ]
    lines += _parts_rows(explanation)
    lines += [
        "",
        "## What adaptation changes",
        "",
        "| quantity | where | " + f"{a} | {b} |",
        "|---|---|---|---|",
    ]
    lines += _change_rows(explanation)
    lines += ["", "## Shift", "", *_shift_table(explanation)]
    lines += ["", "## Shots", "", f"| shots, 10 queries | {a} | {b} |", "|---|---|---|"]
    lines += [
        f"| {one['shots']} | {_percent(one)} | {_percent(other)} |"
        for one, other in zip(explanation["shots"][a], explanation["shots"][b], strict=True)
    ]
    return "\n".join(lines) + "\n"


def _points(difference: dict[str, Any]) -> str:
    return f"{100 * difference['mean']:+.2f} ± {100 * difference['ci95']:.2f}"


def _shift_table(explanation: dict[str, Any]) -> list[str]:
    a, b = names(explanation)
    lines = [
        "The change is from the first row, paired over the same drawings.",
        "In brackets: by the statistics of each batch instead of stored ones.",
        "",
        f"| episodes | {a} | change, points | {b} | change, points | {a} minus {b}, points |",
        "|---|---|---|---|---|---|",
    ]
    for row in explanation["shift"]:
        cells = [
            cell
            for name in (a, b)
            for cell in (_percent(row[name]) + _by_batch(row[name]), _change(row[name]))
        ]
        lines.append(
            f"| {row['shift']} ({row['episodes']}) | {' | '.join(cells)} | "
            f"{_points(row['difference'])} |"
        )
    return lines


def _change(value: dict[str, Any]) -> str:
    """The paired change of a shifted row, where there is one."""
    return _points(value["change"]) if "change" in value else "-"


def _by_batch(value: dict[str, Any]) -> str:
    """The accuracy by the statistics of each batch, in brackets, where there is one."""
    held = value.get("batch_statistics")
    return f" ({100 * held['mean']:.1f})" if held else ""


def _curves(explanation: dict[str, Any]) -> list[dict[str, Any]]:
    return [curve for curve in explanation["steps"] if "name" in curve]


def _steps_table(explanation: dict[str, Any]) -> list[str]:
    curves = _curves(explanation)
    shown = [step for step in curves[0]["steps"] if step in (0, 1, 5, 10, 20, 50, 100, 200)]
    lines = [
        "| rate | run | adapted | episodes | "
        + " | ".join(f"{step} steps" for step in shown)
        + " |"
    ]
    lines.append("|---|---|---|---|" + "---|" * len(shown))
    for curve in curves:
        values = dict(zip(curve["steps"], curve["accuracy"], strict=True))
        cells = " | ".join(f"{100 * values[step]:.1f}" for step in shown)
        lines.append(
            f"| {curve['rate']:g} | {curve['name']} | {curve['adapted']} | {curve['episodes']} | "
            f"{cells} |"
        )
    return lines


def _of_part(
    rows: list[dict[str, Any]], adapts: str, rate: float
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The row at the run's own rate, if that was tried, and the best one."""
    found = [row for row in rows if row["adapts"] == adapts]
    at_rate = next((row for row in found if row["rate"] == rate), None)
    return at_rate, max(found, key=lambda row: row["mean"])


def _adapted(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["adapts"] for row in rows))


def _parts_rows(explanation: dict[str, Any]) -> list[str]:
    lines = []
    rates = {subject["name"]: subject["inner_lr"] for subject in explanation["subjects"]}
    for adapts in _adapted(explanation["parts"][names(explanation)[0]]):
        cells = []
        for name in names(explanation):
            own, best = _of_part(explanation["parts"][name], adapts, rates[name])
            cells += ["-" if own is None else _percent(own), _percent(best), f"{best['rate']:g}"]
        lines.append(f"| {adapts} | " + " | ".join(cells) + " |")
    return lines


def _change_rows(explanation: dict[str, Any]) -> list[str]:
    a, b = (explanation["change"][name] for name in names(explanation))
    words = {
        "cka": "CKA, before against after",
        "spread_before": "variance within / between classes, before",
        "spread_after": "variance within / between classes, after",
        "weights": "relative change of weights",
    }
    return [
        f"| {words[quantity]} | {where} | {_number(a[quantity].get(where))} | "
        f"{_number(b[quantity].get(where))} |"
        for quantity in words
        for where in dict.fromkeys([*a[quantity], *b[quantity]])
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def draw_table(explanation: dict[str, Any]) -> Figure:
    """Accuracy of each network's frozen features under each head, and what the gap is made of."""
    subtitle = describe(explanation, explanation["episodes"])
    figure, (left, right) = panels("Better features, or a better head?", subtitle, 2, width=10.5)
    cells = explanation["table"]["cells"]
    pairs = list(dict.fromkeys((cell["features"], cell["batch_norm"]) for cell in cells))
    for index, (name, mode) in enumerate(pairs):
        found = {
            cell["head"]: cell
            for cell in cells
            if (cell["features"], cell["batch_norm"]) == (name, mode)
        }
        places = [
            position + 0.12 * (index - (len(pairs) - 1) / 2) for position in range(len(HEADS))
        ]
        left.errorbar(
            places,
            [100 * found[head]["mean"] for head in HEADS],
            yerr=[100 * found[head]["ci95"] for head in HEADS],
            fmt="o",
            capsize=3,
            color=PALETTE[index],
            label=f"{name}'s features ({mode})",
        )
    left.set_xticks(range(len(HEADS)), list(HEADS.values()))
    left.set_xlim(-0.5, len(HEADS) - 0.5)
    left.set_xlabel("new head on frozen features")
    left.set_ylabel("query accuracy, %")
    left.legend(fontsize=8, frameon=True, framealpha=0.9, edgecolor="none")
    gap = explanation["table"]["gap"]
    for index, part in enumerate(gap.values()):
        right.errorbar(
            100 * part["mean"], index, xerr=100 * part["ci95"], fmt="o", capsize=4, color="black"
        )
    right.axvline(0, color=GREY, linestyle="--", linewidth=1)
    right.set_yticks(range(len(gap)), list(gap), fontsize=8)
    right.set_ylim(len(gap) - 0.5, -0.5)
    a, b = names(explanation)
    right.set_xlabel(f"{a} minus {b}, points, with 95 % interval")
    return figure


def draw_steps(explanation: dict[str, Any]) -> Figure:
    """Accuracy against adaptation steps at three rates."""
    subtitle = (
        describe(explanation, explanation["few_episodes"])
        + f" (head alone: {explanation['episodes']})"
    )
    curves = _curves(explanation)
    rates = list(dict.fromkeys(curve["rate"] for curve in curves))
    figure, axes = panels(
        "Accuracy against adaptation steps", subtitle, len(rates), width=12, share_y=True
    )
    for panel, rate in zip(axes, rates, strict=True):
        for curve in (curve for curve in curves if curve["rate"] == rate):
            colour = PALETTE[names(explanation).index(curve["name"])]
            if curve["adapted"] == "own":
                band(
                    panel,
                    curve["steps"],
                    curve["accuracy"],
                    curve["ci95"],
                    f"{curve['name']}, its own way",
                    colour,
                )
            else:
                panel.plot(
                    curve["steps"],
                    [100 * value for value in curve["accuracy"]],
                    color=colour,
                    linestyle="--",
                    label=f"{curve['name']}, head alone",
                )
        panel.set_xscale("symlog", linthresh=1)
        panel.set_xticks([0, 1, 5, 20, 50, 200], ["0", "1", "5", "20", "50", "200"])
        panel.set_xlim(0, 220)
        panel.set_title(f"rate {rate:g}", fontsize=10)
        panel.set_xlabel("steps")
    zoom(axes[0], [value for curve in curves for value in curve["accuracy"][1:]])
    axes[0].set_ylabel("query accuracy, %")
    axes[-1].legend(fontsize=8, loc="lower right", frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def draw_parts(explanation: dict[str, Any]) -> Figure:
    """What is adapted: accuracy at the run's own rate and at the best one."""
    figure, axes = panels(
        "Head or body?",
        describe(explanation, explanation["few_episodes"]),
        2,
        width=10,
        share_y=True,
    )
    for panel, subject in zip(axes, explanation["subjects"], strict=True):
        rows = [row for row in explanation["parts"][subject["name"]] if row["adapts"] != "own"]
        for index, adapts in enumerate(_adapted(rows)):
            own, best = _of_part(rows, adapts, subject["inner_lr"])
            for row, colour, offset, label in (
                (own, PALETTE[0], -0.1, f"at {subject['inner_lr']:g}"),
                (best, PALETTE[1], 0.1, "at its best rate"),
            ):
                if row:
                    panel.errorbar(
                        index + offset,
                        100 * row["mean"],
                        yerr=100 * row["ci95"],
                        fmt="o",
                        capsize=3,
                        color=colour,
                        label=label if index == 0 else None,
                    )
            panel.annotate(
                f"{best['rate']:g}",
                (index + 0.1, 100 * best["mean"]),
                xytext=(6, -3),
                fontsize=7,
                textcoords="offset points",
                color=PALETTE[1],
            )
        panel.set_xticks(range(len(_adapted(rows))), _adapted(rows))
        panel.set_xlabel("what takes inner steps")
        panel.set_title(subject["name"], fontsize=10)
        panel.set_ylim(0, 104)
        panel.legend(fontsize=8, loc="lower right", frameon=True, framealpha=0.9, edgecolor="none")
    axes[0].set_ylabel("query accuracy, %")
    return figure


def draw_change(explanation: dict[str, Any]) -> Figure:
    """Representation change by block, and how far apart the classes are before and after."""
    subtitle = describe(explanation, explanation["few_episodes"])
    figure, (left, right) = panels("What adaptation changes", subtitle, 2, width=10.5)
    for index, name in enumerate(names(explanation)):
        change = explanation["change"][name]
        blocks = list(change["cka"])
        left.plot(
            blocks,
            [np.nan if value is None else value for value in change["cka"].values()],
            marker="o",
            color=PALETTE[index],
            label=name,
        )
        for key, style, when in (("spread_before", ":", "before"), ("spread_after", "-", "after")):
            values = [np.nan if value is None else value for value in change[key].values()]
            right.plot(
                blocks,
                values,
                marker="o",
                linestyle=style,
                color=PALETTE[index],
                label=f"{name}, {when}",
            )
    left.set_ylim(0, 1.05)
    left.set_ylabel("unbiased linear CKA, before against after")
    right.set_ylim(bottom=0)
    right.set_ylabel("variance within the classes / of their means")
    for panel in (left, right):
        panel.tick_params(axis="x", labelsize=8)
        panel.legend(fontsize=8, frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def draw_sensitivity(explanation: dict[str, Any]) -> Figure:
    """Accuracy over inner rates, over shots, and each rate over the head's safe rate."""
    subtitle = describe(explanation, explanation["few_episodes"])
    figure, (rates, shots, safe) = panels(
        "Sensitivity of each run's own adaptation", subtitle, 3, width=12.5
    )
    for index, subject in enumerate(explanation["subjects"]):
        name, colour = subject["name"], PALETTE[index]
        own = [row for row in explanation["parts"][name] if row["adapts"] == "own"]
        band(
            rates,
            [row["rate"] for row in own],
            [row["mean"] for row in own],
            [row["ci95"] for row in own],
            name,
            colour,
        )
        rows = explanation["shots"][name]
        band(
            shots,
            [row["shots"] for row in rows],
            [row["mean"] for row in rows],
            [row["ci95"] for row in rows],
            name,
            colour,
        )
        ratios = [subject["inner_lr"] / rate for rate in explanation["safe_rates"][name]]
        safe.hist(
            ratios, bins=30, color=colour, alpha=0.6, label=f"{name} at {subject['inner_lr']:g}"
        )
    rates.set_xscale("log")
    rates.xaxis.set_major_formatter("{x:g}")
    rates.xaxis.set_minor_formatter("")
    rates.set_xlabel("inner rate")
    shots.set_xticks([row["shots"] for row in explanation["shots"][names(explanation)[0]]])
    shots.set_xlabel("shots, 10 queries")
    safe.set_xlabel("rate over the head's safe rate, before adaptation")
    safe.set_ylabel(f"episodes of {explanation['episodes']}")
    for panel in (rates, shots):
        panel.set_ylabel("query accuracy, %")
    for panel in (rates, shots, safe):
        panel.legend(fontsize=8, frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def draw_shift(explanation: dict[str, Any]) -> Figure:
    """Accuracy of each run at each step of the ladder, and the difference."""
    rows, (a, b) = explanation["shift"], names(explanation)
    figure, (left, right) = panels(
        "A ladder of shift", describe(explanation, rows[0]["episodes"]), 2, width=10.5
    )
    for index, name in enumerate((a, b)):
        _bars(left, [row[name] for row in rows], PALETTE[index], name, 0.24 * index - 0.12)
        if "batch_statistics" in rows[0][name]:
            by_batch = [row[name]["batch_statistics"] for row in rows]
            _bars(left, by_batch, PALETTE[2], f"{name}, batch statistics", 0.0)
    _bars(right, [row["difference"] for row in rows], "black", None, 0.0)
    for panel in (left, right):
        panel.set_yticks(range(len(rows)), [row["shift"] for row in rows], fontsize=8)
        panel.set_ylim(len(rows) - 0.5, -0.5)
    left.set_xlabel("query accuracy, %")
    left.legend(fontsize=8, loc="best", frameon=True, framealpha=0.9, edgecolor="none")
    right.axvline(0, color=GREY, linestyle="--", linewidth=1)
    right.set_xlabel(f"{a} minus {b}, points, with 95 % interval")
    return figure


def _bars(
    axes: Axes, values: list[dict[str, Any]], colour: str, label: str | None, offset: float
) -> None:
    places = [index + offset for index in range(len(values))]
    axes.errorbar(
        [100 * value["mean"] for value in values],
        places,
        xerr=[100 * value["ci95"] for value in values],
        fmt="o",
        capsize=3,
        color=colour,
        label=label,
    )
