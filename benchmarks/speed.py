"""How many times as fast as a plain PyTorch loop training and evaluation are, by both engines.

By turns in one process, on the same episodes and weights: medians of the ratios of each round, and
of the plain loop's milliseconds. 5-way 5-shot, 15 queries, 5 inner steps, 64 filters, 28 x 28; the
head starts from zero, which is the default. One thread, but for the rows of two threads over one,
which are of the fused engine alone. MAML++ has no plain loop here: its rows are over the reference.

    taskset -c 0,1 python benchmarks/speed.py     # writes results/speed.json
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from plain import STEPS, PlainConv4, in_our_order, plain_evaluation, plain_step, seconds, train
from torch import nn
from torch.nn import functional as F

from innerloop import (
    MAML,
    Conv4,
    EpisodeBatch,
    EpisodeSampler,
    ImageSampler,
    MAMLpp,
    Transfer,
    load_dataset,
)
from innerloop.core.files import json_text, write_atomic
from innerloop.data.splits import find_split
from innerloop.experiments.environment import processor
from innerloop.experiments.meta_gradient import accumulate_meta_gradient
from innerloop.fast_weights import engine
from innerloop.methods.base import Learner

RESULTS = Path(__file__).parent / "results" / "speed.json"
NETWORKS = {"strided": "stride", "max-pool": "max-pool"}
ENGINES: tuple[engine.Engine, ...] = ("reference", "fused")
EPISODES = 4
IMAGES = 64
Timed = Callable[[], object]


def networks(downsample: str, sampler: EpisodeSampler) -> tuple[Conv4, PlainConv4]:
    """Ours, a little trained, with a head of zeros; and the plain one with the same weights."""
    torch.manual_seed(0)
    ours = Conv4(5, downsample=downsample)  # type: ignore[arg-type]
    train(MAML(ours, first_order=True, fresh_head="head"), sampler, steps=20)
    for weight in ours.head.parameters():
        nn.init.zeros_(weight)
    plain = PlainConv4(downsample)
    for weight, value in zip(in_our_order(plain), ours.state_dict().values(), strict=True):
        weight.copy_(value)
    return ours, plain


def with_engine(learner: Learner, name: engine.Engine) -> Any:
    """The learner, by an engine."""
    learner.engine = name
    return learner


def evaluation(learner: MAML, episodes: EpisodeBatch) -> None:
    """Predict the query images of every episode before and after adaptation."""
    first, *_, last = learner.trajectory(episodes.support, steps=STEPS)
    for adaptation in (first, last):
        learner.predict(adaptation, episodes.query.images)


def training(
    ours: Conv4, plain: PlainConv4, episodes: EpisodeBatch, first_order: bool
) -> dict[str, Timed]:
    """A meta-gradient."""
    found: dict[str, Timed] = {
        "plain loop": lambda: plain_step(plain, episodes, first_order=first_order)
    }
    for name in ENGINES:
        learner = with_engine(MAML(ours, first_order=first_order, fresh_head="head"), name)
        found[name] = lambda learner=learner: accumulate_meta_gradient(learner, episodes, EPISODES)
    return found


def evaluations(ours: Conv4, plain: PlainConv4, episodes: EpisodeBatch) -> dict[str, Timed]:
    """Query images predicted before and after adaptation."""
    found: dict[str, Timed] = {"plain loop": lambda: plain_evaluation(plain, episodes)}
    for name in ENGINES:
        learner = with_engine(MAML(ours, first_order=True, fresh_head="head"), name)
        found[name] = lambda learner=learner: evaluation(learner, episodes)
    return found


def pretraining(downsample: str, images: ImageSampler) -> dict[str, Timed]:
    """A mini-batch of 64 images of all training classes."""
    batch = images.batch(0, IMAGES)
    plain = PlainConv4(downsample, images.labels)

    def by_plain_loop() -> None:
        plain.zero_grad()
        F.cross_entropy(plain(batch.images), batch.labels).backward()

    found: dict[str, Timed] = {"plain loop": by_plain_loop}
    for name in ENGINES:
        network = Conv4(images.labels, downsample=downsample)  # type: ignore[arg-type]
        learner = with_engine(Transfer(network), name)
        found[name] = lambda learner=learner: accumulate_meta_gradient(learner, batch, 1)
    return found


def maml_plus_plus(ours: Conv4, episodes: EpisodeBatch, step: int) -> dict[str, Timed]:
    """An outer step of MAML++, of 1000."""
    found: dict[str, Timed] = {}
    for name in ENGINES:
        learner = with_engine(MAMLpp(ours, fresh_head="head"), name)
        learner.begin_outer_step(step, 1000)
        found[name] = lambda learner=learner: accumulate_meta_gradient(learner, episodes, EPISODES)
    return found


def with_threads(number: int, function: Timed) -> Timed:
    """The same on so many threads of the fused engine."""

    def run() -> None:
        engine.use_threads(number, "fused")
        function()
        engine.use_threads(1, "fused")

    return run


def settings(sampler: EpisodeSampler, images: ImageSampler) -> Iterator[tuple[str, dict]]:
    """What is timed -> by what it is computed; the others are measured against the first."""
    episodes = sampler.batch(10_000, EPISODES)
    for title, downsample in NETWORKS.items():
        ours, plain = networks(downsample, sampler)
        first = training(ours, plain, episodes, True)
        evaluated = evaluations(ours, plain, episodes)
        yield f"training, {title}, first order", first
        yield f"training, {title}, second order", training(ours, plain, episodes, False)
        yield f"evaluation, {title}", evaluated
        yield f"pretraining, {title}", pretraining(downsample, images)
        for phase, step in (("first order, multi-step loss", 0), ("second order", 500)):
            yield f"MAML++, {title}, {phase}", maml_plus_plus(ours, episodes, step)
        for what, timed in (("training", first), ("evaluation", evaluated)):
            function = timed["fused"]
            yield (
                f"{what}, {title}, two threads",
                {"one thread": function, "two threads": with_threads(2, function)},
            )


def measure(timed: dict[str, Timed], rounds: int) -> dict[str, Any]:
    """Medians: of the first's milliseconds, and of how many times as fast the others are."""
    for function in timed.values():
        function()
    times = {name: [] for name in timed}
    for _ in range(rounds):
        for name, function in timed.items():
            times[name].append(seconds(function))
    first, *others = times
    return {
        "against": first,
        "ms": 1e3 * statistics.median(times[first]),
        "times_as_fast": {
            name: statistics.median(
                one / other for one, other in zip(times[first], times[name], strict=True)
            )
            for name in others
        },
    }


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    engine.use_threads(1, "fused")
    data = load_dataset("omniglot", size=28)
    classes = data.class_indices(find_split("assignment", data).part("train"))
    stream: dict[str, Any] = dict(seed=0, stream_name="benchmark")
    sampler = EpisodeSampler(data, classes, ways=5, shots=5, queries=15, **stream)
    images = ImageSampler(data, classes, rotations=True, rotations_as_classes=True, **stream)
    rows = []
    for what, timed in settings(sampler, images):
        rows.append({"what": what} | measure(timed, options.rounds))
        print(json.dumps(rows[-1]), flush=True)
    result = {
        "what": f"{EPISODES} episodes, or a mini-batch of {IMAGES} images; medians",
        "command": f"python benchmarks/speed.py --rounds {options.rounds}",
        "torch": torch.__version__,
        "machine": processor(),
        "rows": rows,
    }
    write_atomic(options.out, json_text(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
