"""Context windows of concatenated utterances; where a window leaves its utterance, the edge frame is repeated."""

import torch
from torch import Tensor


def window_rows(rows: Tensor, first: Tensor, last: Tensor, left: int, right: int) -> Tensor:
    """Row numbers of each frame's window, for one gather: `frames[window_rows(…)]` is (batch, window, dim).

    rows: (batch,) frames at which the windows stand; first, last: (batch,) first and last row of the utterance that
    holds each. Returns (batch, left + 1 + right), int64.
    """
    offsets = torch.arange(-left, right + 1, device=rows.device)
    return torch.clamp(rows[:, None] + offsets, first[:, None], last[:, None])


def splice(features: Tensor, left: int, right: int) -> Tensor:
    """Concatenate each frame of one utterance with its neighbours: (T, D) to (T, (left + 1 + right) · D).

    The oldest frame comes first, the utterance's edge frames are repeated (Kaldi splice-feats).
    """
    rows = torch.arange(len(features), device=features.device)
    last = torch.full_like(rows, len(features) - 1)
    return features[window_rows(rows, torch.zeros_like(rows), last, left, right)].flatten(1)
