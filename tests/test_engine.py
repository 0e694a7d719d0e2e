"""Which engine a run has, that it is recorded, and that it keeps its bits."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import innerloop
from innerloop import cli
from innerloop.core.errors import ConfigError
from innerloop.experiments import machine
from innerloop.experiments.experiment import Experiment, open_run, prepare
from innerloop.experiments.monitor import Stop
from innerloop.fast_weights import engine
from innerloop.fast_weights.fused_cpu import ready
from innerloop.fast_weights.fused_cpu.compiling import HOST
from innerloop.methods.catalogue import read_config
from innerloop.networks.conv4 import Conv4
from innerloop.runs.directory import RunDirectory
from test_environment import trained
from test_training import new_training, stop_after, tiny_settings, validator

FITTING = HOST.width
"""Filters that the fused engine takes."""


@pytest.fixture(autouse=True)
def _threads_as_they_were():
    number = torch.get_num_threads()
    yield
    engine.use_threads(number, "reference")


def prepared(
    drawings: innerloop.FewShotDataset, method: str = "fomaml", **changes: Any
) -> Experiment:
    settings = tiny_settings(method, **{"filters": FITTING, "threads": 0} | changes)
    return prepare(settings, dataset=drawings, say=lambda sentence: None)


@pytest.mark.parametrize("method", ["fomaml", "maml", "mamlpp", "transfer"])
def test_the_fused_engine_is_taken_where_it_applies_and_recorded(method, drawings, tmp_path):
    experiment = prepared(drawings, method=method)
    run = trained(experiment, tmp_path / "run")

    assert experiment.build_learner().engine == "fused"
    assert "engine: fused" in experiment.describe()
    assert run.config.machine.engine == "fused" and run.environment.engine == "fused"


def test_where_it_does_not_apply_the_run_says_why(drawings, tmp_path):
    experiment = prepared(drawings, filters=FITTING + 1)
    run = trained(experiment, tmp_path / "run")
    because = f"its {FITTING + 1} filters are no multiple of {FITTING}, this processor's vectors"

    assert f"engine: reference, because {because}" in experiment.describe()
    assert run.config.machine.engine == "reference"
    assert run.environment.engine == f"reference, because {because}"


def test_the_reference_can_be_asked_for(drawings):
    experiment = prepared(drawings, engine="reference")

    assert experiment.build_learner().engine == "reference"
    assert "engine: reference, because it was asked for" in experiment.describe()


def test_fused_is_refused_where_it_does_not_apply(drawings, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "fomaml", "--data", "strokes", "--engine", "fused", "--filters", "7"]

    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert re.search(
        r"--engine fused does not apply, because its 7 filters are no multiple of \d+, this "
        r"processor's vectors: choose --engine auto or reference\.",
        said,
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["fomaml", "mamlpp"])
def test_bits_do_not_depend_on_the_threads_of_a_run(method, drawings, tmp_path):
    weights = []
    for number in (1, 2, 3):
        experiment = prepared(drawings, method=method, threads=number, clip_gradient=0.1)
        run = trained(experiment, tmp_path / str(number))
        assert run.config.machine.threads == number and torch.get_num_threads() == 1
        weights.append(load_file(run.weights_path))

    for other in weights[1:]:
        assert all(torch.equal(other[name], value) for name, value in weights[0].items())


@pytest.mark.parametrize("method", ["fomaml", "maml", "mamlpp", "transfer"])
def test_a_resume_ends_with_the_same_bits(method, drawings, tmp_path):
    experiment = prepared(drawings, method=method)
    whole = trained(experiment, tmp_path / "whole")
    run = RunDirectory.create(experiment.config, whole.environment, tmp_path / "run")
    for step in (2, 4, None):
        training = new_training(experiment, run)
        training.resume()
        stop = stop_after(training, step) if step else lambda: None
        training.train(validator(experiment), should_stop=stop)

    assert run.weights_path.read_bytes() == whole.weights_path.read_bytes()


def half_trained(drawings: innerloop.FewShotDataset, folder: Path) -> RunDirectory:
    """A run that was stopped after its first step."""
    stop = Stop("interrupted", 130, "Stopped.")
    return trained(prepared(drawings), folder, should_stop=lambda: stop)


def test_a_run_goes_on_by_its_own_engine_unless_another_is_asked_for(drawings, tmp_path):
    run = half_trained(drawings, tmp_path / "run")
    again = prepare(run.config, dataset=drawings, say=lambda sentence: None)
    other = prepare(run.config, dataset=drawings, engine="reference", say=lambda sentence: None)

    assert again.config.machine.engine == "fused"
    assert other.config.machine.engine == "reference"
    training = new_training(other, run)
    assert training.resume() == [] and training.step == 1
    assert training.learner.engine == "reference"


def test_a_run_of_the_fused_engine_does_not_go_on_silently_without_it(
    drawings, tmp_path, monkeypatch
):
    run = half_trained(drawings, tmp_path / "run")
    monkeypatch.setitem(sys.modules, "innerloop.fast_weights.fused_cpu.architecture", None)

    with pytest.raises(ConfigError, match="does not apply, because numba cannot be used"):
        prepare(run.config, dataset=drawings, say=lambda sentence: None)


def test_a_run_from_before_there_were_engines_goes_on_by_the_reference(drawings, tmp_path):
    values = json.loads(prepared(drawings).config.to_json())
    del values["machine"]["engine"]
    config = read_config(json.dumps(values))

    assert prepare(config, dataset=drawings).config.machine.engine == "reference"


def test_evaluation_takes_the_engine_of_the_machine_it_is_on(drawings, tmp_path, monkeypatch):
    run = trained(prepared(drawings, engine="reference"), tmp_path / "run")
    monkeypatch.setattr(
        "innerloop.experiments.experiment.load_dataset", lambda *given, **named: drawings
    )
    experiment, learner = open_run(run, say=lambda sentence: None)

    assert learner.engine == experiment.config.machine.engine == "fused"
    _, learner = open_run(run, engine="reference", say=lambda sentence: None)
    assert learner.engine == "reference"


# Where kernels are kept

SCRIPT = """
import sys
from innerloop.fast_weights.fused_cpu import compiling
print(compiling.CACHE)
"""


def cache_of(environment: dict[str, str]) -> str:
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.strip()


def test_kernels_are_kept_in_the_cache_folder_of_ones_own(tmp_path):
    assert cache_of({"INNERLOOP_CACHE": str(tmp_path)}).startswith(str(tmp_path / "kernels"))


def test_without_a_folder_to_write_to_kernels_are_compiled_anew(tmp_path):
    (tmp_path / "file").touch()

    assert cache_of({"INNERLOOP_CACHE": str(tmp_path / "file")}) == "None"


def test_what_is_waited_for_is_said_once(tmp_path, monkeypatch):
    monkeypatch.setattr(ready, "CACHE", tmp_path)
    said: list[str] = []
    for _ in range(2):
        ready.make_ready(Conv4(2, filters=FITTING, image_size=32), said.append)

    assert len(said) == 1 and said[0].startswith("Compiling the fused engine for this processor")


def test_a_learner_of_the_package_computes_by_the_engine_that_applies():
    learner = innerloop.pretrained("fomaml-omniglot")

    assert learner.engine == "auto"
    assert engine.why_reference(learner.get_submodule("model"), "auto") is None


# Precision


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_a_precision_for_gpus_is_refused_elsewhere(precision, drawings):
    with pytest.raises(ConfigError, match=f"--precision {precision} is for a CUDA device, and cpu"):
        prepared(drawings, precision=precision)


def test_on_a_cpu_a_run_is_of_float32_and_its_learner_too(drawings):
    experiment = prepared(drawings)

    assert experiment.config.machine.precision == "float32"
    assert experiment.build_learner().precision == "float32"
    assert "float32" not in experiment.describe()


@pytest.mark.parametrize(
    ("precision", "engine", "words"),
    [
        ("auto", "auto", "fused"),
        ("tf32", "auto", "fused; tf32"),
        ("bfloat16", "fused", "fused; bfloat16"),
        ("tf32", "reference", "reference, because it was asked for; tf32"),
    ],
)
def test_on_a_gpu_the_fused_engine_has_every_precision(precision, engine, words, monkeypatch):
    """As far as settings go: nothing is computed, so that no GPU is needed."""
    taken: list[str] = []
    monkeypatch.setattr(machine, "use_products", taken.append)
    config = tiny_settings(filters=7).replace(device="cuda", precision=precision, threads=0)
    resolved, said = machine.on_this_machine(config, 1, engine, pytest.fail)

    expected = "float32" if precision == "auto" else precision
    assert said == words and resolved.machine.precision == expected and taken == [expected]
    assert resolved.machine.episodes_per_chunk == config.machine.episodes_per_chunk


def test_the_reference_has_no_bfloat16(monkeypatch):
    config = tiny_settings().replace(device="cuda", precision="bfloat16")

    with pytest.raises(ConfigError, match="--precision bfloat16 is for the fused engine, which"):
        machine.on_this_machine(config, 1, "reference", pytest.fail)


def test_a_precision_that_was_trained_by_on_a_gpu_is_none_of_a_cpu(drawings, tmp_path, monkeypatch):
    run = trained(prepared(drawings), tmp_path / "run")
    path = run.path / "config.json"
    values = json.loads(path.read_text("utf-8"))
    values["machine"] |= {"device": "cuda", "precision": "bfloat16"}
    path.write_text(json.dumps(values), "utf-8")
    monkeypatch.setattr(
        "innerloop.experiments.experiment.load_dataset", lambda *given, **named: drawings
    )
    experiment, _ = open_run(RunDirectory(run.path), device="cpu", say=lambda sentence: None)

    assert experiment.config.machine.precision == "float32"
