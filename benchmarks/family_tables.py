"""Tables and sentences of the benchmark of all methods, from `results/family/` alone.

`tables.py` puts them into their pages. What a sentence says follows from the files by the rule in
its function's docstring, so that another result makes another sentence. A setting is in them once
all of its trainings are published.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from family_protocol import (
    BESIDE,
    LONGER,
    OTHER_SCALES,
    SCALED,
    SEEDS,
    SHAPES,
    TRIALS,
    UNTRAINED,
)
from pages import table

from innerloop.analysis.comparison import shared_design
from innerloop.core.components import Design
from innerloop.core.errors import DataError
from innerloop.core.files import read_json
from innerloop.core.intervals import Difference, mean_and_interval, paired_difference
from innerloop.methods.catalogue import find_card, title_of
from innerloop.methods.overview import page_of
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import is_primary
from innerloop.runs.results import EvaluationRow

RESULTS = Path(__file__).parent / "results" / "family"
TRIALS_FILE = RESULTS / "trials.json"
SHIFTS = RESULTS.with_name("family-shifts.json")
IN_WORDS = {
    "5w1s": "5-way 1-shot",
    "5w5s": "5-way 5-shot",
    "20w1s": "20-way 1-shot",
    "20w5s": "20-way 5-shot",
}
KINDS = {
    "all weights, by gradients": ("maml", "fomaml", "mamlpp", "metasgd", "reptile", "protomaml"),
    "some weights, or bound to the learnt ones": ("anil", "boil", "imaml"),
    "features compared, or a head solved for": (
        "protonet",
        "matchingnet",
        "relationnet",
        "r2d2",
        "metaoptnet",
    ),
    "pretrained on all classes": ("transfer", "baselinepp", "simpleshot", "tim"),
}
"""What is done in an episode, and which methods do it; the last kind alone trains on images."""
PUBLISHED: dict[str, tuple[str, str, str, str, str]] = {
    "maml": ("98.7", "99.9", "95.8", "98.9", "1703.03400"),
    "fomaml": ("98.3", "99.2", "89.4", "97.9", "1803.02999"),
    "reptile": ("97.68", "99.48", "89.43", "97.12", "1803.02999"),
    "imaml": ("99.16", "99.67", "94.46", "98.69", "1909.04630"),
    "mamlpp": ("99.47", "99.93", "97.65", "99.33", "1810.09502"),
    "metasgd": ("99.53", "99.93", "95.93", "98.97", "1707.09835"),
    "anil": ("-", "-", "96.2", "98.0", "1909.09157"),
    "protonet": ("98.8", "99.7", "96.0", "98.9", "1703.05175"),
    "matchingnet": ("98.1", "98.9", "93.8", "98.5", "1606.04080"),
    "relationnet": ("99.6", "99.8", "97.6", "99.1", "1711.06025"),
    "r2d2": ("-", "99.74", "-", "-", "1805.08136"),
}
"""Accuracy in percent of the four settings, in the order of `SHAPES`, and where it is published.

Of two variants of iMAML it is that by gradient descent, which is the one here; Hessian-free has
99.50, 99.74, 96.18 and 99.14."""


@dataclass(frozen=True)
class Relation:
    """Of two methods, what a paper says of the first beside the second."""

    a: str
    b: str
    words: str
    sign: int = 1
    """1: not below; -1: not above; 0: near, of which no difference is the other way round."""
    shapes: tuple[str, ...] = tuple(IN_WORDS)
    """The settings that it is said of, as far as the paper says."""


TWENTY_WAY = ("20w1s", "20w5s")
RELATIONS = [
    Relation("fomaml", "maml", "nearly as good (Finn and others, 2017, mini-ImageNet)", sign=0),
    Relation("mamlpp", "maml", "above, most in 20-way (Antoniou and others, 2019, Omniglot)"),
    Relation("anil", "maml", "as good (Raghu and others, 2020, Omniglot and mini-ImageNet)"),
    Relation("boil", "maml", "above (Oh and others, 2021, mini-ImageNet and other images)"),
    Relation("metasgd", "maml", "as good or above (Li and others, 2017, Omniglot)"),
    Relation(
        "imaml",
        "maml",
        "by gradient descent below in 20-way (Rajeswaran and others, 2019, Omniglot)",
        sign=-1,
        shapes=TWENTY_WAY,
    ),
    Relation(
        "reptile",
        "fomaml",
        "as good in 5-way 5-shot (Nichol and others, 2018, Omniglot)",
        shapes=("5w5s",),
    ),
    Relation("protomaml", "maml", "above (Triantafillou and others, 2020, Meta-Dataset)"),
    Relation("protomaml", "protonet", "above (the same)"),
    Relation("matchingnet", "protonet", "below (Snell and others, 2017, Omniglot)", sign=-1),
    Relation("relationnet", "protonet", "above (Sung and others, 2018, Omniglot)"),
    Relation("r2d2", "protonet", "as good (Bertinetto and others, 2019, Omniglot)"),
    Relation("metaoptnet", "protonet", "above (Lee and others, 2019, mini-ImageNet)"),
    Relation("baselinepp", "transfer", "above (Chen and others, 2019, mini-ImageNet)"),
    Relation("tim", "simpleshot", "above (Boudiaf and others, 2020, mini-ImageNet)"),
]


def settled() -> list[str]:
    """The settings whose comparison is there.

    Raises:
        DataError: if there is none.
    """
    found = [shape for shape in SHAPES if (RESULTS / f"{shape}.json").is_file()]
    if not found:
        raise DataError("No setting has all of its trainings yet.")
    return found


@cache
def compared(shape: str) -> dict[str, Any]:
    """The comparison of a setting."""
    return read_json(RESULTS / f"{shape}.json")


def rows(shape: str) -> dict[str, dict[str, Any]]:
    """Each method's row of a setting, by method."""
    return {row["method"]: row for row in compared(shape)["rows"]}


def average(method: str) -> float:
    """A method's mean over the settings."""
    return mean(rows(shape)[method]["query_accuracy"] for shape in settled())


def ranked() -> list[str]:
    """All methods, the highest mean over the settings first."""
    return sorted(TRIALS, key=average, reverse=True)


def shown(row: Mapping[str, Any]) -> str:
    """An accuracy with its interval, in percent."""
    return f"{100 * row['query_accuracy']:.2f} ± {100 * row['query_accuracy_ci95']:.2f}"


def titled(method: str) -> str:
    """A method's title, and by which solver, where its best trial has another than the usual."""
    other = solver(method)
    return f"{title_of(method)} ({other})" if other else title_of(method)


def solver(method: str) -> str:
    """By which solver a method's best trial is, where that is not the usual one; else nothing."""
    best = next(trial for trial in trials() if trial["method"] == method)
    return best["settings"].get("solver", "")


def linked(method: str, folder: str = "docs/") -> str:
    """A method's title, with a link to its page from a page of a folder."""
    page = page_of(find_card(method))
    assert page
    return f"[{titled(method)}]({page.removeprefix(folder)})"


def in_words(methods: Iterable[str]) -> str:
    """Titles as a sentence has them."""
    *others, last = [titled(method) for method in methods]
    return f"{', '.join(others)} and {last}" if others else last


def difference(shape: str, a: str, b: str) -> dict[str, Any]:
    """Method A minus method B in a setting: mean, ci95, and whether they are told apart."""
    for pair in compared(shape)["pairs"]:
        if {pair["a"], pair["b"]} == {a, b}:
            sign = 1 if pair["a"] == a else -1
            apart = pair["verdict"] != "not distinguishable"
            return {"mean": sign * pair["mean"], "ci95": pair["ci95"], "apart": apart}
    raise KeyError(f"{shape}: {a} and {b} were not compared")


def leaders(shape: str) -> list[str]:
    """The method with the highest mean in a setting, then all that are not told apart from it."""
    found = rows(shape)
    first, *others = sorted(found, key=lambda name: -found[name]["query_accuracy"])
    return [first, *(name for name in others if not difference(shape, first, name)["apart"])]


@cache
def costs() -> dict[str, dict[str, dict[str, Any]]]:
    """What a training is, by setting and method; a setting is in it once all were measured.

    Raises:
        DataError: if none is whole, or another processor measured some of it.
    """
    shapes = read_json(RESULTS / "cost.json")["shapes"]
    found = {
        shape: shapes[shape] for shape in SHAPES if shapes.get(shape, {}).keys() == TRIALS.keys()
    }
    if not found:
        raise DataError("cost.json lacks trainings of every setting.")
    processors = {row["processor"] for rows in found.values() for row in rows.values()}
    if len(processors) > 1:
        raise DataError(f"cost.json has seconds of {' and '.join(sorted(processors))}.")
    return found


def cost(shape: str, method: str) -> dict[str, Any]:
    """What a training in a setting is: steps, episodes, seconds, and where these were measured.

    Raises:
        DataError: if the setting is not whole.
    """
    if shape not in costs():
        raise DataError(f"cost.json lacks trainings of {shape}.")
    return costs()[shape][method]


def seconds(shape: str, method: str) -> float:
    """Of a training in a setting, without its validations, on an idle machine."""
    return cost(shape, method)["seconds"]


def minutes(shape: str, method: str) -> str:
    """The same in minutes."""
    return f"{seconds(shape, method) / 60:.1f}"


def has_costs() -> bool:
    """Whether those of 5-way 5-shot were measured, which stand for all settings."""
    try:
        return "5w5s" in costs()
    except DataError:
        return False


def of_family(folder: str = "docs/") -> str:
    """family.md's and README's: all methods in each setting, and the cost where it is known."""
    cells = []
    for method in ranked():
        accuracies = [
            f"**{shown(rows(shape)[method])}**"
            if method in leaders(shape)
            else shown(rows(shape)[method])
            for shape in settled()
        ]
        card = find_card(method)
        took = [minutes("5w5s", method)] if has_costs() else []
        cells.append([linked(method, folder), card.adapts, *accuracies, *took])
    took = " | minutes" if has_costs() else ""
    return table(f"method | in an episode adapts | {heads()}{took}", cells)


def heads() -> str:
    """Of the columns of settings."""
    return " | ".join(map(named, settled()))


def named(shape: str) -> str:
    """A setting as tables and sentences have it; what is said of one seed is of networks alone."""
    of_one = ", one seed" if len(SEEDS[shape]) == 1 else ""
    return f"{IN_WORDS[shape]}{of_one}"


def of_published() -> str:
    """family.md's: ours beside what papers report."""
    cells = []
    for method, (*numbers, arxiv) in PUBLISHED.items():
        published = dict(zip(SHAPES, numbers, strict=True))
        pairs = [
            f"{100 * rows(shape)[method]['query_accuracy']:.1f} / {published[shape]}"
            for shape in settled()
        ]
        cells.append([titled(method), *pairs, f"arXiv {arxiv}"])
    return table(f"method | {heads()} | published in", cells)


def of_relations() -> str:
    """family.md's: differences that papers say something of."""
    cells = []
    for relation in RELATIONS:
        differences = []
        for shape in settled():
            of = difference(shape, relation.a, relation.b)
            text = f"{100 * of['mean']:+.2f} ± {100 * of['ci95']:.2f}"
            differences.append(f"**{text}**" if of["apart"] else text)
        both = f"{titled(relation.a)} minus {titled(relation.b)}"
        cells.append([both, *differences, relation.words])
    return table(f"points | {heads()} | as published", cells)


def reversed_relations() -> str:
    """A line for each setting: relations told apart here the other way round than a paper says."""
    lines = []
    for shape in settled():
        said = [relation for relation in RELATIONS if relation.sign and shape in relation.shapes]
        found = []
        for relation in said:
            of = difference(shape, relation.a, relation.b)
            if of["apart"] and of["mean"] * relation.sign < 0:
                side = "below" if of["mean"] < 0 else "above"
                found.append(f"{titled(relation.a)} {side} {titled(relation.b)}")
        lines.append(
            f"- **{named(shape)}**: {len(found)} of {len(said)}"
            f"{': ' if found else ''}{'; '.join(found)}."
        )
    return "\n".join(lines)


def orders() -> str:
    """A line for each setting: pairs told apart here the other way round than published numbers.

    Of two published accuracies the higher is above, by however little.
    """
    lines = []
    for shape in settled():
        place = list(SHAPES).index(shape)
        known = {name: float(row[place]) for name, row in PUBLISHED.items() if row[place] != "-"}
        reversed_here = [
            f"{titled(a)} below {titled(b)}"
            for a in known
            for b in known
            if known[a] > known[b]
            and (here := difference(shape, a, b))["apart"]
            and here["mean"] < 0
        ]
        pairs = len(known) * (len(known) - 1) // 2
        lines.append(
            f"- **{named(shape)}**: {len(reversed_here)} of {pairs} pairs"
            f"{': ' if reversed_here else ''}{'; '.join(reversed_here)}."
        )
    return "\n".join(lines)


def own_rows(shape: str) -> list[dict[str, Any]]:
    """Rows of trained networks by each of the batch norms that their method has."""
    every = [*compared(shape)["rows"], *compared(shape)["other_rows"]]
    return [row for row in every if row["adaptation"] == "own"]


def training(method: str, name: str = UNTRAINED[0]) -> RunDirectory:
    """What is kept of a training of seed 0, of a setting, of `BESIDE` or of `SCALED`.

    Raises:
        DataError: if it is not there.
    """
    folder = RESULTS / name / f"{method}-s0"
    if not (folder / "config.json").is_file():
        raise DataError(f"{folder} is not there yet.")
    return RunDirectory(folder)


@cache
def beside_untrained(method: str, name: str = UNTRAINED[0]) -> tuple[EvaluationRow, EvaluationRow]:
    """A network's evaluation before a training and after it; before all it is the same network.

    Raises:
        DataError: if there is none of it.
    """
    run = training(method, name)
    trained = primary(method, name)
    untrained = [
        row
        for row in training(method).evaluations()
        if row.adaptation == "own-untrained" and row.batch_norm == trained.batch_norm
    ]
    if not untrained:
        raise DataError(f"{run.path} has no evaluation of initial weights yet.")
    return untrained[0], trained


def gained(method: str, name: str = UNTRAINED[0]) -> Difference:
    """What a training gives a method, over the same episodes."""
    untrained, trained = beside_untrained(method, name)
    after = np.array(trained.query_accuracy_per_episode)
    before = np.array(untrained.query_accuracy_per_episode)
    return paired_difference(after, before, shared_design((untrained, trained)))


def of_untrained() -> str:
    """family.md's: what training gives."""
    cells = []
    for method in sorted(TRIALS, key=lambda name: -gained(name).mean):
        accuracies = [shown(vars(row)) for row in beside_untrained(method)]
        gain = gained(method)
        points = f"{100 * gain.mean:+.2f} ± {100 * gain.ci95:.2f}"
        cells.append([titled(method), *accuracies, points])
    return table("method | untrained, % | trained, % | gained, points", cells)


def of_longer() -> str:
    """family.md's: the methods that the budget gives fewer than `LONGER` outer steps."""
    cells = []
    for method in TRIALS:
        budget = training(method).config.training.meta_steps
        if budget < LONGER:
            accuracies = [
                shown(vars(beside_untrained(method, name)[1])) for name in (UNTRAINED[0], BESIDE)
            ]
            points = gained(method, BESIDE)
            gain = f"{100 * points.mean:+.2f} ± {100 * points.ci95:.2f}"
            cells.append([titled(method), str(budget), *accuracies, gain])
    head = f"method | outer steps of the budget | then, % | after {LONGER:,}, %"
    return table(f"{head} | gained over initial weights, points", cells)


def primary(method: str, name: str) -> EvaluationRow:
    """What a training of seed 0 reached, by its method's own batch norm."""
    run = training(method, name)
    return next(row for row in run.evaluations() if is_primary(run, row))


def of_scales() -> str:
    """family.md's: two methods in 20-way by the scale of features that each had chosen."""
    cells = []
    for shape, beside in SCALED.items():
        of_scale: dict[float, dict[str, EvaluationRow]] = {}
        for method in OTHER_SCALES:
            for name in (shape, beside):
                scale = training(method, name).config.network.feature_scale
                of_scale.setdefault(scale, {})[method] = primary(method, name)
        for scale, rows in sorted(of_scale.items()):
            first, second = (np.array(row.query_accuracy_per_episode) for row in rows.values())
            more = paired_difference(second, first, shared_design(tuple(rows.values())))
            points = f"{100 * more.mean:+.2f} ± {100 * more.ci95:.2f}"
            accuracies = [shown(vars(row)) for row in rows.values()]
            cells.append([IN_WORDS[shape], str(scale), *accuracies, points])
    heads = " | ".join(titled(method) for method in OTHER_SCALES)
    return table(f"setting, seed 0 | scale of features | {heads} | difference, points", cells)


def of_modes() -> str:
    """family.md's: whose batch-norm statistics, where an evaluation has several."""
    cells = []
    for method in ranked():
        found = {row["batch_norm"]: row for row in own_rows("5w5s") if row["method"] == method}
        if len(found) > 1:
            modes = ("transductive", "support", "running")
            accuracies = [shown(found[mode]) if mode in found else "-" for mode in modes]
            cells.append([titled(method), *accuracies])
    return table("method, 5-way 5-shot | transductive | support | running", cells)


def by_one_norm() -> str:
    """A line for each setting: pairs that only their own batch norms tell apart.

    Of all pairs whose two methods normalise a query set differently and are told apart, those that
    are not, or are the other way round, where both take the support set's statistics.
    """
    lines = []
    for shape in settled():
        own = rows(shape)
        unlike = [
            (a, b)
            for a, b in combinations(sorted(own, key=lambda name: -own[name]["query_accuracy"]), 2)
            if own[a]["batch_norm"] != own[b]["batch_norm"] and difference(shape, a, b)["apart"]
        ]
        both = [(a, b) for a, b in unlike if by_support(shape, a) and by_support(shape, b)]
        of_norm = [
            f"{titled(a)} above {titled(b)}"
            for a, b in both
            if by_support_difference(shape, a, b).verdict != "better"
        ]
        lines.append(
            f"- **{named(shape)}**: {len(of_norm)} of {len(both)} pairs"
            f"{': ' if of_norm else ''}{'; '.join(of_norm)}."
        )
    return "\n".join(lines)


@cache
def by_support(shape: str, method: str) -> tuple[EvaluationRow, ...]:
    """A method's evaluations of each training seed by the support set's statistics, if any."""
    folders = [RESULTS / shape / f"{method}-s{seed}" for seed in SEEDS[shape]]
    return tuple(
        row
        for folder in folders
        for row in RunDirectory(folder).evaluations()
        if (row.adaptation, row.batch_norm) == ("own", "support")
    )


def by_support_difference(shape: str, a: str, b: str) -> Difference:
    """Method A minus method B, both by the support set's statistics, over the same episodes."""
    of_a, of_b = by_support(shape, a), by_support(shape, b)
    first, second = (
        np.array([row.query_accuracy_per_episode for row in of]) for of in (of_a, of_b)
    )
    return paired_difference(first, second, shared_design((*of_a, *of_b)))


def of_costs() -> str:
    """family.md's: what a training of each method is, in the setting of 5-way 5-shot."""
    cells = []
    for method in sorted(TRIALS, key=lambda name: seconds("5w5s", name)):
        of = cost("5w5s", method)
        steps = [f"{rows[method]['steps']:,}" for rows in costs().values()]
        episodes = f"{of['episodes']:,}" if of["episodes"] else "-"
        cells.append([titled(method), *steps, episodes, minutes("5w5s", method)])
    head = " | ".join(f"outer steps, {IN_WORDS[shape]}" for shape in costs())
    return table(f"method | {head} | episodes, 5-way 5-shot | minutes, 5-way 5-shot", cells)


@cache
def trials() -> list[dict[str, Any]]:
    """Every trial, the best of each method first."""
    return read_json(TRIALS_FILE)["trials"]


def of_trials() -> str:
    """family.md's: what the best trial of each method has, and how the six came out."""
    cells = []
    for method in TRIALS:
        best, *others = (trial for trial in trials() if trial["method"] == method)
        settings = [f"{name} {value}" for name, value in best["settings"].items()]
        below = [f"{100 * trial['query_accuracy']:.1f}" for trial in others]
        words = ", ".join(word for word in settings if not word.startswith("meta_steps"))
        cells.append([titled(method), f"`{words}`", shown(best), ", ".join(below)])
    return table("method | settings of its best trial | accuracy, % | the other five", cells)


@cache
def shifts() -> dict[str, tuple[Design, dict[str, np.ndarray]]]:
    """Of each domain which episodes share classes, and each method's accuracies.

    Accuracies are (training seeds, episodes). A domain is in it once all networks were measured.

    Raises:
        DataError: if there is none.
    """
    content = read_json(SHIFTS)
    found = {}
    for domain, of in content["domains"].items():
        measured = [row for row in content["rows"] if row["domain"] == domain]
        by_method = {
            method: [row["right"] for row in measured if row["method"] == method]
            for method in TRIALS
        }
        if all(len(runs) == len(SEEDS["5w5s"]) for runs in by_method.values()):
            design = Design(content["episodes"], np.array(of["classes"]))
            images = content["ways"] * content["queries"]
            found[domain] = (
                design,
                {method: np.array(runs) / images for method, runs in by_method.items()},
            )
    if not found:
        raise DataError("No domain has all networks yet.")
    return found


def survivors(domain: str) -> list[str]:
    """The method with the highest mean in a domain, then all that are not told apart from it."""
    design, accuracies = shifts()[domain]
    first, *others = sorted(accuracies, key=lambda name: -accuracies[name].mean())
    best = accuracies[first]
    alike = [
        name
        for name in others
        if paired_difference(best, accuracies[name], design).verdict == "not distinguishable"
    ]
    return [first, *alike]


def shown_in(domain: str, method: str) -> str:
    """A method's accuracy in a domain with its interval, in percent.

    Where the interval is as wide as the scale, the accuracies of each seed instead.
    """
    design, accuracies = shifts()[domain]
    mean_of_all, half = mean_and_interval(accuracies[method], design)
    if half > 0.5:
        return " and ".join(f"{100 * of_seed.mean():.1f}" for of_seed in accuracies[method])
    return f"{100 * mean_of_all:.1f} ± {100 * half:.1f}"


def of_shifts() -> str:
    """family.md's: accuracy in other domains."""
    cells = []
    for method in ranked():
        accuracies = [
            f"**{shown_in(domain, method)}**"
            if method in survivors(domain)
            else shown_in(domain, method)
            for domain in shifts()
        ]
        cells.append([titled(method), *accuracies])
    return table(f"method | {' | '.join(shifts())}", cells)


def best_of_kinds() -> str:
    """which-method.md's: of each kind the best method of each setting."""
    cells = []
    for kind, methods in KINDS.items():
        best = []
        for shape in settled():
            found = rows(shape)
            method = max(methods, key=lambda name: found[name]["query_accuracy"])
            best.append(f"{titled(method)}, {100 * found[method]['query_accuracy']:.2f}")
        cells.append([kind, in_words(methods), *best])
    return table(f"what is done in an episode | methods | {heads()}", cells)


def which_accurate() -> str:
    """A line for each setting: its `leaders`."""
    lines = []
    for shape in settled():
        first, *alike = leaders(shape)
        others = f"; not told apart from it: {in_words(alike)}" if alike else ""
        accuracy = shown(rows(shape)[first])
        lines.append(f"- **{named(shape)}**: {titled(first)}, {accuracy} %{others}.")
    return "\n".join(lines)


def which_overall() -> str:
    """The three highest means over the settings, and which methods lead in all of them."""
    always = [name for name in ranked() if all(name in leaders(shape) for shape in settled())]
    lead = (
        f"Never told apart from the best in any of them: {in_words(always)}."
        if always
        else "No method is among the best in all of them."
    )
    means = [f"{titled(name)} ({100 * average(name):.2f} %)" for name in ranked()[:3]]
    return f"Over these settings the highest means have {', '.join(means)}. {lead}"


def repeats() -> float:
    """How many times as long the same training took, measured again.

    Methods that train on images train alike in every setting: the most that one of them varied.
    """
    on_images = [name for name in TRIALS if find_card(name).trains_on == "images"]
    of_each = [[seconds(shape, name) for shape in settled()] for name in on_images]
    return max(max(times) / min(times) for times in of_each)


def which_quick() -> str:
    """Of the methods within a point of the best at 5-way 5-shot, those with the least seconds.

    They are as quick as the quickest where the same training might take as long (`repeats`).
    """
    found = rows("5w5s")
    best = max(row["query_accuracy"] for row in found.values())
    near = [name for name, row in found.items() if row["query_accuracy"] >= best - 0.01]
    near.sort(key=lambda name: seconds("5w5s", name))
    longer = repeats()
    quick = [name for name in near if seconds("5w5s", name) <= longer * seconds("5w5s", near[0])]
    rest = "; the same training, measured once in each setting, took up to "
    return (
        f"{len(near)} of {len(found)} methods come within a point of the best at 5-way 5-shot. "
        f"With the least training: {in_words(quick)}, {minutes('5w5s', quick[0])} to "
        f"{minutes('5w5s', quick[-1])} minutes of one core, which are not ranked{rest}"
        f"{100 * (longer - 1):.0f} % longer. With the most: {titled(near[-1])}, "
        f"{minutes('5w5s', near[-1])} minutes."
    )


def which_alone() -> str:
    """A line for each setting: the best row whose predictions depend on no other query image."""
    lines = []
    for shape in settled():
        alone = [
            row
            for row in own_rows(shape)
            if row["batch_norm"] != "transductive" and not find_card(row["method"]).transductive
        ]
        best = max(alone, key=lambda row: row["query_accuracy"])
        lines.append(
            f"- **{named(shape)}**: {titled(best['method'])}, batch norm "
            f"{best['batch_norm']}, "
            f"{shown(best)} %."
        )
    return "\n".join(lines)


def which_survives() -> str:
    """A line for each domain: its `survivors`, and the mean over the methods of each kind."""
    lines = []
    for domain, (_, accuracies) in shifts().items():
        first, *alike = survivors(domain)
        others = f"; not told apart from it: {in_words(alike)}" if alike else ""
        of_kinds = [
            f"{kind} {100 * mean(accuracies[name].mean() for name in methods):.1f}"
            for kind, methods in KINDS.items()
        ]
        lines.append(
            f"- **{domain}**: {titled(first)}, {shown_in(domain, first)} %{others}. Means of the "
            f"kinds: {'; '.join(of_kinds)}."
        )
    return "\n".join(lines)


def of_page(methods: Iterable[str]) -> str:
    """A method's page's: each of its methods, in each setting and by each of its batch norms."""
    cells = []
    for shape in settled():
        for method in methods:
            for row in own_rows(shape):
                if row["method"] == method:
                    each = (
                        f"{100 * of_seed:.2f}" for of_seed in row["query_accuracy_of_each_seed"]
                    )
                    of = [titled(method), named(shape), row["batch_norm"]]
                    cells.append([*of, shown(row), ", ".join(each)])
    return table("method | episodes | batch norm | query accuracy, % | of each seed, %", cells)


def pages() -> dict[str, list[str]]:
    """The pages of methods in `docs/methods/`, each with the methods that it is of."""
    found: dict[str, list[str]] = {}
    for method in TRIALS:
        page = page_of(find_card(method))
        assert page
        found.setdefault(Path(page).stem, []).append(method)
    return found


TABLES: dict[str, Callable[[], str]] = {
    "family": of_family,
    "family in README": partial(of_family, folder=""),
    "family published": of_published,
    "family relations": of_relations,
    "family relations reversed": reversed_relations,
    "family orders": orders,
    "family untrained": of_untrained,
    "family longer": of_longer,
    "family scales": of_scales,
    "family by one norm": by_one_norm,
    "family modes": of_modes,
    "family costs": of_costs,
    "family trials": of_trials,
    "family shifts": of_shifts,
    "best of kinds": best_of_kinds,
    "which accurate": which_accurate,
    "which overall": which_overall,
    "which quick": which_quick,
    "which alone": which_alone,
    "which survives": which_survives,
    **{f"family, {page}": partial(of_page, methods) for page, methods in pages().items()},
}
"""What makes each, by its name."""


def texts() -> dict[str, str]:
    """Every table and sentence; one whose files are not there says so."""
    made = {}
    for name, make in TABLES.items():
        try:
            made[name] = make()
        except DataError:
            made[name] = "Not measured yet."
    return made
