"""How the matrix products run: in which number type, and in how many threads."""

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bf16"]
FASTER = 1.3


def product_type(precision: Precision, device: str) -> torch.dtype:
    """float32 or bfloat16; `auto` takes bfloat16 where a product is at least 1.3 × as fast in it."""
    if precision == "auto":
        faster = _seconds(torch.float32, device) > FASTER * _seconds(torch.bfloat16, device)
        return torch.bfloat16 if faster else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run with `count` threads a product, then with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def _seconds(dtype: torch.dtype, device: str, size: int = 512, repeats: int = 10) -> float:
    """The fastest of `repeats` products of two size × size matrices."""
    factor = torch.ones(size, size, dtype=dtype, device=device)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        # Reading one element waits for a product that a GPU runs asynchronously.
        (factor @ factor)[0, 0].item()
        times.append(time.perf_counter() - start)
    return min(times)
