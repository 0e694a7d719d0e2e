"""`bundle --check` on real weights, through the command."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from innerloop import cli
from innerloop.assignment import check, pack
from innerloop.core.components import Design
from innerloop.core.intervals import mean_and_interval
from innerloop.data.images import FewShotDataset
from innerloop.data.splits import find_split
from innerloop.experiments import experiment as experiments
from innerloop.experiments.experiment import Experiment
from innerloop.experiments.training import train
from innerloop.report.material import Material
from innerloop.runs.directory import RunDirectory
from innerloop.runs.weights import load_weights, save_weights
from test_training import new_run, tiny_settings

EPISODES = 20
PACK = ["bundle", "runs", "--name", "Ada", "--student-number", "7"]
STEM = "Ada_7_Assignment2"

Drawn = dict[tuple[Any, ...], list[tuple[str, bytes]]]
"""Files of a hand-in, by what they are made from."""


def draw_once(patch: pytest.MonkeyPatch, drawn: Drawn) -> None:
    """Let what is packed of the same bytes be drawn once: drawing is nearly all of packing's time.

    Everything else is done each time, and what was changed is drawn. That the same is drawn from
    the same, `test_what_was_trained_and_evaluated_passes_with_every_episode` holds without this.
    """
    results = pack._results
    report = pack._report

    def results_once(run: RunDirectory) -> list[tuple[str, bytes]]:
        key = read_of(run)
        if key not in drawn:
            drawn[key] = list(results(run))
        return drawn[key]

    def report_once(material: Material) -> list[tuple[str, bytes]]:
        assert material.explanation is None, "the key does not have it"
        people = (material.author, *material.collaborators, *material.references)
        key = (material.folder, people, *map(read_of, material.runs))
        if key not in drawn:
            drawn[key] = list(report(material))
        return drawn[key]

    patch.setattr(pack, "_results", results_once)
    patch.setattr(pack, "_report", report_once)


def read_of(run: RunDirectory) -> tuple[Any, ...]:
    """The name of a run, and all that a hand-in has of it but for what is written anew."""
    files = sorted(path for pattern in pack.KEPT for path in run.path.glob(pattern))
    sums = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.suffix != ".md"
    }
    return run.path.name, *sums.items()


@pytest.fixture(scope="module")
def small(drawings: FewShotDataset) -> FewShotDataset:
    """The drawings' middles, 16 pixels wide."""
    return FewShotDataset(
        "strokes", np.ascontiguousarray(drawings.images[..., 6:22, 6:22]), drawings.class_names
    )


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    """What was drawn for the tests of this file."""
    return {}


@pytest.fixture(scope="module")
def trained(small: FewShotDataset, drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three evaluated runs and the archive of them; read-only."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "load_dataset", lambda *_, **__: small)
        for method in ("fomaml", "mamlpp", "transfer"):
            tiny = Experiment(
                tiny_settings(method, meta_steps=2, ways=3, queries=5),
                small,
                find_split("alphabets", small),
            )
            path = folder / "runs" / method
            path.parent.mkdir(exist_ok=True)
            train(tiny, new_run(tiny, path))
            assert cli.main(["evaluate", str(path), "--episodes", str(EPISODES)]) == 0
        patch.chdir(folder)
        draw_once(patch, drawn)
        assert cli.main(PACK) == 0
    return folder


@pytest.fixture
def place(small: FewShotDataset, tmp_path: Path, monkeypatch) -> Path:
    """An empty folder to work in, where the drawings are the data."""
    monkeypatch.setattr(experiments, "load_dataset", lambda *_, **__: small)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def runs(trained: Path, drawn: Drawn, place: Path, monkeypatch) -> Path:
    """A copy of the runs, to be changed before they are packed."""
    draw_once(monkeypatch, drawn)
    return Path(shutil.copytree(trained / "runs", place / "runs"))


def checked() -> int:
    """Exit code of the check of the archive that lies here."""
    return cli.main(["bundle", "--check", f"{STEM}.zip", "--json"])


def packed_and_checked() -> int:
    """Exit code of the check of the runs as they are now, with a report that is made from them."""
    assert cli.main(PACK) == 0
    return checked()


def change_evaluations(run: Path, change: Callable[[list[float]], list[float]]) -> None:
    """Change the accuracies of a run's episodes, and whatever follows from them."""
    for file in run.glob("evaluation-*.json"):
        row: dict[str, Any] = json.loads(file.read_text())
        each = change(row["query_accuracy_per_episode"])
        design = Design(len(each), np.array(row["episode_classes"]))
        mean, half = mean_and_interval(np.array(each), design)
        row["query_accuracy_per_step"][row["inner_steps"]] = mean
        file.write_text(
            json.dumps(
                row
                | {"query_accuracy": mean, "query_accuracy_ci95": half}
                | {"query_accuracy_per_episode": each}
            )
        )


def test_what_was_trained_and_evaluated_passes_with_every_episode(trained, place, capsys):
    """The check draws all of it anew, in a folder of another name."""
    shutil.copy(trained / f"{STEM}.zip", place)

    assert checked() == 0

    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert [(row["episodes"], row["agree"]) for row in rows] == [(EPISODES, EPISODES)] * 3
    assert all(row["stored"] == pytest.approx(row["again"], abs=1e-6) for row in rows)


@pytest.mark.parametrize("method", ["fomaml", "mamlpp", "transfer"])
def test_weights_of_another_training_are_refused(method, runs, capsys):
    """Sound in themselves, of the same shapes, and packed with a report of their own."""
    file = runs / method / "model.safetensors"
    weights = load_weights(file)
    draw = torch.Generator().manual_seed(1)
    others = {
        name: torch.randn(weight.shape, generator=draw)
        for name, weight in weights.items()
        if not name.rpartition(".")[2].startswith("running")
    }
    config = (runs / method / "config.json").read_text()
    save_weights(file, weights | others, {"method": method, "config": config})

    assert packed_and_checked() == 5
    assert f"{method}: its weights give" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("points", [-0.1, 0.1])
def test_accuracies_that_the_weights_do_not_give_are_refused(points, runs, capsys):
    """A tenth more or less, in the evaluation, the results and the report alike."""
    change_evaluations(
        runs / "fomaml", lambda each: [min(max(value + points, 0.0), 1.0) for value in each]
    )

    assert packed_and_checked() == 5
    assert "fomaml: " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("episodes", [2, 9, 10, 11, 12, 99, 100, 101, 109, 600, 601])
def test_any_episode_may_be_evaluated_again_and_of_few_all_are(episodes):
    drawn = [check._drawn(episodes) for _ in range(300)]

    for blocks in drawn:
        numbers = [number for block in blocks for number in block]
        assert all(len(block) >= 2 for block in blocks)
        assert numbers == sorted(set(numbers)) and numbers[-1] < episodes
        assert len(numbers) == episodes if episodes <= 101 else len(numbers) >= 91
    seen = {number for blocks in drawn for block in blocks for number in block}
    # A block of sixty is missed in 300 draws of ten once in 10^23 times.
    assert seen == set(range(episodes))


def test_an_interval_that_is_not_that_of_its_episodes_is_refused(runs, capsys):
    for file in (runs / "fomaml").glob("evaluation-*.json"):
        row = json.loads(file.read_text())
        file.write_text(json.dumps(row | {"query_accuracy_ci95": 1e-4}))

    assert packed_and_checked() == 5
    assert "fomaml: its interval is not that of" in capsys.readouterr().err.splitlines()[-1]


def test_classes_that_its_episodes_do_not_have_are_refused(runs, capsys):
    """Each episode with classes of its own would make the interval narrower."""
    for file in runs.glob("*/evaluation-*.json"):
        row = json.loads(file.read_text())
        others = np.arange(EPISODES * 3).reshape(EPISODES, 3)
        each = np.array(row["query_accuracy_per_episode"])
        _, half = mean_and_interval(each, Design(EPISODES, others))
        forged = {"episode_classes": others.tolist(), "query_accuracy_ci95": half}
        file.write_text(json.dumps(row | forged))

    assert packed_and_checked() == 5
    assert "fomaml: its evaluation names other classes" in capsys.readouterr().err.splitlines()[-1]


def test_episodes_that_were_exchanged_are_refused(runs, capsys):
    """The mean is the same: only a comparison of each episode can see it."""
    change_evaluations(runs / "fomaml", lambda each: [*each[1:], each[0]])

    assert packed_and_checked() == 5
    assert "fomaml: its weights give" in capsys.readouterr().err.splitlines()[-1]
