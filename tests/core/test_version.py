"""The version is written once; everything else that names it agrees."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import innerloop
from innerloop.core import version

ROOT = Path(__file__).parents[2]


def test_the_package_says_the_version_that_is_written():
    assert innerloop.__version__ is version.__version__


def test_the_built_package_takes_the_version_from_where_it_is_written():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    assert project["project"]["dynamic"] == ["version", "readme"]
    assert "version" not in project["project"]
    source = ROOT / project["tool"]["hatch"]["version"]["path"]
    assert source == ROOT / "src" / "innerloop" / "core" / "version.py"
    assert re.findall(r'^__version__ = "(.*)"$', source.read_text(), re.M) == [version.__version__]


def test_the_installed_package_and_the_citation_have_this_version():
    """If the first fails alone, install again: `pip install -e .`."""
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")

    assert metadata.version("innerloop") == version.__version__
    assert f"\nversion: {version.__version__}\n" in citation
