"""Workers in this process: what they leave, what fails and what they refuse."""

import errno
import json
import os
from types import SimpleNamespace

import pytest
import torch

from gridding import claim_at, grid_text, sweep_of
from innerloop import cli
from innerloop.core.errors import DataError, DiskError, InnerloopError
from innerloop.experiments import sweep as sweeping
from innerloop.experiments import training
from innerloop.experiments.monitor import Stop
from innerloop.experiments.sweep import work
from innerloop.runs import directory
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import primary_rows
from innerloop.runs.results import Environment
from innerloop.runs.sweeps.claims import Attempt, create_claim, own_claim
from innerloop.runs.sweeps.directory import SweepDirectory
from innerloop.runs.sweeps.status import status_of

FIRST, SECOND = "00000-fomaml-s0", "00001-fomaml-s1"


@pytest.fixture(autouse=True)
def _few_drawings(drawings, monkeypatch):
    monkeypatch.setattr(sweeping, "load_dataset", lambda *_, **__: drawings)


@pytest.fixture
def sweep(tmp_path) -> SweepDirectory:
    """Two runs, at most two attempts each."""
    return sweep_of(tmp_path, grid_text(seeds="[0, 1]", attempts=2))


def outcomes(sweep: SweepDirectory) -> dict[str, tuple[bytes, bytes]]:
    """Final weights and evaluation of every run that is done."""
    return {
        name: (
            (sweep.run(name) / "model.safetensors").read_bytes(),
            next(sweep.run(name).glob("evaluation-*.json")).read_bytes(),
        )
        for name in sorted(sweep.done())
    }


@pytest.fixture
def expected(sweep, tmp_path) -> dict[str, tuple[bytes, bytes]]:
    """The outcomes of the same grid without trouble."""
    other = sweep_of(tmp_path, grid_text(seeds="[0, 1]", attempts=2), name="whole")
    work(other, say=lambda _: None)
    return outcomes(other)


def test_a_run_that_is_done_is_what_train_and_evaluate_leave(
    sweep, tmp_path, monkeypatch, drawings
):
    work(sweep)

    monkeypatch.setattr("innerloop.experiments.experiment.load_dataset", lambda *a, **k: drawings)
    alone = tmp_path / "alone"
    config = str(sweep.planned(FIRST))
    assert cli.main(["train", "--config", config, "--run-dir", str(alone)]) == 0
    assert cli.main(["evaluate", str(alone), "--episodes", "4"]) == 0
    run = RunDirectory(sweep.run(FIRST))
    assert run.weights_sha256() == RunDirectory(alone).weights_sha256()
    assert run.config == RunDirectory(alone).config
    (row,) = primary_rows(run, "val", 4)
    (other,) = primary_rows(RunDirectory(alone), "val", 4)
    assert row == other
    assert run.status.state == "finished"
    assert list((sweep.path / "work").iterdir()) == []
    assert (sweep.done(), status_of(sweep).begun) == ({FIRST, SECOND}, ())


class KilledError(BaseException):
    """Stands for SIGKILL: nothing is tidied up after it."""


def killed_while_making(sweep: SweepDirectory, name: str, number: int, monkeypatch) -> None:
    """Leave what a worker leaves that is killed before its run directory gets its name."""

    def killed(*_: object) -> None:
        raise KilledError

    place = sweep.work(name, number)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(directory, "_renamed_to_a_free_name", killed)
        patch.setattr(directory, "shutil", SimpleNamespace(rmtree=lambda *_, **__: None))
        RunDirectory.create(sweep.config(name), Environment(), place)


def test_what_killed_workers_left_of_runs_that_are_done_is_removed(sweep, monkeypatch):
    """Attempt 1 was killed beside attempt 2, attempt 3 while it made its directory; of a run that
    cannot be done something is kept."""
    kept = sweep.work(SECOND, 1)
    for path in (kept, sweep.work(FIRST, 1)):
        path.mkdir()
        (path / "metrics.jsonl").touch()
    killed_while_making(sweep, FIRST, 3, monkeypatch)
    assert len(list((sweep.path / "work").iterdir())) == 3
    sweep.planned(SECOND).write_text("{")
    assert sweep.left_over() == []

    work(sweep)

    assert sweep.done() == {FIRST}
    assert list((sweep.path / "work").iterdir()) == [kept]


def failing(monkeypatch, *errors: BaseException | None):
    """Let the validations of the next trainings raise these, in turn; None: go on."""
    left = list(errors)
    whole = training.Training.train

    def train(self, validate, **hooks):
        error = left.pop(0) if left else None

        def failing_validate(learner):
            if error is not None and self.step > 1:
                raise error
            return validate(learner)

        return whole(self, failing_validate, **hooks)

    monkeypatch.setattr(training.Training, "train", train)


def test_a_failing_run_is_tried_again_from_its_checkpoint_to_the_same_bits(
    sweep, expected, monkeypatch, capsys
):
    failing(monkeypatch, ValueError("the disk is on fire"))

    work(sweep)

    assert outcomes(sweep) == expected
    said = capsys.readouterr().out
    assert f"{FIRST}, attempt 1 failed: ValueError: the disk is on fire." in said
    # The other run came before the second attempt.
    assert said.index(f"{SECOND}: done") < said.index(f"{FIRST}: done")
    log = sweep.log(FIRST, 1).read_text("utf-8")
    assert "Traceback" in log and "failing_validate" in log


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("a bug\nin two lines"), "ValueError: a bug."),
        (RuntimeError("CUDA out of memory. Tried"), "Out of memory after outer step 3 ("),
        (MemoryError(), "Out of memory after outer step 3 (MemoryError). Close other"),
    ],
)
def test_a_run_that_always_fails_is_tried_as_often_as_stated_and_kept_with_its_sentence(
    sweep, error, sentence, monkeypatch
):
    failing(monkeypatch, error, None, error, error)

    assert work(sweep) is None

    (row,) = status_of(sweep).begun
    assert (row.name, row.state, row.attempt, row.failures) == (FIRST, "given up", 2, 2)
    assert row.message.startswith(sentence)
    assert [path.name for path in sorted((sweep.path / "logs").glob(f"{FIRST}*"))] == [
        f"{FIRST}.1.log",
        f"{FIRST}.2.log",
    ]
    assert (sweep.work(FIRST, 2) / "checkpoints").is_dir()
    assert sweep.done() == {SECOND}


def test_a_loss_that_is_not_finite_is_a_failure_with_its_sentence(tmp_path):
    """Features times a million and the largest inner rate: second order overflows."""
    text = grid_text(attempts=2, methods='["maml"]').replace("inner_steps = 1", "inner_steps = 3")
    more = "inner_lr = 1000.0\nfeature_scale = 1e6\nfeature_norm = false\n"
    sweep = sweep_of(tmp_path, text.replace("[settings]", f"[settings]\n{more}"))

    work(sweep)

    (row,) = status_of(sweep).begun
    assert (row.state, row.failures) == ("given up", 2)
    assert row.message.startswith("Outer step ") and "Lower --outer-lr" in row.message


def test_a_full_disk_ends_the_worker_counts_and_the_next_goes_on(sweep, expected, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as context:
        context.setattr("innerloop.runs.checkpoints.save_weights", full)
        with pytest.raises(DiskError, match="No space left on device"):
            work(sweep)
        (row,) = status_of(sweep).begun
    assert (row.state, row.failures) == ("failed", 1)
    assert "Cannot write the checkpoint" in row.message

    work(sweep)
    assert outcomes(sweep) == expected


def test_a_disk_that_takes_not_even_the_claim_is_said_and_the_run_is_left_to_others(
    sweep, monkeypatch
):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("innerloop.core.files._write", full)
    with pytest.raises(DiskError, match="No space left on device"):
        work(sweep)

    assert claim_at(sweep, FIRST, 1).ended == ""


def test_a_device_that_vanishes_ends_the_worker(sweep, monkeypatch):
    failing(monkeypatch, torch.AcceleratorError("CUDA error: device lost"))

    with pytest.raises(InnerloopError, match="The device cannot be used any more"):
        work(sweep)

    (row,) = status_of(sweep).begun
    assert (row.state, row.failures) == ("failed", 1)


def test_a_machine_that_lacks_the_data_releases_the_run_and_says_so(sweep, expected, monkeypatch):
    def missing(*_: object, **__: object) -> None:
        raise DataError("Omniglot is not here.")

    with monkeypatch.context() as context:
        context.setattr(sweeping, "load_dataset", missing)
        with pytest.raises(DataError, match="Omniglot is not here"):
            work(sweep)
    (row,) = status_of(sweep).begun
    assert (row.state, row.failures) == ("released", 0)

    work(sweep)
    assert outcomes(sweep) == expected


def test_settings_that_do_not_fit_the_data_are_a_failure_of_their_run(tmp_path):
    text = grid_text("[grid]\nways = [2, 900]\n", attempts=1).replace("ways = 2\n", "")
    sweep = sweep_of(tmp_path, text)

    work(sweep)

    (row,) = status_of(sweep).begun
    assert row.state == "given up" and "900-way" in row.message
    assert sweep.done() == {FIRST}


def test_a_planned_run_that_is_damaged_fails_alone(sweep):
    sweep.planned(FIRST).write_text("{", "utf-8")

    work(sweep)

    (row,) = status_of(sweep).begun
    assert row.state == "given up" and "is not JSON" in row.message
    assert sweep.done() == {SECOND}


def test_a_worker_of_another_version_is_refused_unless_it_is_asked_for(sweep, capsys):
    file = sweep.path / "sweep.json"
    file.write_text(file.read_text("utf-8").replace('"0.1.0"', '"0.0.9"'), "utf-8")

    assert cli.main(["sweep", "work", str(sweep.path)]) == 2

    assert "was planned by innerloop 0.0.9 and this is 0.1.0" in capsys.readouterr().err
    assert list((sweep.path / "claims").iterdir()) == []
    assert cli.main(["sweep", "work", str(sweep.path), "--any-version"]) == 0
    assert len(SweepDirectory(sweep.path).done()) == 2


@pytest.mark.parametrize("moment", ["training", "evaluation"])
def test_a_stop_saves_and_releases_and_another_worker_goes_on_at_once(sweep, expected, moment):
    asked = 0

    def should_stop() -> Stop | None:
        nonlocal asked
        asked += 1
        # Once by the worker, after two of three steps; then after episodes.
        when = 2 if moment == "training" else 5
        return (
            Stop("interrupted", 143, "Interrupted by SIGTERM and saved.") if asked == when else None
        )

    stop = work(sweep, should_stop=should_stop)

    assert stop is not None and stop.exit_code == 143
    (row,) = status_of(sweep).begun
    assert (row.name, row.state, row.failures) == (FIRST, "released", 0)
    finished = RunDirectory(sweep.work(FIRST, 1)).status.state == "finished"
    assert finished == (moment == "evaluation")
    work(sweep)
    assert outcomes(sweep) == expected


def test_a_second_ctrl_c_releases_the_run_too(sweep, expected, monkeypatch):
    with monkeypatch.context() as context:
        failing(context, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            work(sweep)
    (row,) = status_of(sweep).begun
    assert (row.state, row.message) == ("released", "Interrupted.")

    work(sweep)
    assert outcomes(sweep) == expected


@pytest.mark.parametrize(
    ("kind", "method"), [(Attempt, "refuse_lost"), (RunDirectory, "append_metrics")]
)
def test_a_worker_that_was_taken_for_dead_touches_nothing_of_the_run(
    kind, method, sweep, expected, monkeypatch
):
    """It hangs between two steps, or within one; another worker takes the run over meanwhile, and
    finishes it."""
    whole = getattr(kind, method)

    def hang(self, *arguments):
        monkeypatch.setattr(kind, method, whole)
        create_claim(sweep.claim(FIRST, 2), own_claim(sweep, 1))
        other = sweeping.Worker(sweep, data_dir=None, should_stop=lambda: None, say=lambda _: None)
        other.make(Attempt(sweep, FIRST, 2, own_claim(sweep, 1)))
        return whole(self, *arguments)

    monkeypatch.setattr(kind, method, hang)
    said: list[str] = []

    work(sweep, say=said.append)

    assert said[0] == f"{FIRST} was taken over by another worker."
    assert outcomes(sweep) == expected
    assert claim_at(sweep, FIRST, 1).ended == ""


def test_of_two_that_finish_one_run_the_first_counts(sweep, expected, monkeypatch):
    """The other is between its last look at the claims and the end of the run."""
    whole = sweeping.Worker._deliver

    def late(self, attempt, run) -> None:
        monkeypatch.setattr(sweeping.Worker, "_deliver", whole)
        create_claim(sweep.claim(FIRST, 2), own_claim(sweep, 1))
        # So that it makes a run of its own.
        (sweep.path / "work" / f"{FIRST}.1").rename(sweep.path / "aside")
        self.make(Attempt(sweep, FIRST, 2, own_claim(sweep, 1)))
        (sweep.path / "aside").rename(sweep.path / "work" / f"{FIRST}.1")
        whole(self, attempt, run)

    monkeypatch.setattr(sweeping.Worker, "_deliver", late)
    said: list[str] = []

    work(sweep, say=said.append)

    assert f"{FIRST} was finished by another worker." in said
    assert outcomes(sweep) == expected


def test_a_worker_that_does_not_wait_leaves_the_runs_of_others(sweep):
    create_claim(sweep.claim(FIRST, 1), own_claim(sweep, 0))

    assert work(sweep, wait=False) is None

    assert sweep.done() == {SECOND}


# Report


def test_the_report_chooses_the_best_settings_of_all_seeds(tmp_path, capsys):
    ranges = "[grid]\nouter_lr = [0.001, 0.01, 0.1]\n"
    sweep = sweep_of(tmp_path, grid_text(ranges, seeds="[0, 1]"))
    assert cli.main(["sweep", "report", str(sweep.path)]) == 2
    assert "is done yet: start innerloop sweep work" in capsys.readouterr().err
    work(sweep)

    assert cli.main(["sweep", "report", str(sweep.path), "--json"]) == 0

    written = json.loads((sweep.path / "report" / "sweep.json").read_text("utf-8"))
    means: dict[float, list[float]] = {}
    for name in sweep.plan.runs:
        run = RunDirectory(sweep.run(name))
        (row,) = primary_rows(run, "val", 4)
        means.setdefault(run.config.training.outer_lr, []).append(row.query_accuracy)
    averages = {rate: sum(values) / 2 for rate, values in means.items()}
    (table,) = written["tables"]
    assert {
        trial["settings"]["outer_lr"]: trial["query_accuracy"] for trial in table["trials"]
    } == pytest.approx(averages)
    (choice,) = table["choices"]
    # max takes the first of equal ones, which was planned first.
    assert choice["trial"]["settings"] == {"outer_lr": max(averages, key=averages.__getitem__)}
    assert choice["of"] == 3
    page = (sweep.path / "report" / "sweep.md").read_text("utf-8")
    assert page.count("| FO-MAML: outer") == 3 and "Training seeds 0, 1." in page
    figures = {path.name for path in (sweep.path / "report" / "figures").iterdir()}
    assert figures == {"accuracy.png", "accuracy.svg", "settings.png", "settings.svg"}


def test_settings_of_which_a_seed_is_missing_are_not_chosen(tmp_path):
    from innerloop.analysis.sweep import tables

    sweep = sweep_of(tmp_path, grid_text("[grid]\nouter_lr = [0.001, 0.01]\n", seeds="[0, 1]"))
    work(sweep)
    (table,) = tables(sweep)
    chosen = table.choices[0].trial

    last = next(
        name
        for name in sweep.plan.runs
        if RunDirectory(sweep.run(name)).config.training.outer_lr == chosen.settings["outer_lr"]
    )
    (sweep.run(last) / "model.safetensors").unlink()
    sweep.run(last).rename(tmp_path / "away")

    (table,) = tables(sweep)
    assert table.choices[0].trial.settings != chosen.settings
    assert [trial.is_whole for trial in table.trials].count(False) == 1


@pytest.mark.parametrize("split", ["assignment", "background-heldout"])
def test_on_omniglot_settings_are_chosen_on_the_split_for_that_alone(split, sweep, monkeypatch):
    from dataclasses import replace

    from innerloop.analysis.sweep import tables

    work(sweep)
    (table,) = tables(sweep)
    protocol = replace(table.protocol, data="omniglot", split=split)

    assert replace(table, protocol=protocol).may_choose == (split == "background-heldout")
