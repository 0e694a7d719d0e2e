"""Figures of the stability study, from its results; summary.py calls them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from grid import ARMS, MAP_RATES, MAP_STEPS, WORST_CELL, arm_name
from matplotlib import colormaps
from matplotlib.figure import Figure

from innerloop.report.figures.seeds import Curve, draw_seeds, lower_end
from innerloop.report.figures.style import PALETTE, panels, save_figure

COLOURS = dict(zip(ARMS, PALETTE, strict=False))
WHAT = {
    "S0": "S0: 5-way 1-shot, 150 outer steps",
    "S1": "S1: Omniglot, split assignment, 5-way 5-shot, 5 inner steps at 0.4",
    "S2": "S2: Omniglot, split assignment, 5-way 1-shot, 5 inner steps at 0.04",
    "S3": f"S3: 5-way 1-shot, {WORST_CELL[0]} inner steps at {WORST_CELL[1]:g}, 300 outer steps",
    "S4": "S4: Omniglot, split assignment, 20-way 1-shot, 5 inner steps at 0.4",
    "S5": "S5: as S2, with the literature's network",
}
Seeds = dict[int, dict[str, Any]]


def draw_all(
    results: dict[str, dict[str, Seeds]], summary: dict[str, Any], folder: Path
) -> Iterator[Path]:
    """Draw every figure that the results allow; yields the PNG files."""
    figures: dict[str, Callable[[], Figure]] = {}
    for part in ("S1", "S2", "S4", "S5"):
        arms = results[part]
        if all(len(arms.get(arm, {})) > 1 for arm in ARMS):
            suffix = "" if part == "S1" else f"-{part.lower()}"
            figures[f"stability-arms{suffix}"] = lambda part=part, arms=arms: three_arms(part, arms)
    if set(ARMS) <= results["S1"].keys():
        arms = results["S1"]
        figures |= {
            "stability-fomaml": lambda: one_arm(arms, "fomaml"),
            "stability-mamlpp": lambda: one_arm(arms, "mamlpp"),
            "stability-side-by-side": lambda: three_arms(
                "S1", {arm: arms[arm] for arm in ("fomaml", "mamlpp")}
            ),
            "stability-seconds": lambda: over_seconds(arms),
            "stability-learned-rates": lambda: learned_rates(arms["mamlpp"]),
        }
    parts = [
        part for part in ("S1", "S2") if all(len(results[part].get(arm, {})) > 1 for arm in ARMS)
    ]
    if parts:
        figures |= {
            "stability-paired": lambda: paired_dots(summary, parts),
            "stability-gradient-norm": lambda: gradient_norms(
                {part: results[part] for part in parts}
            ),
            "stability-test-steps": lambda: test_steps({part: results[part] for part in parts}),
        }
    if "rates_within_2_points" in summary:
        figures["stability-inner-rate"] = lambda: inner_rates(summary["parts"]["S0"])
    if summary["differences"].get("S3"):
        figures["stability-ablation"] = lambda: ablation(summary["differences"]["S3"])
    for name, draw in figures.items():
        yield save_figure(draw, folder, name)


def curves(seeds: Seeds) -> list[Curve]:
    """Outer steps and accuracies of the trainings validated at least once after the start."""
    return [
        (result["steps"], [np.nan if value is None else value for value in result["accuracy"]])
        for result in seeds.values()
        if len(result["steps"]) > 1
    ]


def _subtitle(part: str, arms: dict[str, Seeds]) -> str:
    seeds = next(iter(arms.values()))
    episodes = next(iter(seeds.values()))["validation_episodes"]
    return (
        f"{WHAT[part]}; {episodes} fixed episodes at each validation, batch norm transductive, "
        f"seeds {min(seeds)}-{max(seeds)}, 32 filters, no moving average"
    )


def three_arms(part: str, arms: dict[str, Seeds]) -> Figure:
    """The arms side by side on the same axes."""
    chosen = {ARMS[arm]: curves(arms[arm]) for arm in ARMS if arm in arms}
    colours = [COLOURS[arm] for arm in ARMS if arm in arms]
    return draw_seeds(
        chosen, "Validation accuracy of every seed", _subtitle(part, arms), colours=colours
    )


def one_arm(arms: dict[str, Seeds], arm: str) -> Figure:
    """One of the two plots of the hand-in, on the axes of both."""
    bottom = lower_end(curves(arms[name]) for name in ("fomaml", "mamlpp"))
    return draw_seeds(
        {ARMS[arm]: curves(arms[arm])},
        f"Validation accuracy of {ARMS[arm]}, every seed",
        _subtitle("S1", arms),
        bottom=bottom,
        colours=[COLOURS[arm]],
    )


def over_seconds(arms: dict[str, Seeds]) -> Figure:
    """The curves of S1 over the processor seconds of training: each step's median over seeds."""
    timed = {}
    for arm in ARMS:
        seconds = np.array(
            [result["processor_seconds"] for result in arms[arm].values()], dtype=float
        )
        elapsed = np.concatenate([[0.0], np.cumsum(np.nanmedian(seconds, axis=0))])
        timed[ARMS[arm]] = [
            ([elapsed[int(step)] for step in steps], accuracy)
            for steps, accuracy in curves(arms[arm])
        ]
    return draw_seeds(
        timed,
        "Validation accuracy over the time of training",
        _subtitle("S1", arms),
        x_label="processor seconds, without validations",
        colours=list(COLOURS.values()),
    )


def paired_dots(summary: dict[str, Any], parts: list[str]) -> Figure:
    """Drawdown, roughness and area of every seed, joined across the arms."""
    names = {"drawdown": "drawdown, points", "roughness": "roughness, points", "area": "area, %"}
    figure, axes = panels(
        "Stability of every seed",
        "; ".join(WHAT[part] for part in parts) + "; lines join one seed",
        len(names),
        rows=len(parts),
        width=9,
        height=3.1 * len(parts) + 0.6,
    )
    for row, part in enumerate(parts):
        for panel, (name, label) in zip(axes[row * len(names) :], names.items(), strict=False):
            columns = [summary["parts"][part][arm].get(name, {}).get("each", []) for arm in ARMS]
            if len({len(column) for column in columns}) == 1:
                for values in zip(*columns, strict=True):
                    panel.plot(
                        range(len(ARMS)),
                        100 * np.array(values),
                        color="#999999",
                        linewidth=0.7,
                        zorder=1,
                    )
            for place, (arm, values) in enumerate(zip(ARMS, columns, strict=True)):
                panel.scatter(
                    [place] * len(values),
                    100 * np.array(values),
                    color=COLOURS[arm],
                    s=22,
                    zorder=2,
                )
            panel.set_xticks(range(len(ARMS)), list(ARMS.values()))
            panel.set_xlim(-0.4, len(ARMS) - 0.6)
            panel.set_title(f"{part}: {label}", fontsize=9)
    return figure


def gradient_norms(results: dict[str, dict[str, Seeds]]) -> Figure:
    """Norm of the meta-gradient: median and 1st to 99th percentile.

    Over the seeds and the outer steps of a window.
    """
    figure, axes = panels(
        "Norm of the meta-gradient",
        "windows of 25 outer steps, all seeds: median, and band from "
        "the 1st to the 99th percentile",
        len(results),
        width=4.4 * len(results) + 1,
    )
    for panel, (part, arms) in zip(axes, results.items(), strict=True):
        for arm in ARMS:
            norms = np.array(
                [result["gradient_norm"] for result in arms[arm].values() if not result["failure"]]
            )
            windows = norms[:, : norms.shape[1] // 25 * 25].reshape(len(norms), -1, 25)
            at = 25 * np.arange(windows.shape[1]) + 12.5
            low, middle, high = np.percentile(windows, (1, 50, 99), axis=(0, 2))
            panel.fill_between(at, low, high, color=COLOURS[arm], alpha=0.18, lw=0)
            panel.plot(at, middle, color=COLOURS[arm], label=ARMS[arm])
        panel.set_yscale("log")
        panel.set_xlabel("outer step")
        panel.set_title(WHAT[part].partition(": Omniglot, split assignment, ")[2], fontsize=9)
    axes[0].set_ylabel("norm of the meta-gradient")
    axes[0].legend(fontsize=8, frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def test_steps(results: dict[str, dict[str, Seeds]]) -> Figure:
    """Accuracy after 0 to 20 inner steps at the final weights: the seeds' mean and range."""
    episodes = 60
    figure, axes = panels(
        "Accuracy against inner steps at test",
        f"final weights, the same {episodes} validation "
        "episodes for all; mean over seeds, band: their range",
        len(results),
        width=4.4 * len(results) + 1,
        share_y=True,
    )
    for panel, (part, arms) in zip(axes, results.items(), strict=True):
        for arm in ARMS:
            whole = [result for result in arms[arm].values() if not result["failure"]]
            accuracy = 100 * np.array([result["test"]["accuracy_per_step"] for result in whole])
            steps = np.arange(accuracy.shape[1])
            panel.fill_between(
                steps, accuracy.min(0), accuracy.max(0), color=COLOURS[arm], alpha=0.18, lw=0
            )
            panel.plot(
                steps,
                accuracy.mean(0),
                color=COLOURS[arm],
                marker="o",
                markersize=2.5,
                label=ARMS[arm],
            )
        panel.axvline(5, color="#767676", linestyle=":", linewidth=1)
        panel.set_xticks(range(0, 21, 5))
        panel.set_xlabel("inner steps (trained with 5)")
        panel.set_title(WHAT[part].partition(": Omniglot, split assignment, ")[2], fontsize=9)
    axes[0].set_ylabel("query accuracy, %")
    axes[0].legend(fontsize=8, loc="lower right", frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def learned_rates(seeds: Seeds) -> Figure:
    """MAML++'s rates in S1 by layer and step: median over the seeds, over the training."""
    whole = [result for result in seeds.values() if not result["failure"]]
    layers = list(whole[0]["diagnostics"][-1]["learned_rates"])
    figure, axes = panels(
        "Learnt inner rates of MAML++ in S1",
        f"median over {len(whole)} seeds; start 0.4",
        len(layers),
        width=2.3 * len(layers) + 1,
        height=3.4,
        share_y=True,
    )
    for panel, layer in zip(axes, layers, strict=True):
        rates = np.median(
            [
                [values["learned_rates"][layer] for values in result["diagnostics"]]
                for result in whole
            ],
            axis=0,
        )
        for index in range(rates.shape[1]):
            panel.plot(
                whole[0]["steps"],
                rates[:, index],
                color=_step_colour(index, rates.shape[1]),
                label=f"step {index + 1}",
            )
        panel.set_title(layer, fontsize=9)
        panel.set_xlabel("outer step", fontsize=8)
        panel.tick_params(labelsize=8)
    axes[0].set_ylabel("inner rate")
    axes[-1].legend(fontsize=7, frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def _step_colour(index: int, count: int) -> Any:
    return colormaps["viridis"](0.9 * index / max(count - 1, 1))


def inner_rates(arms: dict[str, Any]) -> Figure:
    """S0: accuracy at the end against the inner rate, every seed as a dot."""
    figure, axes = panels(
        "Final accuracy against the inner rate",
        f"{WHAT['S0']}; last validation; dots: seeds 0 and 1",
        len(MAP_STEPS),
        width=9,
        share_y=True,
    )
    for panel, steps in zip(axes, MAP_STEPS, strict=True):
        for arm in ARMS:
            cells = {
                rate: arms.get(f"{arm}-{steps}x{rate:g}", {}).get("final") for rate in MAP_RATES
            }
            known = {rate: cell for rate, cell in cells.items() if cell}
            panel.plot(
                list(known),
                [100 * cell["mean"] for cell in known.values()],
                color=COLOURS[arm],
                label=ARMS[arm],
            )
            for rate, cell in known.items():
                panel.scatter(
                    [rate] * len(cell["each"]),
                    100 * np.array(cell["each"]),
                    color=COLOURS[arm],
                    s=14,
                )
        panel.set_xscale("log")
        panel.set_xticks(MAP_RATES, [f"{rate:g}" for rate in MAP_RATES])
        panel.minorticks_off()
        panel.set_xlabel("inner rate")
        panel.set_title(f"{steps} inner step{'s' if steps > 1 else ''}", fontsize=9)
    axes[0].set_ylabel("query accuracy, %")
    axes[0].legend(fontsize=8, frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def ablation(differences: dict[str, Any]) -> Figure:
    """S3: what each part changes, added to MAML and taken from MAML++.

    A dot is a seed, a bar their mean.
    """
    names = {"last_third": "accuracy over the last third, points", "roughness": "roughness, points"}
    figure, axes = panels(
        "What each part of MAML++ changes",
        f"{WHAT['S3']}; a dot a seed, paired with MAML or MAML++ itself; bar: mean",
        len(names),
        width=9.6,
        height=4.6,
        share_y=True,
    )
    for panel, (name, title) in zip(axes, names.items(), strict=True):
        for place, (pair, found) in enumerate(differences.items()):
            colour = COLOURS[pair.partition(" against ")[2]]
            if found[name] is not None:
                panel.scatter(
                    100 * np.array(found[name]["each"]),
                    [place] * len(found[name]["each"]),
                    color=colour,
                    s=18,
                    alpha=0.8,
                )
                panel.scatter([100 * found[name]["mean"]], [place], marker="|", s=220, color=colour)
        panel.axvline(0, color="#999999", linewidth=0.8, zorder=0)
        panel.set_yticks(
            range(len(differences)),
            [arm_name(pair.partition(" against ")[0]) for pair in differences],
        )
        panel.set_title(title, fontsize=9)
    axes[0].invert_yaxis()
    return figure
