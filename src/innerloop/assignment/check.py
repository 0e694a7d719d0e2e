"""Check a hand-in: every checksum, every accuracy of its report, and what its weights do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

import numpy as np

from innerloop.assignment.hand_in import HandInRow, read_rows
from innerloop.assignment.pack import NEEDED
from innerloop.assignment.rebuild import refuse_what_its_runs_do_not_give
from innerloop.assignment.unpack import unpacked
from innerloop.core.errors import DataError
from innerloop.core.files import read_json, temporary_folder
from innerloop.core.intervals import mean_and_interval
from innerloop.experiments.evaluation import evaluate_run
from innerloop.experiments.experiment import open_run
from innerloop.fast_weights.engine import Engine
from innerloop.methods.catalogue import names
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import primary_rows
from innerloop.runs.results import EvaluationRow
from innerloop.runs.weights import weights_settings
from innerloop.settings.sections import NETWORKS

BLOCKS = 10
BLOCK = 10
"""So many times so many episodes in a row are evaluated again, drawn anew for every check: who
changed others than these could not know it."""
DIFFERENT = 0.02
"""Another processor rounds differently, so that a query picture may change its class. Of 1600
episodes (4 methods, other threads, vector instructions and libraries) not one changed; this part of
the episodes may, or one of a few."""
DIFFERENT_PICTURES = 2
"""By so many query pictures at most."""


@dataclass(frozen=True)
class CheckedRun:
    """What a run's weights gave when they were evaluated again.

    Attributes:
        run: its name.
        episodes: how many were evaluated again.
        stored, again: mean accuracy over them, as the archive has it and as it is now.
        agree: so many episodes have the stored accuracy exactly.
    """

    run: str
    episodes: int
    stored: float
    again: float
    agree: int


@dataclass(frozen=True)
class Checked:
    """What came of a check.

    Attributes:
        runs: of each run.
        remarks: differences that are no fault, in sentences.
    """

    runs: list[CheckedRun]
    remarks: list[str]


def check(
    path: Path,
    *,
    data_dir: Path | None = None,
    device: str | None = None,
    engine: Engine = "auto",
    say: Callable[[str], None] = print,
) -> Checked:
    """Unpack an archive to a temporary place, verify it, and evaluate its weights again.

    Args:
        path: the archive.
        data_dir: where Omniglot's archives are.
        device: where to compute, see `experiments.machine.device_for`.
        engine: what computes.
        say: told in sentences what is done.

    Returns:
        What came of it.

    Raises:
        DataError: if the archive is damaged, a file was changed, added or taken away (it is named),
            report and plots are not what its runs give, or the weights do not give the stored
            accuracies.
    """
    with temporary_folder() as temporary:
        root, content = unpacked(path, temporary)
        say(f"{path}: every file matches its checksum.")
        for needed in ("report.html", "report.pdf", "results.json"):
            if needed not in content:
                raise DataError(f"{path} holds no {needed}.")
        rows = _rows(root / "results.json")
        evaluations = [_evaluation_of(RunDirectory(root / "runs" / row.run), row) for row in rows]
        remarks = refuse_what_its_runs_do_not_give(path, root, content, say)
        runs = [
            _checked(
                RunDirectory(root / "runs" / row.run),
                row,
                evaluation,
                data_dir,
                device,
                engine,
                say,
            )
            for row, evaluation in zip(rows, evaluations, strict=True)
        ]
    return Checked(runs, remarks)


def _say_quarters(done: int, episodes: int, say: Callable[[str], None]) -> None:
    if done < episodes and done % max(episodes // 4, 1) == 0:
        say(f"  {done} of {episodes}")


def _rows(file: Path) -> list[HandInRow]:
    """What the archive says of its runs; those that the assignment needs are among them."""
    rows = read_rows(file)
    methods = {row.run: _method(file.parent / "runs" / row.run) for row in rows}
    # Before a configuration is read: a method's card is imported from wherever its name says.
    for config in sorted((file.parent / "runs").glob("*/config.json")):
        if (method := _method(config.parent)) not in names():
            raise DataError(
                f"{file.name} has a run of {method!r}; only {', '.join(names())} are checked."
            )
        if (network := _network(config)) not in NETWORKS:  # imported by its name, too
            raise DataError(
                f"{file.name} has a run with the network {network!r}; only {', '.join(NETWORKS)} "
                "are checked."
            )
    if missing := set(NEEDED) - set(methods.values()):
        raise DataError(f"{file.name} lacks a run of {', '.join(sorted(missing))}.")
    return rows


def _method(run: Path) -> str:
    config = read_json(run / "config.json")
    if "method" not in config:
        raise DataError(f"{run.name} is a run whose method is not known.")
    return str(config["method"])


def _network(config: Path) -> str:
    """The network of a configuration; of one that names none, the only one that there was."""
    section = read_json(config).get("network")
    return str(section.get("name", NETWORKS[0])) if isinstance(section, dict) else NETWORKS[0]


def _checked(
    run: RunDirectory,
    row: HandInRow,
    evaluation: EvaluationRow,
    data_dir: Path | None,
    device: str | None,
    engine: Engine,
    say: Callable[[str], None],
) -> CheckedRun:
    """Compare a run's evaluation with what its weights do."""
    _refuse_nameless(run)
    numbers = _drawn(row.episodes)
    episodes = sum(map(len, numbers))
    say(f"{row.run}: {episodes} of {row.episodes} episodes, drawn anew, are evaluated again.")
    again, classes = _evaluated_again(run, row, numbers, data_dir, device, engine, say)
    chosen = np.concatenate([np.array(block) for block in numbers])
    stored = np.array(evaluation.query_accuracy_per_episode)[chosen]
    if evaluation.episode_classes is not None and not np.array_equal(
        np.array(evaluation.episode_classes)[chosen], classes
    ):
        raise DataError(f"{row.run}: its evaluation names other classes than its episodes have.")
    agree = int(np.isclose(again, stored, atol=1e-5).sum())
    shown = (
        f"{100 * again.mean():.2f} % on {episodes} episodes, and the archive says "
        f"{100 * stored.mean():.2f} %; {agree} of {episodes} episodes agree exactly"
    )
    if is_more_than_rounding(again, stored, row.ways * row.queries):
        raise DataError(f"{row.run}: its weights give {shown}: that is more than rounding.")
    say(f"{row.run}: {shown}.")
    return CheckedRun(row.run, episodes, float(stored.mean()), float(again.mean()), agree)


def _drawn(episodes: int) -> list[range]:
    """Numbers of episodes in blocks, in order: all of them where they are few."""
    # One episode alone cannot be evaluated: it belongs to the block before.
    starts = range(0, max(episodes - 1, 1), BLOCK)
    chosen = sorted(SystemRandom().sample(starts, min(BLOCKS, len(starts))))
    return [range(start, episodes if start == starts[-1] else start + BLOCK) for start in chosen]


def _refuse_nameless(run: RunDirectory) -> None:
    """Raise `DataError` for weights that do not say of which method and settings they are."""
    if weights_settings(run.weights_path) is None:
        raise DataError(
            f"{run.path.name}: its weights do not say of which method and settings they are."
        )


def is_more_than_rounding(again: np.ndarray, stored: np.ndarray, pictures: int) -> bool:
    """Whether accuracies differ in more episodes, or further, than another processor makes them.

    Args:
        again: (episodes,) accuracies.
        stored: (episodes,) of the same episodes.
        pictures: in the query set of each.
    """
    different = ~np.isclose(again, stored, atol=1e-5)
    if different.sum() > max(1, DIFFERENT * len(stored)):
        return True
    return bool(np.abs(again - stored).max() * pictures > DIFFERENT_PICTURES + 0.5)


def _evaluation_of(run: RunDirectory, row: HandInRow) -> EvaluationRow:
    """The run's evaluation; it says what the hand-in says, and its mean is that of its episodes."""
    evaluations = primary_rows(run, row.part, row.episodes)
    if not evaluations or not row.agrees_with(evaluations[0]):
        raise DataError(f"{row.run}: results.json and its evaluation do not agree.")
    (evaluation, *_) = evaluations
    each = np.array(evaluation.query_accuracy_per_episode)
    mean, half = mean_and_interval(each, evaluation.design)
    if not np.isclose(mean, row.query_accuracy, atol=1e-6):
        raise DataError(f"{row.run}: its mean accuracy is not that of its episodes.")
    if not np.isclose(half, evaluation.query_accuracy_ci95, atol=1e-5):
        raise DataError(f"{row.run}: its interval is not that of its episodes.")
    return evaluation


def _evaluated_again(
    run: RunDirectory,
    row: HandInRow,
    numbers: Sequence[range],
    data_dir: Path | None,
    device: str | None,
    engine: Engine,
    say: Callable[[str], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies (episodes,) that the weights give on these episodes; their classes, by row."""
    experiment, learner = open_run(run, data_dir=data_dir, device=device, engine=engine, say=say)
    mode = row.batch_norm
    if mode not in learner.batch_norm_modes:
        raise DataError(f"{row.run}: its method has no batch norm {mode!r}.")
    episodes = sum(map(len, numbers))
    accuracies = []
    classes = []
    for block in numbers:
        (evaluation,) = evaluate_run(
            experiment,
            learner,
            part=row.part,
            episodes=len(block),
            first=block.start,
            inner_steps=row.inner_steps,
            batch_norms=(mode,),
        )
        accuracies.append(evaluation.query_accuracy[:, row.inner_steps])
        classes.append(evaluation.classes)
        _say_quarters(sum(map(len, accuracies)), episodes, say)
    return np.concatenate(accuracies), np.concatenate(classes)
