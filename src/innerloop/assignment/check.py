"""Check a hand-in: every checksum, every accuracy of its report, and what its weights do."""

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from innerloop.assignment.hand_in import HandInRow, read_rows
from innerloop.assignment.pack import NEEDED, SUMS
from innerloop.core.errors import ConfigError, DataError
from innerloop.core.files import read_json
from innerloop.core.zips import Limits, open_archive
from innerloop.experiments.evaluation import evaluate_run
from innerloop.experiments.experiment import open_run
from innerloop.methods.catalogue import names
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import primary_rows
from innerloop.runs.results import EvaluationRow

LIMITS = Limits(entries=50_000, file_bytes=2**31, total_bytes=2**31)
"""Beyond which an archive is not unpacked."""
CHECKED_EPISODES = 100
LEVEL = 0.005
"""Another processor rounds differently, so that a query picture may change its class: means may
differ by this."""


@dataclass(frozen=True)
class CheckedRun:
    """What a run's weights gave when they were evaluated again.

    Attributes:
        run: its name.
        episodes: that were evaluated again.
        stored, again: mean accuracy over them, as the archive has it and as it is now.
        agree: so many episodes have the stored accuracy exactly.
    """

    run: str
    episodes: int
    stored: float
    again: float
    agree: int


def check(
    path: Path,
    *,
    data_dir: Path | None = None,
    device: str | None = None,
    say: Callable[[str], None] = print,
) -> list[CheckedRun]:
    """Unpack an archive to a temporary place, verify it, and evaluate its weights again.

    Args:
        path: the archive.
        data_dir: where Omniglot's archives are.
        device: where to compute, see `experiments.experiment.device_for`.
        say: told in sentences what is done.

    Returns:
        What came of each run.

    Raises:
        DataError: if the archive is damaged, a file was changed, added or taken away (it is named),
            the weights do not give the stored accuracies, or the report does not say them.
    """
    with tempfile.TemporaryDirectory() as temporary:
        root = _unpacked(path, Path(temporary))
        say(f"{path}: every file matches its checksum.")
        for needed in ("report.html", "report.pdf", "results.json"):
            if not (root / needed).is_file():
                raise DataError(f"{path} holds no {needed}.")
        page = (root / "report.html").read_text(encoding="utf-8", errors="replace")
        # Without figures and tags, among whose coordinates any number can be found by chance.
        words = re.sub(r"<svg.*?</svg>|<[^>]+>", " ", page, flags=re.DOTALL)
        rows = _rows(root / "results.json")
        return [
            _checked(root / "runs" / row.run, row, words, data_dir, device, say) for row in rows
        ]


def _say_quarters(done: int, episodes: int, say: Callable[[str], None]) -> None:
    if done < episodes and done % max(episodes // 4, 1) == 0:
        say(f"  {done} of {episodes}")


def _rows(file: Path) -> list[HandInRow]:
    """What the archive says of its runs; those that the assignment needs are among them."""
    rows = read_rows(file)
    try:
        configs = [read_json(file.parent / "runs" / row.run / "config.json") for row in rows]
        methods = {str(config["method"]) for config in configs}
    except (ConfigError, KeyError) as error:
        raise DataError(f"{file.name} has a run whose method is not known: {error}.") from error
    # Before a configuration is read: a method's card is imported from wherever its name says.
    for method in methods - set(names()):
        raise DataError(
            f"{file.name} has a run of {method!r}; only {', '.join(names())} are checked."
        )
    if missing := set(NEEDED) - methods:
        raise DataError(f"{file.name} lacks a run of {', '.join(sorted(missing))}.")
    return rows


def _unpacked(path: Path, folder: Path) -> Path:
    """The archive's folder, once every file is what its checksum says."""
    root, content = _content(path)
    _verify(path, content)
    try:
        for name, data in content.items():
            target = folder / root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    except OSError as error:
        raise DataError(f"{path} cannot be unpacked: {error}.") from error
    return folder / root


def _content(path: Path) -> tuple[str, dict[str, bytes]]:
    """The name of the archive's one folder, and its files; nothing is written."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    with file, open_archive(file, str(path), LIMITS) as archive:
        root = _root(path, archive.names)
        content = {name.removeprefix(f"{root}/"): archive.read(name) for name in archive.names}
    return root, content


def _root(path: Path, names: list[str]) -> str:
    """The one folder that all files of a hand-in are in."""
    if not any(name.endswith(f"/{SUMS}") for name in names):
        raise DataError(f"{path} is no hand-in: it holds no {SUMS}.")
    for name in names:
        if "/" not in name:
            raise DataError(f"{path} holds {name!r}, which is in no folder.")
    root, *others = {name.partition("/")[0] for name in names}
    if others or f"{root}/{SUMS}" not in names:
        raise DataError(f"{path} is no hand-in: {SUMS} and all the rest are not in one folder.")
    return root


def _verify(path: Path, content: dict[str, bytes]) -> None:
    """Hold every file against its checksum; name the first that was changed, added or removed."""
    wanted = dict(_wanted(path, content[SUMS]))
    for name in sorted(wanted.keys() | content.keys() - {SUMS}):
        if name not in content:
            raise DataError(f"{path}: {name} is missing, which {SUMS} names.")
        if name not in wanted:
            raise DataError(f"{path}: {name} was added; it is not in {SUMS}.")
        if hashlib.sha256(content[name]).hexdigest() != wanted[name]:
            raise DataError(f"{path}: {name} was changed; its checksum is not the one in {SUMS}.")


def _wanted(path: Path, sums: bytes) -> Iterator[tuple[str, str]]:
    for line in sums.decode("utf-8", errors="replace").splitlines():
        if not (parts := re.fullmatch(r"([0-9a-f]{64})  (.+)", line)):
            raise DataError(f"{path}: {SUMS} has a line that is no checksum: {line[:80]!r}.")
        yield parts[2], parts[1]


def _checked(
    path: Path,
    row: HandInRow,
    words: str,
    data_dir: Path | None,
    device: str | None,
    say: Callable[[str], None],
) -> CheckedRun:
    """Compare what is said of a run with its evaluation, the report, and what its weights do."""
    run = RunDirectory(path)
    evaluation = _evaluation_of(run, row)
    _refuse_unsaid(row, words)
    episodes = min(CHECKED_EPISODES, row.episodes)
    say(f"{row.run}: {episodes} episodes are evaluated again.")
    again = _evaluated_again(run, row, episodes, data_dir, device, say)
    stored = np.array(evaluation.query_accuracy_per_episode)[:episodes]
    shown = (
        f"{100 * again.mean():.2f} % on {episodes} episodes, and the archive says "
        f"{100 * stored.mean():.2f} %"
    )
    if abs(again.mean() - stored.mean()) > LEVEL:
        raise DataError(f"{row.run}: its weights give {shown}.")
    agree = int(np.isclose(again, stored, atol=1e-5).sum())
    say(f"{row.run}: {shown}; {agree} of {episodes} episodes agree exactly.")
    return CheckedRun(row.run, episodes, float(stored.mean()), float(again.mean()), agree)


def _evaluation_of(run: RunDirectory, row: HandInRow) -> EvaluationRow:
    """The run's evaluation; it says what the hand-in says, and its mean is that of its episodes."""
    evaluations = primary_rows(run, row.part, row.episodes)
    if not evaluations or not row.agrees_with(evaluations[0]):
        raise DataError(f"{row.run}: results.json and its evaluation do not agree.")
    mean = np.mean(evaluations[0].query_accuracy_per_episode)
    if not np.isclose(mean, row.query_accuracy, atol=1e-6):
        raise DataError(f"{row.run}: its mean accuracy is not that of its episodes.")
    return evaluations[0]


def _refuse_unsaid(row: HandInRow, words: str) -> None:
    accuracy = f"{100 * row.query_accuracy:.2f}"
    if accuracy not in words:
        raise DataError(f"{row.run}: the report does not say its accuracy, {accuracy} %.")


def _evaluated_again(
    run: RunDirectory,
    row: HandInRow,
    episodes: int,
    data_dir: Path | None,
    device: str | None,
    say: Callable[[str], None],
) -> np.ndarray:
    """(episodes,) accuracies that the weights give on the first episodes."""
    experiment, learner = open_run(run, data_dir=data_dir, device=device, say=say)
    mode = row.batch_norm
    if mode not in learner.batch_norm_modes:
        raise DataError(f"{row.run}: its method has no batch norm {mode!r}.")
    (evaluation,) = evaluate_run(
        experiment,
        learner,
        part=row.part,
        episodes=episodes,
        inner_steps=row.inner_steps,
        batch_norms=(mode,),
        on_episodes=lambda done: _say_quarters(done, episodes, say),
    )
    return evaluation.query_accuracy[:, row.inner_steps]
