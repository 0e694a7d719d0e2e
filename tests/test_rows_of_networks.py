"""Rows of what networks were measured at stay beside one another, and say which network it was."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import within_alphabet  # noqa: E402

from innerloop.classifier.backbones import DRAWINGS, TRAINED, find_backbone  # noqa: E402
from innerloop.experiments.pretrained import pretrained_run  # noqa: E402


def row(network: str, error: float, split: str = "assignment", **changes: Any) -> dict[str, Any]:
    counts = {"characters": 20, "episodes_of_an_alphabet": 100}
    return {"network": network, "split": split, "error": error} | counts | changes


def test_a_row_replaces_that_of_the_same_network_split_and_settings_alone():
    kept = [
        row("b", 0.1),
        row("a", 0.2),
        row("b", 0.3, "background-heldout"),
        row("b", 0.4, characters=5),
        row("b", 0.5, episodes_of_an_alphabet=20),
    ]

    rows = within_alphabet.merged(kept, [row("c", 0.6), row("b", 0.7)])

    assert rows == [
        row("b", 0.4, characters=5),
        row("b", 0.5, episodes_of_an_alphabet=20),
        row("a", 0.2),
        row("b", 0.7),
        row("c", 0.6),
        row("b", 0.3, "background-heldout"),
    ]
    assert within_alphabet.merged([], rows[::-1]) == rows


def test_what_is_measured_is_put_into_the_file_beside_what_is_there(tmp_path, monkeypatch, capsys):
    file = tmp_path / "rows.json"
    monkeypatch.setattr(within_alphabet, "RESULTS", file)

    def measured(name: str, split: str) -> dict[str, Any]:
        matched = {"matched_error": 0.05, "matched_ci95": 0.02}
        return row(name, 0.1, split, ci95=0.01, **matched, of_each_alphabet={"Greek": 0.1})

    monkeypatch.setattr(within_alphabet, "measure", measured)
    for arguments in (["b", "a", "--split", "assignment"], ["b"], ["b"]):
        monkeypatch.setattr(sys, "argv", ["within_alphabet.py", *arguments])
        within_alphabet.main()

    rows = json.loads(file.read_text("utf-8"))["rows"]
    assert rows == [
        measured("a", "assignment"),
        measured("b", "assignment"),
        measured("b", "background-heldout"),
    ]
    out = capsys.readouterr().out
    assert "a: 10.00 ± 1.00 % errors, 5.00 ± 2.00 % matched one to one" in out
    assert "Greek: 10.0" in out


def test_drawings_are_told_apart_by_themselves_and_one_to_one(monkeypatch):
    """By hand: of 20 characters one is drawn like a mixture, nearer to another's drawing."""
    known = np.eye(20)
    drawn = np.eye(20)
    drawn[3] = 0.5 * known[3] + 0.6 * known[4]
    vectors = np.stack([known, drawn], 1)
    people = []

    class Fixed:
        def choice(self, number: int, size: int, replace: bool) -> np.ndarray:
            assert not replace
            people.append(number)
            return np.arange(size)

    monkeypatch.setattr(within_alphabet, "stream", lambda *of: Fixed())

    assert within_alphabet.errors(vectors, "Greek") == pytest.approx((0.05, 0.0))
    assert people[:2] == [20, 2]

    drawn[[3, 4]] = drawn[[4, 3]]
    swapped = np.stack([known, drawn], 1)
    assert within_alphabet.errors(swapped, "Greek") == pytest.approx((0.05, 0.1))


def test_the_published_rows_are_as_the_benchmark_writes_them():
    rows = json.loads(within_alphabet.RESULTS.read_text("utf-8"))["rows"]

    assert within_alphabet.merged(rows, rows) == rows
    assert {of["network"] for of in rows} >= {"pretrained:omniglot", "pretrained:transfer-omniglot"}


def test_the_rows_of_own_pictures_are_of_a_network_of_this_package():
    """It may be a former one of drawings: those are kept for classifiers that have them."""
    file = BENCHMARKS / "results" / "own-pictures.json"
    networks = json.loads(file.read_text("utf-8"))["networks"]

    version = networks[DRAWINGS]
    assert find_backbone(DRAWINGS, version).version == version
    digest = version.partition("-")[0]
    assert any(pretrained_run(of).weights_sha256().startswith(digest) for of in TRAINED)
    photos = pytest.importorskip("innerloop_photos")
    assert networks["photos"].startswith(photos.SHA256[:32])
