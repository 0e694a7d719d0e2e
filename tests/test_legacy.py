"""A run directory and a checkpoint of version 0.1 are read, and mean the same, from now on."""

import shutil
import sys
from pathlib import Path

import numpy as np
import torch

from innerloop import cli
from innerloop.experiments.experiment import open_run
from innerloop.report.report import document, read_material
from innerloop.runs.directory import RunDirectory

LEGACY = Path(__file__).parent / "legacy"
sys.path.insert(0, str(LEGACY))
from make import logits_of  # noqa: E402

RUN = LEGACY / "0.1" / "run"


def test_the_weights_give_the_same_logits_and_classes():
    with np.load(LEGACY / "0.1" / "episode.npz", allow_pickle=False) as stored:
        episode = dict(stored)
    _, learner = open_run(RunDirectory(RUN))

    logits = logits_of(learner, episode["support"], episode["labels"], episode["query"]).numpy()

    assert np.abs(logits - episode["logits"]).max() < 1e-6
    assert (logits.argmax(1) == episode["logits"].argmax(1)).all()
    assert np.abs(episode["logits"]).max() > 0.01, "or any weights would do"


def test_it_is_said_to_be_of_version_1(capsys):
    sentence = f"{RUN / 'config.json'} is of format version 1; it is read as version 2"

    open_run(RunDirectory(RUN))
    assert sentence in capsys.readouterr().out
    assert RunDirectory(RUN).remark.startswith(sentence)


def test_the_run_directory_is_reported():
    made = document(read_material([RUN]))

    assert "validation-mamlpp" in {picture.name for picture in made.pictures}


def test_the_checkpoint_is_gone_on_with_to_the_same_weights(tmp_path):
    """From its last checkpoint, at the final step, all that is left is to write the weights."""
    run = RunDirectory(Path(shutil.copytree(RUN, tmp_path / "run")))
    final = run.weights_path.read_bytes()
    run.weights_path.unlink()
    run.set_status("interrupted", 6)

    assert cli.main(["resume", str(run.path), "--json"]) == 0

    assert run.weights_path.read_bytes() == final


def test_other_weights_would_be_noticed():
    _, learner = open_run(RunDirectory(RUN))
    with np.load(LEGACY / "0.1" / "episode.npz", allow_pickle=False) as stored:
        episode = dict(stored)
    with torch.no_grad():
        next(iter(learner.parameters())).mul_(1.01)

    logits = logits_of(learner, episode["support"], episode["labels"], episode["query"]).numpy()

    assert np.abs(logits - episode["logits"]).max() > 1e-6
