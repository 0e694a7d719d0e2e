"""Time of an outer step: innerloop beside a plain loop and other libraries, by turns.

In one process. All start from the same weights with a head of zeros, innerloop's default, and take
the same episodes; their meta-gradients of the body are compared with the plain loop's first,
relative to its norm. One thread, 5 inner steps at 0.4, 15 queries, 28 x 28, 64 filters.
parallel-metalearn and innerloop have up to 8 episodes at once, as their trainings do; the others
take one after the other. A library that is not installed is left out, and the result says so.

    python -m venv peers
    peers/bin/pip install -c constraints.txt -e . higher parallel-metalearn
    pip download --no-deps --no-binary :all: learn2learn && tar xzf learn2learn-*.tar.gz
    peers/bin/python benchmarks/peers.py --learn2learn learn2learn-0.2.0

learn2learn's C extensions are of its data sets, not of its MAML: the latter is imported from the
unpacked archive, without installing it. Writes `results/peers.json` and `docs/figures/peers.png`.
"""

import argparse
import importlib
import importlib.metadata
import itertools
import json
import statistics
import sys
import types
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from plain import (
    RATE,
    STEPS,
    PlainConv4,
    in_our_order,
    one_by_one,
    plain_step,
    seconds,
    train,
)
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop import MAML, Conv4, EpisodeBatch, EpisodeSampler, load_dataset
from innerloop.core.files import json_text, write_atomic
from innerloop.experiments.environment import processor
from innerloop.experiments.meta_gradient import accumulate_meta_gradient
from innerloop.fast_weights.engine import Engine

RESULTS = Path(__file__).parent / "results" / "peers.json"
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "peers.png"
WARM_UP_STEPS = 20
ROUNDS = 5
AT_ONCE = 8  # episodes that innerloop and parallel-metalearn have in memory at once


@dataclass(frozen=True)
class Setting:
    """What is timed."""

    downsample: str
    first_order: bool
    ways: int
    shots: int
    meta_batch: int


SHAPES = [(5, 5, size) for size in (1, 4, 16, 32)] + [(5, 1, 4), (20, 1, 4), (20, 5, 4)]
SETTINGS = [
    Setting(downsample, first_order, *shape)
    for downsample, first_order, shape in itertools.product(
        ("stride", "max-pool"), (True, False), SHAPES
    )
]

Contestant = tuple[Callable[[], object], Callable[[], Tensor]]
"""What takes the meta-gradient of an outer step, and what gives the gradient of the body then."""


def body_gradient(model: PlainConv4) -> Tensor:
    """The gradient of the plain network's body, flat, in the order of `Conv4`."""
    return torch.cat([value.reshape(-1) for value in in_our_order(model, gradients=True)[:-2]])


def plain(model: PlainConv4, episodes: EpisodeBatch, first_order: bool) -> Contestant:
    """PyTorch alone."""
    return lambda: plain_step(model, episodes, first_order=first_order), lambda: body_gradient(
        model
    )


def ours(network: Conv4, episodes: EpisodeBatch, first_order: bool, engine: Engine) -> Contestant:
    """One of our engines."""
    learner = MAML(network, first_order=first_order, fresh_head="head")
    learner.engine = engine
    weights = [weight for name, weight in network.named_parameters() if "head" not in name]

    def gradient() -> Tensor:
        return torch.cat([weight.grad.reshape(-1) for weight in weights if weight.grad is not None])

    return lambda: accumulate_meta_gradient(learner, episodes, AT_ONCE), gradient


def higher(model: PlainConv4, episodes: EpisodeBatch, first_order: bool) -> Contestant:
    """As its documentation has it."""
    library = importlib.import_module("higher")
    inner = torch.optim.SGD(model.parameters(), lr=RATE)

    def step() -> None:
        model.zero_grad()
        for images, labels, query, truth in one_by_one(episodes):
            with library.innerloop_ctx(
                model, inner, copy_initial_weights=False, track_higher_grads=not first_order
            ) as (network, optimiser):
                for _ in range(STEPS):
                    optimiser.step(F.cross_entropy(network(images), labels))
                loss = F.cross_entropy(network(query), truth) / len(episodes)
                if not first_order:
                    loss.backward()
                    continue
                # Without higher gradients the adapted weights are cut from the first ones.
                gradients = torch.autograd.grad(loss, list(network.parameters()))
                for weight, part in zip(model.parameters(), gradients, strict=True):
                    weight.grad = part if weight.grad is None else weight.grad + part

    return step, lambda: body_gradient(model)


def learn2learn(model: PlainConv4, episodes: EpisodeBatch, first_order: bool) -> Contestant:
    """As its documentation has it."""
    library = importlib.import_module("learn2learn.algorithms.maml")
    learner = library.MAML(model, lr=RATE, first_order=first_order)

    def step() -> None:
        model.zero_grad()
        for images, labels, query, truth in one_by_one(episodes):
            clone = learner.clone()
            for _ in range(STEPS):
                clone.adapt(F.cross_entropy(clone(images), labels))
            (F.cross_entropy(clone(query), truth) / len(episodes)).backward()

    return step, lambda: body_gradient(model)


class Backbone(nn.Module):
    """The body as parallel-metalearn calls it."""

    def __init__(self, model: PlainConv4):
        super().__init__()
        self.model = nn.ModuleList([model.body, model.feature_norm])

    def forward(self, images: Tensor, **_: Any) -> Tensor:
        """Features (n, 64)."""
        body, norm = self.model
        return norm(body(images).mean(dim=(2, 3)))


class Head(nn.Linear):
    """The head as parallel-metalearn calls it."""

    def forward(self, features: Tensor, **_: Any) -> Tensor:  # type: ignore[override]
        """Logits (n, ways)."""
        return F.linear(features, self.weight, self.bias)


def parallel_metalearn(model: PlainConv4, episodes: EpisodeBatch, first_order: bool) -> Contestant:
    """Its trainer's own step, vectorised over the episodes; its outer rate is zero."""
    algorithms = importlib.import_module("metalearn.algorithms.MAML")
    optimisers = importlib.import_module("metalearn.inner_optimizers.optimizers")
    losses = importlib.import_module("metalearn.loss.CEloss")
    metrics = importlib.import_module("metalearn.loss.categorical_accuracy")
    wrapper = importlib.import_module("metalearn.model_wrappers.MAMLWrapper")
    head = Head(model.head.in_features, model.head.out_features)
    head.load_state_dict(model.head.state_dict())
    whole = wrapper.MAML_Model(Backbone(model), head)
    algorithm = algorithms.MAML(
        model=whole,
        optimizer=torch.optim.SGD(whole.parameters(), lr=0.0),
        inner_optimizer=optimisers.InnerSGD(
            whole.get_fast_weights(),
            first_order=first_order,
            inner_lr=RATE,
            max_inner_steps=STEPS,
            learn_lr=False,
        ),
        support_loss_fn=losses.CrossEntropy(metrics.CategoricalAccuracy()),
        inner_steps=STEPS,
        chunk_size=AT_ONCE,
    )
    batch = (
        episodes.support.images,
        {"labels": episodes.support.labels},
        episodes.query.images,
        {"labels": episodes.query.labels},
    )
    return lambda: algorithm.step(iter([batch]), training=True), lambda: body_gradient(model)


LIBRARIES = {
    "higher": (higher, "higher"),
    "learn2learn": (learn2learn, "learn2learn.algorithms.maml"),
    "parallel-metalearn": (parallel_metalearn, "metalearn"),
}
"""A library -> how it takes an outer step, and what must be there to import."""


def without_its_package(archive: Path) -> None:
    """Let learn2learn's modules be imported without what its packages import besides."""
    for name in ("learn2learn", "learn2learn.algorithms"):
        package = types.ModuleType(name)
        package.__path__ = [str(archive / name.replace(".", "/"))]
        sys.modules[name] = package


def installed() -> dict[str, Callable[..., Contestant]]:
    """The libraries that can be imported."""
    found = {}
    for name, (contestant, module) in LIBRARIES.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            print(f"{name} is left out: {error}", flush=True)
        else:
            found[name] = contestant
    return found


def version(name: str, archive: Path | None) -> str:
    """A library's version; of learn2learn that of its archive."""
    if name == "learn2learn" and archive:
        return archive.resolve().name.rpartition("-")[2]
    return importlib.metadata.version(name)


def measure(setting: Setting, data: Any, libraries: dict, limit_s: float) -> dict[str, Any]:
    """Seconds of every contestant, each over the plain loop's of the same round.

    Rounds are repeated for so many seconds.
    """
    torch.manual_seed(0)
    sampler = EpisodeSampler(
        data,
        data.class_indices(data.class_names),
        ways=setting.ways,
        shots=setting.shots,
        queries=15,
        seed=0,
        stream_name="benchmark",
    )
    network = Conv4(setting.ways, downsample=setting.downsample)  # type: ignore[arg-type]
    # At random weights many pre-activations lie on a kink, where rounding decides.
    train(MAML(network, first_order=True, fresh_head="head"), sampler, steps=WARM_UP_STEPS)
    with torch.no_grad():
        for weight in network.head.parameters():
            weight.zero_()
    episodes = sampler.batch(10_000, setting.meta_batch)

    def copy_of_it() -> PlainConv4:
        model = PlainConv4(setting.downsample, setting.ways)
        for weight, value in zip(in_our_order(model), network.state_dict().values(), strict=True):
            weight.copy_(value)
        return model

    contestants = {"plain loop": plain(copy_of_it(), episodes, setting.first_order)}
    for name, library in libraries.items():
        contestants[name] = library(copy_of_it(), episodes, setting.first_order)
    for engine in ("reference", "fused"):
        contestants[f"innerloop, {engine}"] = ours(network, episodes, setting.first_order, engine)

    gradients = {}
    times: dict[str, list[float]] = {}
    for name, (step, gradient) in contestants.items():
        times[name] = [seconds(step)]
        gradients[name] = gradient().clone()
    expected = gradients["plain loop"]
    whole = sum(of_name[0] for of_name in times.values())
    rounds = int(min(ROUNDS, limit_s // whole))
    if rounds:  # the first is for warming up, unless it is too long to be repeated
        times = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, (step, _) in contestants.items():
            times[name].append(seconds(step))
    return asdict(setting) | {
        "rounds": max(rounds, 1),
        "plain_ms_an_episode": 1e3 * statistics.median(times["plain loop"]) / setting.meta_batch,
        "times_as_fast": {
            name: statistics.median(
                of_plain / own for of_plain, own in zip(times["plain loop"], of_name, strict=True)
            )
            for name, of_name in times.items()
        },
        "gradient_difference": {
            name: float((of_name - expected).norm() / expected.norm())
            for name, of_name in gradients.items()
        },
    }


def draw(result: dict[str, Any]) -> None:
    """By meta-batch, and by shape of the episodes, how many times as fast as the plain loop."""
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True)
    orders = [
        (downsample, order) for downsample in ("stride", "max-pool") for order in (True, False)
    ]
    top = max(max(row["times_as_fast"].values()) for row in result["rows"])
    for axes, (downsample, first_order) in zip(panels.flat, orders, strict=True):
        rows = [
            row
            for row in result["rows"]
            if (row["downsample"], row["first_order"]) == (downsample, first_order)
        ]
        labels = [f"{row['ways']}w{row['shots']}s\n× {row['meta_batch']}" for row in rows]
        for name, marker in zip(rows[0]["times_as_fast"], "s^v<Do", strict=False):
            values = [row["times_as_fast"][name] for row in rows]
            axes.plot(labels, values, marker, label=name, alpha=0.8)
        axes.axhline(1, color="0.7", linewidth=1, zorder=0)
        axes.set_title(f"{downsample}, {'first' if first_order else 'second'} order")
        axes.set_ylim(0, 1.05 * top)
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), fontsize=8)
    for axes in panels[:, 0]:
        axes.set_ylabel("times as fast as a plain loop")
    figure.supxlabel("ways and shots of an episode × episodes of an outer step", fontsize=10)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=150)


def main() -> None:
    """Measure every setting; what is there already, of the same machine, is kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=float, default=20, help="seconds of a setting's rounds")
    parser.add_argument("--learn2learn", type=Path, help="its unpacked source archive")
    parser.add_argument("--data", default="auto")
    parser.add_argument("--draw", action="store_true", help="only draw what was measured")
    options = parser.parse_args()
    if options.draw:
        draw(json.loads(RESULTS.read_text("utf-8")))
        return
    if options.learn2learn:
        without_its_package(options.learn2learn)
    torch.set_num_threads(1)
    libraries = installed()
    data = load_dataset(options.data, size=28)
    result: dict[str, Any] = {
        "what": "how many times as fast as a plain PyTorch loop an outer step is, medians",
        "data": data.name,
        "threads": 1,
        "torch": torch.__version__,
        "machine": processor(),
        "versions": {name: version(name, options.learn2learn) for name in libraries},
        "rows": [],
    }
    for setting in SETTINGS:
        result["rows"].append(measure(setting, data, libraries, options.limit))
        print(result["rows"][-1], flush=True)
        write_atomic(RESULTS, json_text(result, indent=1) + "\n")
    draw(result)


if __name__ == "__main__":
    main()
