"""Fixtures shared by all tests."""

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


@pytest.fixture(autouse=True)
def _same_random_numbers():
    torch.manual_seed(0)
