"""ReLU and dropout in one differentiable step, with masks made from random bytes.

On a CPU with bf16 products, a Bernoulli draw for each of 1024 × 1024 units costs as much as the layer's
product (5 ms); random bytes, drawn eight at a time, cost 0.4 ms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

INT64_MIN = -(2**63)
INTEGER_OF_WIDTH = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class PartDraws:
    """Draws for the rows of a batch of `batch` from `first` on: those that they get in the whole batch."""

    generator: torch.Generator
    batch: int
    first: int


@dataclass(frozen=True)
class StackDraws:
    """Draws for the batches of several networks, each from its own generator."""

    generators: Sequence[torch.Generator]


Draws = torch.Generator | PartDraws | StackDraws


def dropped_levels(probability: float) -> int:
    """How many of a byte's 256 values drop a unit: the probability in steps of 1/256, below 1."""
    return min(round(probability * 256), 255)


def random_octets(shape: Sequence[int], draws: Draws) -> Tensor:
    """Uniform random bytes; shape[0] counts the rows of a batch, with StackDraws the networks."""
    if isinstance(draws, PartDraws):
        whole = random_octets((draws.batch, *shape[1:]), draws.generator)
        return whole[draws.first : draws.first + shape[0]]
    generators = draws.generators if isinstance(draws, StackDraws) else (draws,)
    count = torch.Size(shape).numel() // len(generators)
    words = torch.empty(len(generators), -(-count // 8), dtype=torch.int64, device=generators[0].device)
    for row, generator in zip(words, generators, strict=True):
        # random_() without bounds never sets the sign bit: one byte in eight would be biased.
        row.random_(INT64_MIN, None, generator=generator)
    return words.view(torch.uint8)[:, :count].reshape(shape)


def keep_mask(shape: torch.Size, levels: int, like: torch.dtype, draws: Draws) -> Tensor:
    """Random integers as wide as `like`: all bits set with probability 1 - levels / 256, else none."""
    kept = random_octets(shape, draws).clamp_(levels - 1, levels).sub_(levels - 1)
    return kept.view(torch.int8).neg_().to(INTEGER_OF_WIDTH[like.itemsize])


class _ReluDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, levels: int, draws: Draws) -> Tensor:
        y = x.relu()
        mask = keep_mask(y.shape, levels, y.dtype, draws)
        y.view(mask.dtype).bitwise_and_(mask)
        ctx.scale = 256 / (256 - levels)  # type: ignore[attr-defined]
        y.mul_(ctx.scale)  # type: ignore[attr-defined]
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (y,) = ctx.saved_tensors  # type: ignore[attr-defined]
        # A unit is positive after the step exactly if it was positive and kept: no mask need be stored.
        passed = torch.ops.aten.threshold_backward(gradients[0], y, 0)
        return passed.mul_(ctx.scale), None, None  # type: ignore[attr-defined]


def dropped_input(x: Tensor, probability: float, draws: Draws | None) -> Tensor:
    """dropout(x) of values that no gradient is asked for; probability, scale and `draws` as in `relu_dropout`."""
    levels = dropped_levels(probability)
    if draws is None or levels == 0:
        return x
    y = x * (256 / (256 - levels))
    mask = keep_mask(y.shape, levels, y.dtype, draws)
    y.view(mask.dtype).bitwise_and_(mask)
    return y


def relu_dropout(x: Tensor, probability: float, draws: Draws | None) -> Tensor:
    """dropout(relu(x)), kept units scaled so that the expectation is relu(x) (Srivastava et al. 2014).

    The probability is rounded to 1/256 and the scale follows the rounded one. `draws` is of generators on
    x's device; None switches dropout off, as at inference.
    """
    levels = dropped_levels(probability)
    if draws is None or levels == 0:
        return x.relu()
    return _ReluDropout.apply(x, levels, draws)
