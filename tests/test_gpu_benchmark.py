"""The benchmark of a GPU runs to its table, whatever fails on the way."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import gpu  # noqa: E402
import torch  # noqa: E402
from gpu_plain import learn2learn_step, vmapped_step  # noqa: E402
from plain import PlainConv4, gradient_of, plain_step  # noqa: E402

from innerloop.data.episodes import EpisodeBatch  # noqa: E402
from innerloop.data.images import LabelledImages  # noqa: E402


def episodes() -> EpisodeBatch:
    """Two of noise."""
    labels = torch.arange(5).expand(2, -1)
    support, query = (LabelledImages(torch.rand(2, 5, 1, 16, 16), labels) for _ in range(2))
    ones = torch.zeros(2, 5, 1, dtype=torch.int64)
    return EpisodeBatch(support, query, labels, ones, ones)


def network() -> PlainConv4:
    """Its head is not zero, so that its body has a gradient from the first step on."""
    return PlainConv4("stride", filters=4)


def in_double(batch: EpisodeBatch) -> EpisodeBatch:
    support, query = (
        LabelledImages(part.images.double(), part.labels) for part in (batch.support, batch.query)
    )
    return EpisodeBatch(support, query, batch.classes, batch.support_drawings, batch.query_drawings)


@pytest.mark.parametrize("first_order", [True, False])
def test_what_is_measured_against_takes_the_meta_gradient_of_the_plain_loop(first_order):
    model, batch = network().double(), in_double(episodes())
    plain_step(model, batch, first_order=first_order)
    expected = gradient_of(model).clone()

    learn2learn_step(model, batch, first_order=first_order)
    by_clones = gradient_of(model).clone()

    assert (by_clones - expected).norm() <= 1e-10 * expected.norm()
    if not first_order:
        vmapped_step(model, batch)
        assert (gradient_of(model) - expected).norm() <= 1e-10 * expected.norm()


def test_the_table_says_what_was_measured_and_why_something_was_not():
    rows = [
        {"what": "fomaml, fused, tf32, graph", "value": 9000.0, "unit": "episodes a second"},
        {"what": "fomaml, reference, float32, graph", "value": 300.0, "unit": "episodes a second"},
        {"what": "fomaml, --deterministic, interrupted", "value": 1e9, "unit": "1 if so"},
        {"what": "learn2learn's algorithm, first order", "value": 60.0, "unit": "e", "said": ["x"]},
        {"what": "maml, fused, tf32, graph", "failed": "RuntimeError: no such kernel"},
    ]

    (over,) = gpu.ratios(rows)
    lines = gpu.table(rows).splitlines()

    assert over["value"] == 150.0
    assert over["what"].startswith("fomaml, fused, tf32, graph, over learn2learn's")
    assert len(lines) == 6
    assert lines[-1].endswith("RuntimeError: no such kernel")


@pytest.mark.slow
def test_every_part_runs_on_a_cpu(tmp_path):
    out = tmp_path / "gpu.json"
    options = ["--device=cpu", "--small", "--data=strokes", "--limit=400", f"--out={out}"]

    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu.py"), *options], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text("utf-8"))
    assert result["seconds"].keys() == gpu.PARTS.keys()
    assert [row for row in result["rows"] if "failed" in row] == []
    assert done.stdout.rstrip().splitlines()[-1].startswith("seconds: ")
    assert "times as fast" in done.stdout
