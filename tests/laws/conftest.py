"""Fixtures of the laws."""

from typing import Any

import pytest

from innerloop.fast_weights.fused_gpu.network import GpuNetwork
from innerloop.fast_weights.network import Network
from innerloop.networks.conv4 import Conv4


@pytest.fixture
def by_gpu_network(monkeypatch):
    """Learners compute by the GPU engine, wherever they are."""

    def network_of(model: Conv4, engine: str, method: str = "forward", precision: Any = "auto"):
        return Network(model, method) if engine == "reference" else GpuNetwork(model, method)

    monkeypatch.setattr("innerloop.methods.base.network_of", network_of)
