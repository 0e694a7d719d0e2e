"""``MODEL_CARD.md``: what a weight file is, was made from, reaches, and is not for."""

from innerloop.analysis.comparison import evaluations, is_own
from innerloop.report.figures.run import data_name
from innerloop.report.material import named
from innerloop.runs.directory import RunDirectory, write_atomic


def model_card(run: RunDirectory) -> str:
    """The text of a run's ``MODEL_CARD.md``."""
    config, environment = run.config, run.environment
    on_images = environment.get("trains_on") == "images"
    batch = f"{config.batch_size} images" if on_images else f"{config.meta_batch_size} episodes"
    lines = [
        f"# {named(config.method)} on {data_name(config.data)}",
        "",
        f"Weights: `{run.weights_path.name}`, {run.weights_path.stat().st_size:,} bytes, "
        f"safetensors. SHA-256 `{run.weights_sha256()}`.",
        "",
        "## What it is",
        "",
        f"A network of 4 convolutional blocks of {config.filters} filters for pictures of "
        f"{config.image_size} x {config.image_size} pixels, trained by {named(config.method)} to "
        f"tell {config.ways} new classes apart from {config.shots} pictures of each. It is "
        "adapted to new classes before it is used; as it is it knows none.",
        "",
        "## Training",
        "",
        f"{config.meta_steps} outer steps of {batch}, Adam at {config.outer_lr:g}, training seed "
        f"{config.seed}, on the training classes of split `{config.split}`. All settings: "
        f"`hyperparameters.md` and `config.json`. innerloop {environment.get('innerloop', '-')}, "
        f"PyTorch {environment.get('torch', '-')}.",
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
        if config.data == "omniglot"
        else "Code, data and weights: MIT.",
        "",
    ]
    return "\n".join(lines)


def _results(run: RunDirectory) -> list[str]:
    rows = [row for part in ("val", "test") for row in evaluations(run, part) if is_own(run, row)]
    if not rows:
        return [f"Not evaluated yet: `innerloop evaluate {run.path.name}`."]
    return [
        f"Query accuracy after {run.config.inner_steps} inner steps at {run.config.inner_rate}, "
        f"{run.config.ways}-way {run.config.shots}-shot, {run.config.queries} query pictures a "
        "class, with the 95 % interval over episodes:",
        "",
        "| part | batch norm | episodes | accuracy, % |",
        "|---|---|---|---|",
        *(
            f"| {row['part']} | {row['batch_norm']} | {row['episodes']} | "
            f"{100 * row['query_accuracy']:.2f} ± {100 * row['query_accuracy_ci95']:.2f} |"
            for row in rows
        ),
    ]


def write_model_card(run: RunDirectory) -> None:
    """Write ``MODEL_CARD.md`` beside a run's final weights.

    Raises:
        DiskError: if it cannot be written.
    """
    write_atomic(run.path / "MODEL_CARD.md", model_card(run))
