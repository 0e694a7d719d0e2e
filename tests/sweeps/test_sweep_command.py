"""`innerloop sweep` as it is typed, its job files, and the grids of the documentation."""

import importlib.util
import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from gridding import grid_text, planned, sweep_of
from innerloop import cli
from innerloop.methods.catalogue import settings_of
from innerloop.runs.sweeps.templates import job_files

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(
    r"^```toml\n(.*?)^```", (ROOT / "docs" / "sweeps.md").read_text("utf-8"), re.M | re.S
)


def test_a_sweep_is_planned_and_its_status_told(tmp_path, capsys):
    grid = tmp_path / "grid.toml"
    grid.write_text(grid_text(seeds="[0, 1]"), "utf-8")
    sweep = str(tmp_path / "sweep")

    assert cli.main(["sweep", "plan", str(grid), sweep]) == 0
    assert "2 runs are planned" in capsys.readouterr().out
    assert cli.main(["sweep", "status", sweep]) == 0
    assert "2 planned, 0 done, 2 not begun.\nNobody is at work" in capsys.readouterr().out
    assert cli.main(["sweep", "status", sweep, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["planned"], told["done"], told["not_begun"], told["begun"]) == (2, 0, 2, [])


def test_a_typo_in_a_grid_ends_with_2_and_plans_nothing(tmp_path, capsys):
    grid = tmp_path / "grid.toml"
    grid.write_text(grid_text("[grid]\nouter_rl = [0.1]\n"), "utf-8")

    assert cli.main(["sweep", "plan", str(grid), str(tmp_path / "sweep")]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert "fomaml has no setting 'outer_rl'. Did you mean 'outer_lr'?" in line
    assert list(tmp_path.iterdir()) == [grid]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["plan", "grid.toml"], "innerloop sweep plan takes GRID.toml DIR: got 1 path."),
        (["work"], "innerloop sweep work takes DIR: got 0 paths."),
        (["status", "a", "b"], "innerloop sweep status takes DIR: got 2 paths."),
        (["status", "a"], "a holds no sweep: plan one with innerloop sweep plan GRID.toml DIR."),
        (["statsu", "a"], "Did you mean 'status'?"),
        (["templates", "a", "--workers", "0"], "--workers must be between 1 and 10,000: got 0."),
        (["work", "a", "--max-minutes", "nan"], "--max-minutes must be a number of minutes"),
    ],
)
def test_what_is_typed_wrong_is_a_sentence(arguments, sentence, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert cli.main(["sweep", *arguments]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line


@pytest.mark.parametrize("folder", ["sweep", "a sweep, 'quoted' \"twice\" & $HOME #1"])
def test_job_files_start_workers_of_the_sweep(folder, tmp_path):
    """Each shell file is run with a command in the place of srun and parallel that shows what it is
    given."""
    files = job_files(tmp_path / folder, 7)

    for name in ("slurm.sh", "parallel.sh"):
        subprocess.run(["bash", "-n"], input=files[name], text=True, check=True)
    shown = tmp_path / "srun"
    shown.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n', "utf-8")
    shown.chmod(0o755)
    said = subprocess.run(
        ["bash"],
        input=files["slurm.sh"],
        text=True,
        check=True,
        capture_output=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    ).stdout
    assert said.splitlines() == ["innerloop", "sweep", "work", str(tmp_path / folder)]
    assert "#SBATCH --array=1-7\n" in files["slurm.sh"]
    job = yaml.safe_load(files["kubernetes.yaml"])
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["innerloop", "sweep", "work", str(tmp_path / folder)]
    assert container["volumeMounts"][0]["mountPath"] == str(tmp_path / folder)
    assert job["spec"]["parallelism"] == job["spec"]["completions"] == 7


def test_templates_are_written_into_the_sweep(tmp_path, capsys):
    sweep = sweep_of(tmp_path, grid_text())

    assert cli.main(["sweep", "templates", str(sweep.path), "--workers", "3"]) == 0

    written = {path.name: path.read_text("utf-8") for path in (sweep.path / "jobs").iterdir()}
    assert written == job_files(sweep.path, 3)


def test_without_submitit_submit_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    sweep = sweep_of(tmp_path, grid_text())
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)

    assert cli.main(["sweep", "submit", str(sweep.path)]) == 2

    said = capsys.readouterr().err
    assert "python -m pip install submitit" in said and "innerloop sweep templates" in said


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_grids_of_the_documentation_are_planned(number, tmp_path):
    expected = (24 + 12, 32, 32)
    configs = planned(tmp_path, BLOCKS[number]).configs

    assert len(configs) == expected[number]


def test_the_grid_of_the_tuning_is_its_trials(tmp_path):
    """The benchmark's own table of trials is the oracle."""
    place = importlib.util.spec_from_file_location("tuning", ROOT / "benchmarks" / "tuning.py")
    assert place and place.loader
    tuning = importlib.util.module_from_spec(place)
    place.loader.exec_module(tuning)
    starts = {
        name: dict(zip(("conv_init", "clip_gradient"), (flags[1], float(flags[3])), strict=True))
        for name, flags in tuning.STARTS.items()
    }
    expected = [
        settings_of(
            method,
            data="omniglot",
            split="background-heldout",
            meta_steps=steps,
            validation_every=steps,
            outer_lr=rate,
            feature_scale=scale,
            threads=1,
            **starts[start],
        )
        for (method, steps), (rate, start, scale) in itertools.product(
            tuning.STEPS.items(), tuning.TRIALS
        )
    ]

    assert list(planned(tmp_path, BLOCKS[-1]).configs.values()) == expected


def test_every_run_of_a_plan_has_a_name_of_its_own(tmp_path):
    names = list(planned(tmp_path, BLOCKS[0]).configs)

    assert len(set(names)) == len(names) and names == sorted(names)
