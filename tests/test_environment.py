"""What the caller, the shell or the machine has set does not leak into a run."""

import ast
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import innerloop
from innerloop.cli import main
from innerloop.core.errors import ConfigError
from innerloop.core.files import expanded
from innerloop.data.splits import find_split
from innerloop.experiments.environment import environment
from innerloop.experiments.evaluation import evaluate
from innerloop.experiments.experiment import Experiment, open_run, prepare
from innerloop.experiments.monitor import stop_on_signals
from innerloop.experiments.training import train
from innerloop.runs.directory import RunDirectory
from innerloop.runs.weights import load_weights
from making import make_run
from test_training import TINY

SOURCE = Path(innerloop.__file__).parent


def test_nothing_is_guarded_by_an_assert():
    """`python -O` takes them out: what guards a user or a file must be an error of its own."""
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]

    assert found == []


# What the caller has set


def trained(experiment: Experiment, folder: Path, **how: Any) -> RunDirectory:
    run = RunDirectory.create(experiment.config, environment(experiment), folder)
    train(experiment, run, say=lambda sentence: None, **how)
    return run


def accuracies(run: RunDirectory, drawings: innerloop.FewShotDataset) -> list[list[float]]:
    experiment = prepare(run.config, dataset=drawings)
    learner = experiment.build_learner()
    learner.load_state_dict(load_weights(run.weights_path, learner.state_dict()))
    (row,) = evaluate(
        learner,
        experiment.evaluation_sampler("val"),
        episodes=2,
        steps=1,
        batch_norms=learner.batch_norm_modes[:1],
        split="alphabets",
        part="val",
        origin=experiment.origin(),
    )
    return row.query_accuracy.tolist()


@pytest.fixture(scope="module")
def usual(drawings, tmp_path_factory) -> RunDirectory:
    return trained(prepare(TINY, dataset=drawings), tmp_path_factory.mktemp("usual") / "run")


@pytest.mark.parametrize("state", ["float64", "meta", "no gradients", "inference"])
def test_a_run_is_the_same_whatever_the_caller_has_set_in_pytorch(state, drawings, usual, tmp_path):
    expected = accuracies(usual, drawings)
    contexts = {
        "meta": torch.device("meta"),
        "no gradients": torch.no_grad(),
        "inference": torch.inference_mode(),
    }
    if state == "float64":
        torch.set_default_dtype(torch.float64)
    try:
        with contexts.get(state, torch.enable_grad()):
            run = trained(prepare(TINY, dataset=drawings), tmp_path / "run")
            measured = accuracies(run, drawings)
            assert torch.is_inference_mode_enabled() == (state == "inference")
            assert torch.is_grad_enabled() == (state in ("float64", "meta"))
            assert torch.get_default_device().type == ("meta" if state == "meta" else "cpu")
            assert torch.get_default_dtype() == torch.zeros(0).dtype
    finally:
        torch.set_default_dtype(torch.float32)

    assert run.weights_path.read_bytes() == usual.weights_path.read_bytes()
    assert measured == expected


def test_a_training_from_another_thread_than_the_main_one_is_the_same(drawings, usual, tmp_path):
    runs: list[RunDirectory] = []

    def work() -> None:
        with stop_on_signals(None) as should_stop:
            experiment = prepare(TINY, dataset=drawings)
            runs.append(trained(experiment, tmp_path / "run", should_stop=should_stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert runs[0].weights_path.read_bytes() == usual.weights_path.read_bytes()


def test_a_wall_clock_that_jumps_leaves_no_negative_duration(drawings, tmp_path, monkeypatch):
    clock = iter(range(10**9, 0, -(10**6)))
    monkeypatch.setattr("time.time", lambda: float(next(clock)))

    run = trained(prepare(TINY, dataset=drawings), tmp_path / "run")

    seconds = [record["elapsed_s"] for record in run.read_metrics("train")]
    assert seconds == sorted(seconds) and seconds[0] >= 0


# A device is where a run computes


@pytest.fixture
def from_cuda(usual, tmp_path, monkeypatch) -> RunDirectory:
    """A run as one trained on a GPU leaves it, on a machine without one."""
    run = RunDirectory.create(
        usual.config.replace(device="cuda"), usual.environment, tmp_path / "gpu"
    )
    run.weights_path.write_bytes(usual.weights_path.read_bytes())
    run.set_status("finished", 6)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return run


@pytest.fixture
def found(drawings, monkeypatch) -> None:
    monkeypatch.setattr("innerloop.experiments.experiment.load_dataset", lambda *a, **k: drawings)


def test_a_run_trained_on_cuda_opens_without_one_and_says_so(from_cuda, found, usual):
    said: list[str] = []
    before = (from_cuda.path / "config.json").read_bytes()

    experiment, learner = open_run(from_cuda, say=said.append)

    assert experiment.config.machine.device == "cpu"
    assert said == [f"{from_cuda.path} was trained on cuda; here it is computed on cpu."]
    assert next(learner.parameters()).device.type == "cpu"
    assert (from_cuda.path / "config.json").read_bytes() == before


def test_a_run_of_other_classes_under_the_same_name_is_refused(found, usual, drawings, tmp_path):
    """Those that another version's list held out may have been trained on."""
    other = Path(shutil.copytree(usual.path, tmp_path / "run"))
    recorded = json.loads((other / "env.json").read_text("utf-8"))
    assert recorded["split_digest"] == find_split("alphabets", drawings).digest
    (other / "env.json").write_text(json.dumps(recorded | {"split_digest": "another"}))
    sentence = "trained on another list of classes than split 'alphabets' has now: split_digest"

    with pytest.raises(ConfigError, match=sentence):
        open_run(RunDirectory(other))
    with pytest.raises(ConfigError, match=sentence):
        train(prepare(TINY, dataset=drawings), RunDirectory(other), resume=True)
    # Of a run that did not record it, nothing is known.
    (other / "env.json").write_text(json.dumps(recorded | {"split_digest": "-"}))
    open_run(RunDirectory(other))


def test_a_device_that_was_asked_for_and_is_not_there_is_refused(usual, found):
    with pytest.raises(ConfigError, match="Device 'cuda' cannot be used on this machine"):
        open_run(usual, device="cuda", say=lambda sentence: None)


def test_a_training_of_another_device_goes_on_here_to_the_same_weights(
    usual, found, drawings, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    here = prepare(TINY, dataset=drawings)
    elsewhere = here.config.replace(device="cuda")
    run = RunDirectory.create(elsewhere, environment(here), tmp_path / "run")

    assert main(["resume", str(run.path)]) == 0

    assert f"{run.path} was trained on cuda; here it is computed on cpu." in capsys.readouterr().out
    assert run.config.machine.device == "cuda"
    mine = load_weights(run.weights_path)
    theirs = load_weights(usual.weights_path)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


# Paths and streams


def test_a_tilde_is_the_home_folder_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for seed in (0, 1):
        make_run(tmp_path, "maml", seed, name=f"run{seed}", inner_lr=0.1 + seed)

    runs = [f"~/run{seed}" for seed in (0, 1)]
    assert main(["compare", *runs, "--episodes", "8", "--out=~/out"]) == 0

    assert (tmp_path / "out" / "comparison.json").is_file()
    assert RunDirectory(Path("~/run0")).path == tmp_path / "run0"
    with pytest.raises(ConfigError, match="begins with a home folder that there is not"):
        expanded("~nobody-of-this-name/runs")


def innerloop_in_shell(line: str, folder: Path, **environment: str) -> Any:
    return subprocess.run(
        ["sh", "-c", line.replace("innerloop", f"{sys.executable} -m innerloop", 1)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True,
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-", "<&- >&- 2>&-"])
def test_with_closed_streams_a_command_does_its_work_and_no_file_takes_their_place(
    closed, tmp_path
):
    for seed in (0, 1):
        make_run(tmp_path, "maml", seed, name=f"run{seed}", inner_lr=0.1 + seed)

    line = f"innerloop compare run0 run1 --episodes 8 --out out --json {closed}"
    done = innerloop_in_shell(line, tmp_path)

    assert done.returncode == 0 and b"Traceback" not in done.stderr
    json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8").startswith("# ")


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> Path:
    """Two runs, and in ``usual`` their comparison by a usual shell."""
    folder = tmp_path_factory.mktemp("shells")
    for seed in (0, 1):
        make_run(folder, "maml", seed, name=f"run é{seed}", inner_lr=0.1 + seed)
    assert innerloop_in_shell(f"{COMPARE} usual", folder).returncode == 0
    return folder


COMPARE = "innerloop compare run* --episodes 8 --out"


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "TERM": "dumb", "COLUMNS": "x", "NO_COLOR": "1"},
        {"PYTHONOPTIMIZE": "1", "PYTHONHASHSEED": "7", "TZ": "Nowhere/Land"},
    ],
)
def test_a_shell_without_utf8_gets_the_same_files(environment, compared, tmp_path):
    other = innerloop_in_shell(f"{COMPARE} {tmp_path / 'other'}", compared, **environment)

    assert other.returncode == 0, other.stderr
    for name in ("comparison.json", "comparison.md", "figures/accuracy.png"):
        assert (tmp_path / "other" / name).read_bytes() == (compared / "usual" / name).read_bytes()
