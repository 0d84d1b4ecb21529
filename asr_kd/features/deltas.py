"""Time derivatives of features."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from asr_kd.features.splice import splice


def add_deltas(features: Tensor, order: int = 2, window: int = 2) -> Tensor:
    """Append derivatives up to `order`: (T, D) to (T, (order + 1) · D), statics first.

    Each order's filter is the one below convolved with the regression slope over ±window frames; filters are applied
    to the statics, whose edge frames are repeated (Kaldi add-deltas).
    """
    filters = torch.from_numpy(_filters(order, window)).to(features)
    frames, dim = features.shape
    windows = splice(features, order * window, order * window).view(frames, filters.shape[1], dim)
    return torch.matmul(filters, windows).flatten(1)


@lru_cache
def _filters(order: int, window: int) -> np.ndarray:
    """(order + 1, 2 · order · window + 1) filter taps, oldest frame first."""
    offsets = np.arange(-window, window + 1)
    slope = offsets / np.sum(offsets**2)
    taps = np.zeros((order + 1, 2 * order * window + 1))
    tap = np.ones(1)
    for row in taps:
        margin = (taps.shape[1] - len(tap)) // 2
        row[margin : margin + len(tap)] = tap
        tap = np.convolve(tap, slope)
    return taps
