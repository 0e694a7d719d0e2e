"""How exact products of matrices are, where a device offers a choice."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

Precision = Literal["float32", "tf32", "bfloat16"]
"""Of the factors of a product; their sums are of float32.

``float32``: as they are. ``tf32``: a GPU rounds them to 10 bits after the leading one.
``bfloat16``: to 7 bits.
"""
Wanted = Literal["auto", "float32", "tf32", "bfloat16"]
"""``auto``: float32."""


def precision_of(wanted: Wanted) -> Precision:
    """What is meant."""
    return "float32" if wanted == "auto" else wanted


def use_products(precision: Precision) -> None:
    """Let this process's float32 products and convolutions on a GPU be of a precision."""
    for switch in _switches():
        switch.fp32_precision = "tf32" if precision == "tf32" else "ieee"


@contextmanager
def float32_products(precision: Precision) -> Iterator[None]:
    """`use_products` within the context; afterwards everything is as it was."""
    former = [switch.fp32_precision for switch in _switches()]
    use_products(precision)
    try:
        yield
    finally:
        for switch, value in zip(_switches(), former, strict=True):
            switch.fp32_precision = value


def _switches() -> list[Any]:
    return [torch.backends.cuda.matmul, torch.backends.cudnn.conv]  # pyright: ignore
