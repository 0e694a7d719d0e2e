import dataclasses
import errno
import gc
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import innerloop
from innerloop import cli, report
from innerloop.core.errors import (
    ConfigError,
    DataError,
    DiskError,
    NonFiniteError,
    OutOfMemoryError,
)
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import FewShotDataset, LabelledImages
from innerloop.data.sampling import EpisodeSampler
from innerloop.data.splits import find_split
from innerloop.experiments import experiment as experiments
from innerloop.experiments import training as trainings
from innerloop.experiments.environment import environment
from innerloop.experiments.experiment import Experiment, open_run
from innerloop.experiments.meta_gradient import accumulate_meta_gradient
from innerloop.experiments.monitor import Stop
from innerloop.experiments.state import MovingAverage, refuse_changes
from innerloop.experiments.training import Training, train, validator
from innerloop.methods.base import Adaptation, accuracy
from innerloop.methods.card import Card
from innerloop.methods.catalogue import names, settings_of
from innerloop.methods.maml.learner import MAML
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.networks.conv4 import Conv4
from innerloop.report.model_card import model_card
from innerloop.runs.directory import RunDirectory
from innerloop.runs.results import Status
from innerloop.runs.weights import load_weights
from innerloop.settings.method import EpisodicSettings
from innerloop.settings.run import RunConfig

SIZES: dict[str, Any] = dict(
    data="strokes",
    split="alphabets",
    ways=2,
    shots=1,
    queries=2,
    inner_steps=2,
    meta_steps=6,
    meta_batch_size=2,
    image_size=16,
    filters=4,
    validation_every=2,
    validation_episodes=2,
    checkpoint_every=1,
    device="cpu",
    threads=1,
    episodes_per_chunk=1,
)
"""Of a training that takes a second."""


def tiny_settings(method: str = "fomaml", **changes: Any) -> RunConfig:
    """A tiny training of a method, which takes those of the sizes that it has."""
    config = settings_of(method)
    values = {name: value for name, value in SIZES.items() if name in config.flat()}
    return config.replace(**values | changes)


TINY = tiny_settings()


class NearestCentroid(innerloop.Learner):
    """A user's own method: class means in the network's feature space (Snell et al., 2017)."""

    batch_norm_modes: tuple[BatchNormMode, ...] = ("transductive",)

    def __init__(self, model: Conv4):
        super().__init__()
        self.model = model

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        assert isinstance(model, Conv4)
        return cls(model)

    def embed(self, images: Tensor) -> Tensor:
        return torch.stack([self.model.embed(of_one) for of_one in images])

    def centroids(self, support: LabelledImages) -> Tensor:
        one_hot = F.one_hot(support.labels).float()
        return one_hot.transpose(1, 2) @ self.embed(support.images) / one_hot.sum(dim=1)[..., None]

    def meta_loss(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        logits = -(torch.cdist(self.embed(batch.query.images), self.centroids(batch.support)) ** 2)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.query.labels.flatten())
        return loss, {"query_accuracy_after": accuracy(logits.detach(), batch.query.labels).mean()}

    def trajectory(self, support: LabelledImages, *, steps: int) -> Iterator[Adaptation]:
        with torch.no_grad():
            centroids = self.centroids(support)
        for count in range(1, steps + 2):
            nothing = torch.zeros(len(support), count)
            yield Adaptation({"centroids": centroids}, support, nothing, nothing)

    def predict(
        self, adaptation: Adaptation, images: Tensor, *, batch_norm: BatchNormMode | None = None
    ) -> Tensor:
        assert batch_norm in (None, "transductive"), f"{batch_norm} is not a mode of this learner"
        return -(torch.cdist(self.embed(images), adaptation.fast_weights["centroids"]) ** 2)


class Poisoned(NearestCentroid):
    """Its loss (or, with a finite loss, its gradient) is not finite from some outer step on."""

    calls = 0
    healthy_calls = 3 * SIZES["meta_batch_size"]
    poison: Callable[[Tensor], Tensor] = staticmethod(lambda loss: loss * torch.nan)

    def meta_loss(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        loss, logged = super().meta_loss(batch)
        self.calls += 1
        return (loss if self.calls <= self.healthy_calls else self.poison(loss)), logged


NEAREST = Card(
    name="nearest",
    title="Nearest centroid",
    settings=EpisodicSettings,
    learner="test_training:NearestCentroid",
    idea="Class means in the network's feature space.",
)
POISONED = dataclasses.replace(NEAREST, learner="test_training:Poisoned")


@pytest.fixture(scope="session")
def small(drawings: FewShotDataset) -> FewShotDataset:
    """The drawings' middles, 16 pixels wide."""
    return FewShotDataset(
        "strokes", np.ascontiguousarray(drawings.images[..., 6:22, 6:22]), drawings.class_names
    )


@pytest.fixture
def experiment(small: FewShotDataset) -> Callable[..., Experiment]:
    return lambda **changes: Experiment(
        tiny_settings(**changes), small, find_split("alphabets", small)
    )


@pytest.fixture
def command_line(small: FewShotDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `cli.main` find the small data set, and draw no figures."""
    monkeypatch.setattr(experiments, "load_dataset", lambda *_, **__: small)
    monkeypatch.setattr(report, "write_results", lambda run: None)


def new_run(experiment: Experiment, path: Path) -> RunDirectory:
    return RunDirectory.create(experiment.config, environment(experiment), path)


def new_training(experiment: Experiment, run: RunDirectory) -> Training:
    return Training(
        experiment.build_learner(),
        experiment.training_sampler(),
        run,
        experiment.dataset.fingerprint,
    )


def finished(experiment: Experiment, path: Path) -> RunDirectory:
    run = new_run(experiment, path)
    assert new_training(experiment, run).train(validator(experiment)) is None
    return run


def stop_after(training: Training, step: int) -> Callable[[], Stop | None]:
    return lambda: Stop("interrupted", 130, "Stopped.") if training.step >= step else None


def weights_of(learner: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in learner.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def outcome(run: RunDirectory) -> tuple[bytes, dict[str, bytes], list[dict[str, Any]]]:
    """Final weights, checkpoints' tensors, and metrics without times."""
    states = {
        path.parent.name: path.read_bytes()
        for path in run.path.glob("checkpoints/*/state.safetensors")
    }
    metrics = [
        {key: value for key, value in record.items() if key != "elapsed_s"}
        for record in run.read_metrics()
    ]
    return run.weights_path.read_bytes(), states, metrics


def checkpoint_names(run: RunDirectory) -> list[str]:
    return sorted(path.name for path in (run.path / "checkpoints").iterdir())


# The meta-gradient


def in_double(batch: EpisodeBatch) -> EpisodeBatch:
    support, query = (
        LabelledImages(part.images.double(), part.labels) for part in (batch.support, batch.query)
    )
    return EpisodeBatch(support, query, batch.classes, batch.support_drawings, batch.query_drawings)


@pytest.mark.parametrize("method", ["fomaml", "maml"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_chunks_give_the_meta_gradient_of_the_whole(experiment, method, size):
    """Five episodes, so that the last chunk is smaller unless chunks are of one."""
    tiny = experiment(method=method, inner_steps=2, fresh_head=False, head_init="glorot")
    learner = tiny.build_learner().double()
    episodes = in_double(tiny.training_sampler().batch(0, 5))

    def measure(chunk: int) -> tuple[Tensor, dict[str, float]]:
        logged = accumulate_meta_gradient(learner, episodes, chunk)
        return torch.cat(
            [weight.grad.flatten() for weight in learner.parameters() if weight.grad is not None]
        ), logged

    (whole, whole_logged), (chunked, chunked_logged) = measure(5), measure(size)

    assert (chunked - whole).norm() <= 1e-10 * whole.norm()
    assert whole.norm() > 0
    assert chunked_logged == pytest.approx(whole_logged, rel=1e-6)
    assert whole_logged["gradient_norm"] == pytest.approx(whole.norm().item(), rel=1e-12)


def tensors_alive() -> int:
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


def test_no_graph_of_an_earlier_chunk_is_kept(experiment):
    """Tensors alive when a chunk begins: as many before the third as before the second.

    Before the fourth there is the third's part of the sum, beside that of the first two.
    """
    tiny, alive = experiment(method="maml"), []
    learner = tiny.build_learner()
    real = learner.meta_loss

    def counting(episodes: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        alive.append(tensors_alive())
        return real(episodes)

    learner.meta_loss = counting
    logged = accumulate_meta_gradient(learner, tiny.training_sampler().batch(0, 4), 1)

    gradients = [weight.grad for weight in learner.parameters() if weight.grad is not None]
    assert len(alive) == 4
    assert alive[2] == alive[1]
    # The gradient's norm is not of a part.
    assert alive[3] == alive[1] + len(gradients) + len(logged) - 1


def test_memory_does_not_grow_with_the_steps(experiment, tmp_path):
    """Tensors alive after the second step, when the optimiser has its moments, and after the last
    but one."""
    tiny, alive = experiment(meta_steps=10, validation_every=3, checkpoint_every=3), {}
    training = new_training(tiny, new_run(tiny, tmp_path / "run"))

    def count() -> None:
        if training.step in (2, 9):
            alive[training.step] = tensors_alive()

    training.train(validator(tiny), should_stop=count)

    assert alive[9] == alive[2]


# The average


def test_the_average_follows_its_formula_and_leaves_the_weights_alone():
    """d_t = min(decay, (t − 1) / (t + 9)): 0, 1/11, 2/12, ... up to the decay."""
    learner = MAML(nn.Linear(2, 2).double())
    average = MovingAverage(learner, 0.25)
    oracle = np.zeros(4)

    for step in range(1, 9):
        with torch.no_grad():
            learner.model.weight.normal_()  # type: ignore[operator]
        before = weights_of(learner)
        average.update(learner, step)
        decay = min(0.25, (step - 1) / (step + 9))
        oracle = decay * oracle + (1 - decay) * before["model.weight"].numpy().flatten()
        assert same(weights_of(learner), before)

    assert average.weights["model.weight"].numpy().flatten() == pytest.approx(oracle, rel=1e-14)


def test_the_average_is_in_place_only_within_its_context():
    learner = MAML(nn.Linear(2, 2))
    average = MovingAverage(learner, 0.9)
    own, averaged = (
        weights_of(learner),
        {name: weight + 1 for name, weight in average.weights.items()},
    )
    average.weights = averaged

    with pytest.raises(KeyboardInterrupt), average.in_place(learner):
        assert same(weights_of(learner), averaged)
        raise KeyboardInterrupt

    assert same(weights_of(learner), own)


def test_averaging_does_not_change_what_is_trained(experiment, tmp_path):
    losses = {}
    for averaging in (0.0, 0.5, 0.98):
        run = finished(experiment(averaging=averaging), tmp_path / f"run-{averaging}")
        losses[averaging] = [
            (record["loss"], record["gradient_norm"]) for record in run.read_metrics("train")
        ]

    assert losses[0.5] == losses[0.0] == losses[0.98]


@pytest.mark.parametrize(("limit", "expected"), [(0.0, 1.0), (1e-3, None), (1e6, 1.0)])
def test_a_gradient_longer_than_the_limit_is_scaled_down_to_it(
    experiment, tmp_path, limit, expected
):
    """Seen in Adam's first moment, a tenth of the first step's gradient; the logged norm is the
    unclipped one."""
    tiny = experiment(clip_gradient=limit)
    training = new_training(tiny, new_run(tiny, tmp_path / "run"))

    logged = training._outer_step()["gradient_norm"]

    moments = [training.optimiser.state[weight]["exp_avg"] for weight in training.optimiser.state]
    taken = 10 * torch.stack([moment.norm() for moment in moments]).norm().item()
    assert taken == pytest.approx(limit if expected is None else logged, rel=1e-3)


def test_the_final_weights_are_the_average(experiment, tmp_path):
    tiny = experiment()
    run = new_run(tiny, tmp_path / "run")
    training = new_training(tiny, run)
    seen = []

    training.train(
        validator(tiny), on_step=lambda step, record: seen.append(weights_of(training.learner))
    )

    assert training.average
    averaged = {
        name: training.average.weights[name] for name, _ in training.learner.named_parameters()
    }
    _, learner = open_run_of(tiny, run)
    assert same({name: weight.detach() for name, weight in learner.named_parameters()}, averaged)
    assert not same(weights_of(learner), seen[-1])


def open_run_of(experiment: Experiment, run: RunDirectory) -> tuple[Experiment, innerloop.Learner]:

    learner = experiment.build_learner()
    learner.load_state_dict(load_weights(run.weights_path, learner.state_dict()))
    return experiment, learner


@pytest.mark.parametrize("factor", [1.0, 0.25, 0.0])
def test_the_learners_factor_scales_the_outer_rate(experiment, tmp_path, factor, monkeypatch):
    """Adam's first step moves a weight by the rate in the direction of its gradient's sign."""
    tiny = experiment(method="test_training:NEAREST", outer_lr=0.01, averaging=0.0)
    monkeypatch.setattr(NearestCentroid, "begin_outer_step", lambda self, step, total: factor)
    training = new_training(tiny, new_run(tiny, tmp_path / "run"))
    before = weights_of(training.learner)

    training._outer_step()

    moved = [
        (before[name] - weight).abs().max().item()
        for name, weight in training.learner.named_parameters()
        if weight.grad is not None and weight.grad.abs().max() > 1e-4
    ]
    assert moved
    assert moved == pytest.approx([0.01 * factor] * len(moved), rel=1e-3)


def test_the_learner_is_told_every_outer_step_and_of_how_many(experiment, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(
        NearestCentroid,
        "begin_outer_step",
        lambda self, step, total: told.append((step, total)) or 1.0,
    )
    finished(experiment(method="test_training:NEAREST", meta_steps=3), tmp_path / "run")

    assert told == [(0, 3), (1, 3), (2, 3)]


# Validation


@pytest.mark.parametrize("steps", [6, 7])
def test_validation_comes_after_the_first_step_at_every_interval_and_last(
    experiment, tmp_path, steps
):
    """That after the first step is of the initial weights, which its record says by step 0."""
    run = finished(experiment(meta_steps=steps, validation_every=3), tmp_path / "run")

    order = [(record["step"], record["kind"]) for record in run.read_metrics()]
    expected = [(1, "train"), (0, "validation")]
    for step in range(2, steps + 1):
        expected += [(step, "train")] + [(step, "validation")] * (step % 3 == 0 or step == steps)
    assert order == expected


def test_validation_changes_nothing(experiment, tmp_path):
    """Neither the weights nor the moments, the average, or what comes after: runs that validate
    more often train the same."""
    tiny = experiment(meta_steps=3)
    training = new_training(tiny, new_run(tiny, tmp_path / "run"))
    validate, checked = validator(tiny), []

    def checking(learner: innerloop.Learner) -> dict[str, Any]:
        before = {name: value.clone() for name, value in training._tensors().items()}
        record = validate(learner)
        checked.append(same(before, dict(training._tensors())))
        return record

    training.train(checking)
    often = finished(experiment(meta_steps=3, validation_every=1), tmp_path / "often")

    assert checked == [True] * 3
    assert same(
        open_run_of(tiny, training.run)[1].state_dict(), open_run_of(tiny, often)[1].state_dict()
    )


# Resume


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_a_resume_from_any_step_ends_with_the_same_bits(experiment, tmp_path, step):
    tiny = experiment(checkpoint_every=100)
    whole, run = finished(tiny, tmp_path / "whole"), new_run(tiny, tmp_path / "run")
    first = new_training(tiny, run)

    stop = first.train(validator(tiny), should_stop=stop_after(first, step))
    second = new_training(tiny, run)
    assert second.resume() == []

    assert stop and stop.exit_code == 130
    assert second.step == step
    assert second.train(validator(tiny)) is None
    assert outcome(run)[0] == outcome(whole)[0]
    assert outcome(run)[2] == outcome(whole)[2]
    assert outcome(run)[1]["step-00000006"] == outcome(whole)[1]["step-00000006"]


@pytest.mark.parametrize(
    "changes",
    [
        {"averaging": 0.0},
        {"fresh_head": False},
        {"seed": 3},
        *({"method": name} for name in names()),
    ],
    ids=str,
)
def test_every_kind_of_run_resumes_to_the_same_bits_step_by_step(experiment, tmp_path, changes):
    tiny = experiment(**changes)
    whole, run = finished(tiny, tmp_path / "whole"), new_run(tiny, tmp_path / "run")

    for step in range(1, 7):
        training = new_training(tiny, run)
        training.resume()
        training.train(validator(tiny), should_stop=stop_after(training, step))

    assert outcome(run) == outcome(whole)


@pytest.mark.parametrize("step", [0, 1, 3, 4, 6])
def test_a_crash_at_any_step_goes_on_from_the_last_checkpoint(experiment, tmp_path, step):
    """What was recorded after the checkpoint is cut off first, so that nothing is said twice."""
    tiny = experiment(checkpoint_every=2)
    whole, run = finished(tiny, tmp_path / "whole"), new_run(tiny, tmp_path / "run")

    def crash(at: int, _record: object) -> None:
        if at == step:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        new_training(tiny, run).train(validator(tiny), on_step=crash)
    second = new_training(tiny, run)
    second.resume()

    assert second.step == max(step - 1, 0) // 2 * 2
    second.train(validator(tiny))
    assert outcome(run) == outcome(whole)


def test_a_damaged_newest_checkpoint_costs_its_steps_and_nothing_else(experiment, tmp_path):
    tiny = experiment()
    whole, run = finished(tiny, tmp_path / "whole"), new_run(tiny, tmp_path / "run")
    first = new_training(tiny, run)
    first.train(validator(tiny), should_stop=stop_after(first, 4))
    path = run.path / "checkpoints" / "step-00000004" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")

    second = new_training(tiny, run)
    (warning,) = second.resume()

    assert warning.startswith("Checkpoint step-00000004 is damaged and passed over: ")
    assert second.step == 3
    second.train(validator(tiny))
    assert outcome(run) == outcome(whole)


OTHER = {
    "method": "maml",
    "split": "other",
    "ways": 3,
    "shots": 2,
    "queries": 3,
    "inner_steps": 3,
    "inner_lr": 0.3,
    "outer_lr": 0.01,
    "meta_steps": 7,
    "meta_batch_size": 3,
    "query_batches": 2,
    "averaging": 0.9,
    "rotations": not TINY.data.rotations,
    "fewest_images": 2,
    "seed": 1,
    "image_size": 20,
    "filters": 5,
    "downsample": "max-pool",
    "features": "flatten",
    "last_relu": False,
    "feature_norm": False,
    "feature_scale": 2.0,
    "conv_bias": True,
    "conv_init": "glorot",
    "head_init": "glorot",
    "fresh_head": False,
    "validation_every": 3,
    "validation_episodes": 3,
    "checkpoint_every": 2,
    "threads": 2,
    "episodes_per_chunk": 2,
    "clip_gradient": 1.0,
}


@pytest.fixture
def stopped(experiment, tmp_path) -> RunDirectory:
    """A run after two of its steps."""
    tiny = experiment()
    run = new_run(tiny, tmp_path / "run")
    training = new_training(tiny, run)
    training.train(validator(tiny), should_stop=stop_after(training, 2))
    return run


@pytest.mark.parametrize("name", OTHER)
def test_a_changed_setting_is_refused_by_its_name(experiment, stopped, name):
    """Also where the network has another shape with it: that is not damage, and the run is not
    begun anew."""
    edited = tiny_settings(**{name: OTHER[name]})
    (stopped.path / "config.json").write_text(edited.to_json())
    before = {path: path.read_bytes() for path in stopped.path.rglob("*") if path.is_file()}
    changed = experiment(**({} if name == "split" else {name: OTHER[name]}))

    training = Training(
        changed.build_learner(),
        experiment().training_sampler(),
        stopped,
        changed.dataset.fingerprint,
    )
    with pytest.raises(
        ConfigError,
        match=f"Cannot resume .*: setting '{name}' was .* and is now .*Restore config.json",
    ):
        training.resume()

    assert {path: path.read_bytes() for path in stopped.path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "state", [{}, {"config": "{}"}, {"elapsed_s": 1.5}, {"config": 1, "elapsed_s": 1.5}]
)
def test_a_checkpoint_that_lacks_its_configuration_or_its_seconds_is_damaged(
    experiment, tmp_path, state
):
    with pytest.raises(DataError, match="lacks the configuration or the elapsed seconds"):
        refuse_changes(state, tmp_path, experiment().config, "0")


def test_another_data_set_is_refused(experiment, stopped):
    tiny = experiment()

    training = Training(tiny.build_learner(), tiny.training_sampler(), stopped, "another")
    with pytest.raises(
        ConfigError, match="data_fingerprint differs, so this is another data set than the run was"
    ):
        training.resume()


def test_another_data_set_is_refused_before_the_first_checkpoint_too(experiment, tmp_path):
    tiny = experiment()

    training = Training(
        tiny.build_learner(), tiny.training_sampler(), new_run(tiny, tmp_path / "run"), "another"
    )
    with pytest.raises(
        ConfigError, match="data_fingerprint differs, so this is another data set than the run was"
    ):
        training.resume()


def test_a_saved_configuration_gives_the_same_bits_again(command_line, tmp_path):
    options = [
        f"--{name.replace('_', '-')}={SIZES[name]}"
        for name in (
            "data",
            "ways",
            "shots",
            "queries",
            "inner_steps",
            "meta_steps",
            "meta_batch_size",
            "image_size",
            "filters",
            "validation_every",
            "validation_episodes",
            "threads",
        )
    ]
    assert cli.main(["train", "fomaml", *options, f"--run-dir={tmp_path / 'first'}"]) == 0
    again = [
        "train",
        f"--config={tmp_path / 'first' / 'config.json'}",
        f"--run-dir={tmp_path / 'second'}",
    ]

    assert cli.main(again) == 0

    first, second = RunDirectory(tmp_path / "first"), RunDirectory(tmp_path / "second")
    assert first.config == second.config
    assert outcome(first) == outcome(second)


# Memory


@pytest.mark.parametrize(
    "allocate",
    [lambda: torch.empty(10**15), lambda: np.empty(10**17)],
    ids=["PyTorch", "numpy"],
)
def test_a_run_that_is_out_of_memory_says_so_and_goes_on_to_the_same_bits(
    experiment, tmp_path, allocate
):
    tiny = experiment(checkpoint_every=2)
    whole, run = finished(tiny, tmp_path / "whole"), new_run(tiny, tmp_path / "run")

    def more_than_there_is(step: int, _record: object) -> None:
        if step == 3:
            allocate()

    with pytest.raises(
        OutOfMemoryError, match=rf"after outer step 3 .*innerloop resume {run.path}"
    ):
        new_training(tiny, run).train(validator(tiny), on_step=more_than_there_is)
    second = new_training(tiny, run)
    assert second.resume() == []
    second.train(validator(tiny))

    assert outcome(run) == outcome(whole)


def test_out_of_memory_is_exit_code_6_in_any_command(monkeypatch, capsys):
    def run(arguments: list[str]) -> int:
        return len(torch.empty(10**15))

    monkeypatch.setattr("innerloop.cli.doctor.run", run)

    assert cli.main(["doctor"]) == 6
    assert "Out of memory" in capsys.readouterr().err


# Non-finite


@pytest.mark.parametrize(
    "poison",
    [
        lambda loss: loss * torch.nan,
        lambda loss: loss / 0,
        lambda loss: loss + (loss - loss.detach()).sqrt(),
    ],
    ids=["loss NaN", "loss infinite", "gradient alone"],
)
def test_non_finite_stops_within_the_step_and_the_checkpoint_before_is_intact(
    experiment, tmp_path, monkeypatch, poison
):
    monkeypatch.setattr(Poisoned, "poison", staticmethod(poison))
    tiny = experiment(method="test_training:POISONED", checkpoint_every=1)
    run = new_run(tiny, tmp_path / "run")
    training = new_training(tiny, run)
    weights = []

    with pytest.raises(
        NonFiniteError, match=r"Outer step 4: the loss is .*Nothing after step 3 is saved\. Lower"
    ):
        training.train(
            validator(tiny),
            on_step=lambda step, record: weights.append(weights_of(training.learner)),
        )

    assert same(weights_of(training.learner), weights[-1])
    assert run.read_metrics()[-1]["step"] == 3
    assert checkpoint_names(run) == ["step-00000002", "step-00000003"]
    assert run.status.state == "failed" and run.status.step == 3
    assert not run.weights_path.exists()
    resumed = new_training(tiny, run)
    assert resumed.resume() == []
    assert resumed.step == 3


def test_non_finite_weights_after_a_finite_step_are_not_saved(experiment, tmp_path):
    tiny = experiment()
    run = new_run(tiny, tmp_path / "run")
    training = new_training(tiny, run)

    def poison(step: int, record: dict[str, Any]) -> None:
        if step == 3 and record["kind"] == "train":
            with torch.no_grad():
                next(training.learner.parameters()).fill_(torch.nan)

    with pytest.raises(NonFiniteError, match="is not saved"):
        training.train(validator(tiny), on_step=poison)

    assert checkpoint_names(run) == ["step-00000001", "step-00000002"]
    assert run.status.state == "failed"


def test_non_finite_is_exit_code_3(command_line, tmp_path, capsys):
    (tmp_path / "config.json").write_text(tiny_settings("test_training:POISONED").to_json())

    code = cli.main(
        ["train", f"--config={tmp_path / 'config.json'}", f"--run-dir={tmp_path / 'run'}"]
    )

    assert code == 3
    assert "innerloop: Outer step 4: the loss is nan" in capsys.readouterr().err


# A learner from outside


def test_a_learner_from_outside_trains_resumes_and_evaluates(command_line, tmp_path, capsys):
    (tmp_path / "config.json").write_text(
        tiny_settings("test_training:NEAREST", meta_steps=4).to_json()
    )
    path = tmp_path / "run"

    base = ["train", f"--config={tmp_path / 'config.json'}"]
    assert cli.main([*base, f"--run-dir={tmp_path / 'whole'}"]) == 0
    assert cli.main([*base, f"--run-dir={path}", "--max-minutes=0"]) == 0
    assert cli.main(["resume", str(path)]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", str(path), "--episodes=3", "--json"]) == 0

    assert outcome(RunDirectory(path)) == outcome(RunDirectory(tmp_path / "whole"))
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["method"] == "test_training:NEAREST"
    assert row["batch_norm"] == "transductive"
    assert row["episodes"] == 3


def test_a_learner_from_outside_learns(experiment, tmp_path):
    """Not a matter of luck: the mean training loss of the last third is under that of the first."""
    tiny = experiment(
        method="test_training:NEAREST",
        meta_steps=30,
        outer_lr=0.01,
        validation_every=100,
        checkpoint_every=100,
    )
    losses = [record["loss"] for record in finished(tiny, tmp_path / "run").read_metrics("train")]

    assert np.mean(losses[-10:]) < np.mean(losses[:10])


# The end of a run


def test_an_unfinished_run_cannot_be_evaluated(stopped):
    with pytest.raises(
        ConfigError,
        match=r"has no final weights: it is not finished\. Go on with: innerloop resume",
    ):
        open_run(stopped)


def test_damaged_final_weights_are_refused(experiment, command_line, tmp_path):
    run = finished(experiment(), tmp_path / "run")
    run.weights_path.write_bytes(run.weights_path.read_bytes()[:-1] + b"\x55")

    with pytest.raises(DataError, match="was changed after it was saved"):
        open_run(run)


def test_a_run_is_finished_only_with_the_episode_of_its_figure(experiment, tmp_path, monkeypatch):
    """A kill between the final weights and the episode leaves a run that `resume` completes."""
    tiny = experiment(meta_steps=2)
    run = new_run(tiny, tmp_path / "run")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(trainings, "save_episode", die)
        train(tiny, run)
    assert run.status.state != "finished"
    weights = run.weights_path.read_bytes()

    train(tiny, run, resume=True)

    assert run.status == Status("finished", 2, "")
    assert run.weights_path.read_bytes() == weights
    assert (run.path / "episode.npz").is_file()


def test_the_episode_is_written_whole_or_not_at_all(experiment, tmp_path, monkeypatch):
    tiny = experiment(meta_steps=1)
    run = finished(tiny, tmp_path / "run")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match=r"Cannot write .*episode.npz: No space left on device"):
        trainings.save_episode(tiny, run, tiny.build_learner())

    assert [path.name for path in run.path.iterdir() if "episode" in path.name] == []


def test_figures_are_written_whole_or_not_at_all(experiment, tmp_path, monkeypatch):
    run = finished(experiment(meta_steps=1), tmp_path / "run")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        DiskError,
        match=r"Cannot write .*No space left on device|"
        r"Cannot write .*validation.png: No space left on device",
    ):
        report.write_results(run)

    assert list((run.path / "figures").iterdir()) == []


# Other learners and networks than ours


class Odd(NearestCentroid):
    """Has tied weights, a count, a mask, and a scale without a gradient in its state."""

    def __init__(self, model: Conv4):
        super().__init__(model)
        self.tied = self.model.convs[0]
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("nothing", torch.zeros(0, dtype=torch.int32))
        self.count: Tensor

    def end_outer_step(self) -> None:
        self.count += 2


class Pixels(NearestCentroid):
    """Nearest class means of the pixels: nothing is trained."""

    def __init__(self, model: Conv4):
        super().__init__(model)
        del self.model

    def embed(self, images: Tensor) -> Tensor:
        return images.flatten(2)


class Constant(NearestCentroid):
    """Its loss has no graph."""

    def meta_loss(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        loss, logged = super().meta_loss(batch)
        return loss.detach(), logged


class Remembering(NearestCentroid):
    """Has something in its state that is no tensor."""

    def get_extra_state(self) -> dict[str, int]:
        return {"seen": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


def training_of(
    kind: type[NearestCentroid], experiment: Experiment, path: Path
) -> tuple[Training, RunDirectory]:
    run = new_run(experiment, path)
    learner = kind.from_config(experiment.config, model_of(experiment))
    fingerprint = experiment.dataset.fingerprint
    return Training(learner, experiment.training_sampler(), run, fingerprint), run


def model_of(experiment: Experiment) -> nn.Module:
    model = experiment.build_learner().get_submodule("model")
    assert isinstance(model, Conv4)
    return model


@pytest.mark.parametrize("kind", [Odd, Pixels])
@pytest.mark.parametrize("clip_gradient", [0.0, 1.0])
def test_a_stopped_training_of_an_odd_learner_goes_on_to_the_same_state(
    kind, clip_gradient, experiment, tmp_path
):
    tiny = experiment(clip_gradient=clip_gradient)
    whole, run = training_of(kind, tiny, tmp_path / "whole")
    assert whole.train(validator(tiny)) is None
    first, stopped = training_of(kind, tiny, tmp_path / "stopped")
    assert first.train(validator(tiny), should_stop=stop_after(first, 3))

    learner = kind.from_config(tiny.config, model_of(tiny))
    second = Training(learner, tiny.training_sampler(), stopped, tiny.dataset.fingerprint)
    assert second.resume() == []
    assert second.train(validator(tiny)) is None

    assert same(weights_of(second.learner), weights_of(whole.learner))
    assert load_weights(run.weights_path).keys() == whole.learner.state_dict().keys()
    assert same(load_weights(stopped.weights_path), load_weights(run.weights_path))
    if kind is Odd:
        saved = load_weights(run.weights_path)
        assert saved["count"].item() == 3 + 2 * tiny.config.training.meta_steps
        assert saved["mask"].tolist() == [True, False]
        assert torch.equal(saved["tied.weight"], saved["model.convs.0.weight"])


def test_a_loss_that_depends_on_no_parameter_is_refused(experiment, tmp_path):
    training, _ = training_of(Constant, experiment(), tmp_path / "run")

    with pytest.raises(ConfigError, match="meta_loss of Constant depends on none of its param"):
        training.train(validator(experiment()))


def test_a_state_that_no_weight_file_can_hold_is_refused_before_the_training(experiment, tmp_path):
    with pytest.raises(ConfigError, match="'_extra_state', of type dict, and only tensors are"):
        training_of(Remembering, experiment(), tmp_path / "run")


def test_a_model_card_speaks_of_the_network_that_is_in_the_file(experiment, tmp_path):
    runs = {}
    for kind in (Pixels, Odd):
        training, run = training_of(kind, experiment(), tmp_path / kind.__name__)
        training.train(validator(experiment()))
        runs[kind] = run

    assert "A network of 4 convolutional blocks of 4 filters for" in model_card(runs[Odd])
    assert "own, 0 tensors of 0 numbers in all, for pictures of 16 x 16" in model_card(runs[Pixels])


# The episodes


def test_evaluation_episodes_are_the_same_for_every_training_seed_and_training_ones_are_not(
    experiment,
):
    one, other = experiment(seed=0), experiment(seed=3)

    def trained_on(tiny: Experiment) -> Tensor:
        source = tiny.training_sampler()
        assert isinstance(source, EpisodeSampler)
        return source.batch(0, 20).classes

    def evaluated_on(tiny: Experiment) -> Tensor:
        return tiny.evaluation_sampler("val").batch(0, 20).classes

    assert torch.equal(evaluated_on(one), evaluated_on(other))
    assert not torch.equal(trained_on(one), trained_on(other))
