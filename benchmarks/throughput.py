"""Time of one training episode: innerloop beside a plain PyTorch loop, in one process, in turn.

The plain loop is what a user would write: NCHW, one task at a time, autograd. Both take the same
episodes and start from the same weights, and their meta-gradients are compared first. Writes JSON.

    python benchmarks/throughput.py [--engine fused] [--rounds 15] [--threads 2] [--out
    benchmarks/results/throughput.json]
"""

import argparse
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop import MAML, Conv4, EpisodeBatch, EpisodeSampler, load_dataset
from innerloop.data import strokes
from innerloop.experiments.meta_gradient import accumulate_meta_gradient
from innerloop.fast_weights.engine import Engine

WARM_UP_STEPS = 20


class PlainConv4(nn.Module):
    """The same network with PyTorch's own batch norm, in PyTorch's default layout."""

    def __init__(self, downsample: str, ways: int = 5):
        super().__init__()
        stride = 2 if downsample == "stride" else 1
        layers: list[nn.Module] = []
        for inputs in (1, 64, 64, 64):
            layers += [nn.Conv2d(inputs, 64, 3, stride=stride, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(64, track_running_stats=False), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if downsample == "max-pool" else []
        self.body = nn.Sequential(*layers)
        self.feature_norm = nn.BatchNorm1d(64, affine=False, track_running_stats=False)
        self.head = nn.Linear(64, ways)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, ways)."""
        return self.head(self.feature_norm(self.body(images).mean(dim=(2, 3))))


def plain_step(model: nn.Module, episodes: EpisodeBatch, *, first_order: bool) -> None:
    """Leave the meta-gradient of one outer step in ``.grad``.

    5 inner steps at 0.4, one task at a time.
    """
    model.zero_grad()
    theta: dict[str, Tensor] = dict(model.named_parameters())
    for index in range(len(episodes)):
        weights = dict(theta)
        for _ in range(5):
            logits = torch.func.functional_call(model, weights, (episodes.support.images[index],))
            loss = F.cross_entropy(logits, episodes.support.labels[index])
            gradients = torch.autograd.grad(
                loss, list(weights.values()), create_graph=not first_order
            )
            weights = {
                name: w - 0.4 * g for (name, w), g in zip(weights.items(), gradients, strict=True)
            }
        logits = torch.func.functional_call(model, weights, (episodes.query.images[index],))
        (F.cross_entropy(logits, episodes.query.labels[index]) / len(episodes)).backward()


def gradient_of(model: nn.Module) -> Tensor:
    return torch.cat(
        [weight.grad.reshape(-1) for weight in model.parameters() if weight.grad is not None]
    )


def seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def train(learner: MAML, sampler: EpisodeSampler, *, steps: int) -> None:
    optimiser = torch.optim.Adam(learner.parameters(), lr=0.001)
    for step in range(steps):
        accumulate_meta_gradient(learner, sampler.batch(4 * step, 4), 1)
        optimiser.step()


def measure(
    sampler: EpisodeSampler, downsample: str, first_order: bool, rounds: int, engine: Engine
) -> dict:
    ours = Conv4(5, downsample=downsample)  # type: ignore[arg-type]
    # Some training first: at random weights enough pre-activations lie on a ReLU's kink for
    # rounding to show in the third digit of a float32 gradient, whatever the implementation (in
    # float64 the two agree to 1e-13).
    train(MAML(ours, first_order=True), sampler, steps=WARM_UP_STEPS)
    episodes = sampler.batch(10_000, 2)
    plain = PlainConv4(downsample)
    for weight, value in zip(in_our_order(plain), ours.state_dict().values(), strict=True):
        weight.copy_(value)
    learner = MAML(ours, first_order=first_order)
    learner.engine = engine
    run_plain = lambda: plain_step(plain, episodes, first_order=first_order)  # noqa: E731
    run_ours = lambda: accumulate_meta_gradient(learner, episodes, 1)  # noqa: E731
    run_plain()
    run_ours()
    expected = torch.cat([tensor.reshape(-1) for tensor in in_our_order(plain, gradients=True)])
    difference = ((gradient_of(ours) - expected).norm() / expected.norm()).item()
    times = [
        (seconds(run_ours) / len(episodes), seconds(run_plain) / len(episodes))
        for _ in range(rounds)
    ]
    return {
        "downsample": downsample,
        "order": "first" if first_order else "second",
        "ours_ms": round(1e3 * statistics.median(ours for ours, _ in times), 1),
        "plain_ms": round(1e3 * statistics.median(plain for _, plain in times), 1),
        "ratio": round(statistics.median(ours / plain for ours, plain in times), 3),
        "gradient_difference": difference,
        "rounds": rounds,
    }


def in_our_order(plain: PlainConv4, *, gradients: bool = False) -> list[Tensor]:
    """The plain network's tensors in the order of `Conv4`: convolutions, norms, head."""

    def of(weight: nn.Parameter) -> Tensor:
        return weight.grad if gradients and weight.grad is not None else weight.detach()

    convs = [layer for layer in plain.body if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in plain.body if isinstance(layer, nn.BatchNorm2d)]
    modules = [*convs, *norms, plain.head]
    return [of(weight) for module in modules for weight in module.parameters()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--data", default="auto")
    parser.add_argument("--engine", choices=get_args(Engine), default="reference")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/throughput.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = (
        strokes.generate() if options.data == "strokes" else load_dataset(options.data, size=28)
    )
    classes = dataset.class_indices(dataset.class_names)
    sampler = EpisodeSampler(
        dataset, classes, ways=5, shots=5, queries=15, seed=0, stream_name="benchmark"
    )
    rows = []
    for downsample, first_order in itertools.product(("stride", "max-pool"), (True, False)):
        torch.manual_seed(0)
        rows.append(measure(sampler, downsample, first_order, options.rounds, options.engine))
        print(rows[-1], flush=True)
    result = {
        "what": (
            "milliseconds per training episode, 5-way 5-shot, 5 inner steps, 15 queries, float32"
        ),
        "data": dataset.name,
        "engine": options.engine,
        "threads": options.threads,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "rows": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
