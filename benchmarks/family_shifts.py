"""A second domain: the family's trained networks on pictures that are none of Omniglot's.

    python benchmarks/family_shifts.py FINAL [--fashion FOLDER] [--fonts FOLDER]

FINAL is what `family.py plan` planned and `innerloop sweep work` trained. Every network of setting
5w5s in it is evaluated on the same episodes, 5-way 5-shot, of: the test classes of Omniglot; these
turned by 45 degrees; with ink and ground exchanged; scikit-learn's digits; letters of fonts;
and Fashion-MNIST. Of Debian, `dataset-fashion-mnist` has the last and `fonts-*` more fonts; without
them a data set is left out, aloud. Rows that are there are not measured again. Writes
`results/family-shifts.json`.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from family import runs_of
from own_pictures import Pictures, digits, fashion, glyphs
from PIL import Image

from innerloop import find_split, load_dataset
from innerloop.classifier.squares import drawing
from innerloop.core.files import json_text, read_json, write_atomic
from innerloop.core.seeding import EVALUATION_SEED
from innerloop.data.episodes import EpisodeSampler
from innerloop.data.images import FewShotDataset
from innerloop.experiments.evaluation import evaluate
from innerloop.experiments.experiment import open_run
from innerloop.runs.directory import RunDirectory

RESULTS = Path(__file__).parent / "results" / "family-shifts.json"
EPISODES = 300
WAYS, SHOTS, QUERIES = 5, 5, 15
TURNED = 45
FASHION = Path("/usr/share/datasets/fashion-mnist")


def omniglot(change: Callable[[np.ndarray], np.ndarray]) -> FewShotDataset:
    """The test classes, with every image changed."""
    data = load_dataset("omniglot", size=28)
    names = find_split("1100-100-423", data).part("test")
    images = [data.images[place] for place in data.class_indices(names)]
    changed = [np.stack([change(image[0])[None] for image in of_class]) for of_class in images]
    return FewShotDataset("omniglot, changed", changed, names)


def turned(ink: np.ndarray) -> np.ndarray:
    """By `TURNED` degrees about the middle."""
    return np.asarray(Image.fromarray(ink).rotate(TURNED, Image.Resampling.BILINEAR))


def as_drawings(pictures: Pictures) -> FewShotDataset:
    """Each picture as a drawing is prepared: its ink fills the square but for a margin."""
    classes = range(pictures.classes.max() + 1)
    images = [
        np.stack(
            [
                np.round(255 * drawing(pictures.pixels[int(place)], 28)).astype(np.uint8)
                for place in np.flatnonzero(pictures.classes == label)
            ]
        )
        for label in classes
    ]
    return FewShotDataset(pictures.name, images, [f"class {label:02d}" for label in classes])


def domains(options: argparse.Namespace) -> Iterator[tuple[str, FewShotDataset]]:
    """The data sets that are here, by what tables call them."""
    yield "omniglot", omniglot(lambda ink: ink)
    yield f"turned by {TURNED} degrees", omniglot(turned)
    yield "ink and ground exchanged", omniglot(lambda ink: 255 - ink)
    yield "digits", as_drawings(digits())
    yield "printed letters", as_drawings(glyphs(options.fonts))
    if options.fashion.is_dir():
        yield "Fashion-MNIST", as_drawings(fashion(options.fashion))
    else:
        print(f"Left out: Fashion-MNIST, since there is no {options.fashion}.")


def accuracies(run: RunDirectory, data: FewShotDataset, name: str) -> list[float]:
    """Query accuracy of a trained network in each episode, under its own batch norm."""
    experiment, learner = open_run(run, say=lambda words: None)
    sampler = EpisodeSampler(
        data,
        np.arange(len(data.class_names)),
        ways=WAYS,
        shots=SHOTS,
        queries=QUERIES,
        seed=EVALUATION_SEED,
        stream_name=f"episodes/{name}",
        rotations=False,
    )
    steps = experiment.config.own.adaptation_steps
    (evaluation,) = evaluate(
        learner,
        sampler,
        episodes=EPISODES,
        steps=steps,
        batch_norms=learner.batch_norm_modes[:1],
        split=name,
        part="all",
        origin=experiment.origin(),
        episodes_per_chunk=experiment.config.machine.episodes_per_chunk,
    )
    return evaluation.query_accuracy[:, steps].round(6).tolist()


def main() -> None:
    """Measure what is not measured yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("final", type=Path)
    parser.add_argument("--fashion", type=Path, default=FASHION)
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"))
    options = parser.parse_args()
    runs = [run for shape, run in runs_of(options.final) if shape == "5w5s"]
    rows = read_json(RESULTS)["rows"] if RESULTS.is_file() else []
    there = {(row["method"], row["seed"], row["domain"]) for row in rows}
    for name, data in domains(options):
        for run in runs:
            method, seed = run.config.method, run.config.training.seed
            if (method, seed, name) in there:
                continue
            of_episodes = accuracies(run, data, name)
            rows.append(
                {
                    "method": method,
                    "seed": seed,
                    "domain": name,
                    "accuracy": round(float(np.mean(of_episodes)), 6),
                    "of_episodes": of_episodes,
                }
            )
            print(f"{name}: {method}, seed {seed}: {100 * rows[-1]['accuracy']:.1f} %", flush=True)
            result = {
                "command": "python benchmarks/family_shifts.py",
                "episodes": EPISODES,
                "ways": WAYS,
                "shots": SHOTS,
                "queries": QUERIES,
                "rows": rows,
            }
            write_atomic(RESULTS, json_text(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
