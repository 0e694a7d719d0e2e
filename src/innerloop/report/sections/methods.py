"""The section of a report on one method: what it is, what it reached, training and settings."""

import shlex
from collections.abc import Sequence

from innerloop.core.intervals import interval_in_words
from innerloop.methods.card import Card
from innerloop.methods.catalogue import find_card
from innerloop.report.document import (
    Block,
    Bullets,
    Missing,
    Paragraph,
    Section,
    Table,
    code,
)
from innerloop.report.figures.run import Bar
from innerloop.report.findings import percent
from innerloop.report.material import Material, named
from innerloop.report.sections import adaptation, pictures
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import primary_row
from innerloop.settings.run import RunConfig
from innerloop.settings.sections import EpisodeSettings

SWITCHED_OFF = (False, "off")


def section(material: Material, method: str) -> Section:
    """What a method's card says of it, and what its runs hold."""
    card = find_card(method)
    run = material.first(method)
    blocks: list[Block] = [Paragraph(card.idea)]
    if card.papers:
        blocks += [Paragraph("From:"), Bullets([str(paper) for paper in card.papers])]
    if run and card.parts:
        blocks.append(Paragraph(parts_in_words(card, run.config)))
    if row := material.row(method):
        accuracy = percent(row.query_accuracy, row.query_accuracy_ci95)
        sentence = f"{card.title} has {accuracy} query accuracy after adaptation"
        blocks.append(Paragraph(f"{sentence}, {interval_in_words(row.covers)}."))
    blocks += trained(material, method)
    if run:
        blocks += adaptation.blocks(material, method)
        blocks += pictures.of_training(run, card.title)
    return Section(card.title, blocks)


def parts_in_words(card: Card, config: RunConfig) -> str:
    """Which parts of a method are on, and which are off."""
    values = config.flat()
    off = [part for part in card.parts if values[part] in SWITCHED_OFF]
    on = [part for part in card.parts if part not in off]
    if not off:
        return f"All its parts are on: {_listed(on)}."
    if not on:
        return f"All its parts are off: {_listed(off)}."
    return f"Parts that are on: {_listed(on)}. Off: {_listed(off)}."


def _listed(parts: Sequence[str]) -> str:
    return ", ".join(map(code, parts))


def trained(material: Material, method: str, bar: Bar | None = None) -> list[Block]:
    """What every method's section has: messages, what is missing, curve, weights, settings.

    Args:
        material: of the report.
        method: one of it, or one that should be.
        bar: drawn into the curve.
    """
    runs = material.of(method)
    if not runs:
        return not_there(material, method)
    name = named(method)
    first = runs[0]
    blocks: list[Block] = [
        Paragraph(f"{code(run.path.name)}: {message}")
        for run in runs
        if (message := run.status.message)
    ]
    return [
        *blocks,
        *not_there(material, method),
        pictures.validation(first, name, bar),
        weights_table(runs, name),
        key_settings(first.config, name),
        Paragraph(
            f"All settings of {name} are in the table of hyperparameters at the end, and in "
            f"{code('hyperparameters.md')} of the run directory."
        ),
    ]


def not_there(material: Material, method: str) -> list[Block]:
    """What is missing of a method, with the commands that make it."""
    runs = [run for run in material.main if run.config.method == method]
    if not runs:
        return [Missing(f"{named(method)} was not trained.", [train_command(material, method)])]
    blocks: list[Block] = []
    for run in runs:
        name = code(run.path.name)
        path = material.path(run)
        if not run.weights_path.is_file():
            blocks.append(Missing(f"{name} is not finished.", [f"innerloop resume {path}"]))
        elif primary_row(run, "val") is None:
            sentence = f"{name} was not evaluated on validation episodes."
            blocks.append(Missing(sentence, [f"innerloop evaluate {path}"]))
    return blocks


def train_command(material: Material, method: str) -> str:
    """The command that trains a method on the data and episodes of the report."""
    config = material.runs[0].config
    data = shlex.quote(config.data.asked_for)
    command = f"innerloop train {method} --data {data} --split {config.data.split}"
    episode = config.episode
    usual = EpisodeSettings()
    if (episode.ways, episode.shots) != (usual.ways, usual.shots):
        command += f" --ways {episode.ways} --shots {episode.shots}"
    if episode.queries != usual.queries:
        command += f" --queries {episode.queries}"
    return command


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


def key_settings(config: RunConfig, name: str) -> Table:
    """The settings that are asked for first."""
    episode = config.episode
    average = config.training.averaging
    shape = f"{episode.ways}-way {episode.shots}-shot, {episode.queries} query images a class"
    averaged = f", as a moving average of decay {average:g}" if average else ""
    return Table(
        f"Main settings of {name}.",
        ["setting", "value"],
        [
            ["episode", shape],
            ["inner loop", config.own.inner_loop_in_words],
            ["outer loop", _outer_loop(config)],
            ["network", config.network.in_words],
            ["final weights", f"the last ones{averaged}"],
        ],
    )


def _outer_loop(config: RunConfig) -> str:
    own = config.own
    training = config.training
    most = training.clip_gradient
    clipping = f", gradient clipped at norm {most:g}" if most else ""
    return (
        f"Adam at {training.outer_lr:g}{own.schedule(training.outer_lr)}{clipping}; "
        f"{training.meta_steps} outer steps of {own.batch_in_words}"
    )
