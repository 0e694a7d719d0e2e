"""Folders of pictures for the tests of the classifier."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image

from picturing import COLOURS, KINDS, drawing, photo


def folder_of(
    folder: Path, kinds: Iterable[str], draw: Callable[[str, int], Image.Image], suffix: str
) -> Path:
    """A folder with a folder of six pictures for each kind."""
    for kind in kinds:
        (folder / kind).mkdir()
        for seed in range(6):
            draw(kind, seed).save(folder / kind / f"{seed}.{suffix}")
    return folder


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("drawings"), KINDS, drawing, "png")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("photos"), COLOURS, photo, "jpg")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of vectors that no other test fills."""
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path_factory.mktemp("cache")))
