"""A folder of pictures as a data set: by its folders, or by `innerloop.data.tables`.

The folders are FOLDER/<class>/<image>, or FOLDER/<group>/<class>/<image>, or
FOLDER/<part>/<class>/<image> with the parts of a split.
"""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from innerloop.core.errors import DataError
from innerloop.data import tables
from innerloop.data.cache import images_path, read_images, write_images
from innerloop.data.given import Classes, by_folders, normal, refuse_alike
from innerloop.data.images import FewShotDataset
from innerloop.data.listing import File, Listing, list_folder
from innerloop.data.pictures import is_picture, read_picture, without_warnings

LONGEST_NAME = 40
"""Letters of a data set's name, which is a part of its runs' names."""


def load(
    folder: Path,
    *,
    size: int,
    name: str,
    fewest_images: int = 0,
    say: Callable[[str], None] = print,
) -> FewShotDataset:
    """A folder of pictures, or what the cache holds of it.

    Everything of the folder itself is refused before a pixel is decoded. Links are not followed.
    If every picture is grey, images have one channel; else three.

    Args:
        folder: the folder.
        size: side of the images in pixels.
        name: of the data set.
        fewest_images: classes with fewer pictures are left out.
        say: told in a sentence what is passed over or left out, and before the pictures are read.

    Raises:
        DataError: if the folder is no such data set, or a picture cannot be read.
    """
    folder = Path(os.path.abspath(folder))
    listing = list_folder(folder, deepest=2)
    if listing.passed_over:
        say(
            f"In {folder} {len(listing.passed_over)} links, pipes or devices are passed over, the "
            f"first is {listing.passed_over[0]!r}: links are not followed."
        )
    content = tables.content_of(listing, say) or by_folders(_classes(listing), folder)
    content = content.only(_without_small(content.classes, fewest_images, folder, say))
    if empty := [part for part, names in content.parts.items() if not names]:
        raise DataError(
            f"No class of part {empty[0]!r} of {str(folder)!r} has {fewest_images} pictures: "
            "choose a smaller --fewest-images."
        )
    images = _images(listing, content.classes, size, say)
    ends = np.cumsum([len(files) for files in content.classes.values()])
    return FewShotDataset(
        name,
        np.split(images, ends[:-1]),
        tuple(content.classes),
        source=f"the folder {folder}",
        folder=str(folder),
        parts=content.parts,
    )


def safe_name(folder: Path, taken: Sequence[str]) -> str:
    """What the data set of a folder is called: the folder's last name, fit for a path.

    Args:
        folder: the folder.
        taken: names of other data sets, which it must not pass for.
    """
    last = normal(os.path.basename(os.path.abspath(folder)))
    name = re.sub(r"[^\w.]+", "-", last)[:LONGEST_NAME].strip("-.") or "pictures"
    return f"folder-{name}" if name.casefold() in taken else name


def class_folders(listing: Listing) -> dict[tuple[str, ...], str]:
    """The folders that are classes, name by name -> name of the class.

    Raises:
        DataError: if there is none, they lie at different depths, or two names are alike.
    """
    groups = {parts[:-1] for parts in listing.folders if len(parts) > 1}
    folders = [parts for parts in listing.folders if parts not in groups]
    if not folders:
        raise DataError(
            f"The folder {str(listing.root)!r} has no folder of pictures in it: a data set is "
            "FOLDER/<class>/<image> or FOLDER/<group>/<class>/<image>, or has images and tables."
        )
    _refuse_mixed_depths(listing, folders)
    refuse_alike(("/".join(parts) for parts in listing.folders), listing.root)
    # In the order of the names alone: systems encode one letter in more than one way.
    return {parts: normal("/".join(parts)) for parts in folders}


def _classes(listing: Listing) -> dict[str, list[File]]:
    """The classes of a folder, with everything refused that a listing shows to be wrong."""
    folders = class_folders(listing)
    files: dict[tuple[str, ...], list[File]] = {parts: [] for parts in folders}
    for file in listing.files:
        _refuse_misplaced(listing, file, in_class=file.parts[:-1] in files)
        if file.parts[:-1] in files:
            files[file.parts[:-1]].append(file)
    for parts, pictures in files.items():
        if not pictures:
            raise DataError(
                f"The class folder {str(listing.root.joinpath(*parts))!r} holds no pictures: put "
                "some there, or remove it."
            )
    classes = {name: files[parts] for parts, name in folders.items()}
    return {
        name: sorted(classes[name], key=lambda file: normal(file.name)) for name in sorted(classes)
    }


def _refuse_mixed_depths(listing: Listing, folders: Sequence[tuple[str, ...]]) -> None:
    shallow, deep = ([parts for parts in folders if len(parts) == depth] for depth in (1, 2))
    if shallow and deep:
        raise DataError(
            f"The folder {str(listing.root)!r} mixes classes with groups of classes: "
            f"{shallow[0][0]!r} has no folders in it and {deep[0][0]!r} has. Put every class into "
            "a group, or none."
        )


def _refuse_misplaced(listing: Listing, file: File, *, in_class: bool) -> None:
    path = str(listing.root.joinpath(*file.parts))
    if in_class and not is_picture(file.parts[-1]):
        raise DataError(
            f"{path!r} lies among the pictures of a class and is not named as one that can be "
            "read: remove it, or convert it to PNG."
        )
    if not in_class and is_picture(file.parts[-1]):
        raise DataError(
            f"The picture {path!r} lies in no class: move it into the folder of its class."
        )


def _without_small(
    classes: Classes, fewest: int, folder: Path, say: Callable[[str], None]
) -> Classes:
    kept = {name: files for name, files in classes.items() if len(files) >= fewest}
    left_out = [name for name in classes if name not in kept]
    if not kept:
        raise DataError(
            f"No class of {str(folder)!r} has {fewest} pictures: choose a smaller --fewest-images."
        )
    if left_out:
        say(
            f"Of {folder} {len(left_out)} of {len(classes)} classes have fewer than {fewest} "
            f"pictures and are left out, the first is {left_out[0]!r}."
        )
    return kept


def _images(
    listing: Listing, classes: Classes, size: int, say: Callable[[str], None]
) -> np.ndarray:
    """All pictures (n, channels, size, size), class by class: from the cache, or decoded."""
    files = [file for pictures in classes.values() for file in pictures]
    cached = images_path(hashlib.sha256(os.fsencode(listing.root)).hexdigest(), size, "folders")
    # Whose pictures come in which order depends on the layout, and on which classes are left out.
    order = "\0".join(file.name for file in files)
    made_from = hashlib.sha256(listing.digest + os.fsencode(order)).digest()
    for channels in (1, 3):
        images = read_images(cached, (len(files), channels, size, size), made_from)
        if images is not None:
            return images
    say(f"Reading {len(files):,} pictures of {listing.root}.")
    images = _decoded(listing, files, size)
    write_images(cached, images, made_from)
    return images


def _decoded(listing: Listing, files: Sequence[File], size: int) -> np.ndarray:
    pictures = []
    with without_warnings():
        for file in files:
            with listing.opened(file) as opened:
                path = str(listing.root.joinpath(*file.parts))
                pictures.append(read_picture(opened, path, size))
    channels = max(len(picture) for picture in pictures)
    # Grey among colours: the same in each channel.
    return np.stack([np.broadcast_to(picture, (channels, size, size)) for picture in pictures])
