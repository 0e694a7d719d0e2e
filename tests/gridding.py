"""Small sweeps for the tests: grids of runs that take a fraction of a second."""

from pathlib import Path

from innerloop.runs.sweeps.claims import Attempt, Claim, read_claim
from innerloop.runs.sweeps.directory import SweepDirectory
from innerloop.runs.sweeps.grid import read_grid
from innerloop.runs.sweeps.plan import Plan, plan_of, write_plan
from innerloop.runs.sweeps.queue import Queue

HEAD = """
methods = ["fomaml"]
seeds = [0]
episodes = 4
limit_s = {limit_s}
attempts = {attempts}
"""
SETTINGS = """
[settings]
data = "strokes"
image_size = 16
filters = 4
ways = 2
shots = 1
queries = 2
inner_steps = 1
meta_steps = 3
validation_every = 3
validation_episodes = 2
checkpoint_every = 1
device = "cpu"
"""
BATCHES = {"fomaml": "meta_batch_size = 2", "transfer": "batch_size = 8"}
"""Settings that one method has alone."""


def grid_text(more: str = "", *, limit_s: float = 60.0, attempts: int = 3, **lines: str) -> str:
    """A grid; ``lines`` take the place of those that begin with their names."""
    head = HEAD.format(limit_s=limit_s, attempts=attempts)
    for name, value in lines.items():
        head = "\n".join(
            f"{name} = {value}" if line.startswith(f"{name} ") else line
            for line in head.splitlines()
        )
    batches = [
        f"[method.{method}.settings]\n{batch}\n"
        for method, batch in BATCHES.items()
        if f'"{method}"' in head
    ]
    return f"{head}{SETTINGS}{''.join(batches)}{more}"


def planned(folder: Path, text: str) -> Plan:
    """The plan of a grid, whose file goes into a folder."""
    path = folder / "grid.toml"
    path.write_text(text, encoding="utf-8")
    return plan_of(read_grid(path), source="grid.toml")


def sweep_of(folder: Path, text: str, name: str = "sweep") -> SweepDirectory:
    """A sweep that is planned in a folder."""
    return write_plan(planned(folder, text), folder / name, say=print)


def claim_at(sweep: SweepDirectory, name: str, number: int) -> Claim:
    """What the claim of an attempt says; it is whole."""
    _, claim = read_claim(sweep.claim(name, number))
    assert claim is not None
    return claim


def next_attempt(queue: Queue) -> Attempt:
    """The attempt at the next run; there is a run that is free."""
    attempt = queue.take()
    assert attempt is not None
    return attempt
