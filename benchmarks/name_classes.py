"""Adds the classes of their episodes to Omniglot's evaluations from before rows named them.

Episodes are counted, so their classes follow from the row; no picture is needed. What the row's own
intervals cover stays as it is; `innerloop compare` takes the classes into account.

    python benchmarks/name_classes.py RUN [RUN ...]
"""

import argparse
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.core.files import json_text, write_atomic
from innerloop.data import omniglot
from innerloop.data.episodes import EpisodeSampler
from innerloop.data.images import FewShotDataset
from innerloop.data.splits import find_split


@cache
def without_pictures() -> FewShotDataset:
    """Omniglot's class names and numbers of drawings, each drawing a single empty pixel."""
    names = omniglot.class_names(omniglot.contents())
    return FewShotDataset("omniglot", np.zeros((len(names), 20, 1, 1, 1), np.uint8), names)


def episode_classes(row: dict[str, Any]) -> list[list[int]]:
    """(episodes, ways) the classes of each episode of an evaluation."""
    dataset = without_pictures()
    sampler = EpisodeSampler(
        dataset,
        dataset.class_indices(find_split(row["split"], dataset).part(row["part"])),
        ways=row["ways"],
        shots=row["shots"],
        queries=row["queries"],
        seed=row["episode_seed"],
        stream_name=row["stream"],
    )
    return sampler.batch(0, row["episodes"]).classes.tolist()


def name_classes(run: Path) -> None:
    """Add the classes to each evaluation of a run that does not have them."""
    for path in run.glob("evaluation-*.json"):
        row = json.loads(path.read_text())
        if row.get("episode_classes") is None:
            row["episode_classes"] = episode_classes(row)
            write_atomic(path, json_text(row, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    for run in parser.parse_args().runs:
        name_classes(run)


if __name__ == "__main__":
    main()
