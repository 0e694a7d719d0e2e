"""The tracker of docs/trackers.md works as a package of its own."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from innerloop.runs.directory import RunDirectory
from killing import training_of

PAGE = Path(__file__).parents[2] / "docs" / "trackers.md"


def block(language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    return text


@pytest.fixture
def packages(tmp_path) -> Path:
    """Where ``mypackage`` is installed, with the page's entry point."""
    packages = tmp_path / "packages"
    information = packages / "mypackage-1.0.dist-info"
    information.mkdir(parents=True)
    (packages / "mypackage.py").write_text(block("python"))
    (information / "METADATA").write_text("Name: mypackage\nVersion: 1.0\n")
    entry = block("toml").replace('[project.entry-points."innerloop.trackers"]', "").strip()
    (information / "entry_points.txt").write_text(
        f"[innerloop.trackers]\n{entry.replace(chr(34), '')}\n"
    )
    return packages


@pytest.mark.slow
def test_the_pages_tracker_follows_a_training_and_takes_an_export(packages, tmp_path):
    paths = [str(packages), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}

    def innerloop(*arguments: str) -> None:
        command = [sys.executable, "-m", "innerloop", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    innerloop(*training_of("fomaml"), "--run-dir", "run", "--tracker", "csv")
    innerloop("export-metrics", "run", "--to", "csv", "--out", "out")

    written = (tmp_path / "run" / "losses.csv").read_text()
    rows = list(csv.DictReader(written.splitlines()))
    losses = [record.loss for record in RunDirectory(tmp_path / "run").train_records()]
    assert [float(row["loss"]) for row in rows] == losses
    assert len(losses) == 24
    assert (tmp_path / "out" / "run" / "losses.csv").read_text() == written
