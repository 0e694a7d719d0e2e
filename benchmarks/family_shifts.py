"""A second domain: the family's trained networks on pictures that are none of Omniglot's.

    python benchmarks/family_shifts.py FINAL [--fashion FOLDER] [--fonts FOLDER]

FINAL is what `family.py plan` planned and `innerloop sweep work` trained. Every network of setting
5w5s in it is evaluated on the same episodes, 5-way 5-shot, of: the test classes of Omniglot; these
turned by 45 degrees; with ink and ground exchanged; scikit-learn's digits; letters of fonts;
and Fashion-MNIST. The episodes of the first three are the same classes and drawings. Of Debian,
`dataset-fashion-mnist` has the last and `fonts-*` more fonts; without them a data set is left out,
aloud. What was measured of the same network and the same pictures is not measured again. Writes
`results/family-shifts.json`.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from family import runs_of
from own_pictures import Pictures, digits, fashion, glyphs
from PIL import Image

from innerloop import find_split, load_dataset
from innerloop.classifier.squares import drawing
from innerloop.core.files import json_text, read_json, write_atomic
from innerloop.core.seeding import EVALUATION_SEED
from innerloop.core.version import __version__
from innerloop.data.images import FewShotDataset
from innerloop.data.sampling import EpisodeSampler
from innerloop.experiments.environment import processor
from innerloop.experiments.evaluation import Evaluation, digest, evaluate
from innerloop.experiments.experiment import Experiment, open_run
from innerloop.methods.base import Learner

RESULTS = Path(__file__).parent / "results" / "family-shifts.json"
EPISODES = 300
WAYS, SHOTS, QUERIES = 5, 5, 15
TURNED = 45
AS_TRAINED = "Omniglot as it is"
FASHION = Path("/usr/share/datasets/fashion-mnist")
PROTOCOL: dict[str, Any] = {
    "command": "python benchmarks/family_shifts.py FINAL",
    "episodes": EPISODES,
    "ways": WAYS,
    "shots": SHOTS,
    "queries": QUERIES,
}
"""What the file has beside domains and rows; of a row, ``right`` counts an episode's query images
that were told right."""


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
    yield AS_TRAINED, omniglot(lambda ink: ink)
    yield f"turned by {TURNED} degrees", omniglot(turned)
    yield "ink and ground exchanged", omniglot(lambda ink: 255 - ink)
    yield "digits", as_drawings(digits())
    yield "printed letters", as_drawings(glyphs(options.fonts))
    if options.fashion.is_dir():
        yield "Fashion-MNIST", as_drawings(fashion(options.fashion))
    else:
        print(f"Left out: Fashion-MNIST, since there is no {options.fashion}.")


def measured(experiment: Experiment, learner: Learner, data: FewShotDataset) -> Evaluation:
    """A trained network in the data set's episodes, under its own batch norm."""
    # Not by the data set's name: the drawings of a changed Omniglot are those of the plain one.
    stream = "omniglot" if data.name.startswith("omniglot") else data.name
    sampler = EpisodeSampler(
        data,
        np.arange(len(data.class_names)),
        ways=WAYS,
        shots=SHOTS,
        queries=QUERIES,
        seed=EVALUATION_SEED,
        stream_name=f"episodes/{stream}",
        rotations=False,
    )
    (evaluation,) = evaluate(
        learner,
        sampler,
        episodes=EPISODES,
        steps=experiment.config.own.adaptation_steps,
        batch_norms=learner.batch_norm_modes[:1],
        split=data.name,
        part="all",
        origin=experiment.origin(),
        episodes_per_chunk=experiment.config.machine.episodes_per_chunk,
    )
    return evaluation


def main() -> None:
    """Measure what is not measured yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("final", type=Path)
    parser.add_argument("--fashion", type=Path, default=FASHION)
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"))
    options = parser.parse_args()
    content = read_json(RESULTS) if RESULTS.is_file() else {"domains": {}, "rows": []}
    if content | PROTOCOL != PROTOCOL | content:
        raise SystemExit(f"{RESULTS} was measured by another protocol: take it away first.")
    content = PROTOCOL | content
    of_domains = dict(domains(options))
    for domain, data in of_domains.items():
        known = content["domains"].get(domain, {}).get("fingerprint", data.fingerprint)
        if known != data.fingerprint:
            raise SystemExit(
                f"{RESULTS} has {domain} of other pictures than are here: measure with those, or "
                "take its rows out first."
            )
    for shape, run in runs_of(options.final):
        if shape == "5w5s":
            experiment, learner = open_run(run, say=print)
            for domain, data in of_domains.items():
                add(content, domain, data, experiment, learner)


def add(
    content: dict[str, Any],
    domain: str,
    data: FewShotDataset,
    experiment: Experiment,
    learner: Learner,
) -> None:
    """Measure a network in a domain, unless it is there, and write what there is now."""
    network = digest(learner)
    method, seed = experiment.config.method, experiment.config.training.seed
    others = []
    for row in content["rows"]:
        if (row["domain"], row["method"], row["seed"]) != (domain, method, seed):
            others.append(row)
        elif row["network"] == network:
            return
    evaluation = measured(experiment, learner, data)
    accuracy = evaluation.query_accuracy[:, -1]
    row = {
        "domain": domain,
        "method": method,
        "seed": seed,
        "network": network,
        "batch_norm": evaluation.batch_norm,
        "innerloop": __version__,
        "processor": processor(),
        "accuracy": round(float(accuracy.mean()), 6),
        "right": np.rint(accuracy * WAYS * QUERIES).astype(int).tolist(),
    }
    of = {"fingerprint": data.fingerprint, "classes": evaluation.classes.tolist()}
    content["domains"][domain] = of
    content["rows"] = [*others, row]
    write_atomic(RESULTS, json_text(content) + "\n")
    print(f"{domain}: {method}, seed {seed}: {100 * row['accuracy']:.1f} %", flush=True)


if __name__ == "__main__":
    main()
