"""The stability study's statistics, figures and tables of docs/stability.md, from its results.

python benchmarks/stability/summary.py
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from figures import draw_all
from grid import ARMS, MAP_RATES, MAP_STEPS, PARTS, SWITCHES, arm_name, cells
from scipy.stats import t as student
from significance import sign_flip_test, wilson_interval

from innerloop.core.files import json_text, write_atomic
from innerloop.core.intervals import mean_and_interval
from innerloop.core.stability import measures

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))
from pages import filled  # noqa: E402

PAIRS = [("mamlpp", "maml"), ("mamlpp", "fomaml"), ("maml", "fomaml")]
PAIRS_OF_ABLATION = [(f"maml-plus-{name}", "maml") for name in SWITCHES] + [
    (f"mamlpp-minus-{name}", "mamlpp") for name in SWITCHES
]
PAGE = HERE.parents[1] / "docs" / "stability.md"
PRIMARY_PAIRS = 8
COMPARED = ("roughness", "drawdown", "area", "last_third")
"""Measures whose paired differences are shown."""
Result = dict[str, Any]
Results = dict[str, dict[str, dict[int, Result]]]
"""Part -> arm -> seed -> what run.py wrote."""


def load(folder: Path) -> Results:
    """Every result there is."""
    found: Results = {part: {} for part in PARTS}
    for path in sorted(folder.glob("S*-*-s*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        found[result["part"]].setdefault(result["arm"], {})[result["seed"]] = result
    order = list(ARMS)
    for part, arms in found.items():
        found[part] = dict(
            sorted(
                arms.items(), key=lambda arm: (order.index(arm[0]) if arm[0] in order else 9, arm)
            )
        )
    return found


def of_run(result: Result) -> dict[str, Any]:
    """The protocol's measures of one training."""
    if result["failure"] or None in result["accuracy"] + result["loss"]:  # null: not finite
        return {"diverged": True, "failed": True}
    norms = np.array(result["gradient_norm"], dtype=float)
    accuracy = result["accuracy"]
    row = measures(result["steps"], accuracy, above=0.80) | {
        "failed": False,
        "last_third": float(np.mean(accuracy[-(len(accuracy) // 3) :])),
        "gradient_norm_median": float(np.median(norms)),
        "gradient_norm_p99_over_p50": float(np.percentile(norms, 99) / np.median(norms)),
        "gradient_cosine": float(np.mean(result["gradient_cosines"])),
        "support_loss_rises": result["test"]["support_loss_rises"],
        "head_rate_over_safe": float(np.median(result["head_rate_over_safe"])),
    }
    seconds = [value for value in result["processor_seconds"] if value is not None]
    return row | {"seconds_per_step": float(np.median(seconds))}


def mean_with_t_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean over seeds, and half-width of its 95 % interval (Student's t); None for one seed."""
    count = len(values)
    half = (
        student.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count)
        if count > 1
        else None
    )
    return float(np.mean(values)), None if half is None else float(half)


def of_arm(seeds: dict[int, Result]) -> dict[str, Any]:
    """Counts of an arm's trainings, and means with t intervals over those that did not fail."""
    rows = [of_run(result) for result in seeds.values()]
    whole = [row for row in rows if not row["failed"]]
    diverged = sum(row["diverged"] for row in rows)
    summary: dict[str, Any] = {
        "seeds": sorted(seeds),
        "failed": len(rows) - len(whole),
        "diverged": diverged,
        "diverged_ci95": wilson_interval(diverged, len(rows)),
    }
    for name in whole[0] if whole else ():
        if name in ("diverged", "failed"):
            continue
        values = [row[name] for row in whole]
        if name.startswith("first_step"):
            reached = [value for value in values if value is not None]
            summary[name] = {
                "median": float(np.median(reached)) if reached else None,
                "reached": len(reached),
            }
        else:
            mean, half = mean_with_t_interval(values)
            summary[name] = {"mean": mean, "ci95": half, "each": values}
    if len(whole) > 1:
        summary["spread"] = float(np.std([row["last_third"] for row in whole], ddof=1))
    return summary


def paired(first: dict[int, Result], second: dict[int, Result], name: str) -> dict[str, Any] | None:
    """First minus second of a measure, over seeds that both have; None without two whole pairs."""
    pairs = [
        (of_run(first[seed]), of_run(second[seed])) for seed in sorted(first.keys() & second.keys())
    ]
    differences = [a[name] - b[name] for a, b in pairs if not (a["failed"] or b["failed"])]
    if len(differences) < 2:
        return None
    mean, half = mean_with_t_interval(differences)
    return {
        "mean": mean,
        "ci95": half,
        "each": differences,
        "sign_flip_p": sign_flip_test(differences),
    }


def primary(results: Results) -> dict[str, Any] | None:
    """The one test of the protocol: roughness in S2, MAML++ minus MAML.

    Failures count as the protocol says.

    None until all pairs are there: nothing is tested on the way.
    """
    first, second = (results["S2"].get(arm, {}) for arm in ("mamlpp", "maml"))
    seeds = sorted(first.keys() & second.keys())
    if len(seeds) < PRIMARY_PAIRS:
        return None
    pairs = [(of_run(first[seed]), of_run(second[seed])) for seed in seeds]
    whole = [
        None if a["failed"] or b["failed"] else a["roughness"] - b["roughness"] for a, b in pairs
    ]
    largest = max((abs(value) for value in whole if value is not None), default=1.0)
    differences = [
        largest * (int(a["failed"]) - int(b["failed"])) if value is None else value
        for value, (a, b) in zip(whole, pairs, strict=True)
    ]
    mean, half = mean_with_t_interval(differences)
    return {
        "mean": mean,
        "ci95": half,
        "each": differences,
        "p": sign_flip_test(differences),
        "pairs": len(pairs),
    }


def summarise(results: Results) -> dict[str, Any]:
    """Everything that the page quotes."""
    parts = {
        part: {arm: of_arm(seeds) for arm, seeds in arms.items()}
        for part, arms in results.items()
        if arms
    }
    differences = {
        part: {
            f"{first} against {second}": {
                name: paired(arms[first], arms[second], name) for name in COMPARED
            }
            for first, second in (PAIRS_OF_ABLATION if part == "S3" else PAIRS)
            if {first, second} <= arms.keys()
        }
        for part, arms in results.items()
        if arms and part != "S0"
    }
    summary: dict[str, Any] = {
        "parts": parts,
        "differences": differences,
        "primary": primary(results),
    }
    if set(ARMS) <= results["S4"].keys():
        summary["final"] = final_accuracies(results["S4"])
    if sum(map(len, results["S0"].values())) == len(cells("S0")):  # nothing is read off half a map
        summary["rates_within_2_points"] = rate_widths(parts["S0"])
        summary["worst_cell"] = worst_cell(parts["S0"])
    return summary


def final_accuracies(arms: dict[str, dict[int, Result]]) -> dict[str, Any]:
    """Accuracies of the final weights on many fixed episodes, and their paired differences.

    Over the seeds whose training failed in no arm; intervals are over episodes, of the mean over
    those seeds.
    """
    whole = {
        arm: {seed: result["final"] for seed, result in seeds.items() if result["failure"] is None}
        for arm, seeds in arms.items()
    }
    common = sorted(set.intersection(*(set(seeds) for seeds in whole.values())))
    each = {
        arm: np.mean([seeds[seed]["each"] for seed in common], axis=0)
        for arm, seeds in whole.items()
    }
    return {
        "seeds": common,
        "of_each_seed": {
            arm: {seed: one["accuracy"] for seed, one in seeds.items()}
            for arm, seeds in whole.items()
        },
        "arms": {arm: mean_and_interval(values) for arm, values in each.items()},
        "differences": {f"{a} against {b}": mean_and_interval(each[a] - each[b]) for a, b in PAIRS},
    }


def rate_widths(arms: dict[str, Any]) -> dict[str, Any]:
    """For each arm and number of steps: the inner rates that end within 2 points of the best."""
    widths = {}
    for arm in ARMS:
        for steps in MAP_STEPS:
            found = {
                rate: arms.get(f"{arm}-{steps}x{rate:g}", {}).get("final") for rate in MAP_RATES
            }
            known = {rate: value["mean"] for rate, value in found.items() if value}
            best = max(known.values(), default=0.0)
            name = f"{arm}, {steps} step{'s' if steps > 1 else ''}"
            widths[name] = [rate for rate, value in known.items() if value >= best - 0.02]
    return widths


def worst_cell(arms: dict[str, Any]) -> dict[str, Any] | None:
    """S3's cell by the protocol's rule."""
    candidates = {
        (steps, rate): row["roughness"]["mean"]
        for steps in MAP_STEPS
        for rate in MAP_RATES
        if (row := arms.get(f"maml-{steps}x{rate:g}"))
        and row.get("last_third", {"mean": 0})["mean"] > 0.6
    }
    if not candidates:
        return None
    steps, rate = max(candidates, key=lambda cell: candidates[cell])
    return {"inner_steps": steps, "inner_lr": rate, "roughness": candidates[steps, rate]}


# The tables of the page

COLUMNS: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
    (
        "diverged",
        lambda row: (
            f"{row['diverged']} of {len(row['seeds'])} ({_percent(row['diverged_ci95'][0], 0)} to "
            f"{_percent(row['diverged_ci95'][1], 0)} %)"
        ),
    ),
    ("last third, %", lambda row: _with_interval(row, "last_third")),
    ("spread over seeds, points", lambda row: _percent(row.get("spread"), 2)),
    ("drawdown, points", lambda row: _with_interval(row, "drawdown")),
    ("roughness, points", lambda row: _with_interval(row, "roughness")),
    ("area, %", lambda row: _with_interval(row, "area")),
    ("step at 90 %", lambda row: _first_step(row, "first_step_at_90")),
    ("step at 95 %", lambda row: _first_step(row, "first_step_at_95")),
]
MORE_COLUMNS: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
    ("gradient norm, median", lambda row: _plain(row, "gradient_norm_median")),
    ("p99 over p50", lambda row: _plain(row, "gradient_norm_p99_over_p50")),
    ("cosine of first and second order", lambda row: _plain(row, "gradient_cosine")),
    (
        "episodes whose support loss rises, %",
        lambda row: _with_interval(row, "support_loss_rises", 0),
    ),
    ("head's rate over its safe one", lambda row: _plain(row, "head_rate_over_safe")),
    ("processor seconds a step", lambda row: _plain(row, "seconds_per_step")),
]


def _percent(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}"


def _with_interval(row: dict[str, Any], name: str, digits: int = 2) -> str:
    if name not in row:
        return "-"
    half = row[name]["ci95"]
    return _percent(row[name]["mean"], digits) + (
        "" if half is None else f" ± {_percent(half, digits)}"
    )


def _plain(row: dict[str, Any], name: str) -> str:
    return f"{row[name]['mean']:.2g}" if name in row else "-"


def _first_step(row: dict[str, Any], name: str) -> str:
    if name not in row or row[name]["median"] is None:
        return "never"
    reached = (
        "" if row[name]["reached"] == len(row["seeds"]) else f" ({row[name]['reached']} seeds)"
    )
    return f"{row[name]['median']:g}{reached}"


def tables(summary: dict[str, Any]) -> dict[str, str]:
    """The page's tables by name, as Markdown."""
    found = {}
    for part, arms in summary["parts"].items():
        if part == "S0":
            found[part] = _map_table(arms)
            continue
        found[part] = _table(arms, COLUMNS)
        found[f"{part} more"] = _table(arms, MORE_COLUMNS)
    for part, pairs in summary["differences"].items():
        titles = [
            "difference (first minus second), points",
            *(name.replace("_", " ") for name in COMPARED),
        ]
        rows = [f"| {' | '.join(titles)} |", "|---" * 5 + "|"]
        for pair, found_of in pairs.items():
            first, _, second = pair.partition(" against ")
            shown = [
                "-"
                if (of := found_of[name]) is None
                else (
                    f"{100 * of['mean']:+.2f} ± {100 * of['ci95']:.2f} (p = "
                    f"{of['sign_flip_p']:.3f})"
                )
                for name in COMPARED
            ]
            rows.append(
                f"| {arm_name(first)} against {arm_name(second)} | " + " | ".join(shown) + " |"
            )
        found[f"{part} differences"] = "\n".join(rows)
    if summary["primary"]:
        test = summary["primary"]
        found["primary"] = (
            f"Roughness in S2, MAML++ minus MAML: {100 * test['mean']:+.3f} ± "
            f"{100 * test['ci95']:.3f} points over {test['pairs']} pairs, exact sign-flip p = "
            f"{test['p']:.4f}."
        )
    if "final" in summary:
        found["S4 final"] = _final_table(summary["final"])
    if "rates_within_2_points" in summary:
        rows = [
            f"| {arm_name(arm)} | {', '.join(f'{rate:g}' for rate in rates)} |"
            for arm, rates in summary["rates_within_2_points"].items()
        ]
        found["rates"] = "\n".join(
            ["| arm | inner rates within 2 points of its best |", "|---|---|", *rows]
        )
    return found


def _map_table(arms: dict[str, Any]) -> str:
    """Means over the seeds, a cell a row: with two of them intervals would say nothing."""
    titles = [
        f"{name}, {measure}"
        for measure in ("at the end, %", "roughness, points")
        for name in ARMS.values()
    ]
    lines = [
        "| inner steps x rate | " + " | ".join(titles) + " | diverged |",
        "|---" * (len(titles) + 2) + "|",
    ]
    for cell in (f"{steps}x{rate:g}" for steps in MAP_STEPS for rate in MAP_RATES):
        of = {arm: arms.get(f"{arm}-{cell}", {}) for arm in ARMS}
        shown = [
            _percent(of[arm].get(name, {}).get("mean"), 2)
            for name in ("final", "roughness")
            for arm in ARMS
        ]
        diverged = [
            f"{ARMS[arm]} {row['diverged']} of {len(row['seeds'])}"
            for arm, row in of.items()
            if row.get("diverged")
        ]
        lines.append(
            f"| {cell.replace('x', ' x ')} | "
            + " | ".join(shown)
            + f" | {', '.join(diverged) or 'none'} |"
        )
    return "\n".join(lines)


def _final_table(final: dict[str, Any]) -> str:
    lines = ["| arm | accuracy at the end, % | of each seed, % |", "|---|---|---|"]
    for arm, (mean, half) in final["arms"].items():
        each = ", ".join(f"{100 * value:.2f}" for value in final["of_each_seed"][arm].values())
        lines.append(f"| {ARMS[arm]} | {100 * mean:.2f} ± {100 * half:.2f} | {each} |")
    lines += ["", "| difference over the same episodes | points |", "|---|---|"]
    for pair, (mean, half) in final["differences"].items():
        first, _, second = pair.partition(" against ")
        lines.append(
            f"| {ARMS[first]} against {ARMS[second]} | {100 * mean:+.2f} ± {100 * half:.2f} |"
        )
    return "\n".join(lines)


def _table(arms: dict[str, Any], columns: list[tuple[str, Callable[[dict[str, Any]], str]]]) -> str:
    lines = [
        "| arm | " + " | ".join(name for name, _ in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    lines += [
        f"| {arm_name(arm)} | " + " | ".join(cell(row) for _, cell in columns) + " |"
        for arm, row in arms.items()
    ]
    return "\n".join(lines)


def main() -> None:
    results = load(HERE / "results")
    summary = summarise(results)
    write_atomic(HERE / "results" / "summary.json", json_text(summary, indent=1) + "\n")
    for path in draw_all(results, summary, PAGE.parent / "figures"):
        print(path)
    if PAGE.is_file():
        write_atomic(PAGE, filled(PAGE.read_text(encoding="utf-8"), tables(summary)))


if __name__ == "__main__":
    main()
