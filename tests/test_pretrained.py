"""The networks in the package are the published ones, whole, and say what they were measured at."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import innerloop
from innerloop.cli.app import main
from innerloop.core.errors import ConfigError, DataError
from innerloop.data.images import FewShotDataset
from innerloop.experiments import pretrained as room
from innerloop.experiments.evaluation import evaluate_run
from innerloop.experiments.experiment import open_run
from innerloop.experiments.pretrained import pretrained_names, pretrained_run

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
OF_METHODS = ["fomaml-omniglot", "maml-omniglot", "mamlpp-omniglot", "transfer-omniglot"]
STRONGEST = "omniglot"
FIRST = 50


def test_the_strongest_and_those_of_four_methods_are_there_and_small():
    assert pretrained_names() == sorted([STRONGEST, *OF_METHODS])
    for name in OF_METHODS:
        assert pretrained_run(name).weights_path.stat().st_size < 500_000
    assert pretrained_run(STRONGEST).weights_path.stat().st_size < 2_100_000


@pytest.mark.parametrize("name", pretrained_names())
def test_weights_are_those_of_their_checksum_card_and_settings(name):
    run = pretrained_run(name)
    checksum = hashlib.sha256(run.weights_path.read_bytes()).hexdigest()
    lines = (run.path.parent / "SHA256SUMS").read_text().splitlines()

    assert f"{checksum}  {name}/model.safetensors" in lines
    card = (run.path / "MODEL_CARD.md").read_text("utf-8")
    assert f"{run.weights_path.stat().st_size:,} bytes" in card
    assert checksum in card
    assert run.config.method == ("protonet" if name == STRONGEST else name.partition("-")[0])
    assert (run.config.data.split, run.config.training.seed) == ("assignment", 0)


@pytest.mark.parametrize("name", pretrained_names())
def test_a_pretrained_network_adapts_to_classes_it_has_not_seen(name, drawings: FewShotDataset):
    """They tell synthetic characters apart, which none was trained on, far better than chance."""
    episodes = innerloop.EpisodeSampler(
        drawings, np.arange(100), ways=5, shots=5, queries=15, seed=0, stream_name="val"
    ).batch(0, 8)
    learner = innerloop.pretrained(name)

    logits = learner.predict(learner.adapt(episodes.support, steps=5), episodes.query.images)

    assert innerloop.accuracy(logits, episodes.query.labels).mean() > 0.6


def test_the_classification_layer_of_pretraining_is_not_needed():
    learner = innerloop.pretrained("transfer-omniglot")

    assert learner.state_dict()["model.head.weight"].shape == (5, 64)


def test_any_other_tensor_that_is_missing_is_an_error(tmp_path, monkeypatch):
    from safetensors.torch import load_file

    from innerloop.runs.weights import save_weights

    shutil.copytree(pretrained_run("transfer-omniglot").path, tmp_path / "transfer-omniglot")
    file = tmp_path / "transfer-omniglot" / "model.safetensors"
    weights = load_file(file)
    del weights["model.convs.2.weight"]
    save_weights(file, weights)
    monkeypatch.setattr(room, "_FOLDER", tmp_path)

    with pytest.raises(DataError, match=r"lacks tensor 'model\.convs\.2\.weight'"):
        innerloop.pretrained("transfer-omniglot")


def test_a_name_that_is_not_there_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'transfer-omniglot'"):
        innerloop.pretrained("tranfer-omniglot")


def test_two_learners_share_nothing():
    first = innerloop.pretrained("fomaml-omniglot")
    second = innerloop.pretrained("fomaml-omniglot")
    with torch.no_grad():
        for weight in first.parameters():
            weight.zero_()

    assert all(weight.abs().sum() > 0 for weight in second.parameters() if weight.ndim == 4)


def test_a_command_that_writes_into_a_run_says_that_evaluate_alone_takes_them(capsys):
    assert main(["resume", "pretrained:fomaml-omniglot"]) == 2

    assert "innerloop brings along is for innerloop evaluate alone" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif("INNERLOOP_DATA" not in os.environ, reason="needs Omniglot's drawings")
def test_evaluating_one_in_the_shell_prints_its_row_and_writes_nothing(capsys):
    folder = pretrained_run("fomaml-omniglot").path
    before = sorted(folder.iterdir())

    assert main(["evaluate", "pretrained:fomaml-omniglot", "--episodes", "4", "--json"]) == 0

    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["batch_norm"] for row in rows} == {"transductive", "support"}
    assert sorted(folder.iterdir()) == before


@pytest.mark.slow
@pytest.mark.skipif("INNERLOOP_DATA" not in os.environ, reason="needs Omniglot's drawings")
@pytest.mark.parametrize("name", pretrained_names())
def test_the_published_accuracy_of_the_first_episodes_is_found_exactly(name):
    run = pretrained_run(name)
    experiment, learner = open_run(run)
    mode = learner.batch_norm_modes[0]
    if name == STRONGEST:
        folder, steps, shape = RESULTS / "strongest" / "strongest-s0", 1, "20w1s3q-1steps"
    else:
        folder = RESULTS / "accuracy" / f"{run.config.method}-omniglot-5w5s-s0"
        steps, shape = 5, "5w5s15q-5steps"
    file = folder / f"evaluation-assignment-val-{shape}-{mode}.json"
    published = json.loads(file.read_text())["query_accuracy_per_episode"]

    (evaluation,) = evaluate_run(
        experiment, learner, part="val", episodes=FIRST, inner_steps=steps, batch_norms=(mode,)
    )

    assert evaluation.row(step=steps).query_accuracy_per_episode == pytest.approx(
        published[:FIRST], abs=1e-9
    )
