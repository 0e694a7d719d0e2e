"""The same operations in the same order every time, on a GPU."""

import os

import torch

WORKSPACE = ":4096:8"
"""Of cuBLAS, whose sums otherwise depend on which workspace is free; read at its first use."""


def be_deterministic() -> None:
    """Let this process take, from now on, only operations that give the same bits every time.

    It has to be called before the first product on a GPU. On a CPU nothing of it is needed.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACE)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    # Which algorithm is fastest is found by a race, whose winner is not always the same.
    torch.backends.cudnn.benchmark = False
