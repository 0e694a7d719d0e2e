"""The parts of `gpu.py`: each adds its rows to the bench."""

import copy
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exactness import in_double, of_plain
from gpu_bench import Bench, Row, Steps, rate
from gpu_plain import learn2learn_step, vmapped_step
from plain import PlainConv4, gradient_of, in_our_order, plain_step

from innerloop import EpisodeBatch
from innerloop.core.components import Design
from innerloop.core.intervals import mean_and_interval
from innerloop.experiments.evaluation import evaluate
from innerloop.experiments.experiment import Experiment
from innerloop.experiments.meta_gradient import accumulate_meta_gradient
from innerloop.networks.conv4 import Conv4
from innerloop.runs.weights import load_weights

PUBLISHED_STEPS = 60_000


def first_order(bench: Bench) -> None:
    """Episodes a second by engine and precision, recorded and not."""
    _rates(bench, "fomaml", graphs=(True, False))


def second_order(bench: Bench) -> None:
    """The same of MAML."""
    _rates(bench, "maml", graphs=(True, False))


def mamlpp(bench: Bench) -> None:
    """MAML++, in its last phase: second order, the last loss alone; and in its first."""
    for precision in bench.precisions[bench.engines[0]]:
        for phase, changes in {
            "second order": dict(derivative_order_annealing=False, multi_step_loss=False),
            "first order, multi-step loss": dict(multi_step_fraction=1.0, first_order_fraction=1.0),
        }.items():
            what = f"MAML++, {phase}, {bench.engines[0]}, {precision}"
            bench.add(what, partial(_rate, bench, "mamlpp", precision, **changes))


def _rates(bench: Bench, method: str, *, graphs: tuple[bool, ...]) -> None:
    for engine in bench.engines:
        for precision in bench.precisions[engine]:
            for graph in graphs if bench.on_gpu else (False,):
                what = f"{method}, {engine}, {precision}, {'graph' if graph else 'no graph'}"
                how = dict(engine=engine, cuda_graph=graph)
                bench.add(what, partial(_rate, bench, method, precision, **how))


def _rate(bench: Bench, method: str, precision: str, **changes: Any) -> Row:
    experiment = bench.experiment(method, precision=precision, **changes)
    return rate(bench, experiment, limit_s=3)


def others(bench: Bench) -> None:
    """Learn2learn's algorithm, the plain loop, and the vmapped plain version: gradient and Adam."""
    batch = _batch(bench)
    contestants: dict[str, Callable[[PlainConv4], None]] = {
        "learn2learn's algorithm, first order": lambda model: learn2learn_step(
            model, batch, first_order=True
        ),
        "plain loop, first order": lambda model: plain_step(model, batch, first_order=True),
        "learn2learn's algorithm, second order": lambda model: learn2learn_step(
            model, batch, first_order=False
        ),
        "vmapped plain version, second order": lambda model: vmapped_step(model, batch),
    }
    for what, gradient in contestants.items():
        bench.add(what, partial(_other, bench, gradient, len(batch)))


def _other(bench: Bench, gradient: Callable[[PlainConv4], None], episodes: int) -> Row:
    torch.manual_seed(0)
    model = PlainConv4("stride", filters=bench.filters).to(bench.device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        gradient(model)
        optimiser.step()

    took = bench.median_seconds(step, limit_s=6)
    return {"value": episodes / took, "unit": "episodes a second", "ms_a_step": 1e3 * took}


def _batch(bench: Bench) -> EpisodeBatch:
    experiment = bench.experiment("fomaml", engine="reference")
    return _episodes(experiment, experiment.config.own.batch).to(bench.device)


def _episodes(experiment: Experiment, count: int) -> EpisodeBatch:
    batch = experiment.training_sampler().batch(10_000, count)
    assert isinstance(batch, EpisodeBatch)
    return batch


def whole_training(bench: Bench) -> None:
    """MAML's published training of 5 ways and 1 shot, from the first 200 outer steps."""
    for engine in bench.engines:
        for precision in bench.precisions[engine]:
            what = f"MAML's 60,000 outer steps, paper-5w1s, {engine}, {precision}"
            bench.add(what, partial(_whole, bench, engine, precision))


def _whole(bench: Bench, engine: str, precision: str) -> Row:
    experiment = bench.experiment("maml", "paper-5w1s", engine=engine, precision=precision)
    steps = Steps(experiment)
    steps.block(3)
    blocks = 1 if bench.small else 10
    took = bench.seconds(lambda: [steps.block(2 if bench.small else 20) for _ in range(blocks)])
    each = took / (steps.number - 3)
    return {"value": each * PUBLISHED_STEPS / 60, "unit": "minutes", "ms_a_step": 1e3 * each}


def memory(bench: Bench) -> None:
    """Episodes that are computed at once, and what they take, of 256 in an outer step."""
    for method in ("fomaml", "maml"):
        for engine in bench.engines:
            bench.add(
                f"memory, {method}, {engine}, {4 if bench.small else 256} episodes",
                partial(_memory, bench, method, engine),
            )


def _memory(bench: Bench, method: str, engine: str) -> Row:
    size = 4 if bench.small else 256
    experiment = bench.experiment(method, engine=engine, meta_batch_size=size)
    row = rate(bench, experiment, limit_s=2)
    return row | {"value": row.get("peak_mib", float("nan")), "unit": "MiB at most"}


def exactness(bench: Bench) -> None:
    """How far one meta-gradient is from float64: norm of the difference over the norm."""
    for downsample in ("stride", "max-pool"):
        trained = bench.experiment("fomaml", engine="reference", downsample=downsample)
        steps = Steps(trained)
        steps.block(2 if bench.small else 40)
        batches = [_episodes(trained, 3)[number : number + 1] for number in range(3)]
        for order in (True, False):
            _exactness(bench, steps, batches, order)


def _exactness(bench: Bench, steps: Steps, batches: list[EpisodeBatch], order: bool) -> None:
    """Of a network that was trained a little, of one order."""
    downsample = _network(steps).downsample
    named = f"exactness, {downsample}, {'first' if order else 'second'} order"
    exact = [_plain_gradient(bench, steps, batch, order, double=True) for batch in batches]

    def by_plain_loop() -> Row:
        found = [_plain_gradient(bench, steps, batch, order, double=False) for batch in batches]
        return _errors(found, exact)

    def by(how: dict[str, Any]) -> Row:
        return _errors([_our_gradient(bench, steps, batch, order, how) for batch in batches], exact)

    bench.add(f"{named}, plain loop, float32", by_plain_loop)
    for engine in bench.engines:
        for precision in bench.precisions[engine]:
            how = dict(engine=engine, precision=precision, downsample=downsample)
            bench.add(f"{named}, {engine}, {precision}", partial(by, how))


def _network(steps: Steps) -> Conv4:
    model = steps.learner.get_submodule("model")
    assert isinstance(model, Conv4)
    return model


def _plain_gradient(
    bench: Bench, steps: Steps, batch: EpisodeBatch, order: bool, *, double: bool
) -> torch.Tensor:
    model = PlainConv4(_network(steps).downsample, filters=bench.filters)
    _give(model, _network(steps))
    if double:
        # On the CPU: the oracle is not to be of the machine that is measured.
        return of_plain(model.double(), in_double(batch), order)
    return of_plain(model.to(bench.device), batch.to(bench.device), order).cpu()


def _give(model: PlainConv4, network: Conv4) -> None:
    """The plain network the weights of ours, with a head of zeros."""
    with torch.no_grad():
        for weight, value in zip(in_our_order(model), network.state_dict().values(), strict=True):
            weight.copy_(value)
        for weight in model.head.parameters():
            weight.zero_()


def _our_gradient(
    bench: Bench, steps: Steps, batch: EpisodeBatch, order: bool, how: dict[str, Any]
) -> torch.Tensor:
    experiment = bench.experiment("fomaml" if order else "maml", fresh_head=False, **how)
    learner = experiment.build_learner()
    network = learner.get_submodule("model")
    network.load_state_dict(copy.deepcopy(_network(steps).state_dict()))
    with torch.no_grad():
        for weight in network.get_submodule("head").parameters():
            weight.zero_()
    accumulate_meta_gradient(learner, batch.to(bench.device), 1)
    return gradient_of(network).double().cpu()


def _errors(gradients: list[torch.Tensor], exact: list[torch.Tensor]) -> Row:
    errors = [
        float((one - of_exact).norm() / of_exact.norm())
        for one, of_exact in zip(gradients, exact, strict=True)
    ]
    return {"value": float(np.median(errors)), "unit": "of the norm, median of 3 episodes"}


def seeds(bench: Bench) -> None:
    """Three paired seeds of bfloat16 against float32; on a CPU float32 against itself."""
    bench.add("FO-MAML, bfloat16 - float32, 3 paired seeds", lambda: _paired(bench))


def _paired(bench: Bench) -> Row:
    lower = "bfloat16" if bench.on_gpu else "float32"
    accuracies: dict[str, list[np.ndarray]] = {"float32": [], lower: []}
    classes = np.zeros(0)
    for seed in range(3):
        for precision in accuracies:
            found, classes = _trained(bench, precision, seed)
            accuracies[precision].append(found)
    a, b = np.stack(accuracies[lower][:3]), np.stack(accuracies["float32"][:3])
    # By seed: both precisions start from the same weights and see the same episodes.
    mean, half = mean_and_interval(a - b, Design(len(classes), classes))
    return {
        "value": 100 * mean,
        "unit": f"points ± {100 * half:.2f}",
        "float32": 100 * float(b.mean()),
    }


def _trained(bench: Bench, precision: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy (episodes,) of the average after a short training, and the episodes' classes."""
    experiment = bench.experiment("fomaml", precision=precision, seed=seed)
    steps = Steps(experiment)
    for _ in range(1 if bench.small else 25):
        steps.block(2 if bench.small else 20)
    if steps.average:
        steps.learner.load_state_dict(steps.average.weights)
    (evaluation,) = evaluate(
        steps.learner,
        experiment.evaluation_sampler("val"),
        episodes=4 if bench.small else 300,
        steps=5,
        batch_norms=steps.learner.batch_norm_modes[:1],
        split=experiment.split.name,
        part="val",
        origin=experiment.origin(),
        device=bench.device,
        episodes_per_chunk=2 if bench.small else 50,
    )
    return evaluation.query_accuracy[:, 5], evaluation.classes


def resume(bench: Bench) -> None:
    """Whether a run with --deterministic that is interrupted ends with the same bits; its cost."""
    for method in ("fomaml",) if bench.small else ("fomaml", "maml"):
        bench.add(
            f"{method}, --deterministic, interrupted and resumed",
            partial(_resumed, bench, method),
        )


def _resumed(bench: Bench, method: str) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        base = _options(bench, method)
        whole, other = Path(folder) / "whole", Path(folder) / "other"
        _innerloop(bench, "train", method, *base, f"--run-dir={whole}")
        _innerloop(bench, "train", method, *base, f"--run-dir={other}", "--max-minutes=0")
        _innerloop(bench, "resume", str(other))
        a, b = load_weights(whole / "model.safetensors"), load_weights(other / "model.safetensors")
        same = all(torch.equal(value, b[name]) for name, value in a.items())
        return {"value": float(same), "unit": "1 if to the same bits"}


def _options(bench: Bench, method: str) -> list[str]:
    experiment = bench.experiment(method)
    config = experiment.config
    steps = 4 if bench.small else 60
    return [
        f"--data={config.data.name}",
        f"--device={bench.device}",
        f"--engine={config.machine.engine}",
        f"--filters={config.network.filters}",
        f"--shots={config.episode.shots}",
        f"--queries={config.episode.queries}",
        f"--threads={config.machine.threads}",
        f"--meta-batch-size={config.own.batch}",
        f"--meta-steps={steps}",
        "--validation-every=1000",
        "--validation-episodes=4",
        "--deterministic",
    ]


def _innerloop(bench: Bench, *arguments: str) -> None:
    left = max(bench.until - time.monotonic(), 1)
    done = subprocess.run(
        [sys.executable, "-m", "innerloop", *arguments],
        capture_output=True,
        text=True,
        timeout=left,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    if done.returncode:
        raise RuntimeError(f"innerloop {arguments[0]}: {done.stderr.strip()[-300:]}")


def profile(bench: Bench) -> None:
    """The operations that take the most of a step of first order, one by one."""
    for engine in bench.engines:
        bench.add(f"profile, {engine}", partial(_profile, bench, engine))


def _profile(bench: Bench, engine: str) -> Row:
    steps = Steps(bench.experiment("fomaml", engine=engine, cuda_graph=False))
    steps.block(2)
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if bench.on_gpu:
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as profiled:
        steps.block(2)
        bench.wait()
    key = "self_device_time_total" if bench.on_gpu else "self_cpu_time_total"
    events = sorted(profiled.key_averages(), key=lambda event: -getattr(event, key))
    whole = sum(getattr(event, key) for event in events)
    top = {event.key[:80]: round(getattr(event, key) / whole, 4) for event in events[:15]}
    return {"value": whole / 2e3, "unit": "ms of operations a step", "shares": top}
