"""Real processes that train and are interrupted; for `test_interruptions.py` and the benchmarks
that kill.

Importing PyTorch and drawing a data set take seconds, a kill takes none. So one process, the
nursery, does both once, and forks a child for every command: a process of its own, with its own
signals, limits and death, that runs ``innerloop.cli.main`` to the end. Figures are not drawn there.
"""

import faulthandler
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from innerloop.core.seeding import stream
from innerloop.methods.catalogue import settings_of
from innerloop.runs.directory import RunDirectory

SETTINGS = (
    "--data strokes --image-size 16 --filters 4 --ways 2 --shots 1 --queries 2 "
    "--meta-steps 24 --validation-every 6 --validation-episodes 2 --checkpoint-every 2 "
    "--device cpu --threads 1"
).split()
"""Of a training of any method that takes a second."""
BATCHES = {"episodes": ("--meta-batch-size", "2"), "images": ("--batch-size", "8")}
"""Besides, by what the method trains on."""
PATIENCE_S = 300.0
"""Two busy cores can slow a process down thirtyfold."""
KILLS_OF_A_RUN = 5
LATEST_AIMED_KILL_S = 0.004
"""An aimed kill comes at most this long after the saving was seen to begin; a checkpoint takes
about as long."""


def training_of(method: str) -> list[str]:
    """The command of a small training of a method."""
    own = settings_of(method).own
    steps = ["--inner-steps", "2"] if "inner_steps" in own.flags() else []
    return ["train", method, *SETTINGS, *steps, *BATCHES[own.trains_on]]


def results_of(folder: Path) -> dict[str, bytes]:
    """What `innerloop reproduce` made that holds no time: weights, evaluations, explanation; by
    path."""
    names = ("model.safetensors", "evaluation-*.json", "explanation.json")
    found = [path for name in names for path in sorted(folder.rglob(name))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def report_without_durations(folder: Path) -> str:
    """Its report as HTML, without how long the trainings took."""
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    page = re.sub(r'<figure id="figure-learning-curves">.*?</figure>', "", page, flags=re.DOTALL)
    return re.sub(r"[\d.]+ minutes", "", page)


class Nursery:
    """Starts commands as forked processes and tells how they ended.

    Args:
        directory: where logs go; runs are best put there too.
    """

    def __init__(self, directory: Path):
        self.directory, self._logs = directory, 0
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(self, *arguments: str | Path, largest_file: int | None = None) -> int:
        """Start ``innerloop ARGUMENTS``; no file of it may outgrow ``largest_file`` bytes. Returns
        its pid."""
        self._logs += 1
        log = self.directory / f"log-{self._logs:04d}.txt"
        return self._ask(
            start=[str(argument) for argument in arguments], log=str(log), largest_file=largest_file
        )

    def poll(self, pid: int) -> int | None:
        """The exit code, minus the signal for a killed process, or None while it runs."""
        return self._ask(poll=pid)

    def wait(self, pid: int) -> int:
        """Wait for the exit code."""
        try:
            for _ in patiently():
                if (code := self.poll(pid)) is not None:
                    return code
        except TimeoutError as error:
            raise AssertionError(f"The command started last hangs: {self.log()}") from error
        raise AssertionError("patience has no other end")

    def run(self, *arguments: str | Path, largest_file: int | None = None) -> int:
        """Start and wait."""
        return self.wait(self.start(*arguments, largest_file=largest_file))

    def log(self) -> str:
        """What the command started last has printed."""
        return (self.directory / f"log-{self._logs:04d}.txt").read_text()

    def _ask(self, **request: Any) -> Any:
        assert self._process.stdin
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())


def patiently(pause_s: float = 0.002):
    """Count tries, with a pause after each, until patience is at an end."""
    begun, tries = time.monotonic(), 0
    while time.monotonic() - begun < PATIENCE_S:
        yield tries
        tries += 1
        time.sleep(pause_s)
    raise TimeoutError(f"Nothing came of it in {PATIENCE_S:g} s.")


def steps_done(path: Path) -> int:
    """The last outer step that a run has recorded; -1 before there is a run."""
    if not (path / "config.json").is_file():
        return -1
    return max((record["step"] for record in RunDirectory(path).read_metrics()), default=0)


def wait_for_step(path: Path, step: int) -> None:
    """Until a running process has done that outer step."""
    for _ in patiently():
        if steps_done(path) >= step:
            return


def outcome(path: Path) -> tuple[bytes, bytes, list[dict[str, Any]]]:
    """What must be equal, bit for bit: final weights, the last checkpoint's tensors, metrics
    without times."""
    run = RunDirectory(path)
    newest = sorted((path / "checkpoints").glob("step-*"))[-1]
    metrics = [
        {key: value for key, value in record.items() if key != "elapsed_s"}
        for record in run.read_metrics()
    ]
    return run.weights_path.read_bytes(), (newest / "state.safetensors").read_bytes(), metrics


@dataclass
class Tally:
    """What came of a campaign of kills.

    Attributes:
        kills: processes that died of SIGKILL.
        into_saving: of these, how many left a checkpoint or weight file half written.
        resumed: kills after which `innerloop resume` alone brought the run to its end.
        runs: runs that were killed, most of them several times.
        identical: of these, how many ended with the uninterrupted run's weights, optimiser and
            metrics.
        failures: what went wrong, in words.
    """

    kills: int = 0
    into_saving: int = 0
    resumed: int = 0
    runs: int = 0
    identical: int = 0
    failures: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def campaign(
    directory: Path,
    kills: int,
    *,
    method: str = "fomaml",
    seed: int = 0,
    nursery: Nursery | None = None,
) -> Tally:
    """Kill trainings at random moments, every third kill or more into the saving, and let each go
    on.

    Args:
        directory: where the runs go.
        kills: how many at least.
        method: what is trained.
        seed: of the moments (which step they hit depends on the machine).
        nursery: starts the processes; by default one of its own.
    """
    if nursery is None:
        with Nursery(directory) as own:
            return campaign(directory, kills, method=method, seed=seed, nursery=own)
    begun = time.monotonic()
    assert nursery.run(*training_of(method), "--run-dir", directory / "whole") == 0, nursery.log()
    longest_s, expected, tally = (
        (time.monotonic() - begun) / 2,
        outcome(directory / "whole"),
        Tally(),
    )
    while (tally.kills < kills or 3 * tally.into_saving < tally.kills) and not tally.failures:
        path, tally.runs = directory / f"killed-{tally.runs:03d}", tally.runs + 1
        wanted = min(KILLS_OF_A_RUN, max(kills - tally.kills, 1))
        pid = nursery.start(*training_of(method), "--run-dir", path)
        killed = _kill_often(nursery, pid, path, wanted, tally, longest_s, seed)
        if (code := nursery.run("resume", path)) != 0:
            tally.failures.append(f"{path.name}: resume ended with {code}: {nursery.log()}")
            break
        tally.resumed += killed
        if outcome(path) == expected:
            tally.identical += 1
        else:
            tally.failures.append(
                f"{path.name}: ended with other weights or metrics than the uninterrupted run"
            )
    return tally


def _kill_often(
    nursery: Nursery, pid: int, path: Path, kills: int, tally: Tally, longest_s: float, seed: int
) -> int:
    """Kill a started run until it has died often enough or is finished; returns how often it
    died."""
    killed = 0
    wait_for_step(path, 0)
    while True:
        random = stream(seed, f"kills/{path.name}", killed)
        # Not every aimed kill hits, so the share that hit decides what the next one is.
        aim = 3 * tally.into_saving <= tally.kills
        seen = _await_saving(nursery, pid, path, int(random.integers(3))) if aim else {}
        time.sleep(random.uniform(0, LATEST_AIMED_KILL_S if aim else longest_s))
        os.kill(pid, signal.SIGKILL)
        code = nursery.wait(pid)
        if code == 0:
            return killed
        if code != -signal.SIGKILL:
            tally.failures.append(f"{path.name}: ended with {code}: {nursery.log()}")
            return killed
        tally.kills, killed = tally.kills + 1, killed + 1
        tally.into_saving += bool(aim and seen.keys() & _half_written(path).keys())
        if killed == kills:
            return killed
        pid = nursery.start("resume", path)


def _half_written(path: Path) -> dict[str, int]:
    """Temporary files and directories of a run's saving, and when each was last changed."""
    found = {}
    for pattern in ("checkpoints/.*.tmp", ".model.safetensors.*.tmp"):
        for temporary in path.glob(pattern):
            try:
                found[temporary.name] = temporary.stat().st_mtime_ns
            except FileNotFoundError:  # it has got its final name since
                continue
    return found


def _await_saving(nursery: Nursery, pid: int, path: Path, skip: int) -> dict[str, int]:
    """Wait until the process is in its saving, after some savings (or until it ends); what is half
    written then.

    What earlier kills left half written does not count: it is not being changed.
    """
    left, saving = _half_written(path), {}
    for _ in patiently(pause_s=0.0002):
        before = saving
        saving = {
            name: time for name, time in _half_written(path).items() if left.get(name) != time
        }
        skip -= bool(before and not saving)
        if (saving and skip <= 0) or nursery.poll(pid) is not None:
            return saving
    return {}


def _serve() -> None:
    """The nursery: answers one JSON line with another until its input ends."""
    import torch

    # More threads, or a backward pass, before the fork would leave the children with locks that
    # nobody frees.
    torch.set_num_threads(1)
    from innerloop import cli, report
    from innerloop.cli import progress
    from innerloop.cli import reproduction as reproduce
    from innerloop.data import strokes
    from innerloop.experiments import experiment, sweep
    from innerloop.methods.catalogue import find_learner, names

    learners = [find_learner(name) for name in names()]
    assert cli and progress and reproduce and learners, "imported here, so that no child has to"
    dataset = strokes.generate(100, drawings=4, size=16)
    experiment.load_dataset = sweep.load_dataset = lambda *_, **__: dataset
    report.figures_of = lambda run, suffixes: {}
    started: list[int] = []
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            answer = os.fork() or _be_the_child(request)
            started.append(answer)
        else:
            answer = _exit_code(request["poll"])
        print(json.dumps(answer), flush=True)
    for pid in started:
        if _exit_code(pid) is None:
            os.kill(pid, signal.SIGKILL)


def _exit_code(pid: int) -> int | None:
    """Of a child, minus the signal that killed it. It stays a zombie, so that its pid is never
    another's."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _be_the_child(request: dict[str, Any]) -> int:
    from innerloop import cli

    code = 1
    try:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if request["largest_file"] is not None:
            resource.setrlimit(
                resource.RLIMIT_FSIZE, (request["largest_file"], request["largest_file"])
            )
        faulthandler.dump_traceback_later(PATIENCE_S / 2)
        code = cli.main(request["start"])
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
