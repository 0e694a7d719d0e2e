"""PyTorch as it is when a process begins, whatever the caller has set for work of their own."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def usual_torch() -> Iterator[None]:
    """Within the context gradients are on, and new tensors are float32 on the CPU.

    A caller may have turned gradients off, or have other defaults; they are back afterwards. It
    serves as a decorator, too.
    """
    dtype = torch.get_default_dtype()
    # Only where need be: within the context of a device every operation is slower.
    elsewhere = torch.get_default_device().type != "cpu"
    torch.set_default_dtype(torch.float32)
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.device("cpu") if elsewhere else nullcontext(),
        ):
            yield
    finally:
        torch.set_default_dtype(dtype)
