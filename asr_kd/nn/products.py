"""How the matrix products run: in which number type, and in how many threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bf16"]
BFLOAT16_FEATURES = ("avx512_bf16", "amx_bf16", "bf16")  # the last is ARM's


def product_type(precision: Precision, device: str) -> torch.dtype:
    """float32 or bfloat16; `auto` takes bfloat16 where the processor multiplies in it, which is far faster.

    By what the processor says of itself: a measurement could end otherwise when an interrupted run goes on.
    """
    bfloat16 = _multiplies_bfloat16(device) if precision == "auto" else precision == "bf16"
    return torch.bfloat16 if bfloat16 else torch.float32


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run with `count` threads a product, then with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _multiplies_bfloat16(device: str) -> bool:
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(torch.cpu.get_capabilities().get(feature) for feature in BFLOAT16_FEATURES)
