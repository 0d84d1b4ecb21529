"""Square images as rows of a frame store, and their shifts."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from asr_kd.errors import UserError


def image_shape(dim: int) -> tuple[int, int, int]:
    """(channels, height, width) of a row of `dim` values: a square image, grey or of three colours, channel by channel.

    Raises UserError for rows that are neither.
    """
    for channels in (1, 3):
        side = math.isqrt(dim // channels)
        if channels * side * side == dim:
            return channels, side, side
    raise UserError(f"network.kind, train.jitter: rows of {dim} values are no square images; leave the keys out")


def shifted(rows: Tensor, most: int, draws: torch.Generator) -> Tensor:
    """Every image moved by up to `most` pixels in each direction, all moves equally probable; zeros come in.

    rows: (batch, ..., dim), one image each; same shape and type back. `draws` is a generator on their device.
    """
    channels, height, width = image_shape(rows.shape[-1])
    images = pad(rows.reshape(-1, channels, height, width), (most, most, most, most))
    down, right = torch.randint(2 * most + 1, (2, len(images)), generator=draws, device=rows.device)
    # A view of all moves, from which each image's is copied: (batch, channels, moves, moves, height, width).
    moves = images.unfold(2, height, 1).unfold(3, width, 1)
    return moves[torch.arange(len(images), device=rows.device), :, down, right].reshape(rows.shape)
