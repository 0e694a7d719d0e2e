"""The sections of a report that answer the assignment.

FO-MAML, MAML++, transfer, which is better, and why.
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from innerloop.analysis.compared import ComparedRow
from innerloop.core.stability import measures
from innerloop.report import comparison as comparisons
from innerloop.report import findings
from innerloop.report.document import (
    Block,
    Bullets,
    Missing,
    Paragraph,
    Picture,
    Section,
    Table,
    code,
)
from innerloop.report.figures import diagnostics
from innerloop.report.figures import run as figures
from innerloop.report.figures.seeds import draw_seeds, lower_end
from innerloop.report.findings import percent
from innerloop.report.material import BAR, Material, named, primary_row
from innerloop.runs.directory import RunDirectory

ARMS = ("fomaml", "maml", "mamlpp")
"""The methods whose trainings are compared in stability."""
COLOURS: dict[str, str] = dict(zip(ARMS, figures.PALETTE, strict=False))


def summary(material: Material) -> Section:
    """The results in one table, and what follows from them."""
    blocks: list[Block] = []
    if material.on_strokes:
        blocks.append(
            Paragraph(
                "The data are strokes, synthetic drawings made by this package, and not "
                "Omniglot. No number here can be compared with a number on Omniglot."
            )
        )
    if material.results and material.comparison:
        blocks.append(results_table(material, material.comparison.rows))
        blocks.append(
            Bullets(
                [
                    findings.against_bar(
                        row["name"], row["query_accuracy"], row["query_accuracy_ci95"], BAR
                    )
                    for row in material.results["rows"]
                ]
            )
        )
        if material.results["pairs"]:
            blocks.append(Bullets([pair["sentence"] for pair in material.results["pairs"]]))
            blocks.append(picture_of_accuracies(material))
    else:
        blocks.append(
            Missing(
                "No run was evaluated, or not all on the same episodes.",
                [f"innerloop evaluate {material.path(run)}" for run in material.main],
            )
        )
    for method in material.methods:
        if more := [run for run in material.all_of(method) if run not in material.of(method)]:
            blocks.append(
                Paragraph(
                    f"{named(method)} was also run with other settings "
                    f"({', '.join(code(run.path.name) for run in more)}); the sections below are "
                    f"about {code(material.of(method)[0].path.name)} and its seeds."
                )
            )
    return Section("Results", blocks)


def results_table(material: Material, rows: Sequence[ComparedRow]) -> Table:
    """A row for each method, with everything that an accuracy must not be quoted without."""
    caption = (
        f"Query accuracy after adaptation. {comparisons.describe(rows[0])}; ± is the "
        "95 % interval over episodes, of the mean over the training seeds; sd is over training "
        "seeds; steps are inner steps x their rate."
    )
    return Table(caption, comparisons.COLUMNS, [comparisons.cells(row) for row in rows])


def _not_there(material: Material, method: str) -> list[Block]:
    """What is missing of a method, with the commands that make it."""
    runs = [run for run in material.main if run.config.method == method]
    if not runs:
        return [Missing(f"{named(method)} was not trained.", [train_command(material, method)])]
    blocks: list[Block] = []
    for run in runs:
        name, path = code(run.path.name), material.path(run)
        if not run.weights_path.is_file():
            blocks.append(Missing(f"{name} is not finished.", [f"innerloop resume {path}"]))
        elif primary_row(run, "val") is None:
            blocks.append(
                Missing(
                    f"{name} was not evaluated on validation episodes.",
                    [f"innerloop evaluate {path}"],
                )
            )
    return blocks


def train_command(material: Material, method: str) -> str:
    """The command that trains a method on the data and episodes of the report."""
    config = material.runs[0].config
    shape = (
        ""
        if (config.episode.ways, config.episode.shots) == (5, 5)
        else f" --ways {config.episode.ways} --shots {config.episode.shots}"
    )
    return f"innerloop train {method} --data {config.data.name} --split {config.data.split}{shape}"


def picture_of_accuracies(material: Material) -> Picture:
    """Accuracy of each method with its interval, and the paired differences."""
    found = material.comparison
    assert found is not None
    said = "; ".join(
        f"{row.name} {percent(row.query_accuracy, row.query_accuracy_ci95)}" for row in found.rows
    )
    return Picture(
        "accuracy",
        lambda: comparisons.draw_accuracy(found),
        f"Dots with intervals: {said}. Beside them the differences between the methods.",
        f"Query accuracy of each method and paired differences, {material.episodes} episodes, 95 "
        "% intervals over episodes.",
    )


def method_section(material: Material, method: str) -> list[Block]:
    """What every method's section has: verdict, curve, weights, settings."""
    if not (runs := material.of(method)):
        return _not_there(material, method)
    name, first = named(method), runs[0]
    validations = first.read_metrics("validation")
    blocks: list[Block] = []
    if row := material.row(method):
        said = [findings.against_bar(name, row["query_accuracy"], row["query_accuracy_ci95"], BAR)]
        said.append(
            findings.first_above(
                name,
                [record["step"] for record in validations],
                [record["query_accuracy"] for record in validations],
                BAR,
            )
        )
        blocks.append(Paragraph(" ".join(said)))
    for run in runs:
        if message := run.status.message:
            blocks.append(Paragraph(f"{code(run.path.name)}: {message}"))
    blocks += _not_there(material, method)
    blocks.append(validation_picture(first, name))
    blocks.append(weights_table(runs, name))
    blocks.append(key_settings(first, name))
    blocks.append(
        Paragraph(
            f"All settings of {name} are in the table of hyperparameters at the end, and in "
            f"{code('hyperparameters.md')} of the run directory."
        )
    )
    return blocks


def validation_picture(run: RunDirectory, name: str) -> Picture:
    """The curve that the assignment asks for."""
    records = run.read_metrics("validation")
    first, last = records[0], records[-1]
    return Picture(
        f"validation-{run.config.method}",
        lambda: figures.draw_validation(run, figures.Bar(BAR, "the assignment's bar")),
        f"Line chart of {name} over {last['step']} outer steps. Query accuracy after adaptation "
        f"goes from {percent(first['query_accuracy'], digits=1)} to "
        f"{percent(last['query_accuracy'], digits=1)}; before adaptation it ends at "
        f"{percent(last['query_accuracy_before'], digits=1)}. The bar is at {100 * BAR:g} %.",
        f"Validation accuracy of {name} before and after adaptation over the training, seed "
        f"{run.config.training.seed}; {last['episodes']} fixed episodes at each validation, "
        f"bands: 95 % over episodes; dashed: the assignment's bar of {100 * BAR:g} %.",
    )


def weights_table(runs: Sequence[RunDirectory], name: str) -> Table:
    """Where the final weights are, and their checksums."""
    rows = [
        [
            code(f"{run.path.name}/{run.weights_path.name}"),
            f"{run.weights_path.stat().st_size:,}",
            code(run.weights_sha256()),
        ]
        for run in runs
        if run.weights_path.is_file()
    ]
    return Table(f"Final weights of {name}.", ["file", "bytes", "SHA-256"], rows)


def key_settings(run: RunDirectory, name: str) -> Table:
    """The settings that the assignment names."""
    config = run.config
    batch = config.own.batch_in_words
    outer = f"Adam at {config.training.outer_lr:g}"
    outer += config.own.schedule(config.training.outer_lr)
    factor = config.network.feature_scale
    scale = "" if factor == 1 else f" times {factor:g}"
    if config.training.clip_gradient:
        outer += f", gradient clipped at norm {config.training.clip_gradient:g}"
    return Table(
        f"Main settings of {name}.",
        ["setting", "value"],
        [
            [
                "episode",
                f"{config.episode.ways}-way {config.episode.shots}-shot, "
                f"{config.episode.queries} query images a class",
            ],
            [
                "inner loop",
                f"{config.own.adaptation_steps} steps of plain gradient descent at "
                f"{config.own.rate_in_words}",
            ],
            ["outer loop", f"{outer}; {config.training.meta_steps} outer steps of {batch}"],
            [
                "network",
                f"4 blocks of {config.network.filters} filters, {config.network.downsample}, "
                f"features: {config.network.features}{scale}, "
                f"initial weights: {config.network.conv_init}",
            ],
            [
                "final weights",
                "the last ones"
                + (
                    f", as a moving average of decay {config.training.averaging:g}"
                    if config.training.averaging
                    else ""
                ),
            ],
        ],
    )


def fomaml(material: Material) -> Section:
    """FO-MAML: plot, bar, weights, settings."""
    blocks: list[Block] = [
        Paragraph(
            "FO-MAML adapts all weights to the support set S of an episode by K gradient steps "
            "from the learnt weights θ: φ_0 = θ, φ_k = φ_(k-1) - α ∇L(φ_(k-1); S). Its outer "
            "gradient is the gradient of the query loss at φ_K, applied to θ as it is: "
            "derivatives of second order are left out."
        )
    ]
    blocks += method_section(material, "fomaml")
    if run := material.first("fomaml"):
        blocks += [
            Picture(
                "loss-fomaml",
                lambda: figures.draw_loss(run),
                "Line chart on a logarithmic axis: training and validation loss of FO-MAML over "
                "the outer steps, ending at "
                f"{findings.nats(run.read_metrics('validation')[-1]['query_loss'])} in "
                "validation.",
                "Loss of FO-MAML after adaptation over the training, seed "
                f"{run.config.training.seed}.",
            ),
        ]
        if (run.path / "episode.npz").is_file():
            blocks.append(
                Picture(
                    "episode",
                    lambda: figures.draw_validation_episode(run),
                    "Drawings of one validation episode: the support set to the left, the query "
                    "drawings to the right, each with the class that was predicted; wrong ones "
                    "are framed.",
                    "One validation episode, adapted by FO-MAML. The letter under a query "
                    "drawing is its predicted class; wrong predictions are framed.",
                )
            )
    return Section("FO-MAML", blocks)


def curves(runs: Sequence[RunDirectory]) -> list[tuple[list[int], list[float]]]:
    """Outer steps and validation accuracies of each run."""
    return [
        (
            [record["step"] for record in run.read_metrics("validation")],
            [
                float("nan") if record["query_accuracy"] is None else record["query_accuracy"]
                for record in run.read_metrics("validation")
            ],
        )
        for run in runs
    ]


def mamlpp(material: Material) -> Section:
    """MAML++: the two stability plots, its measures, and what it learnt."""
    blocks: list[Block] = [
        Paragraph(
            "MAML++ changes MAML in six parts: a loss over every inner step early in the "
            "training, first order before second, batch-norm statistics and batch-norm weights "
            "of their own for every inner step, learnt inner rates for each step, and an outer "
            "rate that falls along a cosine."
        )
    ]
    if run := material.first("mamlpp"):
        off = [name for name in PARTS if run.config.flat()[name] in (False, "off")]
        blocks.append(
            Paragraph(
                f"Here {', '.join(map(code, off))} of them {'is' if len(off) == 1 else 'are'} off."
                if off
                else "Here all six are on."
            )
        )
    blocks += method_section(material, "mamlpp")
    arms = {method: material.of(method) for method in ARMS if material.of(method)}
    if {"fomaml", "mamlpp"} <= arms.keys():
        blocks += _stability(material, arms)
    elif "mamlpp" in arms:
        blocks.append(
            Missing(
                "The stability plots need FO-MAML beside MAML++.",
                [train_command(material, "fomaml")],
            )
        )
    if run := material.first("mamlpp"):
        for diagnostic in diagnostics.diagnostics_of(run):
            if diagnostic.name == "learned-rates" and (kept := findings.kept_rates(run)):
                blocks.append(Paragraph(kept))
            blocks.append(
                Picture(
                    f"{diagnostic.name}-mamlpp",
                    diagnostic.draw,
                    f"Line chart over the outer steps: {diagnostic.words} of MAML++.",
                    f"{diagnostic.words.capitalize()} of MAML++ over the training, "
                    f"seed {run.config.training.seed}.",
                )
            )
    return Section("MAML++", blocks)


PARTS = (
    "multi_step_loss",
    "derivative_order_annealing",
    "per_step_statistics",
    "per_step_affine",
    "learned_rates",
    "cosine_annealing",
)
"""The settings that switch the six parts of MAML++."""


def _stability(material: Material, arms: dict[str, list[RunDirectory]]) -> list[Block]:
    measured = {
        named(method): [measures(*curve) for curve in curves(runs)] for method, runs in arms.items()
    }
    bottom = lower_end(curves(runs) for runs in arms.values())
    end = max(steps[-1] for runs in arms.values() for steps, _ in curves(runs))
    pictures = [
        Picture(
            f"stability-{method}",
            lambda method=method: _stability_plot(arms[method], method, bottom, end),
            f"Line chart: validation accuracy of {named(method)} over the outer steps, a line "
            f"for each of {len(arms[method])} training seeds, on the axes that it shares with "
            "the other method.",
            f"Stability of {named(method)}: validation accuracy after adaptation, "
            + ("one seed; " if len(arms[method]) == 1 else "every seed thin and the median bold; ")
            + (
                f"{arms[method][0].config.training.validation_episodes} fixed episodes at each "
                f"validation. The two plots have the same axes, which begin at {bottom:g} %; "
                "what is lower is below them."
            ),
        )
        for method in ("fomaml", "mamlpp")
    ]
    rows = [
        [
            name,
            str(run.config.training.seed),
            "yes" if row["diverged"] else "no",
            *(_measure(row, key) for key in ("drawdown", "roughness", "area")),
            *(str(row.get(f"first_step_at_{level}") or "never") for level in (90, 95)),
        ]
        for (name, found), runs in zip(measured.items(), arms.values(), strict=True)
        for run, row in zip(runs, found, strict=True)
    ]
    table = Table(
        "Stability of each training, from its validation curve. Drawdown: the largest fall from "
        "a former best above 80 %, in points. Roughness: root mean square of the curve minus its "
        "running median of 5, over the last two thirds, in points. Area: mean height of the "
        "curve, %.",
        [
            "method",
            "seed",
            "diverged",
            "drawdown",
            "roughness",
            "area",
            "step at 90 %",
            "step at 95 %",
        ],
        rows,
    )
    decays = {
        named(method): run.config.training.averaging
        for method, runs in arms.items()
        for run in runs
    }
    return [
        *pictures,
        table,
        Bullets(findings.stability(measured)),
        Paragraph(findings.smoothing(decays)),
    ]


def _measure(row: dict[str, Any], key: str) -> str:
    return f"{100 * row[key]:.2f}" if key in row else "-"


def _stability_plot(runs: Sequence[RunDirectory], method: str, bottom: float, end: float) -> Figure:
    last = runs[0].read_metrics("validation")[-1]
    return draw_seeds(
        {named(method): curves(runs)},
        f"Validation accuracy of {named(method)}, every seed",
        f"{figures.describe(runs[0]).rpartition(', seed')[0]}; {last['episodes']} fixed "
        f"episodes, batch norm {last['batch_norm']}, seeds "
        f"{', '.join(str(run.config.training.seed) for run in runs)}",
        bottom=bottom,
        end=end,
        colours=[COLOURS[method]],
    )


def maml(material: Material) -> Section:
    """MAML of second order, which stands between FO-MAML and MAML++."""
    blocks: list[Block] = [
        Paragraph(
            "MAML is FO-MAML with the whole derivative: the outer gradient goes through the "
            "inner steps. MAML++, which is of second order too, is built on it; the assignment's "
            "two plots compare MAML++ with FO-MAML."
        )
    ]
    return Section("MAML, second order", blocks + method_section(material, "maml"))


def transfer(material: Material) -> Section:
    """Transfer learning: plot, pretrained weights, settings."""
    blocks: list[Block] = [
        Paragraph(
            "Transfer learning trains the network to classify all training characters. Then its "
            "features and batch-norm statistics are frozen, and every episode gets a new linear "
            "head, which is adapted on the support set."
        )
    ]
    return Section("Transfer learning", blocks + method_section(material, "transfer"))


def other_splits(material: Material) -> Section | None:
    """Runs of other data, split or episodes, with what they reach, also on test classes."""
    rows = []
    for run in material.others:
        for part in ("val", "test"):
            if row := primary_row(run, part):
                rows.append(
                    [
                        named(run.config.method),
                        f"{run.config.data.name}, {run.config.data.split}",
                        part,
                        f"{row['ways']}-way {row['shots']}-shot, {row['queries']} queries",
                        str(run.config.training.seed),
                        row["batch_norm"],
                        str(row["episodes"]),
                        f"{100 * row['query_accuracy']:.2f} ± "
                        f"{100 * row['query_accuracy_ci95']:.2f}",
                    ]
                )
    if not rows:
        return None
    return Section(
        "Other data, splits and episodes",
        [
            Paragraph(
                "These are other classes or other episodes than those above, so their accuracies "
                "do not compare."
            ),
            Table(
                "Query accuracy after adaptation, with the 95 % interval over episodes.",
                [
                    "method",
                    "data, split",
                    "part",
                    "episodes of",
                    "training seed",
                    "batch norm",
                    "episodes",
                    "query accuracy, %",
                ],
                rows,
            ),
        ],
    )
