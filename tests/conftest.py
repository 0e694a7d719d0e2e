"""Fixtures shared by all tests."""

from importlib.util import find_spec

import pytest
import torch

from innerloop.data import strokes
from innerloop.data.images import FewShotDataset


@pytest.fixture(scope="session")
def drawings() -> FewShotDataset:
    """100 synthetic characters; read-only."""
    return strokes.generate(100)


# The networks of the tests are small: a second thread would cost more than it brings.
torch.set_num_threads(1)

if find_spec("numba") is None:
    # Without it everything works by the reference; these are about the other engine.
    collect_ignore = ["test_engine.py", "laws/test_fused.py", "laws/test_fused_kernels.py"]


@pytest.fixture(autouse=True)
def _same_random_numbers():
    torch.manual_seed(0)
