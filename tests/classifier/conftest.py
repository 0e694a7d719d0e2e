"""Folders of pictures for the tests of the classifier."""

from pathlib import Path

import pytest

from picturing import COLOURS, KINDS, drawing, photo


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder of six PNG for each kind of drawing."""
    folder = tmp_path_factory.mktemp("drawings")
    for kind in KINDS:
        (folder / kind).mkdir()
        for seed in range(6):
            drawing(kind, seed).save(folder / kind / f"{seed}.png")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder of five JPEG for each kind of photo."""
    folder = tmp_path_factory.mktemp("photos")
    for kind in COLOURS:
        (folder / kind).mkdir()
        for seed in range(5):
            photo(kind, seed).save(folder / kind / f"{seed}.jpg", quality=90)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of vectors that no other test fills."""
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path_factory.mktemp("cache")))
