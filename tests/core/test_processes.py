"""Which of a run's processes this is."""

import pytest

from innerloop.core.errors import ConfigError
from innerloop.core.processes import Process, job, start_of_all, starts, this_process

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
SLURM = {"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}


def test_alone_it_is_the_first_and_only_one():
    assert this_process({}) == Process(0, 1, 0, "")
    assert job({}) == ""
    assert starts({}) == 0


def test_torchrun_and_slurm_say_which_it_is_and_torchrun_comes_first():
    assert this_process(TORCHRUN) == Process(1, 4, 1, "torchrun")
    assert this_process(SLURM) == Process(3, 8, 1, "SLURM")
    assert this_process(SLURM | TORCHRUN) == Process(1, 4, 1, "torchrun")
    assert this_process({"RANK": "0", "WORLD_SIZE": "1"}).size == 1


@pytest.mark.parametrize(
    "wrong", [{"RANK": "x"}, {"RANK": "4"}, {"RANK": "-1"}, {"WORLD_SIZE": ""}], ids=str
)
def test_what_is_no_number_or_too_large_is_refused(wrong):
    with pytest.raises(ConfigError, match="RANK"):
        this_process(TORCHRUN | wrong)


def test_a_batch_script_of_several_tasks_is_one_process():
    assert this_process(SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}).size == 1
    assert this_process(SLURM | {"SLURM_STEP_NUM_TASKS": "5"}).size == 5


def test_every_start_has_another_name():
    names = [
        start_of_all(SLURM),
        start_of_all(SLURM | {"SLURM_STEP_ID": "3"}),
        start_of_all(SLURM | {"SLURM_RESTART_COUNT": "1"}),
        start_of_all(SLURM | {"SLURM_RESTART_COUNT": "1", "TORCHELASTIC_RESTART_COUNT": "1"}),
        start_of_all(TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "2"}),
    ]
    assert len(set(names)) == len(names)


def test_the_restarts_of_a_job_have_its_name():
    again = TORCHRUN | {"TORCHELASTIC_RUN_ID": "a", "TORCHELASTIC_RESTART_COUNT": "2"}

    assert starts(again) == 2
    assert job(again) == job(TORCHRUN | {"TORCHELASTIC_RUN_ID": "a"})
    assert job(again) != job(TORCHRUN | {"TORCHELASTIC_RUN_ID": "b"})
    assert job(SLURM | {"SLURM_JOB_ID": "7"}) == "SLURM 7"
    assert starts(SLURM | {"SLURM_RESTART_COUNT": "1"}) == 1
