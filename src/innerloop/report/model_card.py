"""``MODEL_CARD.md``: what a weight file is, was made from, reaches, and is not for."""

import shlex

from innerloop.core.files import write_atomic
from innerloop.report.document import code
from innerloop.report.figures.run import data_name
from innerloop.report.material import named
from innerloop.report.render.markdown import table, text
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import evaluations, is_own


def model_card(run: RunDirectory) -> str:
    """The text of a run's ``MODEL_CARD.md``."""
    config = run.config
    environment = run.environment
    lines = [
        f"# {text(f'{named(config.method)} on {data_name(config.data.name)}')}",
        "",
        f"Weights: `{run.weights_path.name}`, {run.weights_path.stat().st_size:,} bytes, "
        f"safetensors. SHA-256 `{run.weights_sha256()}`.",
        "",
        "## What it is",
        "",
        f"A network of 4 convolutional blocks of {config.network.filters} filters for pictures "
        f"of {config.data.image_size} x {config.data.image_size} pixels, trained by "
        f"{text(named(config.method))} to tell {config.episode.ways} new classes apart from "
        f"{config.episode.shots} pictures of each. It is adapted to new classes before it is "
        "used; as it is it knows none.",
        "",
        "## Training",
        "",
        f"{config.training.meta_steps} outer steps of {config.own.batch_in_words}, Adam at "
        f"{config.training.outer_lr:g}, training seed {config.training.seed}, on the training "
        f"classes of split {text(code(config.data.split))}. All settings: `hyperparameters.md` and "
        f"`config.json`. innerloop {environment.innerloop}, PyTorch "
        f"{environment.torch}.",
        "",
        "## Results",
        "",
        *_results(run),
        "",
        "## Limits",
        "",
        "- Made for research and teaching with clean line drawings; not tried on photographs.",
        "- Accuracies under batch norm transductive use the other query pictures of an episode.",
        "- The classes are characters of scripts; it holds no personal data.",
        "",
        "## Licence",
        "",
        "Code and weights: MIT. Omniglot is by Brenden Lake and others, under the MIT licence."
        if config.data.name == "omniglot"
        else "Code, data and weights: MIT.",
        "",
    ]
    return "\n".join(lines)


def _results(run: RunDirectory) -> list[str]:
    rows = [row for part in ("val", "test") for row in evaluations(run, part) if is_own(run, row)]
    if not rows:
        return [
            text(f"Not evaluated yet: {code(f'innerloop evaluate {shlex.quote(run.path.name)}')}.")
        ]
    return [
        f"Query accuracy after {run.config.own.adaptation_in_words}, {run.config.episode.ways}-way "
        f"{run.config.episode.shots}-shot, {run.config.episode.queries} query pictures a class, "
        "with the 95 % interval over episodes:",
        "",
        *table(
            ["part", "batch norm", "episodes", "accuracy, %"],
            [
                [
                    row.part,
                    row.batch_norm,
                    str(row.episodes),
                    f"{100 * row.query_accuracy:.2f} ± {100 * row.query_accuracy_ci95:.2f}",
                ]
                for row in rows
            ],
        ),
    ]


def write_model_card(run: RunDirectory) -> None:
    """Write ``MODEL_CARD.md`` beside a run's final weights.

    Raises:
        DiskError: if it cannot be written.
    """
    write_atomic(run.path / "MODEL_CARD.md", model_card(run))
