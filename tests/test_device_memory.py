"""How many episodes are computed at once, from a device's memory; and what determinism sets."""

import os
from typing import Any

import pytest
import torch
from torch import Tensor

from innerloop.data.splits import find_split
from innerloop.experiments import experiment as experiments
from innerloop.experiments.determinism import WORKSPACE, be_deterministic
from innerloop.experiments.device_memory import episodes_at_once, measured_at_once
from innerloop.experiments.experiment import Experiment, build_learner
from test_training import tiny_settings

MIB = 2**20


@pytest.mark.parametrize(
    ("free", "most", "expected"),
    [
        # 10 MiB of its own and 5 MiB an episode; four fifths of the free memory are planned with.
        (1000 * MIB, 32, 32),
        (100 * MIB, 32, 11),  # 14 fit: three chunks of 11, 11 and 10 rather than 14, 14 and 4
        (100 * MIB, 28, 14),
        (100 * MIB, 14, 14),
        (20 * MIB, 32, 1),
        (0, 32, 1),
    ],
)
def test_as_many_episodes_as_fit_in_chunks_of_about_one_size(free, most, expected):
    assert episodes_at_once({2: 20 * MIB, 4: 30 * MIB}, free, most) == expected


def test_memory_that_does_not_grow_holds_all_episodes():
    assert episodes_at_once({2: 20 * MIB, 4: 20 * MIB}, 100 * MIB, 32) == 32


class FakeDevice:
    """A memory in which each episode takes so much, more in the second half of a run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int, each: int):
        self.free, self.each, self.peak, self.late = free, each, 0, False
        for name, value in {
            "memory_allocated": lambda device: 3 * MIB,
            "reset_peak_memory_stats": self.reset,
            "max_memory_allocated": lambda device: 3 * MIB + self.peak,
            "empty_cache": lambda: None,
            "mem_get_info": lambda device: (self.free, 80_000 * MIB),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)

    def reset(self, device: torch.device) -> None:
        self.peak = 0

    def watch(self, learner: Any) -> None:
        real, begin = learner.meta_loss, learner.begin_outer_step

        def meta_loss(batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
            self.peak = 10 * MIB + len(batch) * self.each * (2 if self.late else 1)
            if self.peak > self.free:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return real(batch)

        def begin_outer_step(step: int, total: int) -> float:
            self.late = 2 * step >= total
            return begin(step, total)

        learner.meta_loss, learner.begin_outer_step = meta_loss, begin_outer_step


@pytest.mark.parametrize("method", ["fomaml", "mamlpp"])
@pytest.mark.parametrize(
    ("free", "expected"), [(10_000, 32), (110, 7), (25, 1)], ids=["all", "some", "not even four"]
)
def test_the_memory_is_measured_at_the_dearest_place_of_the_run(
    monkeypatch, method, free, expected
):
    """5 MiB an episode at its beginning, 10 at its end: of 88 MiB, 78 are for 7.8 episodes."""
    config = tiny_settings(method, meta_batch_size=32, episodes_per_chunk=0, ways=3)
    learner = build_learner(config, 1)
    device = FakeDevice(monkeypatch, free * MIB, 5 * MIB)
    device.watch(learner)

    at_once = measured_at_once(config, learner, (1, 16, 16))

    assert at_once == expected


def test_a_small_outer_step_is_computed_at_once_without_a_measurement():
    config = tiny_settings(meta_batch_size=4, episodes_per_chunk=0)

    assert measured_at_once(config, build_learner(config, 1), (1, 16, 16)) == 4


@pytest.mark.parametrize(("method", "expected"), [("maml", 3), ("transfer", 1)])
def test_what_was_measured_is_a_setting_of_the_run(monkeypatch, drawings, method, expected):
    """A mini-batch is never divided, so that there is nothing to measure."""
    monkeypatch.setattr(experiments, "measured_at_once", lambda *_: 3)
    split = find_split("alphabets", drawings)
    config = tiny_settings(method, image_size=28)

    experiment = Experiment(config, drawings, split).with_measured_chunks()

    assert experiment.config == config.replace(episodes_per_chunk=expected)


def test_a_fault_that_is_none_of_memory_is_not_hidden(monkeypatch):
    config = tiny_settings(meta_batch_size=32, episodes_per_chunk=0)
    learner: Any = build_learner(config, 1)
    FakeDevice(monkeypatch, 100 * MIB, 5 * MIB)

    def broken(batch: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    learner.meta_loss = broken

    with pytest.raises(RuntimeError, match="illegal memory access"):
        measured_at_once(config, learner, (1, 16, 16))


def test_determinism_sets_what_pytorch_and_its_libraries_look_at(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is put back
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    try:
        be_deterministic()

        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == WORKSPACE
    finally:
        torch.use_deterministic_algorithms(False)
