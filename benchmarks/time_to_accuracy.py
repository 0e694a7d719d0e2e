"""Seconds of training to 90, 95 and 97 % validation accuracy: a plain loop and both engines.

FO-MAML on split `assignment` from the same initial weights, on the same episodes, with Adam at
0.001; one thread. Each trains to the end. Every 20 outer steps the moving average of its weights,
which is what a run ends with, is validated on 200 fixed episodes; the seconds leave that out. By
turns, 20 steps each, in one process.

    python benchmarks/time_to_accuracy.py     # writes results/time-to-accuracy.json
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from plain import PlainConv4, in_our_order, plain_step, seconds

from innerloop import MAML, Conv4, EpisodeBatch, EpisodeSampler, load_dataset
from innerloop.core.files import json_text, write_atomic
from innerloop.data.splits import find_split
from innerloop.experiments.environment import processor
from innerloop.experiments.meta_gradient import accumulate_meta_gradient
from innerloop.experiments.state import MovingAverage

RESULTS = Path(__file__).parent / "results" / "time-to-accuracy.json"
AIMS = (0.90, 0.95, 0.97)
EVERY = 20
EPISODES = 200
AVERAGING = 0.98


class Contestant:
    """A training: its seconds so far, and its validations.

    Attributes:
        network: what is validated.
        curve: (outer steps, seconds, accuracy).
    """

    def __init__(self, start: Conv4, engine: str):
        self.network = Conv4(5)
        self.network.load_state_dict(start.state_dict())
        self.learner = MAML(self.network, first_order=True, fresh_head="head")
        self.learner.engine = "reference" if engine == "reference" else "fused"
        self.step: Callable[[EpisodeBatch], Any] = self._by_learner
        trained: torch.nn.Module = self.network
        self._plain = None
        if engine == "plain loop":
            trained = self._plain = PlainConv4("stride")
            for weight, value in zip(
                in_our_order(self._plain), start.state_dict().values(), strict=True
            ):
                weight.copy_(value)
            for parameter in self._plain.head.parameters():
                parameter.data.zero_()
            self.step = self._by_plain_loop
        body = [weight for name, weight in trained.named_parameters() if "head" not in name]
        self._adam = torch.optim.Adam(body, lr=0.001)
        self._average = MovingAverage(self.learner, AVERAGING)
        self._seconds, self._steps = 0.0, 0
        self.curve: list[tuple[int, float, float]] = []

    def _by_learner(self, episodes: EpisodeBatch) -> None:
        accumulate_meta_gradient(self.learner, episodes, len(episodes))
        self._adam.step()

    def _by_plain_loop(self, episodes: EpisodeBatch) -> None:
        assert self._plain
        plain_step(self._plain, episodes, first_order=True)
        self._adam.step()

    def train(self, batches: list[EpisodeBatch]) -> None:
        """Take an outer step with each."""
        for batch in batches:
            self._seconds += seconds(partial(self.step, batch))
            self._steps += 1
            if self._plain:
                weights = self.network.state_dict().values()
                for value, weight in zip(weights, in_our_order(self._plain), strict=True):
                    value.copy_(weight)
            self._average.update(self.learner, self._steps)

    def validate(self, episodes: EpisodeBatch) -> None:
        """Take down the query accuracy after adaptation."""
        correct = 0.0
        with self._average.in_place(self.learner):
            for chunk in episodes.chunks(20):
                adapted = self.learner.adapt(chunk.support, steps=5)
                predicted = self.learner.predict(adapted, chunk.query.images).argmax(-1)
                correct += (predicted == chunk.query.labels).double().mean().item() * len(chunk)
        self.curve.append((self._steps, self._seconds, correct / len(episodes)))


def main() -> None:
    """Train all by turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    data = load_dataset("omniglot", size=28)
    split = find_split("assignment", data)
    shape: dict[str, Any] = dict(ways=5, shots=5, queries=15)
    train = EpisodeSampler(
        data,
        data.class_indices(split.part("train")),
        **shape,
        seed=options.seed,
        stream_name="train",
        rotations=True,
    )
    validation = EpisodeSampler(
        data, data.class_indices(split.part("val")), **shape, seed=0, stream_name="val"
    ).batch(0, EPISODES)
    start = Conv4(5)
    contestants = {name: Contestant(start, name) for name in ("plain loop", "reference", "fused")}
    for first in range(0, options.steps, EVERY):
        batches = [train.batch(4 * step, 4) for step in range(first, first + EVERY)]
        for contestant in contestants.values():
            contestant.train(batches)
            contestant.validate(validation)
    rows = []
    for name, contestant in contestants.items():
        reached = {}
        for aim in AIMS:
            found = [(step, spent) for step, spent, accuracy in contestant.curve if accuracy >= aim]
            reached[f"{100 * aim:.0f} %"] = found[0] if found else None
        rows.append({"what": name, "reached": reached, "curve": contestant.curve})
        print(name, reached, flush=True)
    result = {
        "what": "outer steps and seconds of training until validation first is so accurate",
        "command": f"python benchmarks/time_to_accuracy.py --steps {options.steps}",
        "seed": options.seed,
        "threads": 1,
        "torch": torch.__version__,
        "machine": processor(),
        "rows": rows,
    }
    write_atomic(RESULTS, json_text(result) + "\n")


if __name__ == "__main__":
    main()
