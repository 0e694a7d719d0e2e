"""`bundle --check` on real weights, through the command."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from innerloop import cli
from innerloop.assignment.pack import SUMS
from innerloop.data.images import FewShotDataset
from innerloop.data.splits import find_split
from innerloop.experiments import experiment as experiments
from innerloop.experiments.experiment import Experiment
from innerloop.experiments.training import train
from innerloop.runs.weights import load_weights, save_weights
from test_training import new_run, tiny_settings

EPISODES = 20
PACK = ["bundle", "runs", "--name", "Ada", "--student-number", "7"]
STEM = "Ada_7_Assignment2"


@pytest.fixture(scope="module")
def small(drawings: FewShotDataset) -> FewShotDataset:
    """The drawings' middles, 16 pixels wide."""
    return FewShotDataset(
        "strokes", np.ascontiguousarray(drawings.images[..., 6:22, 6:22]), drawings.class_names
    )


@pytest.fixture(scope="module")
def trained(small: FewShotDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
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
        assert cli.main(PACK) == 0
    return folder


@pytest.fixture
def content(trained: Path, small: FewShotDataset, tmp_path: Path, monkeypatch) -> dict[str, bytes]:
    """The files of the archive, to be changed."""
    monkeypatch.setattr(experiments, "load_dataset", lambda *_, **__: small)
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(trained / f"{STEM}.zip") as packed:
        return {name.removeprefix(f"{STEM}/"): packed.read(name) for name in packed.namelist()}


def checked(content: dict[str, bytes]) -> int:
    """Exit code of the check, once all is packed again with the checksums of what is there."""
    sums = (
        f"{hashlib.sha256(data).hexdigest()}  {name}\n"
        for name, data in sorted(content.items())
        if name != SUMS
    )
    content[SUMS] = "".join(sums).encode()
    with zipfile.ZipFile("forged.zip", "w") as archive:
        for name, data in content.items():
            archive.writestr(f"{STEM}/{name}", data)
    return cli.main(["bundle", "--check", "forged.zip", "--json"])


def change_evaluations(
    content: dict[str, bytes], run: str, change: Callable[[list[float]], list[float]]
) -> None:
    """Change the accuracies of a run's episodes, and whatever follows from them."""
    rows: list[dict[str, Any]] = json.loads(content["results.json"])
    of_run = next(row for row in rows if row["run"] == run)
    for name in [name for name in content if name.startswith(f"runs/{run}/evaluation-")]:
        row: dict[str, Any] = json.loads(content[name])
        each = change(row["query_accuracy_per_episode"])
        mean, half = float(np.mean(each)), float(1.96 * np.std(each, ddof=1) / len(each) ** 0.5)
        row["query_accuracy_per_step"][row["inner_steps"]] = mean
        row["query_accuracy_per_step_ci95"][row["inner_steps"]] = half
        changed = {"query_accuracy": mean, "query_accuracy_ci95": half}
        if row["batch_norm"] == of_run["batch_norm"]:
            said = f"{100 * of_run['query_accuracy']:.2f}".encode()
            page = content["report.html"].replace(said, f"{100 * mean:.2f}".encode())
            content["report.html"] = page
            of_run |= {key: changed[key] for key in changed.keys() & of_run.keys()}
        row |= changed | {"query_accuracy_per_episode": each}
        content[name] = json.dumps(row).encode()
    content["results.json"] = json.dumps(rows).encode()


def test_what_was_trained_and_evaluated_passes_with_every_episode(content, capsys):
    assert checked(content) == 0

    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert [(row["episodes"], row["agree"]) for row in rows] == [(EPISODES, EPISODES)] * 3
    assert all(row["stored"] == pytest.approx(row["again"], abs=1e-6) for row in rows)


@pytest.mark.parametrize("method", ["fomaml", "mamlpp"])
def test_weights_of_another_training_are_refused(method, content, trained, tmp_path, capsys):
    """Sound in themselves, of the same shapes, and packed with right checksums."""
    weights = load_weights(trained / "runs" / method / "model.safetensors")
    draw = torch.Generator().manual_seed(1)
    others = {
        name: torch.randn(weight.shape, generator=draw)
        for name, weight in weights.items()
        if not name.rpartition(".")[2].startswith("running")
    }
    config = content[f"runs/{method}/config.json"].decode()
    path = tmp_path / "model.safetensors"
    save_weights(path, weights | others, {"method": method, "config": config})
    content[f"runs/{method}/model.safetensors"] = path.read_bytes()

    assert checked(content) == 5
    assert f"{method}: " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("points", [-0.05, 0.05])
def test_accuracies_that_the_weights_do_not_give_are_refused(points, content, capsys):
    """Five points, in the evaluation, the results and the report alike."""
    change_evaluations(content, "fomaml", lambda each: [value + points for value in each])

    assert checked(content) == 5
    assert "fomaml: " in capsys.readouterr().err.splitlines()[-1]


def test_episodes_that_were_exchanged_do_not_all_agree(content, capsys):
    """The mean is the same: only a comparison of each episode can see it."""
    change_evaluations(content, "fomaml", lambda each: [*each[1:], each[0]])

    if checked(content) == 0:
        rows = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
        of_run = next(row for row in rows if row["run"] == "fomaml")
        assert of_run["agree"] < EPISODES
