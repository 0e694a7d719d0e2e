"""Characters of one alphabet told apart by one example each: Omniglot's original task.

    python benchmarks/within_alphabet.py RUN [RUN ...] [--split assignment]

RUN is a run directory or pretrained:NAME, of a method that compares frozen features. In an episode
20 characters of one alphabet are drawn by two people: one drawing of each by the first is known,
and each of the second's gets the character whose known drawing is nearest, by the cosine of
features. Beside it stands what is wrong where all twenty are looked at together and each character
is given once, so that the cosines' sum is largest: that knows more of the task than a drawing.
100 episodes of every alphabet of the split's validation part that has 20 characters; intervals are
over alphabets. The two people, the characters and their order follow from the seed.
Puts its rows into `results/within-alphabet.json`, in the place of those of the same networks on the
same split, and beside all others.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F

from innerloop import Learner, find_split, load_dataset, pretrained
from innerloop.core.files import json_text, write_atomic
from innerloop.core.intervals import mean_and_interval
from innerloop.core.seeding import EVALUATION_SEED, stream
from innerloop.data.images import FewShotDataset
from innerloop.experiments.experiment import open_run
from innerloop.experiments.pretrained import PREFIX, pretrained_run
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.runs.directory import RunDirectory
from innerloop.settings.run import RunConfig

RESULTS = Path(__file__).parent / "results" / "within-alphabet.json"
CHARACTERS = 20
EPISODES = 100
IDENTITY = ("split", "characters", "episodes_of_an_alphabet", "network")
"""What tells rows apart, and their order."""
AT_ONCE = 500
"""Drawings whose features are computed at once."""


def opened(name: str) -> tuple[FrozenFeatures, RunConfig]:
    """A trained learner and its settings."""
    if name.startswith(PREFIX):
        run = pretrained_run(name.removeprefix(PREFIX))
        learner: Learner = pretrained(name.removeprefix(PREFIX))
    else:
        run = RunDirectory(Path(name))
        _, learner = open_run(run, say=lambda words: None)
    if not isinstance(learner, FrozenFeatures):
        raise SystemExit(f"{name}: {type(learner).__name__} compares no frozen features.")
    return learner, run.config


def directions(learner: FrozenFeatures, data: FewShotDataset, names: list[str]) -> np.ndarray:
    """Features of length one, (classes, drawings, features), by stored statistics."""
    pixels = np.stack([data.images[index] for index in data.class_indices(names)])
    images = torch.from_numpy(pixels).flatten(0, 1).float() / 255
    parts = images.split(AT_ONCE)
    found = torch.cat(
        [learner.features(part[None], part[None, :1], "running") for part in parts], 1
    )
    return F.normalize(found[0], dim=-1).unflatten(0, pixels.shape[:2]).numpy()


def errors(vectors: np.ndarray, alphabet: str) -> tuple[float, float]:
    """The parts of the second person's drawings that are taken for another character.

    Args:
        vectors: (characters, drawings, features) of an alphabet; drawing k is of person k.
        alphabet: its name, of which the episodes are.

    Returns:
        Means over episodes: each drawing by itself, and all of an episode matched one to one.
    """
    right = np.arange(CHARACTERS)
    alone, matched = [], []
    for index in range(EPISODES):
        random = stream(EVALUATION_SEED, f"within alphabet/{alphabet}", index)
        characters = random.choice(len(vectors), CHARACTERS, replace=False)
        first, second = random.choice(vectors.shape[1], 2, replace=False)
        cosines = vectors[characters, second] @ vectors[characters, first].T
        alone.append(np.mean(cosines.argmax(axis=1) != right))
        matched.append(np.mean(linear_sum_assignment(cosines, maximize=True)[1] != right))
    return float(np.mean(alone)), float(np.mean(matched))


def measure(name: str, split: str) -> dict[str, Any]:
    """Mean error over alphabets, its interval, and the error of each alphabet."""
    learner, config = opened(name)
    data = load_dataset("omniglot", size=config.data.image_size)
    tested = find_split(split, data).part("val")
    trained = find_split(config.data.split, data).part("train")
    if set(tested) & set(trained):
        raise SystemExit(f"{name} was trained on characters of {split}'s validation part.")
    alphabets: dict[str, list[str]] = {}
    for of_class in tested:
        alphabets.setdefault(of_class.rpartition("/")[0], []).append(of_class)
    of_each = {
        alphabet.rpartition("/")[2]: errors(directions(learner, data, names), alphabet)
        for alphabet, names in alphabets.items()
        if len(names) >= CHARACTERS
    }
    alone, matched = np.array(list(of_each.values())).T
    (mean, half), (matched_mean, matched_half) = map(mean_and_interval, (alone, matched))
    return {
        "network": name,
        "split": split,
        "characters": CHARACTERS,
        "episodes_of_an_alphabet": EPISODES,
        "error": mean,
        "ci95": half,
        "matched_error": matched_mean,
        "matched_ci95": matched_half,
        "of_each_alphabet": {alphabet: error for alphabet, (error, _) in of_each.items()},
    }


def merged(kept: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Both, in the order of `IDENTITY`; new rows replace kept ones of the same identity."""
    rows = {tuple(row[name] for name in IDENTITY): row for row in (*kept, *new)}
    return [rows[identity] for identity in sorted(rows)]


def main() -> None:
    """Measure every network that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--split", default="background-heldout")
    options = parser.parse_args()
    for name in options.runs:
        row = measure(name, options.split)
        kept = json.loads(RESULTS.read_text("utf-8"))["rows"] if RESULTS.is_file() else []
        write_atomic(RESULTS, json_text({"rows": merged(kept, [row])}, indent=1) + "\n")
        alone = f"{100 * row['error']:.2f} ± {100 * row['ci95']:.2f}"
        matched = f"{100 * row['matched_error']:.2f} ± {100 * row['matched_ci95']:.2f}"
        print(f"{name}: {alone} % errors, {matched} % matched one to one", flush=True)
        for alphabet, error in sorted(row["of_each_alphabet"].items(), key=lambda of: of[1]):
            print(f"  {alphabet}: {100 * error:.1f}")


if __name__ == "__main__":
    main()
