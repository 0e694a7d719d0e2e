"""``MODEL_CARD.md``: what a weight file is, was made from, reaches, and is not for."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from innerloop.core.files import write_atomic
from innerloop.core.intervals import intervals_in_words
from innerloop.methods.catalogue import find_card
from innerloop.report.document import code
from innerloop.report.figures.run import data_name
from innerloop.report.findings import WITHOUT_BATCH_NORM, counted
from innerloop.report.material import named
from innerloop.report.render.markdown import table, text
from innerloop.runs import reading
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import evaluations, is_own, over_other_shapes
from innerloop.runs.results import EvaluationRow
from innerloop.settings.run import RunConfig
from innerloop.settings.sections import NETWORKS, DataSettings

LICENCES = {
    "omniglot": (
        "Code and weights: MIT. Omniglot is by Brenden Lake and others, under the MIT licence."
    ),
    "strokes": "Code, data and weights: MIT.",
}
"""Of weights, by the data that they were trained on."""
NOT_KNOWN = (
    "Code: MIT. Whether the weights may be passed on depends on the licence of the pictures, which "
    "is not known here."
)

WEIGHTS = {"conv4": "model.convs.{}.weight", "resnet12": "model.residual.{}.shortcut.weight"}
"""What tells by its first dimension how many channels a block of a network has."""


def model_card(run: RunDirectory, weights: Path | None = None) -> str:
    """The text of a run's ``MODEL_CARD.md``; ``weights`` if they are not those in its directory."""
    config = run.config
    weights = weights or run.weights_path
    environment = run.environment
    never_drawn = "" if environment.never_drawn == "-" else f" {text(environment.never_drawn)}"
    lines = [
        f"# {text(f'{named(config.method)} on {data_name(config.data.name)}')}",
        "",
        f"Weights: `{weights.name}`, {weights.stat().st_size:,} bytes, safetensors. "
        f"SHA-256 `{reading.sha256(weights)}`.",
        "",
        "## What it is",
        "",
        f"{_network(run)} for pictures "
        f"of {config.data.image_size} x {config.data.image_size} pixels, trained by "
        f"{text(named(config.method))} to tell {config.episode.ways} new classes apart from "
        f"{counted(config.episode.shots, 'picture')} of each. It is adapted to new classes before "
        "it is used; as it is it knows none.",
        "",
        "## Training",
        "",
        f"{config.training.meta_steps} outer steps of {config.own.batch_in_words}, Adam at "
        f"{config.training.outer_lr:g}, training seed {config.training.seed}, on the training "
        f"classes of split {text(code(config.data.split))}.{never_drawn} All settings: "
        f"`hyperparameters.md` and `config.json`. innerloop {environment.innerloop}, PyTorch "
        f"{environment.torch}.",
        "",
        "## Results",
        "",
        *_results(run),
        "",
        "## Limits",
        "",
        _made_for(config.data),
        _other_pictures(config),
        _classes(config.data),
        "",
        "## Licence",
        "",
        LICENCES.get(config.data.name, NOT_KNOWN),
        "",
    ]
    return "\n".join(lines)


def _network(run: RunDirectory) -> str:
    """The network, as the beginning of a sentence: from the file, since a method may have its own.

    A file that is damaged says nothing; whoever opens it is told.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(run.weights_path, framework="numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
    except SafetensorError:
        return "A network, whose file is damaged,"
    network = run.config.network
    if network.name in WEIGHTS:
        names = [WEIGHTS[network.name].format(number) for number in range(4)]
        blocks = [shapes.get(name, [])[:1] for name in names]
        if blocks == [[filters] for filters in network.channels_of_blocks]:
            return f"A network of {network.blocks_in_words}"
    owner = "method" if network.name in WEIGHTS else "user"
    numbers = sum(math.prod(shape) for shape in shapes.values())
    return f"A network of its {owner}'s own, {len(shapes)} tensors of {numbers:,} numbers in all,"


def _made_for(data: DataSettings) -> str:
    if data.are_drawings:
        return (
            "- Made for research and teaching with clean line drawings; not tried on photographs."
        )
    return "- Made for research and teaching, and tried on the pictures named here alone."


def _other_pictures(config: RunConfig) -> str:
    if find_card(config.method).transductive:
        return (
            "- It is transductive: every accuracy uses the other query pictures of an episode, as "
            "many of each class as there are here."
        )
    words = "Accuracies under batch norm transductive use the other query pictures of an episode."
    own = f" {WITHOUT_BATCH_NORM}" if config.network.name not in NETWORKS else ""
    return f"- {words}{own}"


def _classes(data: DataSettings) -> str:
    if data.are_drawings:
        return "- The classes are characters of scripts; it holds no personal data."
    return f"- The classes are folders of {data.name}; what the pictures show is not known here."


def _results(run: RunDirectory) -> list[str]:
    trained = [
        row for part in ("val", "test") for row in evaluations(run, part) if is_own(run, row)
    ]
    others = over_other_shapes(run)
    lines = []
    if not trained:
        command = code(f"innerloop evaluate {shlex.quote(run.path.name)}")
        lines.append(text(f"Not evaluated yet on episodes as in training: {command}."))
    else:
        episode = run.config.episode
        lines += [
            f"Query accuracy after {run.config.own.adaptation_in_words}, {episode.ways}-way "
            f"{episode.shots}-shot, {episode.queries} query pictures a class, "
            f"with the {_intervals(trained)}:",
            "",
            *table(MEASURED, [_measured(row) for row in trained]),
        ]
    if others:
        shapes = [f"{row.ways}-way {row.shots}-shot, {row.queries}" for row in others]
        lines += [
            "",
            f"On episodes of other shapes, with the {_intervals(others)}:",
            "",
            *table(
                ["episodes, query pictures a class", *MEASURED],
                [[shape, *_measured(row)] for shape, row in zip(shapes, others, strict=True)],
            ),
        ]
    return lines


MEASURED = ["part", "batch norm", "episodes", "accuracy, %"]


def _measured(row: EvaluationRow) -> list[str]:
    return [
        row.part,
        row.batch_norm,
        str(row.episodes),
        f"{100 * row.query_accuracy:.2f} ± {100 * row.query_accuracy_ci95:.2f}",
    ]


def _intervals(rows: Sequence[EvaluationRow]) -> str:
    return intervals_in_words([(f"{row.part}, {row.batch_norm}", row.covers) for row in rows])


def write_model_card(run: RunDirectory) -> None:
    """Write ``MODEL_CARD.md`` beside a run's final weights.

    Raises:
        DiskError: if it cannot be written.
    """
    write_atomic(run.path / "MODEL_CARD.md", model_card(run))
