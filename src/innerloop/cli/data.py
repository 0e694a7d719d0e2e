"""`innerloop data`: look at, check or fetch the data."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from innerloop.core.errors import ConfigError
from innerloop.core.files import disk_errors
from innerloop.data import load_dataset, omniglot
from innerloop.data.cache import cache_directory
from innerloop.data.episodes import EpisodeSampler
from innerloop.data.sheet import episode_sheet
from innerloop.data.splits import DEFAULT_SPLITS, find_split


def run_data_command(
    options: Any, say: Callable[[str], None], report: Callable[[dict[str, Any]], None]
) -> int:
    """Do what `innerloop data ACTION` asks with its ``options``; ``report`` takes the JSON."""
    actions = {"show": _show, "verify": _verify, "download": _download, "info": _info}
    report(actions[options.action](options, say))
    return 0


def _show(options: Any, say: Callable[[str], None]) -> dict[str, Any]:
    for name, value in (("episode", options.episode), ("seed", options.seed)):
        if not 0 <= value < 2**31:
            raise ConfigError(f"--{name} must be between 0 and {2**31 - 1:,}: got {value}.")
    dataset = load_dataset(options.data, size=28, data_dir=options.data_dir, say=say)
    split = find_split(
        DEFAULT_SPLITS[dataset.name] if options.split == "auto" else options.split, dataset
    )
    sampler = EpisodeSampler(
        dataset,
        dataset.class_indices(split.part(options.part)),
        ways=5,
        shots=5,
        queries=15,
        seed=options.seed,
        stream_name=f"episodes/{options.part}",
        rotations=options.rotations,
    )
    batch = sampler.batch(options.episode, 1)
    names = [dataset.class_names[index] for index in batch.classes[0].tolist()]
    with disk_errors(str(options.out)):
        episode_sheet(batch).save(options.out, format="PNG")
    say(
        f"{options.out}: episode {options.episode} of {dataset.name}, split {split.name}, part "
        f"{options.part}; 5 support drawings, then 15 query drawings, of {', '.join(names)}"
    )
    return {
        "picture": str(options.out),
        "data": dataset.name,
        "split": split.name,
        "classes": names,
    }


def _verify(options: Any, say: Callable[[str], None]) -> dict[str, Any]:
    if options.data not in ("auto", "omniglot"):
        raise ConfigError(f"Only Omniglot's archives can be verified: got --data {options.data}.")
    folder = options.data_dir or Path(os.environ.get("INNERLOOP_DATA") or cache_directory())
    archives = omniglot.verify(folder)
    characters = sum(archive.characters for archive in archives)
    images = sum(archive.drawings for archive in archives)
    say(f"{folder}: every name and pixel is Omniglot's: {characters} characters, {images} images.")
    return {"directory": str(folder), "characters": characters, "images": images}


def _download(options: Any, say: Callable[[str], None]) -> dict[str, Any]:
    folder = options.data_dir or cache_directory()
    omniglot.download(folder)
    say(f"{folder}: Omniglot's two archives are here and verified.")
    return {"directory": str(folder)}


def _info(options: Any, say: Callable[[str], None]) -> dict[str, Any]:
    dataset = load_dataset(options.data, size=28, data_dir=options.data_dir, say=say)
    split = find_split(
        DEFAULT_SPLITS[dataset.name] if options.split == "auto" else options.split, dataset
    )
    parts = {part: len(names) for part, names in split.parts.items()}
    counts = ", ".join(f"{count} {part}" for part, count in parts.items())
    say(
        f"{dataset.name} from {dataset.source or 'this package'}: {len(dataset.class_names)} "
        f"classes of {dataset.examples} drawings, {dataset.image_shape[1]} pixels wide; split "
        f"{split.name}: {counts}; fingerprint {dataset.fingerprint[:16]}"
    )
    return {
        "data": dataset.name,
        "source": dataset.source,
        "classes": len(dataset.class_names),
        "drawings": dataset.examples,
        "split": split.name,
        "parts": parts,
        "fingerprint": dataset.fingerprint,
    }
