"""One run on many processes: the bits of one, whoever is killed, missing or slow."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from innerloop.core.errors import ConfigError
from innerloop.core.processes import this_process
from innerloop.experiments import ranks
from innerloop.experiments.messages import packed, unpacked
from innerloop.runs.directory import run_of_job
from making import make_run

SETTINGS = (
    "--data strokes --filters 16 --meta-batch-size 5 --threads 1 --validation-episodes 5 "
    "--validation-every 4 --checkpoint-every 2"
).split()
INNERLOOP = [sys.executable, "-m", "innerloop"]
# `--standalone` takes a free port, so that two tests at a time do not meet on torchrun's own.
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def test_shares_cover_all_pieces_once_and_the_first_always_has_one(monkeypatch):
    for size in range(1, 9):
        monkeypatch.setattr(ranks, "size", lambda size=size: size)
        for count in range(1, 20):
            shares = [ranks.share(count, number) for number in range(size)]

            assert [piece for share in shares for piece in share] == list(range(count))
            assert len(shares[0]) == max(map(len, shares))


def test_tensors_of_all_types_are_packed_to_the_bit():
    tensors = [
        torch.tensor([True, False]),
        torch.tensor(3, dtype=torch.int64),
        torch.randn(2, 3),
        torch.randn(5).double(),
        torch.zeros(0, 4),
    ]
    like = [torch.empty_like(of) for of in tensors]

    for one, other in zip(tensors, unpacked(packed(tensors), like), strict=True):
        assert torch.equal(one, other) and one.dtype == other.dtype


def test_processes_divide_cores_and_keep_all_where_there_are_too_few():
    cores = [0, 2, 3, 5, 8]
    for count in range(1, 6):
        parts = [ranks.part_of_cores(cores, place, count) for place in range(count)]
        assert [core for part in parts for core in part] == cores and all(parts)
    assert ranks.part_of_cores(cores, 6, 7) == cores


AFFINITY = """
import os, sys
from pathlib import Path
from innerloop.experiments.ranks import joined, rank
before = os.sched_getaffinity(0)
if sys.argv[2] == "given":
    os.sched_setaffinity(0, [sorted(before)[int(os.environ["LOCAL_RANK"])]])
with joined():
    Path(sys.argv[1], str(rank())).write_text(repr(sorted(os.sched_getaffinity(0))))
assert sys.argv[2] == "given" or os.sched_getaffinity(0) == before
"""


@pytest.mark.skipif(
    len(getattr(os, "sched_getaffinity", lambda _: [0])(0)) < 2, reason="needs cores to divide"
)
@pytest.mark.parametrize("by", ["itself", "given"])
def test_each_process_of_a_machine_computes_on_cores_of_its_own(by, tmp_path):
    script = tmp_path / "affinity.py"
    script.write_text(AFFINITY)
    subprocess.run([*TORCHRUN, str(script), str(tmp_path), by], check=True, capture_output=True)

    first, second = (set(json.loads((tmp_path / name).read_text())) for name in "01")
    assert first and second and not first & second


def test_a_system_without_affinities_is_left_alone(monkeypatch):
    for name in ("sched_getaffinity", "sched_setaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    with ranks.on_own_cores():
        assert not hasattr(os, "sched_setaffinity")


def test_alone_nothing_is_asked_of_others():
    assert this_process({}).size == ranks.size() == 1
    assert ranks.over([3, 4], lambda item: item + 1) == [4, 5]
    assert ranks.gathered("all") == ["all"]


def test_processes_that_differ_are_refused(monkeypatch):
    others = [{"weights": "a", "data set": "1"}, {"weights": "b", "data set": "1"}]
    monkeypatch.setattr(ranks, "gathered", lambda own: others)

    with pytest.raises(ConfigError, match="Process 1 has another weights than process 0, 'b' and"):
        ranks.refuse_others(others[0])


def test_pieces_that_do_not_meet_are_refused(monkeypatch):
    """By a process that found another number of them, as where a chunk has another size."""
    monkeypatch.setattr(ranks, "size", lambda: 2)
    counts = iter([[{"number of pieces": "2"}, {"number of pieces": "3"}]])
    monkeypatch.setattr(ranks, "gathered", lambda own: next(counts))

    with pytest.raises(ConfigError, match="another number of pieces"):
        ranks.over([1, 2], str)


def test_a_restart_finds_the_run_of_its_own_command(tmp_path):
    for name, command in (("a", "innerloop train maml"), ("b", "innerloop train maml --seed 1")):
        run = make_run(tmp_path, "maml", name=name)
        environment = run.path / "env.json"
        recorded = json.loads(environment.read_text()) | {"job": "SLURM 7", "command": command}
        environment.write_text(json.dumps(recorded))

    found = run_of_job(tmp_path, "SLURM 7", "innerloop train maml")

    assert found is not None and found.path.name == "a"
    assert run_of_job(tmp_path, "SLURM 7", "innerloop train fomaml") is None
    assert run_of_job(tmp_path, "SLURM 8", "innerloop train maml") is None


# Real processes


def started(
    arguments: Sequence[str],
    count: int,
    *,
    patience: int = 120,
    missing: Sequence[int] = (),
    of_the_last: Sequence[str] = (),
) -> list[subprocess.Popen]:
    """A command by so many processes, of which some do not come; the last may have more to say."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alike = os.environ | {
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        ranks.PATIENCE: str(patience),
    }
    return [
        subprocess.Popen(
            [*INNERLOOP, *arguments, *(of_the_last if rank == count - 1 else ())],
            env=alike | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
        if rank not in missing
    ]


def said(processes: Sequence[subprocess.Popen], expected: int = 0) -> list[str]:
    """What each process printed; all end with a code."""
    texts = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [expected] * len(processes), texts
    return texts


def trained(folder: Path, method: str, count: int, steps: int = 4) -> Path:
    run = folder / f"{method}-{count}"
    arguments = ["train", method, *SETTINGS, "--meta-steps", str(steps), "--run-dir", str(run)]
    if count == 1:
        subprocess.run([*INNERLOOP, *arguments], check=True, timeout=240, capture_output=True)
    else:
        said(started(arguments, count))
    return run


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Callable[[str, int], Path]:
    """The run of one process that others must end as, trained once for all tests of it."""
    folder = tmp_path_factory.mktemp("alone")

    @cache
    def run(method: str, steps: int) -> Path:
        return trained(folder / str(steps), method, 1, steps)

    return run


def equal(one: Path, other: Path) -> bool:
    """Whether two runs have the same weights and the same records, seconds aside."""
    weights = [load_file(run / "model.safetensors") for run in (one, other)]
    records = []
    for run in (one, other):
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        records.append([row | {"elapsed_s": 0} for row in rows])
    return records[0] == records[1] and all(
        torch.equal(weight, weights[1][name]) for name, weight in weights[0].items()
    )


@pytest.mark.slow
@pytest.mark.parametrize(("method", "count"), [("fomaml", 3), ("mamlpp", 2), ("mamlpp", 4)])
def test_any_number_of_processes_ends_with_the_bits_of_one(method, count, tmp_path, alone):
    # First, since a lone process waits as long as it takes for the engine to be compiled.
    of_one = alone(method, 4)

    several = trained(tmp_path, method, count)

    assert equal(of_one, several)
    assert json.loads((several / "env.json").read_text())["processes"] == count


@pytest.mark.slow
def test_the_first_alone_speaks_and_writes_and_evaluates_as_one(tmp_path, alone):
    run = Path(shutil.copytree(alone("fomaml", 4), tmp_path / "run"))
    evaluate = ["evaluate", str(run), "--episodes", "7"]
    subprocess.run([*INNERLOOP, *evaluate], check=True, timeout=240, capture_output=True)
    alone = {path: path.read_bytes() for path in run.glob("evaluation-*.json")}
    for path in alone:
        path.unlink()

    first, second = said(started(evaluate, 2))

    assert {path: path.read_bytes() for path in run.glob("evaluation-*.json")} == alone
    assert "5-shot" in first
    assert second == ""


@pytest.mark.slow
def test_another_number_of_processes_goes_on_to_the_same_bits_and_says_so(tmp_path, alone):
    run = tmp_path / "stopped"
    arguments = ["train", "fomaml", *SETTINGS, "--meta-steps", "8", "--run-dir", str(run)]
    said(started([*arguments, "--max-minutes", "0"], 2))

    first, *_ = said(started(["resume", str(run)], 3))

    assert "it was trained by 2 processes, from here on by 3: the bits are the same" in first
    assert equal(alone("fomaml", 8), run)


@pytest.mark.slow
def test_one_that_does_not_come_is_a_sentence(tmp_path):
    arguments = ["train", "fomaml", *SETTINGS, "--run-dir", str(tmp_path / "run")]
    (text,) = said(started(arguments, 2, patience=6, missing=[1]), expected=8)

    assert "process 0 of 2: another one has ended, or does not answer within 6 s" in text
    assert text.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_other_settings_in_another_process_are_refused(tmp_path):
    run = tmp_path / "run"
    arguments = ["train", "fomaml", *SETTINGS, "--run-dir", str(run)]

    texts = said(started(arguments, 2, of_the_last=["--outer-lr", "0.5"]), expected=2)

    assert "Process 1 has another outer_lr than process 0, '0.5' and '0.001'" in texts[0]
    assert texts[1] == ""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows stops no process")
def test_one_that_hangs_is_a_sentence_and_the_run_can_go_on(tmp_path, alone):
    run = tmp_path / "hung"
    arguments = ["train", "fomaml", *SETTINGS, "--meta-steps", "60", "--run-dir", str(run)]
    first, second = started(arguments, 2, patience=25)
    _wait_for(run / "checkpoints" / "step-00000006")
    second.send_signal(signal.SIGSTOP)
    try:
        (text,) = said([first], expected=8)
    finally:
        second.kill()
        second.communicate()

    assert "does not answer within 25 s" in text
    subprocess.run([*INNERLOOP, "resume", str(run)], check=True, timeout=240, capture_output=True)
    assert equal(alone("fomaml", 60), run)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_one_that_is_killed_is_started_again_by_torchrun_and_the_bits_are_the_same(
    victim, tmp_path, alone
):
    run = tmp_path / "killed"
    arguments = ["train", "fomaml", *SETTINGS, "--meta-steps", "60", "--run-dir", str(run)]
    agent = subprocess.Popen(
        [*TORCHRUN, "--max-restarts", "1", "-m", "innerloop", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    _wait_for(run / "checkpoints" / "step-00000006")
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            parent = (place.parent / "stat").read_text().rpartition(")")[2].split()[1]
            if parent == str(agent.pid) and f"\0RANK={victim}\0" in f"\0{place.read_text()}":
                os.kill(int(place.parent.name), signal.SIGKILL)
        except OSError:
            continue  # it has ended meanwhile, or is somebody else's
    text = agent.communicate(timeout=240)[0]

    assert agent.returncode == 0, text
    assert "exitcode: -9" in text
    assert [path.name for path in tmp_path.glob("killed*")] == ["killed"]
    assert equal(alone("fomaml", 60), run)


def _wait_for(path: Path) -> None:
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.1)
    raise TimeoutError(path)
