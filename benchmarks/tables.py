"""Write the published accuracies into README and docs, from the committed evaluations.

    python benchmarks/tables.py

Each table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; tests hold the pages to it.
"""

import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import family_tables
import numpy as np
from pages import filled, table

from innerloop.analysis.comparison import shared_design
from innerloop.core.files import write_atomic
from innerloop.core.intervals import Difference, mean_and_interval, paired_difference
from innerloop.runs.directory import RunDirectory
from innerloop.runs.results import EvaluationRow

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
ACCURACY = RESULTS / "accuracy"
VARIANTS = RESULTS / "variants"
STRONGEST = RESULTS / "strongest" / "strongest-s0"
PAGES = [
    ROOT / "README.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "docs" / "comparison.md",
    ROOT / "docs" / "tuning.md",
    ROOT / "docs" / "engine.md",
    ROOT / "docs" / "performance.md",
    ROOT / "docs" / "own-pictures.md",
    ROOT / "docs" / "regression.md",
    ROOT / "docs" / "networks.md",
    ROOT / "docs" / "family.md",
    ROOT / "docs" / "which-method.md",
    *(ROOT / "docs" / "methods" / f"{name}.md" for name in family_tables.pages()),
]
TITLES = {
    "fomaml": "FO-MAML",
    "maml": "MAML, second order",
    "mamlpp": "MAML++",
    "transfer": "transfer",
}
ON_TEST = "1100-100-423"
STEPS = 5
EPISODES = 600
QUERIES = 15
PLAIN = "--no-fresh-head --averaging 0"
VARIANT_FLAGS = {
    "fomaml-plain": ("fomaml", PLAIN),
    "fomaml-003": ("fomaml", "--outer-lr 0.003"),
    "maml-plain": ("maml", f"{PLAIN} --clip-gradient 0"),
    "maml-003": ("maml", "--outer-lr 0.003"),
}
"""A variant's run directories begin so -> its method, and what its training was given."""


def runs(method: str, split: str = "assignment", folder: Path = ACCURACY) -> list[RunDirectory]:
    """A method's published runs on a split, by training seed."""
    stem = f"{method}-omniglot-" + ("5w5s" if split == "assignment" else split)
    return [RunDirectory(path) for path in sorted(folder.glob(f"{stem}-s?"))]


def own_mode(method: str) -> str:
    """Whose statistics normalise by default where a method predicts."""
    return "running" if method == "transfer" else "transductive"


def row(
    run: RunDirectory, mode: str, adaptation: str = "own", steps: int = STEPS
) -> EvaluationRow | None:
    """A run's evaluation of 600 episodes, or None."""
    found = [
        row
        for row in run.evaluations()
        if (row.batch_norm, row.adaptation, row.episodes) == (mode, adaptation, EPISODES)
        and (row.inner_steps == steps or row.inner_lr is None)
    ]
    return found[0] if found else None


def rows(method: str, mode: str | None = None, adaptation: str = "own") -> list[EvaluationRow]:
    """The evaluations on `assignment` of all training seeds that have one."""
    found = (row(run, mode or own_mode(method), adaptation) for run in runs(method))
    return [row for row in found if row]


def values(rows: Sequence[EvaluationRow]) -> np.ndarray:
    """Accuracies (seeds, episodes)."""
    return np.array([row.query_accuracy_per_episode for row in rows])


def shown(mean: float, half: float) -> str:
    """An accuracy or a difference with its interval, in percent or points."""
    return f"{100 * mean:.2f} ± {100 * half:.2f}"


def accuracy(rows: Iterable[EvaluationRow | None]) -> str:
    """The mean over seeds and episodes with its interval; - where there is none."""
    known = [row for row in rows if row]
    return shown(*mean_and_interval(values(known), shared_design(known))) if known else "-"


def seeds(rows: Iterable[EvaluationRow]) -> str:
    """Training seeds, as a cell has them."""
    return ", ".join(str(row.training_seed) for row in rows)


def difference(a: Sequence[EvaluationRow], b: Sequence[EvaluationRow]) -> Difference:
    """Rows A minus rows B, over the same episodes."""
    return paired_difference(values(a), values(b), shared_design([*a, *b]))


def of_methods() -> str:
    """README's: each method over its seeds, and on the split with a test part."""
    cells = []
    for method in ("transfer", "fomaml", "maml", "mamlpp"):
        tested = [row(run, own_mode(method)) for run in runs(method, ON_TEST)]
        own = rows(method)
        cells.append(
            [
                TITLES[method],
                accuracy(own),
                seeds(own),
                accuracy(tested),
                seeds(known for known in tested if known) or "-",
                f"`innerloop train {method}`",
            ]
        )
    return table(
        "method | split `assignment`, val | training seeds | split `1100-100-423`, test | "
        "training seed | command",
        cells,
    )


def of_runs() -> str:
    """benchmarks/README's: every published run."""
    cells = []
    for split, part in (("assignment", "val"), (ON_TEST, "test")):
        for method in ("fomaml", "transfer", "maml", "mamlpp"):
            for run in runs(method, split):
                seed = run.config.training.seed
                flags = f"--seed {seed}" if split == "assignment" else f"--split {split}"
                for mode in [own_mode(method)] + ["support"] * (method == "fomaml" and not seed):
                    cells.append(
                        [
                            TITLES[method],
                            f"Omniglot, {split}, {part}",
                            str(seed),
                            mode,
                            str(EPISODES),
                            accuracy([row(run, mode)]),
                            f"`innerloop train {method} {flags}`",
                        ]
                    )
    return table(
        "method | data, split, part | training seed | batch norm | episodes | accuracy, % | "
        "command",
        cells,
    )


def of_maml() -> str:
    """maml.md's: FO-MAML and MAML in both batch-norm modes."""
    cells = []
    for method, split, part in (
        ("fomaml", "assignment", "val"),
        ("maml", "assignment", "val"),
        ("fomaml", ON_TEST, "test"),
    ):
        for run in runs(method, split):
            seed = run.config.training.seed
            flags = f"--seed {seed}" if split == "assignment" else f"--split {split}"
            own = row(run, "transductive")
            assert own
            cells.append(
                [
                    TITLES[method],
                    f"{split}, {part}",
                    str(seed),
                    f"{100 * own.query_accuracy_before:.1f}",
                    accuracy([own]),
                    accuracy([row(run, "support")]),
                    f"`innerloop train {method} {flags}`",
                ]
            )
    return table("method | split, part | seed | before | transductive | support | command", cells)


def of_variants() -> str:
    """maml.md's: the literature's settings, and the outer rate that MAML++ has."""
    cells = []
    for name, (method, flags) in VARIANT_FLAGS.items():
        found = [row(run, "transductive") for run in runs(name, folder=VARIANTS)]
        known = [row for row in found if row]
        if not known:
            continue
        against = [
            row for row in rows(method) if row.training_seed in {r.training_seed for r in known}
        ]
        apart = difference(known, against)
        cells.append(
            [
                f"`innerloop train {method} {flags}`",
                seeds(known),
                accuracy(known),
                accuracy(row(run, "support") for run in runs(name, folder=VARIANTS)),
                f"{100 * apart.mean:+.2f} ± {100 * apart.ci95:.2f}",
            ]
        )
    return table("training | seeds | transductive | support | against the defaults, points", cells)


def trials() -> list[dict[str, Any]]:
    """Every trial of the tuning, the best of each method first."""
    return json.loads((RESULTS / "tuning.json").read_text("utf-8"))["trials"]


def of_tuning() -> str:
    """tuning.md's: every trial of each method."""
    methods = list(TITLES)
    settings = ("outer_lr", "start", "feature_scale")
    known = {(row["method"], *(row[name] for name in settings)): row for row in trials()}
    best = {method: next(row for row in trials() if row["method"] == method) for method in methods}
    cells = []
    for trial in sorted({tuple(row[name] for name in settings) for row in trials()}):
        outer_lr, start, feature_scale = trial
        accuracies = []
        for method in methods:
            row = known[method, *trial]
            cell = shown(row["query_accuracy"], row["query_accuracy_ci95"])
            accuracies.append(f"**{cell}**" if row is best[method] else cell)
        cells.append([f"{outer_lr:g}", start, f"{feature_scale:g}", *accuracies])
    titles = " | ".join(TITLES[method] for method in methods)
    return table(f"outer rate | start | features times | {titles}", cells)


def of_runs_named(name: str) -> list[EvaluationRow]:
    """The evaluations of runs under `VARIANTS`, by training seed."""
    found = (row(run, own_mode(run.config.method)) for run in runs(name, folder=VARIANTS))
    return [row for row in found if row]


def chosen(method: str) -> list[EvaluationRow]:
    """The evaluations of what was chosen for a method, by training seed."""
    return of_runs_named(f"{method}-chosen")


def of_engines() -> str:
    """engine.md's: the same trainings by both engines."""
    cells = []
    for method in ("fomaml", "maml"):
        by_kernels = chosen(method)[:3]
        by_reference = of_runs_named(f"{method}-003")
        apart = difference(by_kernels, by_reference)
        cells.append(
            [
                TITLES[method],
                seeds(by_reference),
                accuracy(by_reference),
                accuracy(by_kernels),
                f"{round(100 * apart.mean, 2) + 0.0:+.2f} ± {100 * apart.ci95:.2f}",
            ]
        )
    return table("training | seeds | reference | fused | fused minus reference, points", cells)


def of_chosen() -> str:
    """tuning.md's: the best trial of each method, in its usual length and from several seeds."""
    cells = []
    for method in sorted(TITLES, key=lambda method: -float(values(chosen(method)).mean())):
        own = chosen(method)
        apart = difference(own, chosen("fomaml"))
        cells.append(
            [
                TITLES[method],
                seeds(own),
                accuracy(own),
                ", ".join(f"{100 * row.query_accuracy:.2f}" for row in own),
                "-" if method == "fomaml" else f"{100 * apart.mean:+.2f} ± {100 * apart.ci95:.2f}",
            ]
        )
    return table("method | seeds | accuracy, % | of each seed, % | against FO-MAML, points", cells)


def of_mamlpp() -> str:
    """mamlpp.md's: every seed in every batch-norm mode."""
    modes = ("transductive", "support", "running")
    return table(
        "training seed | transductive | support | running | command",
        (
            [
                str(run.config.training.seed),
                *(accuracy([row(run, mode)]) for mode in modes),
                f"`innerloop train mamlpp --seed {run.config.training.seed} --threads 1`",
            ]
            for run in runs("mamlpp")
        ),
    )


def of_transfer() -> str:
    """transfer.md's: pretrained and other features under each head."""
    first, *others = runs("transfer")
    (fomaml, *_) = runs("fomaml")
    (tested,) = runs("transfer", ON_TEST)
    converged = "head-logistic-l2_0.1"
    val = "assignment, val"
    test = f"{ON_TEST}, test"

    def line(
        network: str,
        what: str,
        place: str,
        run: RunDirectory,
        how: str,
        adaptation: str = "own",
        steps: int = STEPS,
    ) -> list[str]:
        mode = "transductive" if run.config.method == "fomaml" else "running"
        found = row(run, mode, adaptation, steps)
        seed = str(run.config.training.seed)
        return [network, what, place, seed, accuracy([found]), how]

    evaluate = "innerloop evaluate RUN"
    logistic = "--adapt head --head logistic"
    zero = "5 steps at 0.4 from zero"
    glorot = "5 steps at 0.4 from Glorot"
    at_fomaml = "FO-MAML's, transductive"
    prototypes = "cosine prototypes"
    cells = [
        line("pretrained", f"{zero} (the assignment's)", val, first, f"`{evaluate}`"),
        *(line("pretrained", "the same", val, run, "the same") for run in others),
        line(
            "pretrained",
            "50 steps at 0.4 from zero",
            val,
            first,
            f"`{evaluate} --inner-steps 50`",
            steps=50,
        ),
        line("pretrained", glorot, val, first, f"`{evaluate} --head-init glorot`", "own-glorot"),
        line("pretrained", "converged head", val, first, f"`{evaluate} {logistic}`", converged),
        *(line("pretrained", "converged head", val, run, "the same", converged) for run in others),
        line(
            "pretrained",
            prototypes,
            val,
            first,
            f"`{evaluate} --adapt head --head cosine`",
            "head-cosine",
        ),
        line("random", zero, val, first, f"`{evaluate} --untrained`", "own-untrained"),
        line(at_fomaml, f"{zero}, head alone", val, fomaml, f"`{evaluate} --adapt head`", "head"),
        line(at_fomaml, "converged head", val, fomaml, f"`{evaluate} {logistic}`", converged),
        line(
            at_fomaml,
            prototypes,
            val,
            fomaml,
            f"`{evaluate} --adapt head --head cosine`",
            "head-cosine",
        ),
        line("pretrained", zero, test, tested, f"`{evaluate} --part test`"),
        line(
            "pretrained",
            "converged head",
            test,
            tested,
            f"`{evaluate} --part test {logistic}`",
            converged,
        ),
    ]
    return table("network | adaptation | split, part | seed | accuracy | command", cells)


def of_answer() -> str:
    """comparison.md's: the two methods of its question."""
    images = {"transfer": "307,200", "fomaml": "800,000"}
    cells = []
    for method, count in images.items():
        own = rows(method)
        of_each = ", ".join(f"{100 * row.query_accuracy:.2f}" for row in own)
        cells.append([TITLES[method], own_mode(method), accuracy(own), of_each, count])
    return table(
        "method | batch norm | query accuracy, % | of each seed, % | images in training", cells
    )


def explanation() -> dict[str, Any]:
    """What `innerloop explain` found of transfer and FO-MAML, seed 0."""
    return json.loads((RESULTS / "explanation" / "explanation.json").read_text("utf-8"))


def signed(row: dict[str, float], digits: int = 2) -> str:
    """A difference with its interval in points."""
    return f"{100 * row['mean']:+.{digits}f} ± {100 * row['ci95']:.{digits}f}"


def of_features() -> str:
    """comparison.md's: each network's features under each head."""
    found = {
        (cell["features"], cell["batch_norm"], cell["head"]): shown(cell["mean"], cell["ci95"])
        for cell in explanation()["table"]["cells"]
    }
    of = {"transfer": "transfer's", "fomaml": "FO-MAML's"}
    cells = [
        [of[name], mode, *(found[name, mode, head] for head in ("gradient", "logistic", "cosine"))]
        for name, mode in dict.fromkeys((name, mode) for name, mode, _ in found)
    ]
    (untrained,) = rows("transfer", adaptation="own-untrained")
    over_episodes = mean_and_interval(np.array(untrained.query_accuracy_per_episode))
    cells.append(["random", "running", shown(*over_episodes), "-", "-"])
    return table(
        "features | batch norm | 5 steps at 0.4 | converged head | cosine prototypes", cells
    )


def of_parts() -> str:
    """comparison.md's: what the gap between the two consists of."""
    parts = {
        "features": "features: converged heads on both",
        "the head's steps": "the head's steps: what 5 steps lose against a converged head",
        "the body's adaptation": "the body's adaptation: what FO-MAML gains by adapting more "
        "than its head",
    }
    gap = explanation()["table"]["gap"]
    return table("part | points", ([words, signed(gap[part])] for part, words in parts.items()))


def of_shift() -> str:
    """comparison.md's: the ladder of shift."""

    def of(row: dict[str, float] | None) -> str:
        return f"{100 * row['mean']:.1f} ± {100 * row['ci95']:.1f}" if row else "-"

    def cells() -> Iterator[list[str]]:
        for rung in explanation()["shift"]:
            of_runs = rung["runs"]
            transfer = of_runs["transfer"]
            yield [
                rung["shift"],
                of(transfer),
                of(transfer.get("batch_statistics")),
                of(of_runs["fomaml"]),
                signed(rung["difference"], 1),
            ]

    return table(
        "episodes, 48 each | transfer, stored statistics | transfer, each batch's | FO-MAML | "
        "transfer minus FO-MAML, points",
        cells(),
    )


def measured(name: str) -> dict[str, Any]:
    """What a benchmark wrote."""
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def of_speed() -> str:
    """performance.md's: how many times as fast as a plain loop."""
    cells = []
    for row in measured("speed")["rows"]:
        if row["against"] == "one thread":
            continue
        fast = row["times_as_fast"]
        before = f"{row['ms']:.0f}"
        own = f"{fast['reference']:.2f}" if "reference" in fast else "-"
        plain = row["against"] == "plain loop"
        cells.append(
            [
                row["what"],
                before if plain else "-",
                own if plain else f"1 ({before} ms)",
                f"{fast['fused']:.2f}",
            ]
        )
    return table("what | plain loop, ms | reference | fused", cells)


def of_threads() -> str:
    """performance.md's: two threads over one."""
    cells = [
        [row["what"].removesuffix(", two threads"), f"{row['times_as_fast']['two threads']:.2f}"]
        for row in measured("speed")["rows"]
        if row["against"] == "one thread"
    ]
    return table("what | two threads over one", cells)


def of_peers() -> str:
    """performance.md's: the range over all shapes of every library."""
    rows = measured("peers")["rows"]
    cells = []
    for downsample, first_order in dict.fromkeys(
        (row["downsample"], row["first_order"]) for row in rows
    ):
        own = [
            row["times_as_fast"]
            for row in rows
            if (row["downsample"], row["first_order"]) == (downsample, first_order)
        ]
        cells.append(
            [
                f"{downsample}, {'first' if first_order else 'second'} order",
                *(
                    f"{min(row[name] for row in own):.2f} to {max(row[name] for row in own):.2f}"
                    for name in own[0]
                    if name != "plain loop"
                ),
            ]
        )
    names = [name for name in rows[0]["times_as_fast"] if name != "plain loop"]
    return table(" | ".join(["training", *names]), cells)


def of_accuracy_times() -> str:
    """performance.md's: seconds until validation is first so accurate."""
    rows = measured("time-to-accuracy")["rows"]
    aims = list(rows[0]["reached"])

    def cell(reached: list[float] | None) -> str:
        return f"{reached[1]:.1f} s, {reached[0]:.0f} steps" if reached else "-"

    return table(
        " | ".join(["training by", *aims]),
        ([row["what"], *(cell(row["reached"][aim]) for aim in aims)] for row in rows),
    )


def of_cost() -> str:
    """performance.md's: an outer step of each method."""
    return table(
        "an outer step of | seconds | over FO-MAML | peak memory, MiB",
        (
            [row["what"], f"{row['seconds']:.2f}", f"{row['ratio']:.2f}", str(row["peak_mib"])]
            for row in measured("cost")["rows"]
        ),
    )


def of_kernels() -> str:
    """performance.md's: what share of the measured peak each product reaches."""
    rows = measured("kernels")["kernels"]
    images = list(dict.fromkeys(row["images"] for row in rows))
    shares = {(row["kernel"], row["images"]): f"{100 * row['share']:.0f} %" for row in rows}
    names = dict.fromkeys(row["kernel"] for row in rows)
    return table(
        " | ".join(["product", *(f"{count} images" for count in images)]),
        ([name, *(shares[name, count] for count in images)] for name in names),
    )


OWN_SETS = {
    "photos": "photos",
    "glyphs": "letters in fonts",
    "omniglot": "Omniglot",
    "digits": "digits, 8 x 8",
    "fashion": "Fashion-MNIST",
}
"""Data sets of own-pictures.md, and what they are called there."""


def own_rows() -> list[dict[str, Any]]:
    """Of 5 classes, on the network that is chosen."""
    return [
        row
        for row in measured("own-pictures")["rows"]
        if (row["backbone"], row["ways"]) == ("auto", 5)
    ]


def of_own_pictures() -> str:
    """own-pictures.md's: accuracy, and what it is above others."""
    others = ("logistic, unit length", "logistic, standardised", "nearest centroid", "adaptshot")
    cells = []
    for row in own_rows():
        mean, half = row["accuracy"]["auto"]
        above = [row["auto_minus"].get(name) for name in others]
        cells.append(
            [
                f"{OWN_SETS[row['data']]}, {row['shots']}",
                f"{100 * mean:.1f} ± {100 * half:.1f}",
                *("-" if of is None else f"{100 * of[0]:+.1f} ± {100 * of[1]:.1f}" for of in above),
            ]
        )
    return table(f"pictures, of each class | innerloop | {' | '.join(others)}", cells)


def of_own_trust() -> str:
    """own-pictures.md's: calibration, and pictures of other classes."""
    cells = []
    for row in own_rows():
        errors = [row["calibration_error"][name] for name in ("auto", "logistic, unit length")]
        known = row.get("roc_area") is not None
        cells.append(
            [
                f"{OWN_SETS[row['data']]}, {row['shots']}",
                *(f"{100 * error:.0f}" for error in errors),
                f"{row['roc_area']:.2f}" if known else "-",
                f"{100 * row['refused']['auto']:.0f}",
                f"{100 * row['passed']['auto']:.0f}" if known else "-",
            ]
        )
    head = (
        "calibration error, % | of logistic regression | AUROC | own refused, % | others passed, %"
    )
    return table(f"pictures, of each class | {head}", cells)


def of_own_estimates() -> str:
    """own-pictures.md's: how far estimates from the examples are off."""
    cells = []
    for shots in (2, 5, 10):
        rows = [row for row in own_rows() if row["shots"] == shots]
        of_both = [
            statistics.mean(row[name][part] for row in rows)
            for name in ("left_out_error", "five_folds_error")
            for part in (0, 1)
        ]
        numbers = [
            f"{100 * value:{'+' if part % 2 else ''}.1f}" for part, value in enumerate(of_both)
        ]
        cells.append([str(shots), *numbers])
    head = "leaving one of each class out: off by | on average | five folds: off by | on average"
    return table(f"pictures of each class | {head}", cells)


def of_sinusoids() -> str:
    """regression.md's: squared errors on new waves."""
    shown_steps = (0, 1, 5, 10)
    cells = []
    for method, by_shots in measured("sinusoids")["methods"].items():
        for shots, row in by_shots.items():
            errors = (f"{row['error'][k]:.2f} ± {row['ci95'][k]:.2f}" for k in shown_steps)
            worse = f"{100 * row['worse'][shown_steps[-1]]:.1f}"
            cells.append([method, shots, f"{row['inner_lr']:g}", *errors, worse])
    head = " | ".join(f"after {k}" for k in shown_steps[1:])
    return table(
        f"network | points | inner rate | before | {head} | then worse than before, %", cells
    )


def of_sinusoids_claim() -> str:
    """regression.md's: one step of MAML against the pretrained network's best number of steps."""
    rows = measured("sinusoids")["one step of MAML minus the best of pretrained"]
    return table(
        "points | pretrained is best after | MAML after 1 step minus that",
        (
            [shots, f"{row['steps']} steps", f"{row['mean']:+.2f} ± {row['ci95']:.2f}"]
            for shots, row in rows.items()
        ),
    )


def of_one_alphabet() -> str:
    """networks.md's: characters of one alphabet told apart by one drawing of each."""
    cells = []
    for of in measured("within-alphabet")["rows"]:
        if of["split"] != "assignment":
            continue
        each = of["of_each_alphabet"]
        hardest, easiest = max(each, key=each.get), min(each, key=each.get)
        cells.append(
            [
                f"`{of['network']}`",
                f"{100 * of['error']:.2f} ± {100 * of['ci95']:.2f}",
                f"{100 * of['matched_error']:.2f} ± {100 * of['matched_ci95']:.2f}",
                f"{100 * each[easiest]:.1f} ({easiest})",
                f"{100 * each[hardest]:.1f} ({hardest})",
            ]
        )
    heads = "network | errors, % | matched one to one | of the easiest alphabet | of the hardest"
    return table(heads, cells)


def of_strongest() -> str:
    """networks.md's: the strongest network in the usual settings."""
    run = RunDirectory(STRONGEST)
    rows = [
        row for row in run.evaluations() if (row.batch_norm, row.queries) == ("running", QUERIES)
    ]
    rows.sort(key=lambda row: (row.ways, row.shots))
    cells = [[f"{row.ways}-way {row.shots}-shot", accuracy([row])] for row in rows]
    return table("episodes | accuracy, %", cells)


def of_coverage() -> str:
    """comparison.md's: how often intervals hold the truth, by what is drawn."""
    kinds = {
        "a method's mean": ("mean", 1.0),
        "difference of two methods alike": ("difference", 1.0),
        "of one from another that varies 0.3 times as much": ("difference", 0.3),
        "of one from another that varies 0.1 times as much": ("difference", 0.1),
        "difference of two alike, seed by seed": ("difference by seed", 1.0),
    }
    cells = []
    for words, kind in kinds.items():
        for own in (0.2, 0.8):
            found = [
                row
                for row in measured("coverage")["rows"]
                if ((row["of"], row["scale"]), row["interaction"]) == (kind, own)
            ]
            by_seeds = [
                [row["coverage"] for row in found if row["seeds"] == seeds]
                for seeds in (1, 2, 3, 5)
            ]
            if found:
                ranges = [
                    f"{100 * min(held):.1f} to {100 * max(held):.1f}" if held else "-"
                    for held in by_seeds
                ]
                cells.append([words, str(own), *ranges])
    return table("interval of | own | 1 seed | 2 seeds | 3 seeds | 5 seeds", cells)


def tables() -> dict[str, str]:
    """Every table, by its name."""
    return {
        "methods": of_methods(),
        "runs": of_runs(),
        "maml": of_maml(),
        "variants": of_variants(),
        "tuning": of_tuning(),
        "chosen": of_chosen(),
        "engines": of_engines(),
        "speed": of_speed(),
        "threads": of_threads(),
        "peers": of_peers(),
        "time to accuracy": of_accuracy_times(),
        "cost": of_cost(),
        "kernels": of_kernels(),
        "own pictures": of_own_pictures(),
        "own trust": of_own_trust(),
        "own estimates": of_own_estimates(),
        "sinusoids": of_sinusoids(),
        "sinusoids claim": of_sinusoids_claim(),
        "one alphabet": of_one_alphabet(),
        "strongest": of_strongest(),
        "mamlpp": of_mamlpp(),
        "transfer": of_transfer(),
        "answer": of_answer(),
        "coverage": of_coverage(),
        "features": of_features(),
        "parts": of_parts(),
        "shift": of_shift(),
        **family_tables.texts(),
    }


def main() -> None:
    """Write the tables into their pages."""
    made = tables()
    for page in PAGES:
        write_atomic(page, filled(page.read_text("utf-8"), made))


if __name__ == "__main__":
    main()
