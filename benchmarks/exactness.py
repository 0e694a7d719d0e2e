"""How far a float32 meta-gradient is from float64: a plain loop's, and both engines'.

Of a network after 40 outer steps on Omniglot, 5-way 5-shot, 5 inner steps at 0.4; the norm of the
difference over the norm, episode by episode.

    python benchmarks/exactness.py [--episodes 30]     # writes benchmarks/results/exactness.json
"""

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from plain import PlainConv4, gradient_of, in_our_order, plain_step, train

from innerloop import MAML, Conv4, EpisodeBatch, EpisodeSampler, load_dataset
from innerloop.core.files import json_text, write_atomic
from innerloop.data.images import LabelledImages
from innerloop.experiments.environment import processor
from innerloop.experiments.meta_gradient import accumulate_meta_gradient
from innerloop.fast_weights.engine import Engine

RESULTS = Path(__file__).parent / "results" / "exactness.json"
ENGINES: tuple[Engine, ...] = ("reference", "fused")
OUTER_STEPS = 40


def in_double(batch: EpisodeBatch) -> EpisodeBatch:
    support, query = (
        LabelledImages(of.images.double(), of.labels) for of in (batch.support, batch.query)
    )
    return EpisodeBatch(support, query, batch.classes, batch.support_drawings, batch.query_drawings)


def of_plain(model: PlainConv4, batch: EpisodeBatch, first_order: bool) -> torch.Tensor:
    plain_step(model, batch, first_order=first_order)
    return torch.cat([of.double().reshape(-1) for of in in_our_order(model, gradients=True)])


def errors(
    sampler: EpisodeSampler, downsample: str, first_order: bool, episodes: int
) -> dict[str, list[float]]:
    """By what computed it, one for each episode."""
    torch.manual_seed(0)
    ours = Conv4(5, downsample=downsample)  # type: ignore[arg-type]
    train(MAML(ours, first_order=True), sampler, steps=OUTER_STEPS)
    plain = PlainConv4(downsample)
    for weight, value in zip(in_our_order(plain), ours.state_dict().values(), strict=True):
        weight.copy_(value)
    exact = copy.deepcopy(plain).double()
    found: dict[str, list[float]] = {name: [] for name in ("plain loop", *ENGINES)}
    for number in range(episodes):
        batch = sampler.batch(10_000 + number, 1)
        expected = of_plain(exact, in_double(batch), first_order)
        gradients = {"plain loop": of_plain(plain, batch, first_order)}
        for engine in ENGINES:
            learner = MAML(ours, first_order=first_order)
            learner.engine = engine
            accumulate_meta_gradient(learner, batch, 1)
            gradients[engine] = gradient_of(ours).double()
        for name, gradient in gradients.items():
            found[name].append(float((gradient - expected).norm() / expected.norm()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    dataset = load_dataset("omniglot", size=28)
    classes = dataset.class_indices(dataset.class_names)
    sampler = EpisodeSampler(
        dataset, classes, ways=5, shots=5, queries=15, seed=0, stream_name="benchmark"
    )
    rows = []
    for downsample in ("stride", "max-pool"):
        for first_order in (True, False):
            of_each = errors(sampler, downsample, first_order, options.episodes)
            for name, values in of_each.items():
                row = {
                    "downsample": downsample,
                    "order": "first" if first_order else "second",
                    "by": name,
                    "median": float(np.median(values)),
                    "percentile_90": float(np.percentile(values, 90)),
                }
                rows.append(row)
                print(row, flush=True)
    result = {
        "command": "python benchmarks/exactness.py",
        "processor": processor(),
        "torch": torch.__version__,
        "episodes": options.episodes,
        "outer_steps": OUTER_STEPS,
        "rows": rows,
    }
    write_atomic(options.out, json_text(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
