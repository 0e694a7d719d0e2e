"""How often the package's 95 % intervals hold the truth, on made-up data of known components.

Every setting draws accuracies by the model of `innerloop.core.components`, whose mean is known, and
counts the intervals that hold it. A part of the same settings is in ``tests/test_intervals.py``.

    python benchmarks/intervals.py                # writes benchmarks/results/coverage.json
"""

import argparse
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from innerloop.core.components import Design
from innerloop.core.intervals import mean_and_interval, paired_difference
from innerloop.core.seeding import stream

DESIGNS = 10
"""Episodes are drawn anew so many times in a setting."""
SHARES = {
    "seeds dominate": (0.9, 0.05, 0.05),
    "classes dominate": (0.05, 0.9, 0.05),
    "episodes dominate": (0.05, 0.05, 0.9),
    "all alike": (1 / 3, 1 / 3, 1 / 3),
}
"""Of the variance of the mean, the shares of training seeds, classes and episodes."""


@dataclass(frozen=True, repr=False)
class Setting:
    """What is drawn.

    Attributes:
        seeds: training seeds; with one, the truth is the accuracy of its network.
        episodes, ways: of the evaluation.
        classes: from so many the episodes are drawn.
        shares: a key of `SHARES`.
        interaction: of the variance of classes and of episodes, the share in which every seed has
            its own.
        of: "mean" of one method; "difference" of two alike; or "difference by seed", which is the
            mean of what each seed differs by.
        scale: how much the second of two methods varies, beside the first.
    """

    seeds: int
    episodes: int
    ways: int
    classes: int
    shares: str
    interaction: float = 0.2
    of: str = "mean"
    scale: float = 1.0

    def __repr__(self) -> str:
        """Names what is drawn, without what is as usual: a new field draws nothing anew."""
        values = ((field, getattr(self, field.name)) for field in fields(self))
        shown = [f"{field.name}={value!r}" for field, value in values if value != field.default]
        return f"Setting({', '.join(shown)})"


def drawn(
    settings: Sequence[Setting], repetitions: int
) -> Iterator[tuple[list[np.ndarray], Design]]:
    """Accuracies (seeds, episodes) less their true mean of methods that share their episodes.

    Beside them is which of the episodes share classes.
    """
    random = stream(0, f"coverage/{settings}", 0)
    shape = settings[0]
    for _ in range(DESIGNS):
        choices = (
            random.choice(shape.classes, shape.ways, replace=False) for _ in range(shape.episodes)
        )
        classes = np.stack(list(choices))
        design = Design(shape.episodes, classes)
        for _ in range(repetitions // DESIGNS):
            yield [_accuracies(setting, classes, random) for setting in settings], design


def _accuracies(setting: Setting, classes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Accuracies (seeds, episodes), by the components that give the mean a variance of 1."""
    of_seeds, of_classes, of_episodes = SHARES[setting.shares]
    counts = np.bincount(classes.ravel(), minlength=setting.classes) / classes.size
    own = setting.interaction
    alike = 1 - own
    # Over the seeds their own parts average out, and the common ones do not.
    scale = alike + own / setting.seeds
    by_class = of_classes / scale / (counts @ counts)
    by_episode = of_episodes / scale * setting.episodes
    number = setting.seeds
    normal = random.standard_normal
    each = math.sqrt(own * by_class) * normal((number, setting.classes))
    common = math.sqrt(alike * by_class) * normal(setting.classes)
    values = (common + each)[:, classes].mean(axis=2)
    values += math.sqrt(alike * by_episode) * normal(setting.episodes)
    values += math.sqrt(own * by_episode) * normal((number, setting.episodes))
    if number > 1:
        values += math.sqrt(of_seeds * number) * normal((number, 1))
    return values


def coverage(setting: Setting, repetitions: int) -> float:
    """The fraction of intervals that hold the true mean."""
    held = 0
    for (values,), design in drawn([setting], repetitions):
        mean, half = mean_and_interval(values, design)
        held += abs(mean) <= half
    return held / repetitions


def coverage_of_differences(a: Setting, b: Setting, repetitions: int) -> float:
    """The same of differences of two methods with training seeds of their own."""
    held = 0
    for (of_a, of_b), design in drawn([a, b], repetitions):
        difference = paired_difference(of_a, b.scale * of_b, design)
        held += abs(difference.mean) <= difference.ci95
    return held / repetitions


def coverage_by_seed(setting: Setting, repetitions: int) -> float:
    """The same of two methods' difference seed by seed, which the package does not take."""
    held = 0
    for (of_a, of_b), design in drawn([setting, setting], repetitions):
        mean, half = mean_and_interval(of_a - of_b, design)
        held += abs(mean) <= half
    return held / repetitions


def settings() -> Iterator[Setting]:
    """All that is tried."""
    grid = itertools.product((1, 2, 3, 5), (30, 600), (5, 20), (100, 423, 659), SHARES)
    for seeds, episodes, ways, classes, shares in grid:
        # One seed is no sample of seeds.
        if seeds > 1 or shares != "seeds dominate":
            yield Setting(seeds, episodes, ways, classes, shares)
    # What all methods find hard cancels in their differences, and the interaction is left.
    for seeds, episodes, shares in itertools.product((2, 3, 5), (30, 600), SHARES):
        yield Setting(seeds, episodes, 5, 423, shares, interaction=0.8)
        for interaction in (0.2, 0.8):
            yield Setting(seeds, episodes, 5, 423, shares, interaction, of="difference")
        yield Setting(seeds, episodes, 5, 423, shares, 0.8, of="difference by seed")
    for seeds, episodes, scale in itertools.product((2, 3, 5), (30, 600), (0.1, 0.3)):
        yield Setting(seeds, episodes, 5, 423, "seeds dominate", 0.8, "difference", scale)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "coverage.json"
    )
    options = parser.parse_args()
    rows = []
    for setting in settings():
        if setting.of == "mean":
            held = coverage(setting, options.repetitions)
        elif setting.of == "difference":
            held = coverage_of_differences(setting, setting, options.repetitions)
        else:
            held = coverage_by_seed(setting, options.repetitions)
        rows.append(asdict(setting) | {"coverage": held})
        print(f"{setting}: {100 * held:.1f} %", flush=True)
    values = {
        "command": "python benchmarks/intervals.py",
        "repetitions": options.repetitions,
        "shares": SHARES,
        "rows": rows,
    }
    options.out.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
