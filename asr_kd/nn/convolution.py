"""Convolutional networks for images: the layers of `network.kind`, and their forward pass."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, linear, max_pool2d

from asr_kd.errors import UserError
from asr_kd.images.shape import image_shape
from asr_kd.nn.dropout import Draws, relu_dropout

Kind = Literal["lenet", "nin"]


class Pool(NamedTuple):
    """Windows of size × size, `stride` apart, those over the edge included; size 0: the whole image."""

    how: Literal["max", "mean"]
    size: int = 0
    stride: int = 1


class Layer(NamedTuple):
    """A convolution of kernels size × size with `margin` zeros around the image; size 0 is fully connected.

    channels 0: as many as there are classes. Behind all but the last layer come ReLU, the pool and, if `dropped`,
    dropout.
    """

    channels: int
    size: int
    margin: int = 0
    pool: Pool | None = None
    dropped: bool = False


LAYERS: dict[Kind, tuple[Layer, ...]] = {
    # LeCun et al. 1998 in the sizes that Caffe and MatConvNet gave it, here with ReLU behind the convolutions too.
    "lenet": (
        Layer(20, 5, pool=Pool("max", 2, 2)),
        Layer(50, 5, pool=Pool("max", 2, 2)),
        Layer(500, 0, dropped=True),
        Layer(0, 0),
    ),
    # Lin et al. 2014, the network for CIFAR-10: three convolutions, each with two 1 × 1 layers behind it.
    "nin": (
        Layer(192, 5, 2),
        Layer(160, 1),
        Layer(96, 1, pool=Pool("max", 3, 2), dropped=True),
        Layer(192, 5, 2),
        Layer(192, 1),
        Layer(192, 1, pool=Pool("mean", 3, 2), dropped=True),
        Layer(192, 3, 1),
        Layer(192, 1),
        Layer(0, 1, pool=Pool("mean")),
    ),
}


def weight_shapes(kind: Kind, dim: int, num_classes: int) -> list[tuple[int, ...]]:
    """Shapes of the layers' weights for images of `dim` values: (out, in, size, size), or (out, in)."""
    channels, side, _ = image_shape(dim)
    shapes: list[tuple[int, ...]] = []
    for layer in LAYERS[kind]:
        out = layer.channels or num_classes
        if layer.size:
            shapes.append((out, channels, layer.size, layer.size))
            side += 2 * layer.margin - layer.size + 1
        else:
            shapes.append((out, channels * side * side))
            side = 1
        if layer.pool:
            side = 1 + math.ceil((side - layer.pool.size) / layer.pool.stride) if layer.pool.size else 1
        if side < 1:
            raise UserError(f"network.kind: images of {dim} values are too small for {kind}; leave the key out")
        channels = out
    return shapes


def convolve(
    kind: Kind,
    rows: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    dropout: float,
    draws: Draws | None,
) -> Tensor:
    """rows (batch, dim), one image each, to (batch, classes) logits; weights as `weight_shapes` says.

    The products run in the type of `rows`. `draws` feeds dropout, None is inference.
    """
    x = rows.view(-1, *image_shape(rows.shape[1]))
    last = len(weights) - 1
    for number, (layer, weight, bias) in enumerate(zip(LAYERS[kind], weights, biases, strict=True)):
        weight, bias = weight.to(x.dtype), bias.to(x.dtype)
        x = conv2d(x, weight, bias, padding=layer.margin) if layer.size else linear(x.flatten(1), weight, bias)
        if number < last:
            x = x.relu()
        if layer.pool:
            x = _pooled(x, layer.pool)
        if layer.dropped:
            x = relu_dropout(x, dropout, draws)  # ReLU once more changes nothing
    return x.flatten(1)


def _pooled(x: Tensor, pool: Pool) -> Tensor:
    if not pool.size:
        return x.mean((2, 3)) if pool.how == "mean" else x.amax((2, 3))
    how = max_pool2d if pool.how == "max" else avg_pool2d
    return how(x, pool.size, pool.stride, ceil_mode=True)
