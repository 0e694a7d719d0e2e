"""Outer steps as a GPU takes them, computed on a CPU: what they give, and that nothing waits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from innerloop.core.errors import ConfigError, DeviceError, NonFiniteError, OutOfMemoryError
from innerloop.data.images import FewShotDataset, LabelledImages
from innerloop.data.splits import find_split
from innerloop.experiments.device_adam import DeviceAdam
from innerloop.experiments.device_batches import EpisodesOnDevice, ImagesOnDevice, on_device
from innerloop.experiments.device_steps import DeviceSteps
from innerloop.experiments.experiment import Experiment
from innerloop.experiments.recording import Record
from innerloop.experiments.state import MovingAverage
from innerloop.experiments.training import Training, validator
from innerloop.fast_weights import engine
from innerloop.methods.maml.learner import MAML
from innerloop.runs.directory import RunDirectory
from innerloop.runs.weights import load_weights
from recordings import NoWaiting, recorded
from test_training import (
    Constant,
    Odd,
    Pixels,
    Poisoned,
    finished,
    model_of,
    new_run,
    new_training,
    outcome,
    same,
    stop_after,
    tiny_settings,
    weights_of,
)

KINDS: dict[str, dict[str, Any]] = {
    "FO-MAML": dict(method="fomaml"),
    "MAML": dict(method="maml", clip_gradient=0.5),
    "MAML of a learnt head, in mini-batches": dict(
        method="maml", fresh_head=False, head_init="glorot", query_batches=2, averaging=0.0
    ),
    # With 12 steps every phase: multi-step losses, first order alone, second order.
    "MAML++": dict(method="mamlpp", inner_steps=2, meta_steps=12, multi_step_fraction=0.2),
    "transfer": dict(method="transfer", batch_size=6),
}


@pytest.fixture(scope="module")
def small(drawings: FewShotDataset) -> FewShotDataset:
    """The drawings' middles, 16 pixels wide."""
    middles = np.ascontiguousarray(drawings.images[..., 6:22, 6:22])
    return FewShotDataset("strokes", middles, drawings.class_names)


@pytest.fixture
def experiment(small: FewShotDataset) -> Callable[..., Experiment]:
    return lambda **changes: Experiment(
        tiny_settings(**changes), small, find_split("alphabets", small)
    )


def as_on_a_gpu(
    tiny: Experiment,
    run: RunDirectory,
    record: Record | None = None,
    learner: Any = None,
    say: Callable[[str], None] = print,
) -> Training:
    """A training whose steps are those of a GPU, on the CPU."""
    training = new_training(tiny, run)
    if learner is not None:
        training = Training(learner, tiny.training_sampler(), run, tiny.dataset.fingerprint)
    adam = training.optimiser = DeviceAdam(training.learner.parameters())
    source = on_device(training.sampler, tiny.config.own.batch, "cpu")
    training.device_steps = DeviceSteps(
        training.learner, source, adam, training.average, tiny.config, "cpu", record, say
    )
    return training


def finished_as_on_a_gpu(
    tiny: Experiment, path: Path, record: Record | None = None, **how: Any
) -> RunDirectory:
    run = new_run(tiny, path)
    assert as_on_a_gpu(tiny, run, record, **how).train(validator(tiny)) is None
    return run


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Over all floating tensors of two states."""
    apart = [(one[name] - value).double().norm() for name, value in other.items()]
    return torch.stack(apart).norm().item()


def refuse_to_be_said(sentence: str) -> None:
    raise AssertionError(sentence)


# What the steps give


@pytest.mark.parametrize("kind", KINDS)
def test_the_steps_of_a_gpu_are_those_of_the_cpu_to_rounding(experiment, tmp_path, kind):
    tiny = experiment(episodes_per_chunk=2, **KINDS[kind])

    there = finished_as_on_a_gpu(tiny, tmp_path / "there")
    here = finished(tiny, tmp_path / "here")

    ours, theirs = load_weights(there.weights_path), load_weights(here.weights_path)
    initial = weights_of(tiny.build_learner())
    # Of all weights at once: where a gradient is zero but for rounding, Adam makes that large.
    apart = distance(ours, theirs)
    assert apart <= 5e-3 * distance(initial, theirs)
    for one, other in zip(there.read_metrics(), here.read_metrics(), strict=True):
        assert one.keys() == other.keys()
        assert (one["step"], one["kind"]) == (other["step"], other["kind"])
    for one, other in zip(there.read_metrics("train"), here.read_metrics("train"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_replayed_step_has_the_bits_of_its_operations_and_nothing_waits(
    experiment,
    tmp_path,
    kind,
):
    """The recording refuses whatever waits, and looks at Python no more when it is replayed."""
    tiny = experiment(episodes_per_chunk=1, **KINDS[kind])

    replayed = finished_as_on_a_gpu(tiny, tmp_path / "a", recorded, say=refuse_to_be_said)
    computed = finished_as_on_a_gpu(tiny, tmp_path / "b")

    assert outcome(replayed) == outcome(computed)


@pytest.mark.parametrize("kind", ["FO-MAML", "MAML", "MAML++"])
def test_the_gpus_engine_is_recorded_and_replayed_to_the_same_bits(
    experiment, tmp_path, monkeypatch, kind
):
    """Its network in the steps of a GPU, both on the CPU."""
    monkeypatch.setattr(engine, "_is_on_gpu", lambda *of: True)
    made = []
    real = engine.GpuNetwork
    monkeypatch.setattr(engine, "GpuNetwork", lambda *a, **k: made.append(1) or real(*a, **k))
    tiny = experiment(episodes_per_chunk=2, **KINDS[kind])

    replayed = finished_as_on_a_gpu(tiny, tmp_path / "a", recorded, say=refuse_to_be_said)
    computed = finished_as_on_a_gpu(tiny, tmp_path / "b")

    assert made
    assert outcome(replayed)[0] == outcome(computed)[0]


def test_a_step_is_recorded_anew_where_its_signature_changes(experiment, tmp_path):
    """MAML++ of 12 steps: multi-step weights in two epochs' places, first order, second order."""
    tiny, count = experiment(**KINDS["MAML++"]), []

    def counting(compute: Callable[[], None]) -> Callable[[], None]:
        count.append(compute)
        return recorded(compute)

    finished_as_on_a_gpu(tiny, tmp_path / "run", counting)

    learner = tiny.build_learner()
    signatures = []
    for step in range(12):
        learner.begin_outer_step(step, 12)
        signatures.append(learner.step_signature())
    assert len(count) == len(set(signatures)) >= 4


@pytest.mark.parametrize("record", [None, recorded], ids=["computed", "replayed"])
@pytest.mark.parametrize("kind", ["FO-MAML", "MAML++", "transfer"])
def test_a_run_resumes_to_the_same_bits(experiment, tmp_path, kind, record):
    # So that steps 3 and 4 are no steps after which records are read anyway.
    tiny = experiment(checkpoint_every=100, validation_every=100, **KINDS[kind])
    whole, run = (
        finished_as_on_a_gpu(tiny, tmp_path / "whole", record),
        new_run(tiny, tmp_path / "run"),
    )

    for step in (1, 3, 4, tiny.config.training.meta_steps):
        training = as_on_a_gpu(tiny, run, record)
        assert training.resume() == []
        training.train(validator(tiny), should_stop=stop_after(training, step))

    (ours, our_states, our_metrics), (theirs, states, metrics) = outcome(run), outcome(whole)
    assert (ours, our_metrics) == (theirs, metrics)
    assert our_states[max(our_states)] == states[max(states)]


def test_records_are_complete_though_they_are_read_in_blocks(experiment, tmp_path):
    tiny = experiment(meta_steps=9, validation_every=100, checkpoint_every=4)
    training = as_on_a_gpu(tiny, new_run(tiny, tmp_path / "run"))
    told: list[tuple[int, int]] = []

    def tell(step: int, _record: object) -> None:
        told.append((step, len(training.run.read_metrics("train"))))

    training.train(validator(tiny), on_step=tell)

    records = training.run.read_metrics("train")
    assert [record["step"] for record in records] == list(range(1, 10))
    assert [step for step, _ in told] == [1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 9]
    seconds = [record["elapsed_s"] for record in records]
    assert seconds == sorted(seconds)


@pytest.mark.parametrize("kind", [Odd, Pixels])
def test_an_odd_learner_of_somebody_else_is_computed_and_it_is_said_why_it_is_not_recorded(
    experiment,
    tmp_path,
    kind,
):
    tiny, said = experiment(), []
    learner = kind.from_config(tiny.config, model_of(tiny))
    run = finished_as_on_a_gpu(tiny, tmp_path / "run", recorded, learner=learner, say=said.append)

    assert run.weights_path.exists()
    assert said == [
        "Outer steps are not recorded as a CUDA graph, because the method does not say what its "
        "steps follow from."
    ]


class Waiting(MAML):
    """Looks at a value in every step."""

    def step_signature(self) -> int:
        return 0

    def meta_loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        loss, logged = super().meta_loss(batch)
        return loss * (1.0 if loss.item() < 1e9 else 0.0), logged


def test_a_step_that_waits_is_computed_with_the_same_bits_and_it_is_said_why(
    experiment,
    tmp_path,
):
    tiny, said = experiment(), []
    learners = [Waiting.from_config(tiny.config, model_of(tiny)) for _ in range(2)]

    tried = finished_as_on_a_gpu(
        tiny, tmp_path / "tried", recorded, learner=learners[0], say=said.append
    )
    computed = finished_as_on_a_gpu(tiny, tmp_path / "computed", learner=learners[1])

    assert said == [
        "Outer steps are not recorded as a CUDA graph, because aten::_local_scalar_dense waits "
        "for the device."
    ]
    assert outcome(tried) == outcome(computed)


def test_what_a_cuda_graph_refuses_is_no_device_that_failed(experiment, tmp_path):
    tiny, said = experiment(), []

    def refusing(compute: Callable[[], None]) -> Callable[[], None]:
        compute()
        raise torch.AcceleratorError(
            "CUDA error: operation not permitted when stream is capturing\nmore of it"
        )

    tried = finished_as_on_a_gpu(tiny, tmp_path / "tried", refusing, say=said.append)
    computed = finished_as_on_a_gpu(tiny, tmp_path / "computed")

    assert said == [
        "Outer steps are not recorded as a CUDA graph, because CUDA error: operation not permitted "
        "when stream is capturing."
    ]
    assert outcome(tried) == outcome(computed)


def test_the_steps_of_a_subclass_are_not_taken_for_those_of_its_method(experiment):
    class Other(MAML):
        pass

    assert Other(model_of(experiment())).step_signature() is None
    assert MAML(model_of(experiment())).step_signature() is not None


def test_a_guard_against_waiting_sees_it():
    with NoWaiting():
        for waits in (
            lambda: torch.ones(1).item(),
            lambda: torch.equal(torch.ones(1), torch.ones(1)),
            lambda: bool(torch.ones(1) > 0),
            lambda: torch.ones(2)[torch.tensor([True, False])],
            lambda: torch.ones(2).nonzero(),
        ):
            with pytest.raises(RuntimeError, match="waits for the device"):
                waits()


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_of_a_step_is_on_the_device_and_no_value_is_looked_at(
    experiment, tmp_path, kind
):
    """On PyTorch's device without values, which refuses both; there, as on a GPU, by vmap."""
    settings = {name: value for name, value in KINDS[kind].items() if name != "episodes_per_chunk"}
    tiny = experiment(episodes_per_chunk=2, device="meta", **settings)
    training = new_training(experiment(**settings), new_run(experiment(), tmp_path / "run"))
    learner = training.learner.to("meta")
    average = MovingAverage(learner, 0.9)
    source = on_device(training.sampler, tiny.config.own.batch, "meta")
    steps = DeviceSteps(
        learner, source, DeviceAdam(learner.parameters()), average, tiny.config, "meta", None, print
    )
    total = tiny.config.training.meta_steps

    for number in {0, 1, total // 2, total - 1}:
        steps.step(number)

    assert all(value.is_meta for value in steps._state())
    with pytest.raises(RuntimeError, match="meta"):
        steps.read()


# What it trains on


@pytest.mark.parametrize("rotations", [False, True])
def test_episodes_of_a_device_are_the_samplers(experiment, rotations):
    sampler = experiment(rotations=rotations).training_sampler()
    source = EpisodesOnDevice(sampler, 5, "cpu")
    expected = sampler.batch(3 * 5, 5)

    chunks = list(source.chunks(torch.from_numpy(source.indices(3)), 2))

    assert [share for _, share in chunks] == [0.4, 0.4, 0.2]
    for part in ("support", "query"):
        images = torch.cat([getattr(chunk, part).images for chunk, _ in chunks])
        labels = torch.cat([getattr(chunk, part).labels for chunk, _ in chunks])
        assert torch.equal(images, getattr(expected, part).images)
        assert torch.equal(labels, getattr(expected, part).labels)
    for name in ("classes", "support_drawings", "query_drawings"):
        whole = torch.cat([getattr(chunk, name) for chunk, _ in chunks])
        assert torch.equal(whole, getattr(expected, name))


def test_mini_batches_of_a_device_are_the_samplers(experiment):
    sampler = experiment(method="transfer").training_sampler()
    source = ImagesOnDevice(sampler, 7, "cpu")
    expected = sampler.batch(3 * 7, 7)

    ((chunk, share),) = source.chunks(torch.from_numpy(source.indices(3)), 2)

    assert share == 1 and isinstance(chunk, LabelledImages)
    assert torch.equal(chunk.images, expected.images)
    assert torch.equal(chunk.labels, expected.labels)


def test_a_sampler_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="takes an EpisodeSampler or an ImageSampler: got list"):
        on_device([], 4, "cuda")  # type: ignore[arg-type]


# What goes wrong


@pytest.mark.parametrize("record", [None, recorded], ids=["computed", "replayed"])
@pytest.mark.parametrize("healthy", [0, 1, 4, 5])
def test_a_loss_that_is_not_finite_fails_and_nothing_after_the_step_before_is_saved(
    experiment,
    tmp_path,
    monkeypatch,
    healthy,
    record,
):
    """Though the steps behind it are computed by then."""
    monkeypatch.setattr(Poisoned, "healthy_calls", healthy)
    tiny = experiment(
        method="test_training:POISONED",
        episodes_per_chunk=2,
        meta_steps=9,
        checkpoint_every=3,
        validation_every=100,
    )
    run = new_run(tiny, tmp_path / "run")

    with pytest.raises(
        NonFiniteError,
        match=rf"Outer step {healthy + 1}: the loss is nan.*Nothing after step {healthy} is saved",
    ):
        as_on_a_gpu(tiny, run, record, say=lambda sentence: None).train(validator(tiny))

    assert [record["step"] for record in run.read_metrics("train")] == list(range(1, healthy + 1))
    assert run.status.state == "failed" and run.status.step == healthy
    assert not run.weights_path.exists()
    kept = sorted(path.name for path in (run.path / "checkpoints").glob("step-*"))
    assert kept == (["step-00000003"] if healthy >= 3 else [])
    resumed = as_on_a_gpu(tiny, run)
    assert resumed.resume() == []
    assert resumed.step == healthy // 3 * 3


def test_a_loss_that_depends_on_no_parameter_is_refused(experiment, tmp_path):
    tiny = experiment()
    learner = Constant.from_config(tiny.config, model_of(tiny))
    training = as_on_a_gpu(tiny, new_run(tiny, tmp_path / "run"), learner=learner)

    with pytest.raises(ConfigError, match="meta_loss of Constant depends on none of its param"):
        training.train(validator(tiny))


class Hungry(MAML):
    """Needs more memory than there is for more episodes at once than so many, once or ever."""

    holds = 2
    seen: list[int]

    def step_signature(self) -> int:
        return 0

    def meta_loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        self.seen.append(len(batch))
        if len(batch) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().meta_loss(batch)


def hungry(tiny: Experiment, holds: int) -> Hungry:
    learner = Hungry.from_config(tiny.config, model_of(tiny))
    learner.holds, learner.seen = holds, []
    return learner


@pytest.mark.parametrize("record", [None, recorded], ids=["computed", "replayed"])
def test_out_of_memory_halves_the_chunk_once_says_so_and_goes_on(
    experiment,
    tmp_path,
    record,
):
    tiny = experiment(meta_batch_size=5, episodes_per_chunk=5)
    learner, said = hungry(tiny, 3), []

    run = finished_as_on_a_gpu(tiny, tmp_path / "run", record, learner=learner, say=said.append)
    smaller = experiment(meta_batch_size=5, episodes_per_chunk=3)
    whole = finished_as_on_a_gpu(smaller, tmp_path / "whole", record, learner=hungry(smaller, 3))

    assert said == [
        "Out of memory (CUDA out of memory. Tried to allocate 2.00 GiB): 3 episodes are computed "
        "at once from here on, half as many as before."
    ]
    assert learner.seen[:3] == [5, 3, 2]
    assert same(load_weights(run.weights_path), load_weights(whole.weights_path))


def test_out_of_memory_within_a_recording_is_seen_behind_the_recordings_own_failure(
    experiment, tmp_path
):
    """A CUDA graph that is ended after an error raises another one."""
    tiny, said = experiment(meta_batch_size=5, episodes_per_chunk=5), []

    def ending(compute: Callable[[], None]) -> Callable[[], None]:
        try:
            return recorded(compute)
        finally:
            if len(learner.seen) == 1:
                raise RuntimeError("CUDA error: operation failed during capture")

    learner = hungry(tiny, 3)
    finished_as_on_a_gpu(tiny, tmp_path / "run", ending, learner=learner, say=said.append)

    assert [sentence.partition(" (")[0] for sentence in said] == ["Out of memory"]


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        (None, torch.OutOfMemoryError("CUDA out of memory.")),
        (recorded, torch.OutOfMemoryError("CUDA out of memory.")),
        (recorded, RuntimeError("It waits.")),
    ],
    ids=["computed, memory", "recorded, memory", "recorded, another fault"],
)
def test_an_attempt_that_fails_half_way_leaves_nothing_in_the_running_statistics(
    experiment, tmp_path, record, fault
):
    """Of MAML++, which gathers them from chunk to chunk: the second one fails, once."""
    settings = dict(method="mamlpp", inner_steps=2, meta_batch_size=4)
    tiny, calls = experiment(episodes_per_chunk=2, **settings), []
    learner: Any = tiny.build_learner()
    real = learner.meta_loss

    def failing(batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        calls.append(len(batch))
        if len(calls) == 2:
            raise fault
        return real(batch)

    learner.meta_loss = failing
    run = finished_as_on_a_gpu(
        tiny, tmp_path / "run", record, learner=learner, say=lambda sentence: None
    )
    at_once = 1 if isinstance(fault, torch.OutOfMemoryError) else 2
    whole = finished_as_on_a_gpu(
        experiment(episodes_per_chunk=at_once, **settings), tmp_path / "whole", record
    )

    assert any("running_var" in name for name in load_weights(run.weights_path))
    assert same(load_weights(run.weights_path), load_weights(whole.weights_path))


def test_a_chunk_is_halved_once_in_a_training(experiment, tmp_path):
    tiny, said = experiment(meta_batch_size=8, episodes_per_chunk=8, validation_every=3), []
    learner = hungry(tiny, 4)

    def shrink(step: int, _record: object) -> None:
        if step == 3:
            learner.holds = 2

    training = as_on_a_gpu(tiny, new_run(tiny, tmp_path / "run"), learner=learner, say=said.append)
    with pytest.raises(OutOfMemoryError, match=r"after outer step 3 .*innerloop resume"):
        training.train(validator(tiny), on_step=shrink)

    assert len(said) == 1


def test_out_of_memory_at_half_a_chunk_is_an_error_and_the_run_can_be_resumed(
    experiment,
    tmp_path,
):
    tiny = experiment(meta_batch_size=8, episodes_per_chunk=8)
    run = new_run(tiny, tmp_path / "run")

    with pytest.raises(OutOfMemoryError, match=r"after outer step 0 .*innerloop resume"):
        as_on_a_gpu(tiny, run, learner=hungry(tiny, 3)).train(validator(tiny))

    assert run.status.state == "running"


@pytest.mark.parametrize("record", [None, recorded], ids=["computed", "replayed"])
def test_a_device_that_vanishes_is_a_sentence_and_the_run_goes_on_to_the_same_bits(
    experiment,
    tmp_path,
    record,
):
    tiny = experiment(checkpoint_every=2)
    whole, run = (
        finished_as_on_a_gpu(tiny, tmp_path / "whole", record),
        new_run(tiny, tmp_path / "run"),
    )

    def vanish(step: int, _record: object) -> None:
        if step == 3:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure\nmore of it")

    with pytest.raises(
        DeviceError,
        match=rf"Device 'cpu' failed at outer step 3 \(CUDA error: unspecified launch failure\)\. "
        rf"Once it answers again, go on with: innerloop resume {run.path}",
    ):
        as_on_a_gpu(tiny, run, record).train(validator(tiny), on_step=vanish)
    assert run.status.state == "running"
    again = as_on_a_gpu(tiny, run, record)
    assert again.resume() == []
    again.train(validator(tiny))

    assert outcome(run) == outcome(whole)


class Failing(MAML):
    """Its device fails in a network's code, which says so in a sentence of its own."""

    def meta_loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        try:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        except RuntimeError as error:
            raise ConfigError("The network fails.") from error


def test_a_device_that_vanishes_within_a_network_is_no_fault_of_the_network(
    experiment,
    tmp_path,
):
    tiny = experiment()
    learner = Failing.from_config(tiny.config, model_of(tiny))

    with pytest.raises(DeviceError, match="Device 'cpu' failed at outer step 0"):
        as_on_a_gpu(tiny, new_run(tiny, tmp_path / "run"), learner=learner).train(validator(tiny))


# Adam


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fifty_steps_of_the_devices_adam_are_pytorchs_to_rounding(dtype):
    """Rates that change, one of them 0, and a weight without a gradient at every third step."""
    shapes = [(16, 3, 3, 3), (16,), (5, 16), ()]
    ours = [torch.randn(shape, dtype=dtype) for shape in shapes]
    theirs = [weight.clone() for weight in ours]
    adam = DeviceAdam(ours)
    oracle = torch.optim.Adam(theirs, lr=1.0)

    for number in range(50):
        rate = 0.003 * (number % 7)
        for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            idle = index == 1 and number % 3 == 0
            gradient = torch.randn_like(mine) * 10.0 ** (number % 5 - 3)
            mine.grad = None if idle else gradient
            other.grad = None if idle else gradient.clone()
        oracle.param_groups[0]["lr"] = rate
        adam.step_on_device(torch.tensor(adam.numbers(rate), dtype=torch.float64))
        adam.count()
        oracle.step()

    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, rtol=0, atol=1e-6 if dtype is torch.float32 else 1e-14)
        for name, value in adam.state[mine].items():
            assert torch.equal(value, oracle.state[other][name])
