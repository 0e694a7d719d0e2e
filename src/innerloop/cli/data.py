"""`innerloop data`: look at, check or fetch the data."""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from innerloop.cli.command import DataOptions, parse, print_json, sayer
from innerloop.core.errors import ConfigError
from innerloop.core.files import expanded

if TYPE_CHECKING:
    from innerloop.data.images import FewShotDataset
    from innerloop.data.splits import Split

Say = Callable[[str], None]


@dataclass(frozen=True)
class DataCommandOptions(DataOptions):
    """Look at, check or fetch the data."""

    action: tyro.conf.Positional[Literal["show", "verify", "download", "info"]] = field(
        kw_only=True
    )
    """show: a PNG of one episode; verify: check every name and pixel; download: fetch Omniglot;
    info: what is there."""
    data: str = "auto"
    """Data set: omniglot, strokes, auto (Omniglot where it is found, else strokes), or the path of
    a folder of pictures, by folders or by tables."""
    split: str = "auto"
    """Split that the episode is drawn from; auto is assignment for Omniglot, alphabets for strokes,
    and for a folder the one given by it, else groups, or classes where it has no groups."""
    part: Literal["train", "val", "test"] = "train"
    """Which part of the split."""
    episode: int = 0
    """Number of the episode to show, counted from 0."""
    seed: int = 0
    """Seed of the episodes to show."""
    rotations: bool = False
    """Show the episode with training rotations."""
    ways: int = 5
    """Classes of the episode to show."""
    shots: int = 5
    """Its support images per class."""
    queries: int = 15
    """Its query images per class."""
    image_size: int = 28
    """Side of the images in pixels."""
    fewest_images: int = 0
    """Leave out classes of a folder with fewer images than this; 0 keeps all."""
    out: Path = Path("episode.png")
    """Where show writes its picture."""


def run(arguments: list[str]) -> int:
    """Do what is asked for."""
    options = parse(DataCommandOptions, "data", arguments)
    actions = {"show": _show, "verify": _verify, "download": _download, "info": _info}
    print_json(options, actions[options.action](options, sayer(options)))
    return 0


def _dataset_and_split(options: DataCommandOptions, say: Say) -> "tuple[FewShotDataset, Split]":
    from innerloop.data import load_dataset
    from innerloop.data.splits import find_split

    dataset = load_dataset(
        options.data,
        size=options.image_size,
        data_dir=options.data_dir,
        fewest_images=options.fewest_images,
        say=say,
    )
    return dataset, find_split(options.split, dataset)


def _show(options: DataCommandOptions, say: Say) -> dict[str, Any]:
    from innerloop.settings.sections import DataSettings

    for name, value in (("episode", options.episode), ("seed", options.seed)):
        if not 0 <= value < 2**31:
            raise ConfigError(f"--{name} must be between 0 and {2**31 - 1:,}: got {value}.")
    from innerloop.core.files import write_atomic
    from innerloop.data.sampling import EpisodeSampler
    from innerloop.data.sheet import episode_sheet

    dataset, split = _dataset_and_split(options, say)
    sampler = EpisodeSampler(
        dataset,
        dataset.class_indices(split.part(options.part)),
        ways=options.ways,
        shots=options.shots,
        queries=options.queries,
        seed=options.seed,
        stream_name=f"episodes/{options.part}",
        rotations=options.rotations,
    )
    batch = sampler.batch(options.episode, 1)
    classes = [dataset.class_names[index] for index in batch.classes[0].tolist()]
    picture = io.BytesIO()
    inverted = DataSettings(dataset.name).are_drawings
    episode_sheet(batch, inverted=inverted).save(picture, format="PNG")
    write_atomic(options.out, picture.getvalue())
    say(
        f"{options.out}: episode {options.episode} of {dataset.name}, split {split.name}, part "
        f"{options.part}; {options.shots} support images, then {options.queries} query images, of "
        f"{', '.join(classes)}"
    )
    return {
        "picture": str(options.out),
        "data": dataset.name,
        "split": split.name,
        "classes": classes,
    }


def _verify(options: DataCommandOptions, say: Say) -> dict[str, Any]:
    if options.data not in ("auto", "omniglot"):
        raise ConfigError(f"Only Omniglot's archives can be verified: got --data {options.data}.")
    from innerloop.data import omniglot
    from innerloop.data.cache import cache_directory

    folder = options.data_dir or expanded(os.environ.get("INNERLOOP_DATA") or cache_directory())
    archives = omniglot.verify(folder)
    characters = sum(archive.characters for archive in archives)
    images = sum(archive.drawings for archive in archives)
    say(f"{folder}: every name and pixel is Omniglot's: {characters} characters, {images} images.")
    return {"directory": str(folder), "characters": characters, "images": images}


def _download(options: DataCommandOptions, say: Say) -> dict[str, Any]:
    from innerloop.data import omniglot
    from innerloop.data.cache import cache_directory

    folder = options.data_dir or cache_directory()
    omniglot.download(folder)
    say(f"{folder}: Omniglot's two archives are here and verified.")
    return {"directory": str(folder)}


def _info(options: DataCommandOptions, say: Say) -> dict[str, Any]:
    dataset, split = _dataset_and_split(options, say)
    parts = {part: len(names) for part, names in split.parts.items()}
    counts = ", ".join(f"{count} {part}" for part, count in parts.items())
    fewest, most = int(dataset.counts.min()), int(dataset.counts.max())
    drawings = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    channels, _, width = dataset.image_shape
    say(
        f"{dataset.name} from {dataset.source or 'this package'}: {len(dataset.class_names)} "
        f"classes of {drawings} images, {width} pixels wide, "
        f"{'grey' if channels == 1 else 'in colour'}; split {split.name}: {counts}; fingerprint "
        f"{dataset.fingerprint[:16]}"
    )
    # Those of Omniglot and of strokes are known, and are many.
    listed = {part: list(names) for part, names in split.parts.items()} if dataset.folder else {}
    for part, names in listed.items():
        say(f"{part}: {', '.join(names)}")
    return {
        "data": dataset.name,
        "source": dataset.source,
        "classes": len(dataset.class_names),
        "drawings": fewest,
        "most_drawings": most,
        "channels": channels,
        "split": split.name,
        "parts": parts,
        "class_names": listed,
        "fingerprint": dataset.fingerprint,
    }
